r"""Words and patterns in subject, text, HTML, attachment names and other header fields.

    - name: legal-words
      filter: keywords
      with:
        words: ["wire transfer", "viagra"]
        patterns: ['(?i)invoice[ -]?\d{6}']
        in: [subject, body, html]

``words`` match whole words without regard to case, full width, invisible characters (soft hyphens,
zero-width spaces) and the white space between the words of a phrase. In scripts that put no space
between words (Chinese, Japanese, Thai, ...) they match anywhere. ``patterns`` are RE2 expressions on
the unchanged text; they match in linear time, whatever a sender writes.

``in`` chooses the places, by default all but ``headers``. ``headers`` are all header fields, also the
subject. ``body`` is plain text; ``html`` is HTML as its reader sees it, with the addresses of links, with
``alt``, ``title`` and other texts in attributes, without scripts, styles and comments; comments for Outlook
alone (``<!--[if mso]>``) are text. All places include forwarded messages and attached messages, texts and
HTML files. A text that mail programs may read in two ways is searched in both.
"""

import asyncio
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from string import ascii_lowercase, ascii_uppercase
from typing import Annotated, Any, Literal

import re2
from ahocorasick_rs import BytesAhoCorasick
from gatepost import Match, Message, MimeView, Transaction, Verdict, hookimpl, visible_text
from pydantic import Field

__all__ = ["Keywords"]

Place = Literal["subject", "headers", "body", "html", "attachment-names"]

_MATCHES_LIMIT = 10
"""Matches shown to the operator."""
_INLINE_LIMIT = 64 << 10
"""Size of a message in bytes above which it is searched in a thread."""
_CHUNK = 64 << 10
"""Characters searched at a time: limits the memory, since one may become 18 of them (NFKC)."""
_OVERLAP = 2 << 10
"""Overlap of two chunks in characters: the longest phrase that is certain to be found."""
_CONTEXT = 30
"""Characters shown on either side of a match."""
_PATTERN_MEMORY = 16 << 20
"""Bytes for the automata of one pattern, and of all together."""


class NotReadError(Exception):
    """Nothing was found, but the message could not be read completely: the rule's `on_error` decides."""


@dataclass(kw_only=True, eq=False)
class Keywords:
    """Hits a message with one of the words or patterns in one of the places."""

    words: list[str] = field(default_factory=list)
    patterns: list[str] = field(default_factory=list)
    places: Annotated[list[Place], Field(alias="in", min_length=1)] = field(
        default_factory=lambda: ["subject", "body", "html", "attachment-names"]
    )

    def __post_init__(self) -> None:
        if not self.words and not self.patterns:
            raise ValueError("nothing to look for: expected words or patterns")
        self._words = _Words(self.words) if self.words else None
        self._patterns = _Patterns(self.patterns) if self.patterns else None

    @hookimpl
    async def filter_message(self, transaction: Transaction) -> Verdict | None:
        """A hit names what was found and where; a long message is searched in a thread."""
        message = transaction.message
        if len(message.content) > _INLINE_LIMIT:
            return await asyncio.to_thread(self._search, message)
        return self._search(message)

    def _search(self, message: Message) -> Verdict | None:
        view = message.view
        found: list[tuple[str, Match]] = []
        for where, text in self._texts(view):
            for searcher in (self._words, self._patterns):
                if searcher and text:
                    found += ((what, Match(where=where, text=shown)) for what, shown in searcher.search(text))
            if len(found) >= _MATCHES_LIMIT:
                break
        if not found:
            if view.unread:
                raise NotReadError(view.unread)
            return None
        what, match = found[0]
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        warning = f" ({_printable(view.warnings[0])})" if view.warnings else ""
        return Verdict(
            reason=f'"{_printable(what)}" in {match.where}{more}{warning}',
            matches=tuple(match for _, match in found[:_MATCHES_LIMIT]),
        )

    def _texts(self, view: MimeView) -> Iterator[tuple[str, str]]:
        """Each place's name for the operator, and its text."""
        if "subject" in self.places:
            for header in view.headers:
                if header.name[:1] in ("S", "s") and header.name.lower() == "subject":
                    yield "subject", header.value
            for header in view.forwarded_headers:
                if header.name.lower() == "subject":
                    yield "subject of a forwarded message", header.value
        if "headers" in self.places:
            for header in view.headers:
                yield f"header {_printable(header.name)}", header.value
            for header in view.forwarded_headers:
                yield f"header {_printable(header.name)} of a forwarded message", header.value
        if "attachment-names" in self.places:
            for attachment in view.attachments:
                for filename in attachment.filenames:
                    yield _attachment(filename), filename
        for text in view.texts:
            where = _attachment(text.filename) if text.filename else text.content_type
            if text.content_type == "text/html":
                if "html" in self.places:
                    yield where, visible_text(text.text)
            elif "body" in self.places:
                yield where, text.text


