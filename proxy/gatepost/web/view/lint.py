"""What is wrong with a message, with the advice that mends it.

RULES           every finding: how bad it is, and the advice
lint            asks the octets, the header section and the parts
lint_commands   asks what was said before the message
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from gatepost.events import Line
from gatepost.mime import Header
from gatepost.mime.entity import Entity
from gatepost.mime.fields import header_section_end, header_section_start
from gatepost.mime.text import read_text
from gatepost.oddity import Oddity
from gatepost.transcript import visible
from gatepost.web.view.body import html_parts, text_octets, text_parts
from gatepost.web.view.text import visible_line
from gatepost.web.view.tree import walk

__all__ = ["RULES", "Finding", "Severity", "lint", "lint_commands", "worst_first"]

Severity = Literal["error", "warning", "note"]

RULES: dict[str, tuple[Severity, str]] = {
    "bare-lf": ("error", "End every line with CR and LF (RFC 5322 section 2.3)."),
    "bare-cr": ("error", "Write CR only before LF (RFC 5322 section 2.3)."),
    "nul": ("error", "Send binary content as base64: no octet may be NUL (RFC 5322 section 2.3)."),
    "line-over-998": (
        "error",
        "Fold headers, encode bodies: 998 octets are allowed (RFC 5322 section 2.1.1).",
    ),
    "line-over-78": ("note", "Lines should have no more than 78 octets (RFC 5322 section 2.1.1)."),
    "leading-lines": ("warning", "Begin a message with a header field (RFC 5322 section 2.1)."),
    "no-field": (
        "error",
        "A line of the header section is a field, or begins with white space (RFC 5322 section 2.2).",
    ),
    "space-before-colon": ("error", "Write the colon right behind the field's name (RFC 5322 section 2.2)."),
    "no-header-end": ("warning", "Put an empty line between headers and body (RFC 5322 section 2.1)."),
    "header-8bit": ("error", "Write other than ASCII as encoded-words (RFC 2047 section 2)."),
    "header-utf8": (
        "warning",
        "Needs SMTPUTF8 on every server; encoded-words do not (RFC 2047 section 2, RFC 6532).",
    ),
    "missing-date": ("error", "Add a Date field (RFC 5322 section 3.6)."),
    "invalid-date": ("error", 'Write it like "Tue, 01 Dec 2026 09:30:00 +0000" (RFC 5322 section 3.3).'),
    "missing-from": ("error", "Add a From field (RFC 5322 section 3.6)."),
    "missing-to": (
        "note",
        "Name a recipient in To or Cc; many filters mind its absence (RFC 5322 section 3.6.3).",
    ),
    "missing-message-id": ("warning", "Add a unique Message-ID (RFC 5322 section 3.6.4)."),
    "invalid-message-id": ("warning", "Write it like <unique@domain.example> (RFC 5322 section 3.6.4)."),
    "missing-subject": ("note", "Add a Subject (RFC 5322 section 3.6.5)."),
    "control-in-header": ("warning", "Leave control characters out of header fields (RFC 5322 section 2.2)."),
    "duplicate-field": ("error", "Write this field only once (RFC 5322 section 3.6)."),
    "missing-mime-version": ("warning", "Add MIME-Version: 1.0 (RFC 2045 section 4)."),
    "missing-text": ("warning", "Add a text/plain alternative to the HTML (RFC 2046 section 5.1.4)."),
    "broken-structure": ("error", "Check the boundaries of the multiparts (RFC 2046 section 5.1.1)."),
    "encoded-multipart": ("error", "Encode the parts, not the multipart (RFC 2045 section 6.4)."),
    "unknown-encoding": ("error", "Use 7bit, 8bit, quoted-printable or base64 (RFC 2045 section 6.1)."),
    "broken-base64": ("error", "Encode with the base64 alphabet and its padding (RFC 2045 section 6.8)."),
    "broken-quoted-printable": (
        "error",
        "Write = only before two hex digits or a line end (RFC 2045 section 6.7).",
    ),
    "charset": ("error", "Name the charset that the text is in, best UTF-8 (RFC 2046 section 4.1.2)."),
    "undeclared-8bit": (
        "warning",
        "Declare 8bit, or encode as quoted-printable or base64 (RFC 2045 section 6.2).",
    ),
    Oddity.EARLY: ("error", "Wait for the greeting before the first command (RFC 5321 section 4.3.1)."),
    Oddity.LINE_END: ("error", "End every command with CR and LF (RFC 5321 section 2.3.8)."),
    Oddity.CHARACTERS: (
        "error",
        "Write commands in ASCII, or in UTF-8 with SMTPUTF8 (RFC 5321 section 2.4).",
    ),
    Oddity.SPACES: (
        "warning",
        "Write one space between words and none behind the colon (RFC 5321 section 4.1.1.2).",
    ),
    Oddity.ORDER: ("error", "Say EHLO first; AUTH once, and before MAIL (RFC 5321 section 4.1.4, RFC 4954)."),
    Oddity.ARGUMENT: ("error", "DATA, RSET, QUIT and STARTTLS have no argument (RFC 5321 section 4.1.1)."),
    Oddity.HELLO: (
        "warning",
        "Say a domain name, or an address literal like [192.0.2.1] (RFC 5321 section 4.1.1.1).",
    ),
    Oddity.AUTH: ("error", "Send the user's name and the rest in UTF-8 as base64 (RFC 4954 section 4)."),
    Oddity.BRACKETS: ("error", "Write <address> in one pair of angle brackets (RFC 5321 section 4.1.2)."),
    Oddity.DOTS: (
        "warning",
        'Write single dots within a local part, or quote it: "a..b"@ (RFC 5321 section 4.1.2).',
    ),
    Oddity.DOMAIN_DOT: ("warning", "Leave the dot at the end of a domain out (RFC 5321 section 4.1.2)."),
    Oddity.NO_DOMAIN: ("error", "Write the address with its domain (RFC 5321 section 2.3.5)."),
    Oddity.NEEDS_SMTPUTF8: ("error", "Say SMTPUTF8 at MAIL for such an address (RFC 6531 section 3.4)."),
    Oddity.SOURCE_ROUTE: ("error", "Leave the route out: <user@domain> (RFC 5321 appendix C)."),
    Oddity.PATH: ("error", "Write <local-part@domain> (RFC 5321 section 4.1.2)."),
    Oddity.PARAMETER: (
        "error",
        "Use parameters of extensions that the server offers, each once (RFC 5321 section 4.1.1.11).",
    ),
}
"""By code: the severity, and one line of advice. Those of commands are the values of `Oddity`."""

_COMMANDS: dict[str, str] = {
    Oddity.EARLY: "was sent before the greeting",
    Oddity.LINE_END: "ends with LF alone",
    Oddity.CHARACTERS: "holds control characters or octets that are not UTF-8",
    Oddity.SPACES: "holds white space where none belongs",
    Oddity.ORDER: "is at the wrong place",
    Oddity.ARGUMENT: "has an argument and should have none",
    Oddity.HELLO: "names neither a domain nor an address literal",
    Oddity.AUTH: "had a malformed response, no user name or another user to act for",
    Oddity.BRACKETS: "has a path that is not in one pair of angle brackets",
    Oddity.DOTS: "has a local part with dots at its ends or behind each other",
    Oddity.DOMAIN_DOT: "has a domain that ends with a dot",
    Oddity.NO_DOMAIN: "has an address without a domain",
    Oddity.NEEDS_SMTPUTF8: "has an address that is not ASCII, without SMTPUTF8",
    Oddity.SOURCE_ROUTE: "has a source route",
    Oddity.PATH: "has no address in the standard's syntax",
    Oddity.PARAMETER: "has a parameter that is unknown, malformed or there twice",
}
"""What a finding says of a command."""
_OF_SESSION = re.compile(rb"\s*(?:EHLO|HELO|AUTH|STARTTLS)\b", re.IGNORECASE)

_FINDINGS_LIMIT = 100
_SECTION_LIMIT = 1 << 20
_ONCE = frozenset(
    """
    date from sender reply-to to cc bcc message-id in-reply-to references subject mime-version
    content-type content-transfer-encoding content-id content-description content-disposition
    """.split()  # noqa: SIM905 # one a line fills pages
)
_IDENTITY = frozenset({"", "7bit", "8bit", "binary"})
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_WHITE_SPACE = b" \t\r\n"

_OVER_998 = re.compile(rb"^[^\n]{999}[^\n]*+", re.MULTILINE)
_OVER_78 = re.compile(rb"^[^\n]{79}[^\n]*+", re.MULTILINE)
_BARE_LF = re.compile(rb"(?<!\r)\n")
_BARE_CR = re.compile(rb"\r(?!\n)")
_NO_FIELD = re.compile(rb"^(?![ \t]|[!-9;-~\x80-\xff]++[ \t]*+:)[^\n]++", re.MULTILINE)
_SPACE_BEFORE_COLON = re.compile(rb"^([!-9;-~]++)[ \t]++:", re.MULTILINE)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_MESSAGE_ID = re.compile(r"<[^\s<>@]+@[^\s<>@]+>")
_BROKEN_QP = re.compile(rb"=(?![0-9A-Fa-f]{2}|[ \t]*+(?:\r?\n|\Z))")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DATE = re.compile(
    rf"""(?:({"|".join(_DAYS)})\s*,\s*)?(\d\d?)\s+({"|".join(_MONTHS)})\s+(\d{{4}})\s+
    (\d\d):(\d\d)(?::(\d\d))?\s+(?:[+-]\d\d[0-5]\d|UTC?|GMT|[ECMP][SD]T)\s*(?:\([^()]*\)\s*)*""",
    re.IGNORECASE | re.VERBOSE | re.ASCII,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong with a message."""

    severity: Severity
    """``error``: a MUST of the standards is broken; ``warning``: mail may suffer; ``note``: worth knowing."""
    code: str
    """Stable, for scripts: a key of RULES."""
    text: str
    """What is wrong, for a person."""
    where: str
    """For example ``line 12``, ``header Date`` or ``part 2``; empty for the whole message."""
    advice: str
    """What to do, with the section of the standard."""


