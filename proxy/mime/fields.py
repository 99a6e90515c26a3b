"""Header sections and their fields (RFC 5322 section 2.2).

Each expression is linear on any input: no repetition can match the same octets in two ways.
"""

import re
from dataclasses import dataclass

from proxy.mime.words import decode_octets, decode_value

__all__ = [
    "Header",
    "header_section_end",
    "header_section_start",
    "read_fields",
    "read_header_section",
]

_FIELD = re.compile(rb"([!-9;-~\x80-\xff][^:\r\n]*+):([^\n]*+(?:\n[ \t][^\n]*+)*+)(?:\n|\Z)")
_LINE = re.compile(rb"^([!-9;-~\x80-\xff][^:\r\n]*+):([^\n]*+(?:\n[ \t][^\n]*+)*+)", re.MULTILINE)
# Possessive groups with alternatives go wrong in Python before 3.11.5 and are not used here
# (https://github.com/python/cpython/issues/106052).
_FIRST_LINE = re.compile(rb"^[^ \t\r\n]", re.MULTILINE)
"""Behind empty lines, and lines that become a fold of the field that a server puts before them."""
_SEPARATOR = re.compile(rb">?From [^\n]*+\n")
"""Of an mbox."""
_FIELDS_LIMIT = 10_000
_JUNK_LIMIT = 100
"""Lines; a part with more of them has no header fields but only a body."""
_SECTION_LIMIT = 1 << 20
"""Octets of the message's own header section that are read; the gateway lets in far less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """One header field (RFC 5322 section 2.2)."""

    name: str
    """As written; compare without regard to case."""
    value: str
    """Unfolded, encoded-words (RFC 2047) decoded."""


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
    section = content[: min(header_section_end(content), _SECTION_LIMIT)]
    return tuple(
        [
            Header(name=decode_octets(name).rstrip(), value=decode_value(value))
            for name, value in _LINE.findall(section)
        ]
    )


def read_fields(content: bytes, start: int, wanted: frozenset[bytes]) -> tuple[dict[bytes, str], int, int]:
    """The first field of each wanted name (lower case) from ``start``, where junk begins, where the body.

    Junk is a line that is no field; fields after it count too, as for a reader who passes over it. Where
    there is none, or no empty line after it, it begins where the body does.
    """
    fields: dict[bytes, str] = {}
    position, junk, junk_lines = start, -1, 0
    for _ in range(_FIELDS_LIMIT):
        if found := _FIELD.match(content, position):
            name = found[1].rstrip().lower()
            if name in wanted and name not in fields:
                fields[name] = decode_value(found[2])
            position = found.end()
            continue
        for line_end in (b"\r\n", b"\n"):
            if content.startswith(line_end, position):
                body = position + len(line_end)
                return fields, body if junk < 0 else junk, body
        if junk < 0:
            junk = position
        junk_lines += 1
        line_end_at = content.find(b"\n", position)
        if junk_lines > _JUNK_LIMIT or line_end_at < 0 or content.startswith(b"--", position):
            break
        position = line_end_at + 1
    body = position if junk < 0 else junk
    return fields, body, body