def _attachment(filename: str) -> str:
    return f"attachment {_printable(filename[:100])}"


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)


def _excerpt(text: str, start: int, end: int) -> str:
    """The match with a little context, on one line."""
    end = min(end, start + 100)
    before, after = max(start - _CONTEXT, 0), end + _CONTEXT
    shown = " ".join(text[before:after].split())
    return f"{'...' if before else ''}{_printable(shown)}{'...' if after < len(text) else ''}"


# Words ---------------------------------------------------------------------------------------------------

_SPACE = b"\t\n\v\f\r\x1c\x1d\x1e\x1f"
_FOLDED = bytes.maketrans(ascii_uppercase.encode() + _SPACE, ascii_lowercase.encode() + b" " * len(_SPACE))
_CONTROL = bytes(set(range(0x20)) - set(_SPACE)) + b"\x7f"
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0"
    "\ufff9-\ufffb\ud800-\udfff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""Lone surrogates among them, which are no characters: the search cannot take them."""
_MARKS_LIMIT = 30
_MARKS_AND_SIGNS = re.compile(rf"[^\w\s\x00-\u02ff]{{{_MARKS_LIMIT + 1},}}+")
"""A run of possible combining marks longer than the limit: none is a letter, a digit or white space."""
_BECOME_MARKS = (
    ("\uff9e", "\u3099"),
    ("\uff9f", "\u309a"),
    ("\u0f73", "\u0f71\u0f72"),
    ("\u0f75", "\u0f71\u0f74"),
    ("\u0f81", "\u0f71\u0f80"),
)
"""All characters that have no combining class themselves, but become marks that have one (NFKC)."""
_TOKEN = re.compile(r"\s+|\S+")
_NO_SPACES = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]"
)
"""Thai, Lao, Burmese, Khmer, kana, Chinese; and Korean, which appends particles to words."""


def _folded(text: str) -> bytes:
    """The text as words are compared, in UTF-8; every run of white space in it is one space."""
    if text.isascii():
        octets = text.encode("ascii").replace(b"\r\n", b"\n").translate(_FOLDED, _CONTROL)
        return b" ".join(octets.split()) if octets.find(b"  ") >= 0 else octets.strip(b" ")
    text = unicodedata.normalize("NFKC", _few_marks(_INVISIBLE.sub("", text))).casefold()
    return " ".join(unicodedata.normalize("NFKC", text).split()).encode()


def _few_marks(text: str) -> str:
    """The text with at most 30 combining marks in a row, as Unicode's Stream-Safe Text (UAX #15).

    Normalising takes quadratic time on such a run, and other threads wait for it.
    """
    for character, marks in _BECOME_MARKS:
        text = text.replace(character, marks)
    return _MARKS_AND_SIGNS.sub(_cut_marks, text)


def _cut_marks(run: re.Match[str]) -> str:
    kept = []
    marks = 0
    for character in run[0]:
        marks = marks + 1 if unicodedata.combining(character) else 0
        if marks <= _MARKS_LIMIT:
            kept.append(character)
    return "".join(kept)


