"""The value of a header field as characters: bytes, folds and encoded-words (RFC 2047)."""

import re
from collections.abc import Iterator
from itertools import groupby

from gatepost.mime.charset_labels import charset_name
from gatepost.mime.charsets import decode_octets, decode_word
from gatepost.mime.transfer import decode_b, decode_base64, decode_q

__all__ = ["decode_octets", "decode_value", "decode_words", "on_one_line"]

_WORD = re.compile(
    rb"=\?([^?=]{1,80}+)\?([BbQq])\?"
    rb"([^?=]*+(?:\?(?!=|\Z)[^?=]*+|=(?!\?[^=])[^?=]*+)*)"
    rb"(?:\?=|\?\Z|\Z|(?==\?))"
)
"""As programs take them: with blanks and single question marks in them, at most up to the next one, and
without an end where the value ends. Linear: none is looked through beyond where the next may begin."""
_LINE_END = re.compile(r"\r\n?|\n")
_CUT_SEQUENCE = re.compile(rb"=(?:\0++[0-9A-Fa-f]\0*+|[0-9A-Fa-f]\0++)[0-9A-Fa-f]")
"""A sequence in Q that is in two encoded-words or three, between which NUL is."""


def decode_value(octets: bytes) -> str:
    """The value of a field, unfolded, its encoded-words decoded; it contains neither CR nor LF."""
    if octets.find(b"=?") >= 0:  # faster than `in`
        unfolded = octets.replace(b"\r\n", b"").replace(b"\n", b"").strip()
        return on_one_line("".join(_decoded_pieces(unfolded)))
    text = decode_octets(octets)
    if "\n" in text:
        text = text.replace("\r\n", "").replace("\n", "")
    text = text.strip()
    return on_one_line(text) if "\r" in text else text


def decode_words(text: str) -> str:
    """The text with its encoded-words decoded; those of an unknown charset as if they had none.

    White space between two of them is not shown, and a character may be split between them. Line ends
    become spaces.
    """
    if "=?" not in text:
        return on_one_line(text)
    return on_one_line("".join(_decoded_pieces(text.encode("utf-8", "surrogateescape"))))


def on_one_line(text: str) -> str:
    """The text with a space for each line end: CRLF, CR or LF, which a sender may hide in an encoding."""
    return _LINE_END.sub(" ", text) if "\r" in text or "\n" in text else text


def _decoded_pieces(octets: bytes) -> Iterator[str]:
    position = 0
    charset: str | None = ""
    adjacent: list[tuple[bytes, bytes]] = []
    for word in _WORD.finditer(octets):
        between = octets[position : word.start()]
        name = charset_name(word[1].decode("ascii", "replace"))
        if adjacent and (name != charset or (between and not between.isspace())):
            yield _characters(adjacent, charset)
            adjacent = []
        if between and not (position and between.isspace()):
            yield decode_octets(between)
        charset = name
        adjacent.append((word[2], word[3]))
        position = word.end()
    if adjacent:
        yield _characters(adjacent, charset)
    yield decode_octets(octets[position:])


def _characters(words: list[tuple[bytes, bytes]], charset: str | None) -> str:
    """Of encoded-words in one charset, each with its encoding; a character may be in two of them."""
    text = _decoded(b"".join([_word_octets(encoding, encoded) for encoding, encoded in words]), charset)
    if len(words) > 1:  # some programs cut the code, not the bytes
        joined = _decoded(octets, charset) if (octets := _rejoined(words)) else ""
        if joined and joined.isprintable() and "\ufffd" not in joined:
            return joined
    return text


def _rejoined(words: list[tuple[bytes, bytes]]) -> bytes:
    """The bytes where a group of base64 or a sequence in Q is in two words; empty where none is."""
    if any(encoding in b"Bb" and len(encoded) % 4 for encoding, encoded in words[:-1]):
        code = b"".join([encoded for _, encoded in words])
        return decode_base64(code) if len(code) % 4 == 0 else b""
    octets: list[bytes] = []
    mended = 0
    for is_q, group in groupby(words, key=lambda word: word[0] in b"Qq"):
        codes = [encoded for _, encoded in group]
        if is_q:
            code, cuts = _CUT_SEQUENCE.subn(lambda cut: cut[0].replace(b"\0", b""), b"\0".join(codes))
            mended += cuts
            octets += map(decode_q, code.split(b"\0"))
        else:
            octets += map(decode_b, codes)
    return b"".join(octets) if mended else b""


def _word_octets(encoding: bytes, encoded: bytes) -> bytes:
    return decode_b(encoded) if encoding in b"Bb" else decode_q(encoded)


def _decoded(octets: bytes, charset: str | None) -> str:
    return decode_octets(octets) if charset is None else decode_word(octets, charset)
