"""Header sections and their fields (RFC 5322 section 2.2): all that read a header section do it here.

    read_fields          all fields of a message or a part, with what readers may see there otherwise
    read_header_section  all fields of a message, decoded
    split_fields         the same, not decoded
    FieldFinder          the few fields that every message is asked for
    split_lines          the lines as they are, for those that change one

Each expression is linear on any input: no repetition can match the same bytes in two ways.
"""

import re
from typing import NamedTuple

from gatepost.mime.words import decode_octets, decode_value
from gatepost.values import value

__all__ = [
    "HEADER_SECTION",
    "FieldFinder",
    "Fields",
    "Header",
    "decoded",
    "field_name",
    "header_section_end",
    "header_section_start",
    "is_field_name",
    "read_fields",
    "read_header_section",
    "split_fields",
    "split_lines",
]

HEADER_SECTION = re.compile(
    rb"(?:>*+From (?![ \t]*+:)[^\n]*+\n)*[!-9;-~]++[ \t]*+:"
    rb"|\r?\n|\Z"
)
"""Matches a message that begins with a header section, maybe an empty one; all of any other is body.

It begins with one if it is empty, if its first line is, or if its first line is a field: a name of printable
ASCII characters, maybe white space (RFC 5322 section 4.5), a colon. ``From `` lines of an mbox before that
field, with any number of ``>``, are passed over.
"""
_NAME = re.compile(r"[!-9;-~]{1,76}")
_NAME_IN_LINE = re.compile(rb"([!-9;-~]+)[ \t]*:")
_FOLDED_LINE = re.compile(rb"[^\n]*+(?:\n[ \t][^\n]*+)*+(?:\n|\Z)")
"""One line with its folds. A bare LF ends it too, for readers that take it for a line end."""
_VALUE = re.compile(rb"[ \t]*+:([^\n]*+(?:\n[ \t][^\n]*+)*+)")
_FIELD = re.compile(rb"([!-9;-~\x80-\xff][^:\r\n]*+):([^\n]*+(?:\n[ \t][^\n]*+)*+)(?:\n|\Z)")
_LINE = re.compile(rb"^([!-9;-~\x80-\xff][^:\r\n]*+):([^\n]*+(?:\n[ \t][^\n]*+)*+)", re.MULTILINE)
# Possessive groups with alternatives go wrong in Python before 3.11.5 and are not used here
# (https://github.com/python/cpython/issues/106052).
_BLANK_LINE = re.compile(rb"\n[ \t]++\r?\n")
"""A fold for some readers, the end of the header section for others."""
_FIRST_LINE = re.compile(rb"^[^ \t\r\n]", re.MULTILINE)
"""Behind empty lines, and lines that become a fold of the field that a server puts before them."""
_SEPARATOR = re.compile(rb">?From [^\n]*+\n")
"""Of an mbox."""
_LF, _CR, _ESCAPE = b"\n\r\x1b"
"""As numbers: to look for bytes in bytes with ``in`` raises an exception within Python, and drops it."""
_FIELDS_LIMIT = 10_000
_JUNK_LIMIT = 10_000
"""Lines; a part with more of them has no header fields but only a body."""
_WINDOW = 8 << 10
"""Bytes in which nearly every header section ends."""
_SECTION_LIMIT = 1 << 20
"""Bytes of one header section that are read; the gateway lets in far less of the message's own."""


@value
class Header:
    """One header field (RFC 5322 section 2.2)."""

    name: str
    """As written; compare without regard to case."""
    value: str
    """Unfolded, encoded-words (RFC 2047) decoded; CR and LF that were encoded in it are spaces."""
    raw: bytes = b""
    """The bytes after the colon as they are in the message, with folds, without the line end."""


class Fields(NamedTuple):
    """The header section of a message or of a part of one."""

    pairs: list[tuple[bytes, bytes]]
    """Names and values as they are, the values with their folds."""
    junk: int
    """Where the body begins for a reader who stops at the first line that is no field; `body` without one."""
    body: int
    """Where the body begins for a reader who passes over such lines."""


def header_section_start(content: bytes) -> int:
    """Where a reader who passes over leading lines that are no field finds the first one."""
    first = _FIRST_LINE.search(content)
    start = first.start() if first else content.rfind(b"\n") + 1
    separator = _SEPARATOR.match(content, start)
    return separator.end() if separator else start


def header_section_end(content: bytes) -> int:
    """Where the header section's last line ends: at the first empty line, else at the end."""
    if content.startswith((b"\r\n", b"\n")):
        return 0
    end = content.find(b"\n\r\n")
    bare = content.find(b"\n\n", 0, end + 1 if end >= 0 else None)
    if bare >= 0:
        end = bare
    return end + 1 if end >= 0 else len(content)


def read_header_section(content: bytes) -> tuple[Header, ...]:
    """The message's header fields in their order; lines that are no field are passed over."""
    return decoded(split_fields(content))


