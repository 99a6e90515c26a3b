"""The addresses of a header field such as From (RFC 5322 section 3.4), read before anything is decoded.

The structure is found in the bytes as they are; only then is a display name decoded. So an encoded comma or
``<`` is a character of a name and cannot make another address of it. What is malformed is read as mail
programs do; where they differ, each address that one of them shows is returned. Nothing here raises, and the
time is linear in the length of the field.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from gatepost.mime.words import decode_octets, decode_value
from gatepost.values import value

__all__ = ["Address", "read_addresses"]

_WORD = r"(?P<word>=\?[^?=]{1,80}\?[BbQq]\?[^?]*\?=) | "
_QUOTED = r'(?P<quoted>"(?:[^"\\]|\\.)*") | '
_OTHERS = r'(?P<space>[ \t]+) | (?P<text>\[[^\[\]\\]*\] | [^ \t"(),:;<>\[=]+) | (?P<special>.)'
_TOKENS = {
    (words, quotes): re.compile(
        f"{_WORD if words else ''}{_QUOTED if quotes else ''}{_OTHERS}", re.VERBOSE | re.DOTALL
    )
    for words in (True, False)
    for quotes in (True, False)
}
_SPECIALS = re.compile(r'["(),:;<>@]')
_ANGLE = re.compile(r'<((?:"(?:[^"\\]|\\.)*"|[^"<>])*)>', re.DOTALL)
_ANGLE_WITHOUT_QUOTES = re.compile(r"<([^<>]*)>")
_OPEN_ANGLE = re.compile(r"<([^,<>]*)")
_PARENTHESIS = re.compile(r"\\.|[()]", re.DOTALL)
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)
_ROUTE = re.compile(r"@(?:\[[^\]]*\]|[^:\[\]])*:")
"""Servers on the way (RFC 5322 section 4.4), which are not a part of the address."""
_ENTRIES_LIMIT = 10_000
_ADDRESS_LIMIT = 1000
"""Characters; a longer text in angle brackets is returned as it is."""


@value
class Address:
    """One entry of an address field: a mailbox, the name of a group, or a name alone."""

    name: str
    """The display name, decoded and on one line; of an address without one its comment, or empty."""
    address: str
    """``local-part@domain`` without comments, white space and route; quotes and case are as written, and no
    encoded-word is decoded. Empty for the name of a group and for a name without an address."""


def read_addresses(raw: bytes) -> tuple[Address, ...]:
    """The entries of an address field's value, in their order; at most 10,000."""
    text = raw.replace(b"\r\n", b"").replace(b"\n", b"").replace(b"\r", b" ").decode("latin-1")
    reader = _Reader(text, words="=?" in text)
    found = reader.read()
    if reader.saw_odd_word:  # for some readers it ends at the comma or the bracket in it
        known = {one.address for one in found}
        others = _Reader(text, words=False).read()
        found += [one for one in others if one.address and one.address not in known]
    return tuple(found)


@dataclass(slots=True)
class _Token:
    text: str
    is_quoted: bool
    after_space: bool


@dataclass(slots=True)
class _Entry:
    """What was read since the last comma."""

    tokens: list[_Token] = field(default_factory=list)
    comment: str = ""
    angle: str | None = None
    """The text between angle brackets."""
    before_angle: int = 0
    """How many tokens are before it."""


