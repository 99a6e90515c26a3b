"""Header fields (RFC 5322 section 2.2), encoded-words (RFC 2047) and parameters (RFC 2231).

Each expression is linear on any input: no repetition can match the same octets in two ways.
"""

import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from proxy.mime.decoding import decode_base64, decode_charset

__all__ = [
    "Header",
    "decode_octets",
    "decode_words",
    "header_section_end",
    "header_section_start",
    "read_fields",
    "read_header_section",
    "read_parameter",
]

_FIELD = re.compile(rb"([!-9;-~\x80-\xff][^:\r\n]*+):([^\n]*+(?:\n[ \t][^\n]*+)*+)(?:\n|\Z)")
_LINE = re.compile(rb"^([!-9;-~\x80-\xff][^:\r\n]*+):([^\n]*+(?:\n[ \t][^\n]*+)*+)", re.MULTILINE)
# Possessive groups with alternatives go wrong in Python before 3.11.5 and are not used here
# (https://github.com/python/cpython/issues/106052).
_FIRST_LINE = re.compile(rb"^[^ \t\r\n]", re.MULTILINE)
"""Behind empty lines, and lines that become a fold of the field that a server puts before them."""
_SEPARATOR = re.compile(rb">?From [^\n]*+\n")
"""Of an mbox."""
_WORD = re.compile(r"=\?([^?\s]{1,60})\?([BbQq])\?([^?]*+)\?=")
_PARAMETER = re.compile(
    r';\s*+([^\s=;*"]{1,80}+)(?:\*(\d{1,4}+))?(\*)?\s*+=\s*+(?:"((?:[^"\\]++|\\.)*)"?|([^;]*+))',
    re.DOTALL,
)
_QUOTED_PAIR = re.compile(r'\\(["\\])')  # before others, as in C:\name, the backslash itself is meant
_PARAMETERS_LIMIT = 1000
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
            Header(name=decode_octets(name).rstrip(), value=_value(value))
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
                fields[name] = _value(found[2])
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


def decode_octets(octets: bytes) -> str:
    """Header octets as characters: UTF-8 (RFC 6532), else ISO 8859-1."""
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return octets.decode("latin-1")


def _value(octets: bytes) -> str:
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


def read_parameter(value: str, name: str) -> str:
    """A parameter of a Content-Type or Content-Disposition field; empty where it is not there.

    Continued and percent-encoded ones (RFC 2231) are joined, encoded-words in them decoded.
    """
    if ";" not in value:
        return ""
    pieces: dict[int, str] = {}
    extended = ""
    for number, found in enumerate(_PARAMETER.finditer(value)):
        if number >= _PARAMETERS_LIMIT:
            break
        if found[1].lower() != name:
            continue
        text = _QUOTED_PAIR.sub(r"\1", found[4]) if found[4] is not None else found[5].strip()
        if found[3] and not found[2]:
            extended = extended or _percent_decoded(text)
        else:
            pieces.setdefault(int(found[2] or 0), _percent_decoded(text) if found[3] else text)
    joined = extended or "".join(pieces[number] for number in sorted(pieces))
    return decode_words(joined) if "=?" in joined else joined


def _percent_decoded(text: str) -> str:
    charset, quote, rest = text.partition("'")
    if quote:
        _, quote, rest = rest.partition("'")
    if not quote:
        charset, rest = "utf-8", text
    octets = unquote_to_bytes(rest)
    known = decode_charset(octets, charset)
    return decode_octets(octets) if known is None else known
