"""The value of a header field as characters: octets, folds and encoded-words (RFC 2047)."""

import re
from collections.abc import Iterator

from proxy.mime.charsets import charset_name, decode_as, decode_octets
from proxy.mime.transfer import decode_base64, decode_q

__all__ = ["decode_octets", "decode_value", "decode_words"]

_WORD = re.compile(
    rb"=\?([^?=]{1,80}+)\?([BbQq])\?"
    rb"([^?=]*+(?:\?(?!=|\Z)[^?=]*+|=(?!\?[^=])[^?=]*+)*)"
    rb"(?:\?=|\?\Z|\Z|(?==\?))"
)
"""As programs take them: with blanks and single question marks in them, at most up to the next one, and
without an end where the value ends. Linear: none is looked through beyond where the next may begin."""


def decode_value(octets: bytes) -> str:
    """The value of a field, unfolded, its encoded-words decoded."""
    if b"=?" in octets:
        return "".join(_decoded_pieces(octets.replace(b"\r\n", b"").replace(b"\n", b"").strip()))
    text = decode_octets(octets)
    if "\n" in text:
        text = text.replace("\r\n", "").replace("\n", "")
    return text.strip()


def decode_words(text: str) -> str:
    """The text with its encoded-words decoded; those of an unknown charset as if they had none.

    White space between two of them is not shown, and a character may be split between them.
    """
    if "=?" not in text:
        return text
    return "".join(_decoded_pieces(text.encode("utf-8", "surrogateescape")))


def _decoded_pieces(octets: bytes) -> Iterator[str]:
    position = 0
    charset: str | None = ""
    joined = bytearray()
    for word in _WORD.finditer(octets):
        between = octets[position : word.start()]
        name = charset_name(word[1].decode("ascii", "replace"))
        if joined and (name != charset or (between and not between.isspace())):
            yield _characters(bytes(joined), charset)
            joined.clear()
        if not position or not (between.isspace() or not between):
            yield decode_octets(between)
        charset = name
        joined += decode_base64(word[3]) if word[2] in b"Bb" else decode_q(word[3])
        position = word.end()
    if joined:
        yield _characters(bytes(joined), charset)
    yield decode_octets(octets[position:])


def _characters(octets: bytes, charset: str | None) -> str:
    return decode_octets(octets) if charset is None else decode_as(octets, charset)
