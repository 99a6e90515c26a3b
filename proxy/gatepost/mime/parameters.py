"""Structured fields such as Content-Type: what they name, and their parameters (RFC 2045 5.1, RFC 2231).

Readers differ about comments, quoted-pairs, what occurs twice and what is malformed. A parameter therefore
has *readings*: what any of the common readers would make of it, the likeliest first.

Each expression is linear on any input: no repetition can match the same bytes in two ways.
"""

import itertools
import math
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from gatepost.mime.charsets import decode_charset, is_utf_8
from gatepost.mime.words import decode_value

__all__ = ["Named", "Structured", "read_structured"]

_SEGMENT = re.compile(
    rb"""(?:\A|;)([^;"]*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*\\?"?[^;"]*+)*)""",
    re.DOTALL,
)
"""What is between two semicolons; those in quoted strings are no ends."""
_QUOTED = re.compile(rb'"([^"\\]*+(?:\\.[^"\\]*+)*)\\?("?)', re.DOTALL)
_KIND = re.compile(rb"""[\s"]*+([^\s/;,"()=]++(?:\s*+/\s*+[^\s/;,"()=]++)?)""")
_ASSIGNED = re.compile(rb'[\s"]*+([^\s=*"]{1,80}+)[\s"]*+(?:\*\s*+(\d{1,9}+)\s*+)?(\*?)[\s"]*+=\s*+')
_ASSIGNED_ANYWHERE = re.compile(
    rb'(?:\A|(?<=[\s;,"()]))([^\s=*"(),;]{1,80}+)[\s"]*+(?:\*\s*+(\d{1,9}+)\s*+)?(\*?)[\s"]*+=\s*+'
)
_SEMICOLON, _EQUALS, _PARENTHESIS = b";=("
"""As numbers: see `gatepost.mime.fields`."""
_WORDS = (b"name", b"boundary", b"charset", b"format", b"delsp")
_INTERESTING = re.compile(b"|".join(_WORDS), re.IGNORECASE)
"""In the parameters that are read here; of others there may be any number."""
_PAIR = re.compile(rb"\\(.)", re.DOTALL)
_NEEDED_PAIR = re.compile(rb'\\(["\\])')
_TOKEN = re.compile(rb'[()]|\\.|"[^"\\]*+(?:\\.[^"\\]*+)*"|[^()\\"]++|["\\]', re.DOTALL)
_COMMENT_TOKEN = re.compile(rb"[()]|\\.|[^()\\]++|\\", re.DOTALL)
"""Within a comment, where a quote is a character like others."""
_INNERMOST_COMMENT = re.compile(rb"\([^()]*+\)")
_GLUED_COMMENT = re.compile(rb"[^\s;=(]\(")
"""It may be meant as a part of a word, as in ``report(1).pdf``."""
_FIRST_WORD = re.compile(rb"([^\s,]++)[\s,]")
_WINDOWS_PATH = re.compile(rb"[A-Za-z]:\\|\\\\")
_PARAMETERS_LIMIT = 1000
"""Of one field; of more these many and the last ones are read: readers take a first or a last one."""
_LAST_PARAMETERS = 50
_VALUE_LIMIT = 16 << 10
"""Bytes of a value that is found out of its place."""
_COMBINATIONS_LIMIT = 16
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

    __slots__ = ("_read", "_spellings", "kind")

    def __init__(self, kind: str, spellings: tuple[tuple[_Parameter, ...], ...]) -> None:
        self.kind = kind
        """What is before the parameters, for example ``text/plain``, in lower case; may be empty."""
        self._spellings = spellings
        """The parameters under each way to take the field apart."""
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
            for parameters in self._spellings:
                for text, how in _readings([one for one in parameters if one.name == name]):
                    if text:
                        texts.setdefault(text, how)
            known = self._read[name] = tuple([Named(text, how) for text, how in texts.items()])
        return known

    def octets(self, name: bytes) -> list[bytes]:
        """The values of a parameter as they are, without quotes; not of those of RFC 2231."""
        return [
            octets
            for parameters in self._spellings
            for one in parameters
            if one.name == name and one.section is None and not one.is_extended
            for octets, _ in one.readings
        ]


def read_structured(value: bytes) -> Structured:
    """Take a field's value apart; of one that is malformed, what can be found in it. Never raises."""
    return _cached(value) if len(value) <= _CACHED_OCTETS else _read(value)


def _read(value: bytes) -> Structured:
    value = value.replace(b"\r\n", b"").replace(b"\n", b"")
    found = _KIND.match(value)
    if _SEMICOLON not in value and _EQUALS not in value and _PARENTHESIS not in value:
        return Structured(_kind(found), ())
    if found and value.find(b"=?") < 0 and not _is_interesting(value):
        return Structured(_kind(found), ())
    spellings: list[tuple[_Parameter, ...]] = []
    for text, how in _spellings(value):
        found = found or _KIND.match(text)
        segments = _SEGMENT.findall(text)
        parameters = _parameters(segments, how)
        spellings.append(parameters)
        if text.count(b"=") != len(parameters) or text.count(b";") != len(segments) - 1:
            spellings.append(tuple(_anywhere(text)))
    return Structured(_kind(found), tuple(spellings))