def lint(content: bytes, headers: tuple[Header, ...], root: Entity) -> tuple[Finding, ...]:
    """What is wrong with a message of these headers and this structure; errors first, at most 100."""
    findings = [
        *_lines(content),
        *_header_section(content),
        *_fields(headers),
        *_mime(headers, root),
        *_parts(root),
    ]
    return worst_first(findings[:_FINDINGS_LIMIT])


def worst_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Errors, then warnings, then notes; those of one kind as they come."""
    order = ("error", "warning", "note")
    return tuple(sorted(findings, key=lambda finding: order.index(finding.severity)))


def lint_commands(session: Sequence[Line], transaction: Sequence[Line]) -> tuple[Finding, ...]:
    """What is wrong with the commands before a message; errors first, at most 100.

    Args:
        session: the lines of its session before it: EHLO, AUTH and STARTTLS count for all its messages.
        transaction: the lines from MAIL on.
    """
    found = [odd for odd in _odd_commands(session) if _OF_SESSION.match(odd[0])]
    found += _odd_commands(transaction)
    findings = [
        _finding(code, f"{_command(command)} {_COMMANDS[code]}", _verb(command))
        for command, code in dict.fromkeys(found)
    ]
    return worst_first(findings[:_FINDINGS_LIMIT])


def _odd_commands(lines: Sequence[Line]) -> Iterator[tuple[bytes, str]]:
    command = b""
    for line in lines:
        if line.direction == "C" and line.data.strip(b"*\r\n"):  # a response of AUTH is asterisks
            command = line.data
        elif line.direction == "*" and line.data.startswith(b"odd "):
            code = line.data[4:].decode("ascii", "replace")
            if code in _COMMANDS:
                yield command, code


def _command(line: bytes) -> str:
    return f'"{visible_line(visible(line.strip())[0], 100)}"'


def _verb(line: bytes) -> str:
    words = line.split(None, 1)
    return visible_line(visible(words[0])[0].upper(), 20) if words else ""


def _finding(code: str, text: str, where: str = "") -> Finding:
    severity, advice = RULES[code]
    return Finding(severity=severity, code=code, text=text, where=where, advice=advice)


def _lines(content: bytes) -> Iterator[Finding]:
    pairs = content.count(b"\r\n")
    counted = (
        ("bare-lf", content.count(b"\n") - pairs, "line feed", "without a carriage return", _BARE_LF),
        ("bare-cr", content.count(b"\r") - pairs, "carriage return", "without a line feed", _BARE_CR),
        ("nul", content.count(b"\0"), "NUL octet", "", re.compile(rb"\0")),
    )
    for code, count, what, without, expression in counted:
        if count:
            yield _finding(
                code, f"{_number(count, what)} {without}".rstrip(), _first_line(content, expression)
            )
    for code, limit, expression in (("line-over-998", 998, _OVER_998), ("line-over-78", 78, _OVER_78)):
        first, count = None, 0
        for line in expression.finditer(content):
            if len(line[0]) - line[0].endswith(b"\r") > limit:
                first = line.start() if first is None else first
                count += 1
        if first is not None:
            text = f"{_number(count, 'line')} of more than {limit} octets"
            yield _finding(code, text, _line(content, first))


def _number(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _first_line(content: bytes, expression: re.Pattern[bytes]) -> str:
    found = expression.search(content)
    return _line(content, found.start()) if found else ""


def _line(content: bytes, position: int) -> str:
    number = content.count(b"\n", 0, position) + 1
    return f"line {number}"


def _header_section(content: bytes) -> Iterator[Finding]:
    start = header_section_start(content)
    if start:
        yield _finding("leading-lines", "before the first header field stand other lines", "line 1")
    rest = content[start : start + _SECTION_LIMIT]
    section = rest[: header_section_end(rest)]
    if len(section) == len(content) - start:
        yield _finding("no-header-end", "the header section does not end with an empty line")
    for code, expression in (("no-field", _NO_FIELD), ("space-before-colon", _SPACE_BEFORE_COLON)):
        if found := expression.search(section):
            words = "is no header field" if code == "no-field" else "has white space before its colon"
            yield _finding(code, f"{_shown(found[0])} {words}", _line(content, start + found.start()))
    if not section.isascii():
        try:
            section.decode()
        except UnicodeDecodeError:
            yield _finding("header-8bit", "the header section holds octets that are neither ASCII nor UTF-8")
        else:
            yield _finding("header-utf8", "the header section holds UTF-8")


def _shown(octets: bytes) -> str:
    return f'"{visible_line(octets[:400].decode("utf-8", "replace").strip(), 60)}"'


def _fields(headers: tuple[Header, ...]) -> Iterator[Finding]:
    first: dict[str, str] = {}
    for header in headers:
        first.setdefault(header.name.lower(), header.value)
    for name in ("Date", "From", "Message-ID", "Subject"):
        if name.lower() not in first:
            yield _finding(f"missing-{name.lower()}", f"there is no {name} field")
    if not {"to", "cc", "bcc"} & first.keys():
        yield _finding("missing-to", "there is neither a To nor a Cc field")
    for name, count in Counter(header.name.lower() for header in headers).items():
        if count > 1 and name in _ONCE:
            shown = next(header.name for header in headers if header.name.lower() == name)
            yield _finding("duplicate-field", f"the field {shown} is there {count} times", f"header {shown}")
    if "date" in first and (fault := _date_fault(first["date"])):
        text = f'"{visible_line(first["date"], 60)}" {fault}'
        yield _finding("invalid-date", text, "header Date")
    if "message-id" in first and not _MESSAGE_ID.fullmatch(first["message-id"][:1000].strip()):
        text = f'"{visible_line(first["message-id"], 60)}" is no message identifier'
        yield _finding("invalid-message-id", text, "header Message-ID")
    for header in headers[:1000]:
        if _CONTROL.search(header.value):
            name = visible_line(header.name, 60)
            yield _finding(
                "control-in-header", f"the field {name} holds a control character", f"header {name}"
            )
            break


def _date_fault(text: str) -> str | None:
    found = _DATE.fullmatch(text[:200].strip())
    if not found:
        return "is no date"
    weekday, day, month, year, hour, minute, second = found.groups()
    time = int(hour), int(minute), min(int(second or 0), 59)  # 60 is a leap second
    try:
        date = datetime(int(year), _MONTHS.index(month.lower()) + 1, int(day), *time, tzinfo=UTC)
    except ValueError:
        return "is no day or time that there is"
    if weekday and date.weekday() != _DAYS.index(weekday.lower()):
        return "is another day of the week"
    return None


def _mime(headers: Iterable[Header], root: Entity) -> Iterator[Finding]:
    names = {header.name.lower() for header in headers}
    mime = sorted(name for name in names if name in ("content-type", "content-transfer-encoding"))
    if mime and "mime-version" not in names:
        yield _finding("missing-mime-version", "there are MIME fields but no MIME-Version")
    pages = any(part.content_type == "text/html" for part in html_parts(root))
    if pages and all(part.content_type == "text/html" for part in text_parts(root)):
        yield _finding("missing-text", "the text is there only as HTML")


def _parts(root: Entity) -> Iterator[Finding]:
    for number, part in walk(root):
        where = f"part {number}"
        if part.fault:
            yield _finding("broken-structure", f"{visible_line(part.content_type, 60)}: {part.fault}", where)
        encoding = part.transfer_encoding
        if part.is_multipart:
            if encoding not in _IDENTITY:
                yield _finding(
                    "encoded-multipart", f"a multipart is encoded as {visible_line(encoding, 40)}", where
                )
            continue
        if encoding not in _IDENTITY and encoding not in ("base64", "quoted-printable"):
            yield _finding(
                "unknown-encoding", f'unknown transfer encoding "{visible_line(encoding, 40)}"', where
            )
        if (damage := _damage(part.encoded(), encoding)) is not None:
            yield _finding(f"broken-{encoding}", damage, where)
        if part.is_message:
            continue
        if encoding in ("", "7bit") and not part.encoded().isascii():
            yield _finding("undeclared-8bit", f"8-bit octets in a part that is {encoding or '7bit'}", where)
        if part.content_type.startswith("text/"):
            reading = read_text(text_octets(part)[0], part.charset, part.content_type)[0]
            if reading.warning:
                yield _finding("charset", visible_line(reading.warning), where)


def _damage(octets: bytes, encoding: str) -> str | None:
    """What is wrong with the encoded octets; None where nothing is."""
    if encoding == "base64":
        strange = octets.translate(None, _BASE64 + _WHITE_SPACE + b"=")
        if strange:
            return f"{_number(len(strange), 'octet')} outside of the base64 alphabet"
        digits = octets.translate(None, _WHITE_SPACE)
        unpadded = digits.rstrip(b"=")
        if b"=" in unpadded:
            return "base64 goes on behind its padding"
        if len(digits) % 4 or len(digits) - len(unpadded) > 2:
            return "base64 is cut off or wrongly padded"
    elif encoding == "quoted-printable" and (found := _BROKEN_QP.search(octets)):
        return f"{_shown(octets[found.start() : found.start() + 3])} is no quoted-printable sequence"
    return None
