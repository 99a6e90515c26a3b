"""Structured fields such as Content-Type: what they name, and their parameters (RFC 2045 5.1, RFC 2231).

Readers differ about comments, quoted-pairs, what occurs twice and what is malformed. A parameter therefore
has *readings*: what any of the common readers would make of it, the likeliest first.

Each expression is linear on any input: no repetition can match the same bytes in two ways.
"""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from proxy.mime.charsets import decode_charset, is_utf_8
from proxy.mime.words import decode_value

__all__ = ["Named", "Structured", "read_structured"]

_SEGMENT = re.compile(
    rb"""(?:\A|;)([^;"]*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*\\?"?[^;"]*+)*)""",
    re.DOTALL,
)
"""What stands between two semicolons; those in quoted strings are no ends."""
_NAIVE_SEGMENT = re.compile(rb"(?:\A|;)([^;]*+)")
"""For readers who look for semicolons alone."""
_SEMICOLON_IN_QUOTES = re.compile(rb'"[^";]*+;[^";]*+"')
_GLUED_COMMENT = re.compile(rb"[^\s;=(]\(")
"""It may be meant as a part of a word, as in ``report(1).pdf``."""
_QUOTED = re.compile(rb'"([^"\\]*+(?:\\.[^"\\]*+)*)\\?("?)', re.DOTALL)
_KIND = re.compile(rb"""[\s"]*+([^\s/;,"()=]++(?:\s*+/\s*+[^\s/;,"()=]++)?)""")
_ASSIGNED = re.compile(rb'[\s"]*+([^\s=*"]{1,80}+)[\s"]*+(?:\*\s*+(\d{1,9}+)\s*+)?(\*?)[\s"]*+=\s*+')
_ASSIGNED_WITHIN = re.compile(rb"(?:\A|[\s,])(?=[^\s=,]{1,99}+\s*+=)")
"""Where an assignment begins that no semicolon comes before."""
_PAIR = re.compile(rb"\\(.)", re.DOTALL)
_NEEDED_PAIR = re.compile(rb'\\(["\\])')
_TOKEN = re.compile(rb'[()]|\\.|"[^"\\]*+(?:\\.[^"\\]*+)*"|[^()\\"]++|["\\]', re.DOTALL)
_COMMENT_TOKEN = re.compile(rb"[()]|\\.|[^()\\]++|\\", re.DOTALL)
"""Within a comment, where a quote is a character like others."""
_WINDOWS_PATH = re.compile(rb"[A-Za-z]:\\|\\\\")
_SEGMENTS_LIMIT = 1000
"""Parameters of one field; of more of them these many are read, and the last ones."""
_LAST_SEGMENTS = 50
_CACHED_OCTETS = 200


class Named(NamedTuple):
    """One reading of a parameter's value."""

    text: str
    how: str
    """How it was read, for a person; empty for the plain way."""


class _Parameter(NamedTuple):
    name: bytes
    """In lower case."""
    section: int | None
    """Its place among the continuations of RFC 2231 section 3; None where it is not continued."""
    is_extended: bool
    """True if it is percent-encoded (RFC 2231 section 4)."""
    readings: tuple[tuple[bytes, str], ...]
    """The value without its quotes, and how it was read; the likeliest first."""


class Structured:
    """The value of a structured field."""

    __slots__ = ("_parameters", "_read", "kind")

    def __init__(self, kind: str, parameters: tuple[_Parameter, ...]) -> None:
        self.kind = kind
        """What stands before the parameters, for example ``text/plain``, in lower case; may be empty."""
        self._parameters = parameters
        self._read: dict[bytes, tuple[Named, ...]] = {}

    def first(self, name: bytes) -> str:
        """The likeliest reading of a parameter, named in lower case; empty where it is not there."""
        readings = self.readings(name)
        return readings[0].text if readings else ""

    def readings(self, name: bytes) -> tuple[Named, ...]:
        """All readings of a parameter, named in lower case, each text once; none where it is not there."""
        known = self._read.get(name)
        if known is None:
            texts: dict[str, str] = {}
            for text, how in _readings([one for one in self._parameters if one.name == name]):
                if text:
                    texts.setdefault(text, how)
            known = self._read[name] = tuple([Named(text, how) for text, how in texts.items()])
        return known