class _Reader:
    """Reads one field; what is opened and not closed is taken for plain characters."""

    def __init__(self, text: str, *, words: bool) -> None:
        self._text = text
        self._words = words
        self._found: list[Address] = []
        self._entries = 0
        # Of what does not close once nothing further is looked for: that would be quadratic.
        self._quotes_close = self._comments_close = True
        self.saw_odd_word = False
        """True if an encoded-word contained characters that delimit addresses."""

    def read(self) -> list[Address]:
        """The entries in their order."""
        entry, position, after_space = _Entry(), 0, False
        while self._entries < _ENTRIES_LIMIT and (
            token := _TOKENS[self._words, self._quotes_close].match(self._text, position)
        ):
            position, kind, text = token.end(), token.lastgroup, token[0]
            if kind == "space":
                after_space = True
                continue
            if kind == "special":
                end = 0
                if text == "(":
                    end = self._end_of_comment(token.start())
                if end:
                    entry.comment = self._text[position : end - 1]
                    position, after_space = end, True
                    continue
                if text == "<":
                    if entry.angle is not None:
                        entry = self._next(entry)
                    angle = self._angle(token.start())
                    entry.angle, entry.before_angle, position = angle[1], len(entry.tokens), angle.end()
                elif text in ",;:":
                    self._finish(entry)
                    entry = _Entry()
                elif text == '"':
                    self._quotes_close = False
                if text in "<,;:>":
                    after_space = True
                    continue
            elif kind == "word" and _SPECIALS.search(text):
                self.saw_odd_word = True
            entry.tokens.append(_Token(text, kind == "quoted", after_space))
            after_space = False
        self._finish(entry)
        return self._found

    def _end_of_comment(self, start: int) -> int:
        """Where the comment ends that begins here; 0 if it does not end."""
        depth = 0
        for found in _PARENTHESIS.finditer(self._text, start) if self._comments_close else ():
            depth += {"(": 1, ")": -1}.get(found[0], 0)
            if not depth:
                return found.end()
        self._comments_close = False
        return 0

    def _angle(self, start: int) -> re.Match[str]:
        pattern = _ANGLE if self._quotes_close else _ANGLE_WITHOUT_QUOTES
        found = pattern.match(self._text, start) or _OPEN_ANGLE.match(self._text, start)
        if found is None:
            raise ValueError("no angle bracket")
        if found.re is _OPEN_ANGLE and '"' in found[1]:
            self._quotes_close = False
        return found

    def _next(self, entry: _Entry) -> _Entry:
        """The entry behind one that ends without a comma; what is between them is its name."""
        between = entry.tokens[entry.before_angle :]
        del entry.tokens[entry.before_angle :]
        self._finish(entry)
        return _Entry(tokens=between)

    def _finish(self, entry: _Entry) -> None:
        """Add an entry: of an address without brackets the word with an at sign, all others are its name."""
        self._entries += 1
        comment = decode_value(_QUOTED_PAIR.sub(r"\1", entry.comment).encode("latin-1"))
        named = list(entry.tokens if entry.angle is None else entry.tokens[: entry.before_angle])
        addresses: list[str] = []
        if entry.angle is None:
            named = []
        else:
            addresses.append(entry.angle)
        for word in _words(entry.tokens[len(named) :]):
            if any("@" in token.text for token in word if not token.is_quoted):
                addresses.append("".join([token.text for token in word]))
            else:
                named += word
        name = _shown(named) or comment
        found = [Address(name=name, address=_address(text)) for text in addresses or [""]]
        self._found += [one for one in found if one.name or one.address]


def _words(tokens: Iterable[_Token]) -> list[list[_Token]]:
    """Tokens between white space; around a dot or an at sign none counts (RFC 5322 section 4.4)."""
    words: list[list[_Token]] = []
    for token in tokens:
        begins = token.after_space and token.text[0] not in ".@"
        if not words or (begins and words[-1][-1].text[-1] not in ".@"):
            words.append([])
        words[-1].append(token)
    return words


def _shown(tokens: Iterable[_Token]) -> str:
    """A phrase, decoded after its quotes were taken away."""
    pieces: list[str] = []
    for token in tokens:
        text = _QUOTED_PAIR.sub(r"\1", token.text[1:-1]) if token.is_quoted else token.text
        pieces.append(f" {text}" if token.after_space else text)
    return decode_value("".join(pieces).encode("latin-1")).strip()


def _address(text: str) -> str:
    """An address without white space, comments and route."""
    if len(text) <= _ADDRESS_LIMIT:
        text = "".join(_without_comments(text))
        route = _ROUTE.match(text)
        text = text[route.end() if route else 0 :]
    octets = text.encode("latin-1")
    return octets.decode("utf-8", "replace") if b"\x1b" in octets else decode_octets(octets)


def _without_comments(text: str) -> Iterable[str]:
    """The tokens of an address that are neither white space nor in a comment."""
    reader = _Reader(text, words=False)
    position = 0
    while token := _TOKENS[False, True].match(text, position):
        position = token.end()
        if token[0] == "(" and (end := reader._end_of_comment(token.start())):  # noqa: SLF001 - its own class
            position = end
        elif token.lastgroup != "space":
            yield token[0]
