"""The value of a header field as characters: octets, folds and encoded-words (RFC 2047)."""

import binascii
import re
from collections.abc import Iterator

from proxy.mime.charsets import decode_charset
from proxy.mime.transfer import decode_base64

__all__ = ["decode_octets", "decode_value", "decode_words"]

_WORD = re.compile(r"=\?([^?\s]{1,60})\?([BbQq])\?([^?]*+)\?=")


def decode_octets(octets: bytes) -> str:
    """Header octets as characters: UTF-8 (RFC 6532), else ISO 8859-1."""
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return octets.decode("latin-1")


def decode_value(octets: bytes) -> str:
    """The value of a field, unfolded, its encoded-words decoded."""
    text = decode_octets(octets)
    if "\n" in text:
        text = text.replace("\r\n", "").replace("\n", "")
    text = text.strip()
    return decode_words(text) if "=?" in text else text


def decode_words(text: str) -> str:
    """The text with its encoded-words decoded; those of an unknown charset stay as they stand.

    White space between two of them is not shown, and a character may be split between them.
    """
    return "".join(_decoded_pieces(text))


def _decoded_pieces(text: str) -> Iterator[str]:
    position = 0
    charset, octets = "", bytearray()
    for word in _WORD.finditer(text):
        between = text[position : word.start()]
        label = word[1].partition("*")[0]  # RFC 2231 section 5 adds a language
        if octets and (label.lower() != charset.lower() or (between and not between.isspace())):
            yield _characters(octets, charset)
            octets = bytearray()
        if not position or not between.isspace():
            yield between
        charset = label
        octets += _word_octets(word)
        position = word.end()
    if octets:
        yield _characters(octets, charset)
    yield text[position:]


def _word_octets(word: re.Match[str]) -> bytes:
    encoded = word[3].encode("utf-8", "surrogateescape")
    if word[2] in "Bb":
        return decode_base64(encoded)
    return binascii.a2b_qp(encoded, header=True)


def _characters(octets: bytearray, charset: str) -> str:
    known = decode_charset(bytes(octets), charset)
    return decode_octets(bytes(octets)) if known is None else known