def read_structured(value: bytes) -> Structured:
    """Take a field's value apart; of one that is malformed, what can be found in it. Never raises."""
    return _cached(value) if len(value) <= _CACHED_OCTETS else _read(value)


def _read(value: bytes) -> Structured:
    value = value.replace(b"\r\n", b"").replace(b"\n", b"")
    found = _KIND.match(value)
    if b";" not in value and b"=" not in value and b"(" not in value:
        return Structured(_kind(found), ())
    parameters: list[_Parameter] = []
    for text, how in _spellings(value):
        found = found or _KIND.match(text)
        parameters += _parameters(text, _SEGMENT, how)
    if b'"' in value and _SEMICOLON_IN_QUOTES.search(value):
        naive = _parameters(value, _NAIVE_SEGMENT, "quotes ignored")
        parameters += [one for one in naive if one not in parameters]
    return Structured(_kind(found), tuple(parameters))


_cached = lru_cache(maxsize=1024)(_read)
"""Most messages say ``text/plain; charset=utf-8``."""


def _kind(found: re.Match[bytes] | None) -> str:
    if found is None:
        return ""
    return b"".join(found[1].split()).decode("latin-1").lower()


def _spellings(value: bytes) -> Iterator[tuple[bytes, str]]:
    """The value with and without its comments, and with its encoded-words decoded."""
    if b"(" in value:
        without = _without_comments(value)
        if without != value and not _GLUED_COMMENT.search(value):
            yield without, "comment removed"
            yield value, "comment kept"
        else:
            yield value, ""
            if without != value:
                yield without, "comment removed"
    else:
        yield value, ""
    if b"=?" in value:
        yield decode_value(value).encode("utf-8", "surrogateescape"), "encoded-words decoded first"


def _without_comments(value: bytes) -> bytes:
    """The value without its comments (RFC 5322 section 3.2.2); one that is not closed is none."""
    depth, kept, pending, position = 0, [], [], 0
    while found := (_COMMENT_TOKEN if depth else _TOKEN).match(value, position):
        token, position = found[0], found.end()
        pending.append(token)
        if token == b"(":
            depth += 1
            if depth == 1:
                pending = [token]
                continue
        elif token == b")" and depth:
            depth -= 1
            if not depth:
                pending = [b" "]
        if not depth:
            kept += pending
            pending = []
    return b"".join(kept + (pending if depth else []))


def _parameters(value: bytes, segment: re.Pattern[bytes], how: str) -> list[_Parameter]:
    segments = segment.findall(value)
    if len(segments) > _SEGMENTS_LIMIT:
        segments[_SEGMENTS_LIMIT:-_LAST_SEGMENTS] = []
    return [one for text in segments if b"=" in text for one in _of_segment(text, how)]


def _of_segment(text: bytes, how: str) -> Iterator[_Parameter]:
    if found := _ASSIGNED.match(text):
        yield _parameter(found, text, how)
        if text.startswith(b'"', found.end()) or b"=" not in text[found.end() :]:
            return
    # As in "attachment filename=a", where a semicolon is missing.
    for number, begun in enumerate(_ASSIGNED_WITHIN.finditer(text)):
        inner = _ASSIGNED.match(text, begun.end())
        if inner and begun.end() > 0 and not (found and found.end() > inner.end()):
            yield _parameter(inner, text, "no semicolon before it")
        if number >= _LAST_SEGMENTS:
            return


def _parameter(found: re.Match[bytes], text: bytes, how: str) -> _Parameter:
    section = None if found[2] is None else int(found[2])
    readings = tuple(_unquoted(text[found.end() :].strip(), how))
    return _Parameter(found[1].lower(), section, bool(found[3]), readings)


