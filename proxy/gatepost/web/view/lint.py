"""What is wrong with a message: its bytes, its header section and its parts."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime

from gatepost.mime import Header
from gatepost.mime.entity import Entity
from gatepost.mime.fields import header_section_end, header_section_start
from gatepost.web.view.body import Texts, html_parts, text_parts
from gatepost.web.view.findings import FINDINGS_LIMIT, Finding, make_finding, worst_first
from gatepost.web.view.text import visible_line
from gatepost.web.view.tree import numbered

__all__ = ["ONCE", "lint"]

_SECTION_LIMIT = 512 << 10
ONCE = frozenset(
    """
    date from sender reply-to to cc bcc message-id in-reply-to references subject mime-version
    content-type content-transfer-encoding content-id content-description content-disposition
    """.split()  # noqa: SIM905 # one a line fills pages
)
_IDENTITY = frozenset({"", "7bit", "8bit", "binary"})
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_WHITE_SPACE = b" \t\r\n"

_LINE_LIMITS = (998, 78)
_CHUNK = 1 << 20
"""Bytes whose lines are looked at together: bounds the memory, as there may be a million lines in them."""
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


def lint(
    content: bytes, headers: tuple[Header, ...], counts: Mapping[str, int], root: Entity, texts: Texts
) -> tuple[Finding, ...]:
    """What is wrong with a message of these headers and this structure; errors first, at most 100.

    ``counts`` says how many fields there are of each name in `ONCE`, also of those not in ``headers``.
    """
    findings = [
        *_lines(content),
        *_header_section(content),
        *_fields(headers, counts),
        *_mime(headers, root),
        *_parts(root, texts),
    ]
    return worst_first(findings[:FINDINGS_LIMIT])


def _lines(content: bytes) -> Iterator[Finding]:
    pairs = content.count(b"\r\n")
    counted = (
        ("bare-lf", content.count(b"\n") - pairs, "line feed", "without a carriage return", _BARE_LF),
        ("bare-cr", content.count(b"\r") - pairs, "carriage return", "without a line feed", _BARE_CR),
        ("nul", content.count(b"\0"), "NUL octet", "", re.compile(rb"\0")),
    )
    for code, count, what, without, expression in counted:
        if count:
            yield make_finding(
                code, f"{_number(count, what)} {without}".rstrip(), _first_line(content, expression)
            )
    for limit, (count, first) in _long_lines(content).items():
        if count:
            text = f"{_number(count, 'line')} of more than {limit} octets"
            yield make_finding(f"line-over-{limit}", text, f"line {first}")


def _long_lines(content: bytes) -> dict[int, tuple[int, int]]:
    """By limit: how many lines are longer without their line end, and the number of the first of them."""
    found = dict.fromkeys(_LINE_LIMITS, (0, 0))
    start, number = 0, 1
    while start < len(content):
        end = content.find(b"\n", start + _CHUNK)
        chunk = content[start : end if end >= 0 else len(content)]
        if _has_long_line(chunk):
            lines = chunk.replace(b"\r\n", b"\n").removesuffix(b"\r").split(b"\n")
            lengths = Counter(map(len, lines))
            for limit, (count, first) in found.items():
                if more := sum([times for length, times in lengths.items() if length > limit]):
                    first_here = next(at for at, line in enumerate(lines, number) if len(line) > limit)
                    found[limit] = count + more, first or first_here
        if end < 0:
            break
        start, number = end + 1, number + chunk.count(b"\n") + 1
    return found


def _has_long_line(chunk: bytes) -> bool:
    """True if a line is longer than the lowest limit, maybe by its CR; most lines are not looked at."""
    position, window = 0, min(_LINE_LIMITS) + 1
    while position + window <= len(chunk):
        position = chunk.rfind(b"\n", position, position + window) + 1
        if not position:
            return True
    return False


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
        yield make_finding("leading-lines", "before the first header field stand other lines", "line 1")
    rest = content[start : start + _SECTION_LIMIT]
    section = rest[: header_section_end(rest)]
    if len(section) == len(content) - start:
        yield make_finding("no-header-end", "the header section does not end with an empty line")
    for code, expression in (("no-field", _NO_FIELD), ("space-before-colon", _SPACE_BEFORE_COLON)):
        if found := expression.search(section):
            words = "is no header field" if code == "no-field" else "has white space before its colon"
            yield make_finding(code, f"{_shown(found[0])} {words}", _line(content, start + found.start()))
    if not section.isascii():
        try:
            section.decode()
        except UnicodeDecodeError:
            yield make_finding(
                "header-8bit", "the header section holds octets that are neither ASCII nor UTF-8"
            )
        else:
            yield make_finding("header-utf8", "the header section holds UTF-8")


def _shown(octets: bytes) -> str:
    return f'"{visible_line(octets[:400].decode("utf-8", "replace").strip(), 60)}"'


def _fields(headers: tuple[Header, ...], counts: Mapping[str, int]) -> Iterator[Finding]:
    first: dict[str, str] = {}
    for header in headers:
        first.setdefault(header.name.lower(), header.value)
    for name in ("Date", "From", "Message-ID", "Subject"):
        if name.lower() not in first:
            yield make_finding(f"missing-{name.lower()}", f"there is no {name} field")
    if not {"to", "cc", "bcc"} & first.keys():
        yield make_finding("missing-to", "there is neither a To nor a Cc field")
    for name, count in counts.items():
        if count > 1:
            shown = next(header.name for header in headers if header.name.lower() == name)
            yield make_finding(
                "duplicate-field", f"the field {shown} is there {count} times", f"header {shown}"
            )
    if "date" in first and (fault := _date_fault(first["date"])):
        text = f'"{visible_line(first["date"], 60)}" {fault}'
        yield make_finding("invalid-date", text, "header Date")
    if "message-id" in first and not _MESSAGE_ID.fullmatch(first["message-id"][:1000].strip()):
        text = f'"{visible_line(first["message-id"], 60)}" is no message identifier'
        yield make_finding("invalid-message-id", text, "header Message-ID")
    for header in headers[:1000]:
        if _CONTROL.search(header.value):
            name = visible_line(header.name, 60)
            yield make_finding(
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
        yield make_finding("missing-mime-version", "there are MIME fields but no MIME-Version")
    pages = any(part.content_type == "text/html" for part in html_parts(root))
    if pages and all(part.content_type == "text/html" for part in text_parts(root)):
        yield make_finding("missing-text", "the text is there only as HTML")


def _parts(root: Entity, texts: Texts) -> Iterator[Finding]:
    for number, part in numbered(root):
        where = f"part {number}"
        if part.fault:
            yield make_finding(
                "broken-structure", f"{visible_line(part.content_type, 60)}: {part.fault}", where
            )
        encoding = part.transfer_encoding
        if part.is_multipart:
            if encoding not in _IDENTITY:
                yield make_finding(
                    "encoded-multipart", f"a multipart is encoded as {visible_line(encoding, 40)}", where
                )
            continue
        if encoding not in _IDENTITY and encoding not in ("base64", "quoted-printable"):
            yield make_finding(
                "unknown-encoding", f'unknown transfer encoding "{visible_line(encoding, 40)}"', where
            )
        octets = part.encoded()
        if (damage := _damage(octets, encoding)) is not None:
            yield make_finding(f"broken-{encoding}", damage, where)
        if part.is_message:
            continue
        if encoding in ("", "7bit") and not octets.isascii():
            yield make_finding(
                "undeclared-8bit", f"8-bit octets in a part that is {encoding or '7bit'}", where
            )
        if part.content_type.startswith("text/") and (warning := texts.read(part).warning):
            yield make_finding("charset", visible_line(warning), where)


def _damage(octets: bytes, encoding: str) -> str | None:
    """What is wrong with the encoded bytes; None where nothing is."""
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
