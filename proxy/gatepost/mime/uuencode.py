"""Uuencoded files (POSIX uuencode): blocks within a text, or a whole part.

    begin 644 NAME
    #0V%T
    `
    end

Read as mail programs read them: any mode, blanks or backquotes for zero, lines that lost their trailing
blanks or have something behind their digits, no ``end``. One pass over the lines; a text without ``begin``
costs one search.
"""

import binascii
import re

from gatepost.mime.transfer import decode_base64
from gatepost.values import value

__all__ = ["BEGIN", "BLOCKS_LIMIT", "ENCODINGS", "Block", "decode_uuencoded", "find_blocks"]

ENCODINGS = frozenset({"x-uuencode", "uuencode", "x-uue", "uue", "x-uu"})
"""What a Content-Transfer-Encoding field calls it, in lower case; no RFC names it."""
BEGIN = b"begin"
"""A text without it has no files in it."""
BLOCKS_LIMIT = 1000
"""No more are looked for in one text."""

_BEGIN = re.compile(rb"begin(-base64)?[ \t]++[0-7]{1,6}+(?:[ \t]++([^\r\n]*+))?(?=[\r\n]|\Z)")
_DIGITS = bytes(range(32, 97))
_BASE64_LINE = re.compile(rb"[A-Za-z0-9+/]++={0,2}+")
_BASE64_END = b"===="


@value
class Block:
    """A file within a text."""

    start: int
    """Where its ``begin`` is in the text."""
    end: int
    """Behind its last line."""
    name: bytes
    """As written; no charset is declared for it. Empty where there is none."""
    content: bytes
    """The bytes of the file."""


def find_blocks(text: bytes) -> tuple[Block, ...]:
    """The files in the bytes of a text, in order, at most ``BLOCKS_LIMIT``."""
    blocks: list[Block] = []
    position = text.find(BEGIN)
    while position >= 0 and len(blocks) < BLOCKS_LIMIT:
        found = _BEGIN.match(text, position) if _begins_line(text, position) else None
        if found:
            blocks.append(_read_block(text, found))
        position = text.find(BEGIN, blocks[-1].end if found else position + 1)
    return tuple(blocks)


def decode_uuencoded(octets: bytes) -> bytes:
    """The first file in the body of a part with one of ``ENCODINGS``; without ``begin`` all its lines."""
    found = next((match for match in _BEGIN.finditer(octets) if _begins_line(octets, match.start())), None)
    if found:
        return _read_block(octets, found).content
    return b"".join(map(_decode_line, octets.split(b"\n")))


def _begins_line(text: bytes, position: int) -> bool:
    return position == 0 or text[position - 1] == 10


def _read_block(text: bytes, begin: re.Match[bytes]) -> Block:
    pieces: list[bytes] = []
    position = end = _next_line(text, begin.end())
    while position < len(text):
        after = _next_line(text, position)
        line = text[position:after]
        if line.startswith(b"begin") and _BEGIN.match(line):
            break
        word = line.strip()
        if word == (_BASE64_END if begin[1] else b"end"):
            end = after
            break
        piece = (_BASE64_LINE.fullmatch(word) and word) if begin[1] else _decode_line(line)
        if piece:
            pieces.append(piece)
            end = after
        position = after
    name = (begin[2] or b"").strip().removeprefix(b'"').removesuffix(b'"')
    content = b"".join(pieces)
    return Block(
        start=begin.start(), end=end, name=name, content=decode_base64(content) if begin[1] else content
    )


def _next_line(text: bytes, position: int) -> int:
    found = text.find(b"\n", position)
    return len(text) if found < 0 else found + 1


def _decode_line(line: bytes) -> bytes:
    """The bytes of one line; nothing where it is not of the form."""
    if not line or not 32 < line[0] <= 96:
        return b""
    count = (line[0] - 32) % 64
    groups = (count + 2) // 3
    digits = line[1 : 1 + groups * 4].rstrip(b"\r\n")
    if digits.translate(None, _DIGITS):
        return b""
    # Whole groups, cut afterwards: binascii refuses what some encoders put behind the last byte.
    return binascii.a2b_uu(bytes([32 + groups * 3]) + digits)[:count]