def _is_interesting(value: bytes) -> bool:
    lowered = value.lower()  # in a long value this finds them many times faster than the expression
    return any(word in lowered for word in _WORDS)


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
        innermost = _INNERMOST_COMMENT.sub(b" ", value)
        if without == value:
            yield value, ""
        elif _GLUED_COMMENT.search(value):
            yield value, ""
            yield without, "comment removed"
        else:
            yield without, "comment removed"
            yield value, "comment kept"
        if innermost not in (without, value):
            yield innermost, "innermost comment removed"
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


def _parameters(segments: list[bytes], how: str) -> tuple[_Parameter, ...]:
    found = [
        (match, text)
        for text in segments
        if b"=" in text and _INTERESTING.search(text) and (match := _ASSIGNED.match(text))
    ]
    if len(found) > _PARAMETERS_LIMIT:
        found[_PARAMETERS_LIMIT:-_LAST_PARAMETERS] = []
    return tuple([_parameter(match, text[match.end() :], how) for match, text in found])


def _anywhere(value: bytes) -> Iterator[_Parameter]:
    """What may be a parameter out of its place: without a semicolon, or with quotes that do not pair."""
    found = [match for match in _ASSIGNED_ANYWHERE.finditer(value) if _INTERESTING.search(match[1])]
    if len(found) > _PARAMETERS_LIMIT:
        found[_PARAMETERS_LIMIT:-_LAST_PARAMETERS] = []
    for match in found:
        text = value[match.end() : match.end() + _VALUE_LIMIT]
        quoted = _QUOTED.match(text)
        end = text.find(b";", quoted.end() if quoted else 0)
        yield _parameter(match, text if end < 0 else text[:end], "found out of its place")
        if quoted:  # and for those who do not know quoted strings
            yield _parameter(match, text.partition(b";")[0], "quotes ignored")


def _parameter(found: re.Match[bytes], text: bytes, how: str) -> _Parameter:
    section = None if found[2] is None else int(found[2])
    readings = tuple(_unquoted(text.strip(), how))
    return _Parameter(found[1].lower(), section, bool(found[3]), readings)


def _unquoted(text: bytes, how: str) -> Iterator[tuple[bytes, str]]:
    quoted = _QUOTED.match(text)
    if quoted is None:
        if b'"' in text:
            yield text.replace(b'"', b""), how or "quotes removed"
        yield text, how
        if b"\\" in text:
            yield _PAIR.sub(rb"\1", text), "quoted-pairs undone"
        if word := _FIRST_WORD.match(text):
            yield word[1], "only its first word"
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
    for one in parameters:
        if one.section is None and one.is_extended:
            for octets, how in one.readings:
                charset, rest = _charset_and_rest(octets)
                for text in _decoded(unquote_to_bytes(rest), charset):
                    yield text, _joined_how("RFC 2231", how)
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
    ordered = sorted(pieces, key=_section)
    first, last = {_section(one): one for one in reversed(ordered)}, {_section(one): one for one in ordered}
    ways = [[chosen[section] for section in sorted(chosen)] for chosen in (first, last)]
    ways += [[one for number, one in enumerate(way) if _section(one) == number] for way in tuple(ways)]
    if len(first) < len(pieces):  # some join all that have the same number
        ways += [ordered, sorted(pieces, key=lambda one: (_section(one), one.readings[0][0]))]
    for way in ways:
        for values in _combined(way):
            for text in _decoded(*_join(way, values)):
                yield text, how


def _section(one: _Parameter) -> int:
    return one.section or 0


def _combined(pieces: list[_Parameter]) -> Iterator[tuple[bytes, ...]]:
    """The values of the pieces in each combination of their readings, as far as there are few of them."""
    if not pieces:
        return
    if math.prod(len(one.readings) for one in pieces) <= _COMBINATIONS_LIMIT:
        yield from itertools.product(*([octets for octets, _ in one.readings] for one in pieces))
    else:
        yield tuple([one.readings[0][0] for one in pieces])
        yield tuple([one.readings[-1][0] for one in pieces])


def _join(pieces: list[_Parameter], values: tuple[bytes, ...]) -> tuple[bytes, str]:
    """The bytes of all, and their charset."""
    charset, joined = "", bytearray()
    for number, (one, value) in enumerate(zip(pieces, values, strict=True)):
        text = value
        if number == 0 and one.is_extended:
            charset, text = _charset_and_rest(value)
        joined += unquote_to_bytes(text) if one.is_extended else text
    return bytes(joined), charset


def _charset_and_rest(text: bytes) -> tuple[str, bytes]:
    charset, quote, rest = text.partition(b"'")
    if quote:
        _, quote, rest = rest.partition(b"'")
    if not (quote and rest):  # also of 'name', where the quotes are meant as such
        return "", text
    return charset.decode("latin-1"), rest


def _decoded(octets: bytes, charset: str) -> Iterator[str]:
    """The characters; also for readers who do not know a charset in which ASCII means something else."""
    known = decode_charset(octets, charset) if charset else None
    if known is not None:
        yield decode_value(known.encode("utf-8", "surrogateescape")) if "=?" in known else known
        if not octets.isascii() or octets.decode("ascii") == known:
            return
    yield decode_value(octets)
