"""What a report about a message says: a bounce (RFC 3464), a receipt (RFC 8098), a complaint (RFC 5965)."""

import re
from collections.abc import Iterable, Iterator
from typing import Literal

from gatepost.mime.entity import Entity
from gatepost.mime.fields import Header, read_fields
from gatepost.mime.fields import decoded as decode_fields
from gatepost.values import value
from gatepost.web.view.status_codes import status_words
from gatepost.web.view.text import visible_line

__all__ = ["Report", "ReportKind", "ReportedField", "ReportedRecipient", "read_report"]

ReportKind = Literal["delivery-status", "disposition-notification", "feedback-report"]

_TYPES: dict[str, ReportKind] = {
    "message/delivery-status": "delivery-status",
    "message/global-delivery-status": "delivery-status",
    "message/disposition-notification": "disposition-notification",
    "message/global-disposition-notification": "disposition-notification",
    "message/feedback-report": "feedback-report",
}
_RETURNED = frozenset(
    {
        "message/rfc822",
        "message/global",
        "text/rfc822-headers",
        "message/rfc822-headers",
        "message/global-headers",
    }
)
_OCTETS_LIMIT = 256 << 10
_BLOCKS_LIMIT = 101
"""One about the message, and 100 recipients."""
_FIELDS_LIMIT = 100
_EMPTY_LINES = re.compile(rb"\r?\n(?:[ \t]*\r?\n)+")
_TYPED = re.compile(r"\s*([A-Za-z0-9-]{1,40})\s*;\s*(.*)", re.DOTALL)
_ESCAPED = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")


@value
class ReportedField:
    """One field of a report."""

    name: str
    value: str


@value
class ReportedRecipient:
    """What became of the message for one recipient."""

    address: str
    """The final recipient, or else the original one."""
    original_address: str
    """The recipient as the sender wrote it; empty where that is not told, or the same."""
    action: str
    """In lower case. Of a bounce ``failed``, ``delayed``, ``delivered``, ``relayed`` or ``expanded``, of a
    receipt ``displayed``, ``deleted``, ``dispatched`` or ``processed``; empty for a complaint."""
    status: str
    """The enhanced status code, for example ``5.1.1``; empty where there is none."""
    meaning: str
    """The status in words."""
    diagnostic: str
    """What the remote server replied."""
    remote_server: str
    last_attempt: str
    """As written, and so is the next."""
    retry_until: str


@value
class Report:
    """A report in a message; each text is empty where the report has no such field."""

    kind: ReportKind
    reporter: str
    """The server or the program that reports."""
    recipients: tuple[ReportedRecipient, ...]
    """At most 100."""
    feedback_type: str
    """Of a complaint: ``abuse``, ``fraud``, ``virus``, ``not-spam``, ``opt-out``, another one."""
    message_id: str
    """Of the message that the report is about."""
    subject: str
    """Of that message."""
    fields: tuple[ReportedField, ...]
    """What the report says about the whole message, at most 100 fields."""


def read_report(parts: Iterable[Entity]) -> Report | None:
    """The first report among the parts of a message, in their order; None where there is none."""
    report: Entity | None = None
    returned: Entity | None = None
    for part in parts:
        if report is None:
            report = part if part.content_type in _TYPES else None
        elif part.content_type in _RETURNED:
            returned = part
            break
    if report is None:
        return None
    kind = _TYPES[report.content_type]
    about, *blocks = [*_blocks(report.read()[:_OCTETS_LIMIT])] or [{}]
    original = _returned_fields(returned) if returned else {}
    if kind == "delivery-status":
        recipients = [_delivered(block) for block in blocks]
    else:
        recipients = [_concerned(about, kind)]
    return Report(
        kind=kind,
        reporter=_untyped(about, "reporting-mta") or _first(about, "reporting-ua", "user-agent"),
        recipients=tuple([one for one in recipients if one.address or one.action]),
        feedback_type=_first(about, "feedback-type").lower(),
        message_id=_first(about, "original-message-id") or _first(original, "message-id"),
        subject=_first(original, "subject"),
        fields=tuple(_fields(about)),
    )


_Block = dict[str, list[Header]]
"""The fields of one block by their names in lower case."""


def _blocks(octets: bytes) -> Iterator[_Block]:
    """The blocks of fields, which empty lines part (RFC 3464 section 2.1)."""
    for block in _EMPTY_LINES.split(octets.strip(b" \t\r\n"), _BLOCKS_LIMIT)[:_BLOCKS_LIMIT]:
        if fields := _by_name(read_fields(block + b"\r\n\r\n").pairs):
            yield fields


def _by_name(pairs: list[tuple[bytes, bytes]]) -> _Block:
    found: _Block = {}
    for header in decode_fields(pairs[:_FIELDS_LIMIT]):
        found.setdefault(header.name.lower(), []).append(header)
    return found


def _returned_fields(part: Entity) -> _Block:
    """The header section of the message that the report is about."""
    if part.children:
        return _by_name(part.children[0].declared.pairs)
    return _by_name(read_fields(part.read()[:_OCTETS_LIMIT] + b"\r\n\r\n").pairs)


def _fields(block: _Block) -> Iterator[ReportedField]:
    for headers in block.values():
        for header in headers:
            yield ReportedField(
                name=visible_line(header.name, 100), value=visible_line(header.value.strip(), 1000)
            )


def _first(block: _Block, *names: str) -> str:
    for name in names:
        if headers := block.get(name):
            return visible_line(" ".join(headers[0].value.split()), 1000)
    return ""


def _untyped(block: _Block, name: str) -> str:
    """A value without the type before it: ``rfc822; bob@example.com``, ``dns; mx.example.com``."""
    value = _first(block, name)
    typed = _TYPED.fullmatch(value)
    if not typed:
        return value
    return _ESCAPED.sub(_character, typed[2]) if typed[1].lower() == "utf-8" else typed[2]


def _character(found: re.Match[str]) -> str:
    """Of an address in the form of RFC 6533 section 3."""
    code = int(found[1], 16)
    return visible_line(chr(code)) if code <= 0x10FFFF else found[0]


def _delivered(block: _Block) -> ReportedRecipient:
    address, original = _untyped(block, "final-recipient"), _untyped(block, "original-recipient")
    status = _first(block, "status")
    return ReportedRecipient(
        address=address or original,
        original_address=original if address and original.lower() != address.lower() else "",
        action=_first(block, "action").lower(),
        status=status,
        meaning=status_words(status),
        diagnostic=_untyped(block, "diagnostic-code"),
        remote_server=_untyped(block, "remote-mta"),
        last_attempt=_first(block, "last-attempt-date"),
        retry_until=_first(block, "will-retry-until"),
    )


def _concerned(block: _Block, kind: ReportKind) -> ReportedRecipient:
    """The recipient of a receipt or a complaint."""
    is_receipt = kind == "disposition-notification"
    address = _untyped(block, "final-recipient" if is_receipt else "original-rcpt-to").strip("<>")
    original = _untyped(block, "original-recipient")
    disposition = _first(block, "disposition").rpartition(";")[2].strip().lower() if is_receipt else ""
    return ReportedRecipient(
        address=address or original,
        original_address=original if address and original.lower() != address.lower() else "",
        action=disposition,
        status="",
        meaning="",
        diagnostic=_first(block, "error", "failure") if is_receipt else "",
        remote_server="",
        last_attempt="",
        retry_until="",
    )
