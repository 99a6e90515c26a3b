"""What a milter changes, as edits."""

import re
from collections.abc import Iterator, Sequence

from gatepost import (
    AddHeader,
    AddRecipient,
    ChangeHeader,
    ChangeSender,
    Edit,
    EnvelopeEdit,
    RemoveHeader,
    RemoveRecipient,
    ReplaceBody,
)

from gatepost_milter.packets import Modification

__all__ = ["edits_of", "quarantine_reason"]

_LINE_END = re.compile(rb"\r?\n")
_BLANK_LINE = re.compile(rb"\r\n[ \t]*+(?=\r\n|\Z)")


def edits_of(changes: Sequence[Modification], *, leading_space: bool) -> tuple[Edit | EnvelopeEdit, ...]:
    """The edits, in their order; raises ValueError for what cannot be in a message.

    ``leading_space`` tells whether values have the blank after the colon.
    """
    return (*_fields(changes, leading_space=leading_space), *_body(changes), *_envelope(changes))


def quarantine_reason(changes: Sequence[Modification]) -> str | None:
    """Why the message is to be quarantined; None: it is not."""
    reasons = [change.words[0].decode("utf-8", "replace") for change in changes if change.kind == b"q"]
    return reasons[-1] or "quarantine" if reasons else None


def _fields(changes: Sequence[Modification], *, leading_space: bool) -> Iterator[Edit]:
    above = 0  # fields above the server's own Received field, which the milter does not see, and counts
    for change in changes:
        match change.kind, change.words:
            case b"h", (name, value):
                yield AddHeader(_name(name), _value(value, leading_space=leading_space), None)
            case b"i", (name, value):
                index = change.number - 1 if change.number > above else change.number
                above += index == change.number
                yield AddHeader(_name(name), _value(value, leading_space=leading_space), index)
            case b"m", (name, b""):
                yield RemoveHeader(_name(name), number=max(change.number, 1))
            case b"m", (name, value):
                new = _value(value, leading_space=leading_space)
                yield ChangeHeader(_name(name), new, max(change.number, 1))
            case _:
                continue


def _body(changes: Sequence[Modification]) -> Iterator[Edit]:
    chunks = [change.words[0] for change in changes if change.kind == b"b"]
    if chunks:
        body = b"".join(chunks).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        yield ReplaceBody(body if not body or body.endswith(b"\r\n") else body + b"\r\n")


def _envelope(changes: Sequence[Modification]) -> Iterator[EnvelopeEdit]:
    for change in changes:
        match change.kind, change.words:
            case b"+" | b"2", (path, *_):
                yield AddRecipient(_address(path))
            case b"-", (path,):
                yield RemoveRecipient(_address(path))
            case b"e", (path, *_):
                yield ChangeSender(_address(path))
            case _:
                continue


def _name(octets: bytes) -> str:
    return octets.decode("ascii", "replace")


def _value(octets: bytes, *, leading_space: bool) -> bytes:
    """The value as it is written behind the colon."""
    lines = _BLANK_LINE.sub(b"", _LINE_END.sub(b"\r\n", octets))
    return lines if leading_space else b" " + lines


def _address(path: bytes) -> str:
    text = path.decode("utf-8", "replace").strip()
    return text[1:-1] if text.startswith("<") and text.endswith(">") else text
