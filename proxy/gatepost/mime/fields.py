"""Header sections and their fields (RFC 5322 section 2.2).

Each expression is linear on any input: no repetition can match the same bytes in two ways.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple

from gatepost.mime.words import decode_octets, decode_value

__all__ = [
    "HEADER_SECTION",
    "Fields",
    "Header",
    "decoded",
    "header_section_end",
    "header_section_start",
    "read_fields",
    "read_header_section",
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
_FIELDS_LIMIT = 10_000
_JUNK_LIMIT = 10_000
"""Lines; a part with more of them has no header fields but only a body."""
_WINDOW = 8 << 10
"""Bytes in which nearly every header section ends."""
_SECTION_LIMIT = 1 << 20
"""Bytes of one header section that are read; the gateway lets in far less of the message's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """One header field (RFC 5322 section 2.2)."""

    name: str
    """As written; compare without regard to case."""
    value: str
    """Unfolded, encoded-words (RFC 2047) decoded."""


class Fields(NamedTuple):
    """The header section of a message or of a part of one."""

    pairs: list[tuple[bytes, bytes]]
    """Names and values as they stand, the values with their folds."""
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
    bare = content.find(b"\n\n", 0, len(content) if end < 0 else end + 1)
    found = [position for position in (end, bare) if position >= 0]
    return min(found) + 1 if found else len(content)


def read_header_section(content: bytes) -> tuple[Header, ...]:
    """The message's header fields in their order; lines that are no field are passed over."""
    return decoded(_LINE.findall(content[: min(header_section_end(content), _SECTION_LIMIT)]))


def decoded(pairs: list[tuple[bytes, bytes]]) -> tuple[Header, ...]:
    """Fields as characters."""
    headers = []
    for octets, value in pairs:
        name = octets.decode("ascii") if octets.isascii() else decode_octets(octets)  # most are: a call saved
        headers.append(Header(name=name.rstrip(), value=decode_value(value)))
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
        and b"\n--" not in section
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