def split_fields(content: bytes) -> list[tuple[bytes, bytes]]:
    """The names and values of the message's header fields, as they are, for `decoded`."""
    return _LINE.findall(content[: min(header_section_end(content), _SECTION_LIMIT)])


class FieldFinder:
    """Single fields of one header section, found without reading the others."""

    __slots__ = ("_lowered", "_section")

    def __init__(self, section: bytes) -> None:
        self._section = b"\n" + section
        self._lowered = self._section.lower()  # finding in it is many times faster than a regular expression

    def first(self, name: bytes) -> bytes:
        """The value of the first field of that name (in lower case) with its folds; empty without one."""
        start = 0
        while start := self._lowered.find(b"\n" + name, start) + 1:
            if value := _VALUE.match(self._section, start + len(name)):
                return value[1]
        return b""

    def count(self, name: bytes) -> int:
        """How many fields of that name (in lower case) there are."""
        begin = b"\n" + name
        alike = self._lowered.count(begin)
        if not alike or alike == self._lowered.count(begin + b":"):
            return alike
        pieces = self._lowered.split(begin)[1:]
        return sum([piece.lstrip(b" \t").startswith(b":") for piece in pieces])


def split_lines(content: bytes) -> tuple[list[bytes], int]:
    """The header section's lines with their folds and line ends, and where the section ends."""
    lines: list[bytes] = []
    position = 0
    while position < len(content) and not content.startswith((b"\r\n", b"\n"), position):
        found = _FOLDED_LINE.match(content, position)
        if not found:
            break
        lines.append(found.group())
        position = found.end()
    return lines, position


def field_name(line: bytes) -> bytes:
    """The name of the field that the line is, in lower case; empty for a line that is no field."""
    found = _NAME_IN_LINE.match(line)
    return found[1].lower() if found else b""


def is_field_name(text: str) -> bool:
    """True for the name of a header field (RFC 5322 section 2.2) of at most 76 characters."""
    return _NAME.fullmatch(text) is not None


def decoded(pairs: list[tuple[bytes, bytes]]) -> tuple[Header, ...]:
    """Fields as characters."""
    headers = []
    for octets, raw in pairs:
        name = octets.decode("ascii") if octets.isascii() else decode_octets(octets)
        line = raw[:-1] if raw[-1:] == b"\r" else raw
        plain = line.isascii() and not (_LF in line or _CR in line or _ESCAPE in line)
        plain = plain and line.find(b"=?") < 0  # most are: that saves two calls for each of them
        value = line.decode("ascii").strip() if plain else decode_value(line)
        headers.append(Header(name=name.rstrip(), value=value, raw=line))
    return tuple(headers)


def read_fields(content: bytes, start: int = 0) -> Fields:
    """The header section that begins at ``start``; lines that are no field are passed over."""
    if content.startswith((b"\r\n", b"\n"), start):
        body = start + (2 if content.startswith(b"\r", start) else 1)
        return Fields([], body, body)
    window = _WINDOW
    while True:
        limit = start + window
        end = content.find(b"\n\r\n", start, limit)
        bare = content.find(b"\n\n", start, limit if end < 0 else end + 1)
        if end >= 0 or bare >= 0:
            break
        if window >= _SECTION_LIMIT or limit >= len(content) or content.find(b"\n--", start, limit) >= 0:
            return _read_line_by_line(content, start)
        window *= 8  # not at once all of it: another part may begin soon, and another
    body = end + 3
    if bare >= 0:
        end, body = bare, bare + 2
    section = content[start : end + 1]
    pairs: list[tuple[bytes, bytes]] = _LINE.findall(section)
    read = 2 * len(pairs) + sum([len(name) + len(value) for name, value in pairs])
    if (
        read == len(section)
        and section.find(b"\n--") < 0
        and section[:2] != b"--"
        and not _BLANK_LINE.search(section)
    ):
        return Fields(pairs, body, body)
    return _read_line_by_line(content, start)


def _read_line_by_line(content: bytes, start: int) -> Fields:
    pairs: list[tuple[bytes, bytes]] = []
    position, junk, junk_lines = start, -1, 0
    for _ in range(_FIELDS_LIMIT):
        if content.startswith(b"--", position) or position - start > _SECTION_LIMIT:
            break
        if found := _FIELD.match(content, position):
            pairs.append((found[1], found[2]))
            if junk < 0 and (blank := _BLANK_LINE.search(content, position, found.end())):
                junk = blank.start() + 1
            position = found.end()
            continue
        for line_end in (b"\r\n", b"\n"):
            if content.startswith(line_end, position):
                body = position + len(line_end)
                return Fields(pairs, body if junk < 0 else junk, body)
        if junk < 0:
            junk = position
        junk_lines += 1
        line_end_at = content.find(b"\n", position)
        if junk_lines > _JUNK_LIMIT or line_end_at < 0:
            break
        position = line_end_at + 1
    body = position if junk < 0 else junk
    return Fields(pairs, body, body)
