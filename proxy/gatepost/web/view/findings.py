"""What can be wrong with a message or with the commands before it, and the advice that mends it."""

from collections.abc import Iterable
from typing import Literal

from gatepost.traffic.oddity import Oddity
from gatepost.values import value

__all__ = ["FINDINGS_LIMIT", "RULES", "Finding", "Severity", "make_finding", "worst_first"]

FINDINGS_LIMIT = 100
"""Of one message that are shown."""

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


@value
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


def make_finding(code: str, text: str, where: str = "") -> Finding:
    """A finding with the severity and the advice of its rule."""
    severity, advice = RULES[code]
    return Finding(severity=severity, code=code, text=text, where=where, advice=advice)


def worst_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Errors, then warnings, then notes; those of one kind as they come."""
    order = ("error", "warning", "note")
    return tuple(sorted(findings, key=lambda finding: order.index(finding.severity)))
