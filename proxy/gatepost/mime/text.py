"""The characters of a text part, whatever its label says."""

import re
from collections.abc import Iterator

from gatepost.mime.charset_labels import charset_name
from gatepost.mime.charsets import EBCDIC, decode_as, has_escapes, is_utf_8, mostly_utf_8
from gatepost.values import value

__all__ = ["Reading", "read_in_place", "read_text"]

_READINGS_LIMIT = 3
_ASCII_BASED = frozenset({"", "utf_8", "windows-1252"})
"""Charsets of nearly all text; empty for none declared."""
_NOT_ASCII = (*EBCDIC, "utf-", "hz")
"""Beginnings of the names of charsets that ASCII is not a part of."""
_MARKS = {
    b"\xef\xbb\xbf": "utf_8",
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
"""Byte order marks, the longer before the shorter."""
_MARK_OCTETS = tuple(_MARKS)
_MARKUP = frozenset({"text/html", "text/xml", "application/xhtml+xml", "application/xml"})
_MARKUP_HEAD = 4096
"""Bytes of a page in which its charset is looked for."""
_CHARSET_IN_MARKUP = re.compile(
    rb"""<(?:meta\b[^>]{1,400}?charset|\?xml\b[^>]{1,200}?encoding)\s*+=\s*+["']?\s*+([\w.:+-]{1,60})""",
    re.IGNORECASE,
)
_BY_MARK = "charset from the byte order mark"
_BY_ESCAPES = "charset from ISO 2022 escapes"
_BY_MARKUP = "charset from the HTML page"
_AS_UTF_8 = "read as UTF-8"
_AS_WINDOWS = "read as windows-1252"


@value
class Reading:
    """One way in which a mail program may show a text."""

    text: str
    note: str = ""
    """How it was read, for a person; empty where as the label says."""
    warning: str = ""
    """What is wrong with the label or the bytes; empty where nothing is."""


def read_in_place(content: bytes, start: int, end: int, charset: str) -> str | None:
    """A text that is ASCII or UTF-8 and has no other label, in one step; None: `read_text` must look closer.

    The text is ``content`` from ``start`` to ``end``: a large one is not copied before it is decoded.
    """
    name = charset_name(charset) if charset else ""
    if name not in _ASCII_BASED or content.startswith(_MARK_OCTETS, start):
        return None
    if content.find(b"\x1b", start, end) >= 0:
        return None
    try:
        return str(memoryview(content)[start:end], "ascii" if name == "windows-1252" else "utf-8")
    except UnicodeDecodeError:
        return None


def read_text(octets: bytes, charset: str, content_type: str) -> tuple[Reading, ...]:
    """What mail programs show of a text part, the likeliest first: nearly always one, at most three.

    ``charset`` is the label as declared, or empty; ``content_type`` is in lower case. There is more than
    one reading where the bytes do not fit the label, or where some programs do not know it.
    """
    text = read_in_place(octets, 0, len(octets), charset)
    if text is not None:
        return (Reading(text=text),)
    name = charset_name(charset) if charset else ""
    texts: dict[str, str] = {}
    for way, note in _ways(octets, name, charset, content_type):
        texts.setdefault(decode_as(octets, way).removeprefix("\ufeff"), note)
        if len(texts) == _READINGS_LIMIT:
            break
    readings = [Reading(text=text, note=note) for text, note in texts.items()]
    if warning := _warning(readings[0], name, charset):
        readings[0] = Reading(text=readings[0].text, note=readings[0].note, warning=warning)
    return tuple(readings)


def _warning(reading: Reading, name: str | None, charset: str) -> str:
    if name is None:
        return f"unknown charset {charset[:40]!r}"
    if "\ufffd" in reading.text or reading.note in (_AS_UTF_8, _AS_WINDOWS):
        return f"octets that are no {charset[:40] or 'us-ascii'!r}"
    return ""


def _ways(octets: bytes, name: str | None, charset: str, content_type: str) -> Iterator[tuple[str, str]]:
    """Names of charsets to read it in, each with a note; some may show the same."""
    if mark := next((mark for mark in _MARKS if octets.startswith(mark)), None):
        yield _MARKS[mark], _BY_MARK
    if (not name or name in _ASCII_BASED) and has_escapes(octets):
        yield "iso-2022", _BY_ESCAPES
    fits = is_utf_8(octets)
    if name and name != "utf_8" and not (name == "windows-1252" and "ascii" in charset.lower()):
        yield from _labelled(octets, name, fits=fits)
        return
    if not fits and (found := _charset_in_markup(octets, content_type)):
        yield found, _BY_MARKUP
    if fits:
        yield "utf_8", ""
        if name == "windows-1252":
            yield name, _AS_WINDOWS
    else:
        yield from _guessed(octets)


def _labelled(octets: bytes, name: str, *, fits: bool) -> Iterator[tuple[str, str]]:
    """As the label says, and as a program reads it that does not believe it."""
    foreign = name.startswith(_NOT_ASCII)
    if foreign and b"\0" in octets:
        fits = foreign = False
    unlikely = foreign and name not in ("utf-7", "hz") and octets.isascii()
    if unlikely or (fits and "\ufffd" in decode_as(octets, name)):
        yield "utf_8", _AS_UTF_8
    yield name, ""
    if name == "utf-16":
        yield "utf-16-be", "read as UTF-16BE"
        yield "utf-16-le", "read as UTF-16LE"
    if fits and (foreign or not octets.isascii() or (name == "cp50222" and b"\x0e" in octets)):
        yield "utf_8", _AS_UTF_8
    elif foreign:
        yield from _guessed(octets)


def _guessed(octets: bytes) -> list[tuple[str, str]]:
    """Of text that is no UTF-8 as a whole: UTF-8 with bytes in the way, or of no multi-byte charset."""
    ways = [("utf_8", _AS_UTF_8), ("windows-1252", _AS_WINDOWS)]
    return ways if mostly_utf_8(octets) else ways[::-1]


def _charset_in_markup(octets: bytes, content_type: str) -> str | None:
    """What an HTML page says of itself, in a meta element or an XML declaration."""
    if content_type not in _MARKUP:
        return None
    found = _CHARSET_IN_MARKUP.search(octets, 0, _MARKUP_HEAD)
    name = charset_name(found[1].decode("ascii", "replace")) if found else None
    return "utf_8" if name and name.startswith("utf-") else name  # what it says in ASCII is in no UTF-16
