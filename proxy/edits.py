"""EDIT: changes to the header section, applied to the octets on the way out.

A message that no rule edits leaves as it came: nothing is copied, nothing is re-serialised.
"""

import re
from dataclasses import dataclass
from email.header import Header

__all__ = ["AddHeader", "Edit", "PrefixSubject", "RemoveHeader", "apply"]

_FIELD_NAME = re.compile(r"[!-9;-~]{1,76}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_FIELD = re.compile(rb"[^\r\n]*(?:\r\n[ \t][^\r\n]*)*\r\n")


def _check_name(name: str) -> None:
    if not _FIELD_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no header field name (RFC 5322 section 2.2)")


def _check_value(value: str) -> None:
    if _CONTROL.search(value):
        raise ValueError("a header field value cannot hold control characters or line ends")


@dataclass(frozen=True, slots=True)
class AddHeader:
    """Put a field before the message's own header section."""

    name: str
    value: str
    """Other than ASCII becomes encoded-words (RFC 2047); long values are folded."""

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_value(self.value)


@dataclass(frozen=True, slots=True)
class RemoveHeader:
    """Take out every field of that name."""

    name: str

    def __post_init__(self) -> None:
        _check_name(self.name)


@dataclass(frozen=True, slots=True)
class PrefixSubject:
    """Put text before the subject; a message without Subject gets one."""

    text: str

    def __post_init__(self) -> None:
        _check_value(self.text)


Edit = AddHeader | RemoveHeader | PrefixSubject


def apply(content: bytes, edits: tuple[Edit, ...]) -> tuple[bytes, ...]:
    """The message with the edits, as pieces that each start at a line's beginning.

    Fields added last stand first, as trace fields do (RFC 5321 section 4.4).
    """
    if not edits:
        return (content,)
    added: list[bytes] = []
    for edit in edits:
        match edit:
            case AddHeader(name, value):
                added.insert(0, _field(name, value))
            case RemoveHeader(name):
                content = _without(content, name)
            case PrefixSubject(text):
                content = _with_subject(content, text)
    return (*added, content)


def _field(name: str, value: str) -> bytes:
    charset = "ascii" if value.isascii() else "utf-8"
    folded = Header(value, charset=charset, header_name=name).encode(linesep="\r\n")
    return f"{name}: {folded}\r\n".encode("ascii")


def _fields(content: bytes) -> tuple[list[bytes], int]:
    """The header section's fields with their folds and line ends, and where the section ends."""
    fields: list[bytes] = []
    position = 0
    while not content.startswith(b"\r\n", position):
        found = _FIELD.match(content, position)
        if not found or found.end() == position:
            break
        fields.append(found.group())
        position = found.end()
    return fields, position


def _named(field: bytes, name: str) -> bool:
    return field.partition(b":")[0].rstrip(b" \t").lower() == name.lower().encode("ascii")


def _without(content: bytes, name: str) -> bytes:
    fields, end = _fields(content)
    kept = [field for field in fields if not _named(field, name)]
    return content if len(kept) == len(fields) else b"".join(kept) + content[end:]


def _with_subject(content: bytes, text: str) -> bytes:
    prefix = text if text.isascii() else Header(text, charset="utf-8", header_name="Subject").encode(linesep="\r\n")
    fields, end = _fields(content)
    for number, field in enumerate(fields):
        if _named(field, "Subject"):
            name, _, value = field.partition(b":")
            lead = prefix.encode("ascii") if text.isascii() else prefix.encode("ascii") + b" "
            fields[number] = name + b": " + lead + value.lstrip(b" \t")
            return b"".join(fields) + content[end:]
    return _field("Subject", text.rstrip()) + content
