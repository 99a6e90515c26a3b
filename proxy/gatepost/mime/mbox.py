"""Files of the mbox format (RFC 4155): where each message is, and its own bytes.

A separator is a line that begins with ``From`` and a space, wherever it is, and holds a weekday and a
time, as in ``From bob@example.com Mon Jan  1 12:00:00 2024``. Thunderbird writes nothing after the space,
others an address alone; such a line is a separator if a header field follows it.

A writer of mboxrd puts ``>`` before each line of a message that begins with ``From `` or with ``>``
characters and ``From ``; so one ``>`` of each is removed. One of mboxo does so only before lines that begin
with ``From ``; of its lines that begin with ``>>From `` one ``>`` too many is removed. A writer of mboxcl2
changes nothing and writes the length into Content-Length. It counts if a separator or the end of the file
follows there.
"""

import re
from collections.abc import Iterator
from mmap import mmap

from gatepost.values import value

__all__ = ["MboxEntry", "Octets", "separator", "split_mbox"]

Octets = bytes | mmap
"""A file in memory, or mapped into it."""

_LINE = re.compile(rb"From ([^\r\n]{0,500})\r?\n")
_DATE = re.compile(rb"(?:^|[ \t])(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),?[ \t][^:]{0,40}\d:\d\d")
_UNDATED = re.compile(rb"(?:[^ \t]+@[^ \t]+)?[ \t]*")
_FIELD = re.compile(rb"[!-9;-~]{1,76}[ \t]*:")
_QUOTED = re.compile(rb"^>(>*From )", re.MULTILINE)
_LENGTH = re.compile(rb"^content-length[ \t]*:[ \t]*(\d{1,18})[ \t]*\r?$", re.MULTILINE | re.IGNORECASE)
_SECTION_END = re.compile(rb"^\r?\n", re.MULTILINE)
_EMPTY_LINE = re.compile(rb"\r?\n|\Z")
_SECTION_OCTETS = 1 << 20
"""So far into a message Content-Length is looked for."""
_CHUNK_OCTETS = 1 << 20


@value
class MboxEntry:
    """One message of an mbox."""

    line: int
    """The number of its separator line, counted from 1."""
    sender: bytes
    """The text of the separator before the date: mostly the reverse-path."""
    start: int
    """Where the message begins in the file."""
    end: int
    """Where it ends: before the empty line that ends it in the file."""
    quoted: bool
    """False if its length is written in it, so that its lines are as they were."""

    def content(self, data: Octets) -> bytes:
        """The message, with the line ends of the file."""
        content = data[self.start : self.end]
        return _QUOTED.sub(rb"\1", content) if self.quoted and b">From " in content else content


def separator(data: Octets, at: int = 0) -> tuple[bytes, int] | None:
    """The sender in the separator at this place, and where its message begins; None if there is none."""
    found = _LINE.match(data, at)
    if found is None:
        return None
    text: bytes = found[1]
    if _UNDATED.fullmatch(text):
        return (text.strip(), found.end()) if _FIELD.match(data, found.end()) else None
    date = _DATE.search(text)
    return (text[: date.start()].strip(), found.end()) if date else None


def split_mbox(data: Octets) -> Iterator[MboxEntry]:
    """Find the messages of an mbox in their order; there are none if it does not begin with a separator."""
    place, line, found = 0, 1, separator(data)
    while found:
        sender, start = found
        following = _next_separator(data, start)
        end = _written_end(data, start, following)
        if end is None:
            entry_end, quoted = following - _empty_line_before(data, start, following), True
        else:
            entry_end, quoted = end, False
            empty = _EMPTY_LINE.match(data, end)
            following = end if separator(data, end) else empty.end() if empty else end
        yield MboxEntry(line=line, sender=sender, start=start, end=entry_end, quoted=quoted)
        line += _lines(data, place, following)
        place, found = following, separator(data, following)


def _next_separator(data: Octets, start: int) -> int:
    """Where the next separator is, or else the end of the file."""
    at = start - 1
    while (at := data.find(b"\nFrom ", at)) >= 0:
        at += 1
        if separator(data, at):
            return at
    return len(data)


def _written_end(data: Octets, start: int, following: int) -> int | None:
    """The end that Content-Length names, if a separator or nothing follows there, else None."""
    section = data[start : min(following, start + _SECTION_OCTETS)]
    body = _SECTION_END.search(section)
    found = _LENGTH.search(section, 0, body.start()) if body else None
    if found is None or body is None:
        return None
    end = start + body.end() + int(found[1])
    if end > len(data):
        return None
    empty = _EMPTY_LINE.match(data, end)
    ends_here = separator(data, end) or (empty and (empty.end() == len(data) or separator(data, empty.end())))
    return end if ends_here else None


def _empty_line_before(data: Octets, start: int, end: int) -> int:
    """The length of the empty line before the end; 0 if there is none."""
    for line_end in (b"\r\n", b"\n"):
        length = len(line_end)
        if end - start >= 2 * length and data[end - 2 * length : end] == line_end * 2:
            return length
    return 0


def _lines(data: Octets, start: int, end: int) -> int:
    """How many line ends there are."""
    return sum(
        data[at : min(at + _CHUNK_OCTETS, end)].count(b"\n") for at in range(start, end, _CHUNK_OCTETS)
    )
