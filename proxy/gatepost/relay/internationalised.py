"""Whether a message needs SMTPUTF8: header fields with octets beyond ASCII (RFC 6532), in any part of it."""

import re
from collections.abc import Sequence

__all__ = ["has_internationalised_header"]

_HEADER_END = re.compile(rb"\n\r?\n")
_DELIMITER = re.compile(rb"\n--([^\r\n]*+)(?=\r?\n)")
_BOUNDARY = re.compile(rb'\bboundary[ \t]*+=[ \t]*+"?([^"\r\n;]{1,200}+)', re.IGNORECASE)
_MESSAGE_TYPE = re.compile(rb"^content-type[ \t]*+:\s*+message/", re.IGNORECASE | re.MULTILINE)


def has_internationalised_header(pieces: Sequence[bytes]) -> bool:
    """True if a header section holds octets beyond ASCII: the message's own, or that of a part.

    RFC 6531 section 3.2 forbids to send those without SMTPUTF8, at any level of the MIME structure. The
    8-bit text of a body is no such thing. What is transfer-encoded is not looked into.
    """
    if all(map(bytes.isascii, pieces)):
        return False
    message = b"".join(pieces)
    boundaries: set[bytes] = set()
    start = 0
    while start >= 0:
        end = _section_end(message, start)
        section = message[start:end]
        if not section.isascii():
            return True
        boundaries.update(map(bytes.rstrip, _BOUNDARY.findall(section)))
        start = end if _MESSAGE_TYPE.search(section) else _next_part(message, end, boundaries)
    return False


def _section_end(message: bytes, start: int) -> int:
    """Where the header section that begins at ``start`` has ended, with its empty line."""
    for line_end in (b"\r\n", b"\n"):
        if message.startswith(line_end, start):
            return start + len(line_end)
    found = _HEADER_END.search(message, start)
    return found.end() if found else len(message)


def _next_part(message: bytes, position: int, boundaries: set[bytes]) -> int:
    """Where the next part's header section begins; -1 where there is none."""
    for delimiter in _DELIMITER.finditer(message, max(position - 1, 0)):
        if delimiter[1].rstrip() in boundaries:
            return message.find(b"\n", delimiter.end()) + 1
    return -1