class _Words:
    """Thousands of words, found in one pass."""

    def __init__(self, words: list[str]) -> None:
        self._shown = words
        folded = [_folded(word) for word in words]
        for word, fold in zip(words, folded, strict=True):
            if not fold:
                raise ValueError(f"words: {word!r} is empty")
        self._automaton = BytesAhoCorasick(folded)

    def search(self, text: str) -> Iterator[tuple[str, str]]:
        """Each word that is in the text, once, with an excerpt."""
        seen: set[int] = set()
        for start in range(0, len(text), _CHUNK):
            chunk = text[max(start - _OVERLAP, 0) : start + _CHUNK]
            folded = _folded(chunk)
            for number, begin, end in self._automaton.find_matches_as_indexes(folded, overlapping=True):
                if number not in seen and _is_whole(folded, begin, end):
                    seen.add(number)
                    yield self._shown[number], _excerpt(chunk, *_unfolded(chunk, begin, end))
                    if len(seen) >= _MATCHES_LIMIT:
                        return


def _is_whole(text: bytes, begin: int, end: int) -> bool:
    """True unless a letter or digit on either side makes it a part of a longer word."""
    return not (
        (begin > 0 and _joined(_last(text[max(begin - 4, 0) : begin]), _first(text[begin:end])))
        or (end < len(text) and _joined(_last(text[begin:end]), _first(text[end : end + 4])))
    )


def _first(text: bytes) -> str:
    return text[:4].decode("utf-8", "ignore")[0]


def _last(text: bytes) -> str:
    return text[-4:].decode("utf-8", "ignore")[-1]


def _joined(left: str, right: str) -> bool:
    return left.isalnum() and right.isalnum() and not _NO_SPACES.match(left) and not _NO_SPACES.match(right)


def _unfolded(text: str, begin: int, end: int) -> tuple[int, int]:
    """Where the words are in the text whose folded form has a match from byte ``begin`` to ``end``."""
    position, start = 0, None
    for token in _TOKEN.finditer(text):
        if token[0].isspace():
            position += 1 if position else 0
        else:
            position += len(_folded(token[0]))
        if start is None and position > begin:
            start = token.start()
        if position >= end and start is not None:
            return start, token.end()
    return start or 0, len(text)


# Patterns ------------------------------------------------------------------------------------------------


class _Patterns:
    """RE2 expressions: first all in one pass, then each that matched alone."""

    def __init__(self, patterns: list[str]) -> None:
        options = re2.Options()
        options.max_mem = _PATTERN_MEMORY
        options.log_errors = False
        self._set = re2.Set.SearchSet(options)  # type: ignore[no-untyped-call] # re2 ships no types
        self._compiled = [(pattern, _compiled(pattern, options)) for pattern in patterns]
        for pattern in patterns:
            self._set.Add(pattern)
        self._canary = self._set.Add("")
        self._set.Compile()

    def search(self, text: str) -> Iterator[tuple[str, str]]:
        """Each pattern that matches the text, with an excerpt of its first match."""
        octets = text.encode("utf-8", "replace")
        for pattern, compiled in self._candidates(octets):
            found = compiled.search(octets)
            if found:
                begin, end = (len(octets[:offset].decode("utf-8", "ignore")) for offset in found.span())
                yield pattern, _excerpt(text, begin, end)

    def _candidates(self, octets: bytes) -> list[tuple[str, Any]]:
        """The matching patterns; all, if the set is out of memory, as then not even the canary matches."""
        numbers = self._set.Match(octets) or []
        if self._canary not in numbers:
            return self._compiled
        return [self._compiled[number] for number in sorted(numbers) if number != self._canary]


def _compiled(pattern: str, options: "re2.Options") -> Any:
    try:
        return re2.compile(pattern, options)  # type: ignore[no-untyped-call] # as above
    except re2.error as error:
        detail = error.args[0]
        detail = detail.decode("utf-8", "replace") if isinstance(detail, bytes) else detail
        raise ValueError(
            f"patterns: {pattern!r}: {detail} (RE2 has no look-around and no back-references)"
        ) from error
