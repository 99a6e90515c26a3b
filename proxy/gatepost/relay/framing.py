"""How a message is framed for upstream: lines after DATA, or chunks of octets (RFC 3030).

Either way the last octets are kept apart: until they are sent, upstream cannot have accepted the message.
"""

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Framed", "in_chunks", "in_lines"]

_END_OF_DATA = b".\r\n"
_LINE_END = b"\r\n"


class Framed(NamedTuple):
    """A message as it is sent."""

    question: bytes
    """The command that asks whether upstream takes the message; empty: it was not asked."""
    go_on: int
    """The code of the reply to it with which upstream takes the message."""
    parts: Sequence[bytes | memoryview]
    """What is sent after it, but for the end."""
    end: bytes
    """With these octets upstream has the whole message."""


def in_lines(pieces: Sequence[bytes]) -> Framed:
    """DATA, transparency dots (RFC 5321 section 4.5.2), and CRLF at the end if it is missing.

    Each piece starts at the beginning of a line.
    """
    parts = []
    for piece in pieces:
        if piece:
            part = piece.replace(b"\r\n.", b"\r\n..")  # the same object if nothing is replaced
            parts.append(b"." + part if part.startswith(b".") else part)
    if parts and not parts[-1].endswith(_LINE_END):
        parts.append(_LINE_END)
    return Framed(b"DATA\r\n", 354, parts, _END_OF_DATA)


def in_chunks(pieces: Sequence[bytes], *, at_once: bool) -> Framed:
    """BDAT, the octets as they are, and CRLF at the end if it is missing.

    Args:
        pieces: at least two that are not empty. The first of them asks, as a chunk of its own: it is what the
            gateway itself writes above the message.
        at_once: one chunk for the whole message, so that upstream is not asked.
    """
    asking, *rest = [piece for piece in pieces if piece]
    if at_once:
        rest.insert(0, asking)
    last = rest[-1]
    size = sum(map(len, rest))
    if last.endswith(_LINE_END):
        begin = memoryview(last)[: -len(_LINE_END)]
    else:
        begin, size = memoryview(last), size + len(_LINE_END)
    question = b"" if at_once else b"BDAT %d\r\n%b" % (len(asking), asking)
    return Framed(question, 250, [b"BDAT %d LAST\r\n" % size, *rest[:-1], begin], _LINE_END)
