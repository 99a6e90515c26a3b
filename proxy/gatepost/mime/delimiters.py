"""Lines that may part a multipart (RFC 2046 section 5.1.1)."""

import re
from collections.abc import Container, Iterable
from typing import NamedTuple

__all__ = ["Delimiter", "is_content_field", "next_delimiter", "prefix_in"]

_CONTENT_FIELD = re.compile(rb"content-[a-z-]{2,30}[ \t]*+:", re.IGNORECASE)
_TEXT_LIMIT = 64 << 10
_BOUNDARY_LIMIT = 70
"""Characters of a boundary (RFC 2046 section 5.1.1)."""


class Delimiter(NamedTuple):
    """A line that begins with two hyphens."""

    start: int
    text: bytes
    """What is behind the hyphens, without white space at its end; at most 64 KiB."""
    end: int
    """Where the next line begins."""


def next_delimiter(content: bytes, position: int) -> Delimiter | None:
    """The first such line from ``position``, the beginning of a line, on; None where there is none."""
    if not content.startswith(b"--", position):
        # One byte is looked for ten times as fast as three, and base64 has no hyphen: of a large
        # attachment the first search finds the line behind it.
        hyphen = content.find(b"-", position)
        position = content.find(b"\n--", max(hyphen - 1, 0)) + 1 if hyphen >= 0 else 0
        if not position:
            return None
    newline = content.find(b"\n", position)
    end = len(content) if newline < 0 else newline + 1
    text = content[position + 2 : min(end, position + 2 + _TEXT_LIMIT)].partition(b"\r")[0].rstrip()
    return Delimiter(position, text, end)


def is_content_field(content: bytes, position: int) -> bool:
    """True if a ``Content-`` field begins there."""
    return _CONTENT_FIELD.match(content, position) is not None


def prefix_in(text: bytes, boundaries: Container[bytes], lengths: Iterable[int]) -> bytes | None:
    """The longest boundary that the text begins with, for readers who compare no more than that.

    RFC 2046 section 5.1.1: "it is sufficient that the boundary appear in its entirety following the CRLF".
    ``lengths`` are those of the boundaries; only such as the RFC allows are compared.
    """
    for length in sorted(lengths, reverse=True):
        if 0 < length <= _BOUNDARY_LIMIT and length < len(text) and text[:length] in boundaries:
            return text[:length]
    return None
