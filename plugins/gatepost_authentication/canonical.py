"""Canonicalization of header fields and bodies (RFC 6376 section 3.4).

Each step takes linear time. A body is handled in pieces by functions that are implemented in C: a megabyte
takes milliseconds, and other threads can run in between.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

__all__ = ["Field", "Fields", "HeaderSectionError", "canonical_body", "split_fields", "without_signature"]

_FIELD = re.compile(rb"([^\r\n:]*):([^\n]*(?:\n[ \t][^\n]*)*)\n?")
_FOLD = re.compile(rb"\r?\n")
_SIGNATURE = re.compile(rb"((?:^|;)[ \t\r\n]*b[ \t\r\n]*=)[^;]*")
_SECTION_LIMIT = 1 << 20
_FIELDS_LIMIT = 10_000
_PIECE_BYTES = 128 << 10


class HeaderSectionError(Exception):
    """The header section is too large: its signatures would take too long to verify."""


class Field:
    """One header field, as it is in the message."""

    __slots__ = ("_relaxed", "key", "name", "value")

    def __init__(self, name: bytes, value: bytes) -> None:
        """``value`` is all after the colon, with its folds and without the line end."""
        self.name = name
        """With the white space before the colon, if there is any."""
        self.value = value
        """The bytes after the colon with their folds, without the line end."""
        self.key = name.rstrip(b" \t").lower().decode("latin-1")
        """The name in lower case, without white space."""
        self._relaxed: bytes | None = None

    @property
    def text(self) -> str:
        """The value as text: decoded as UTF-8 (RFC 6532), or if it is not UTF-8 as Latin-1."""
        try:
            return self.value.decode()
        except UnicodeDecodeError:
            return self.value.decode("latin-1")

    def canonical(self, how: str) -> bytes:
        """The field with CRLF, in the canonical form ``simple`` or ``relaxed``."""
        if how == "simple":
            return self.name + b":" + self.value + b"\r\n"
        if self._relaxed is None:
            value = _single_spaces(_FOLD.sub(b"", self.value)).strip(b" ")
            self._relaxed = self.key.encode("latin-1") + b":" + value + b"\r\n"
        return self._relaxed


Fields = Mapping[str, Sequence[Field]]
"""The fields of a header section by `Field.key`, those of a name in their order."""


def split_fields(header_section: bytes) -> Fields:
    """The fields of a header section; lines without a field are skipped.

    Raises `HeaderSectionError` for more than a megabyte or 10,000 fields.
    """
    if len(header_section) > _SECTION_LIMIT:
        raise HeaderSectionError(f"the header section has more than {_SECTION_LIMIT} bytes")
    fields: dict[str, list[Field]] = {}
    for number, found in enumerate(_FIELD.finditer(header_section)):
        if number == _FIELDS_LIMIT:
            raise HeaderSectionError(f"the header section has more than {_FIELDS_LIMIT} fields")
        name, value = found.groups()
        if name and not name.startswith((b" ", b"\t")):
            field = Field(name, value.removesuffix(b"\r"))
            fields.setdefault(field.key, []).append(field)
    return fields


def canonical_body(body: bytes | memoryview, how: str, *, piece: int = _PIECE_BYTES) -> Iterator[bytes]:
    """The whole body in the canonical form ``simple`` or ``relaxed``, in pieces.

    ``piece`` is how many bytes are handled at once.
    """
    relaxed = how == "relaxed"
    rest, empty_lines, is_empty = b"", 0, True
    for start in range(0, len(body), piece):
        text = rest + body[start : start + piece]
        if relaxed:
            text = _single_spaces(text).replace(b" \r\n", b"\r\n")
        # What is at the edge depends on the next piece, and empty lines on whether any text follows.
        edge = len(text) - text.endswith(b"\r")
        if relaxed:
            edge -= text.endswith(b" ", 0, edge)
        end = _end_of_text(text[:edge])
        if end:
            yield b"\r\n" * empty_lines + text[:end]
            empty_lines, is_empty = 0, False
        empty_lines += (edge - end) // 2
        rest = text[edge:]
    if relaxed:
        rest = rest.removesuffix(b" ")
    if rest:
        yield b"\r\n" * empty_lines + rest
    if rest or not is_empty or not relaxed:
        yield b"\r\n"


def without_signature(value: bytes) -> bytes:
    """The value of a signature's field with an empty tag ``b``, as it is signed."""
    return _SIGNATURE.sub(rb"\1", value, count=1)


def _single_spaces(text: bytes) -> bytes:
    """The text with one space for each run of spaces and tabs."""
    text = text.replace(b"\t", b" ")
    while b"  " in text:
        text = text.replace(b"  ", b" ")
    return text


def _end_of_text(body: bytes) -> int:
    """Where the last line that is not empty ends, without its CRLF."""
    end = len(body.rstrip(b"\r\n"))
    tail = body[end:]
    if tail == b"\r\n" * (len(tail) // 2):
        return end
    # A single CR or LF, which the SMTP server refuses, is part of the text.
    last = len(tail)
    while tail.endswith(b"\r\n", 0, last):
        last -= 2
    return end + last