def _unquoted(text: bytes, how: str) -> Iterator[tuple[bytes, str]]:
    quoted = _QUOTED.match(text)
    if quoted is None:
        if b'"' in text:
            yield text.replace(b'"', b""), how or "quotes removed"
        yield text, how
        if b"\\" in text:
            yield _PAIR.sub(rb"\1", text), "quoted-pairs undone"
        if b" " in text or b"\t" in text:
            yield text.split(maxsplit=1)[0], "only its first word"
        return
    inner, rest = quoted[1], text[quoted.end() :]
    if rest:
        yield inner + rest.replace(b'"', b""), "joined with what follows the quoted string"
    if b"\\" in inner:
        readings = [(_PAIR.sub(rb"\1", inner), how or "quoted-pairs undone")]
        readings.append((_NEEDED_PAIR.sub(rb"\1", inner), how or "backslashes kept"))
        if _WINDOWS_PATH.match(inner):
            readings.reverse()
        yield from readings
    else:
        yield inner, how
    if not quoted[2]:
        yield text, how or "quote not closed"


def _readings(parameters: list[_Parameter]) -> Iterator[tuple[str, str]]:
    single = [one for one in parameters if one.section is None and one.is_extended]
    for one in single:
        for octets, how in one.readings:
            yield _from_extended(octets), _joined_how("RFC 2231", how)
    pieces = [one for one in parameters if one.section is not None]
    if pieces:
        yield from _continued(pieces)
    for one in parameters:
        if one.section is not None or one.is_extended:
            continue
        for octets, how in one.readings:
            encoded = "encoded-word" if b"=?" in octets else ""
            yield decode_value(octets), _joined_how(encoded, how)
            if not (octets.isascii() or is_utf_8(octets)):
                yield octets.decode("utf-8", "replace"), _joined_how("damaged UTF-8", how)
                yield octets.decode("latin-1"), _joined_how("ISO 8859-1", how)
            if b"?=" in octets and b" " in octets:  # white space between encoded-words of unlike charsets
                yield decode_value(octets.replace(b" ", b"")), _joined_how("encoded-word", "blanks removed")


def _joined_how(*hows: str) -> str:
    return ", ".join(dict.fromkeys(how for how in hows if how))


def _continued(pieces: list[_Parameter]) -> Iterator[tuple[str, str]]:
    """The continuations joined (RFC 2231 section 3): as bytes, decoded once with the first one's charset."""
    how = _joined_how("RFC 2231, continued", pieces[0].readings[0][1])
    for keep_first in (True, False):
        chosen: dict[int, _Parameter] = {}
        for one in pieces:
            if one.section is not None and (one.section not in chosen or not keep_first):
                chosen[one.section] = one
        ordered = [chosen[section] for section in sorted(chosen)]
        unbroken = [one for number, one in enumerate(ordered) if one.section == number]
        for some in (ordered, unbroken):
            if some:
                yield _join(some), how
                yield _join(some, alternative=True), how


def _join(pieces: Iterable[_Parameter], *, alternative: bool = False) -> str:
    charset, octets = "", bytearray()
    for number, one in enumerate(pieces):
        text = one.readings[-1 if alternative else 0][0]
        if number == 0 and one.is_extended:
            charset, text = _charset_and_rest(text)
        octets += unquote_to_bytes(text) if one.is_extended else text
    return _decoded(bytes(octets), charset)


def _from_extended(text: bytes) -> str:
    charset, rest = _charset_and_rest(text)
    return _decoded(unquote_to_bytes(rest), charset)


def _charset_and_rest(text: bytes) -> tuple[str, bytes]:
    charset, quote, rest = text.partition(b"'")
    if quote:
        _, quote, rest = rest.partition(b"'")
    return (charset.decode("latin-1"), rest) if quote else ("", text)


def _decoded(octets: bytes, charset: str) -> str:
    known = decode_charset(octets, charset) if charset else None
    if known is not None:
        return decode_value(known.encode("utf-8", "surrogateescape")) if "=?" in known else known
    return decode_value(octets)
