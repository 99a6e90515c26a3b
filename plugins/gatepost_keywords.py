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
the text as it stands; they match in linear time, whatever a sender writes.

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
from html import unescape
from typing import Annotated, Any, Literal

import re2
from ahocorasick_rs import AhoCorasick
from gatepost import Match, Message, MimeView, Transaction, Verdict, hookimpl
from pydantic import Field

__all__ = ["Keywords"]

Place = Literal["subject", "headers", "body", "html", "attachment-names"]

_MATCHES_LIMIT = 10
"""More of them tell the operator nothing new."""
_INLINE_LIMIT = 64 << 10
"""Octets of a message above which it is searched in a thread."""
_CHUNK = 64 << 10
"""Characters that are searched at a time: bounds the memory, as one may become 18 of them (NFKC)."""
_OVERLAP = 2 << 10
"""Characters of the chunk before that are searched again: the longest phrase that is surely found."""
_CONTEXT = 30
"""Characters shown on either side of a match."""
_PATTERN_MEMORY = 16 << 20
"""Octets for the automata of one pattern, and of all together."""


class NotReadError(Exception):
    """Nothing was found in a message of which not all could be read: the rule's `on_error` decides."""


@dataclass(kw_only=True, eq=False)
class Keywords:
    """Says yes where one of the words or patterns stands in one of the places."""

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
                    yield where, _visible_text(text.text)
            elif "body" in self.places:
                yield where, text.text


def _attachment(filename: str) -> str:
    return f"attachment {_printable(filename[:100])}"


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)


def _excerpt(text: str, start: int, end: int) -> str:
    """The match between a little of what stands around it, on one line."""
    end = min(end, start + 100)
    before, after = max(start - _CONTEXT, 0), end + _CONTEXT
    shown = " ".join(text[before:after].split())
    return f"{'...' if before else ''}{_printable(shown)}{'...' if after < len(text) else ''}"


# Words ---------------------------------------------------------------------------------------------------

_CONTROL = re.compile("[\x00-\x08\x0e-\x1b\x7f]")
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0"
    "\ufff9-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_MARKS_LIMIT = 30
_MARKS_AND_SIGNS = re.compile(rf"[^\w\s\x00-\u02ff]{{{_MARKS_LIMIT + 1},}}+")
"""More in a row than are kept, of what may be a combining mark: none is a letter, a digit or white space."""
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
"""Thai, Lao, Burmese, Khmer, kana, Chinese; and Korean, which hangs particles on to its words."""


def _folded(text: str) -> str:
    """The text as words are compared; every run of white space in it is one space."""
    if text.isascii():
        if _CONTROL.search(text):
            text = _CONTROL.sub("", text)
        return " ".join(text.lower().split())
    text = unicodedata.normalize("NFKC", _few_marks(_INVISIBLE.sub("", text))).casefold()
    return " ".join(unicodedata.normalize("NFKC", text).split())


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
        self._automaton = AhoCorasick(folded, store_patterns=False)

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


def _is_whole(text: str, begin: int, end: int) -> bool:
    """True unless a letter or digit on either side makes it a part of a longer word."""
    return not (
        (begin > 0 and _joined(text[begin - 1], text[begin]))
        or (end < len(text) and _joined(text[end - 1], text[end]))
    )


def _joined(left: str, right: str) -> bool:
    return left.isalnum() and right.isalnum() and not _NO_SPACES.match(left) and not _NO_SPACES.match(right)


def _unfolded(text: str, begin: int, end: int) -> tuple[int, int]:
    """Where the words stand in the text whose folded form has a match from ``begin`` to ``end``."""
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
    """RE2 expressions: first all in one pass, then those that matched by themselves."""

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
        """Those that match. A set that is out of memory says nothing, not even the canary: then all."""
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


# HTML ----------------------------------------------------------------------------------------------------
# The expressions follow the tokeniser of the HTML standard where it decides what a reader sees. Each matches
# to the end of the text where something is left open, as browsers do, which also keeps them linear.

_ATTRIBUTES = r"""((?:[^>=]++|=\s*+(?:"[^"]*+(?:"|\Z)|'[^']*+(?:'|\Z)|=*+))*+)"""
_MARKUP = re.compile(
    r"<(?:!--(?:-?>|.*?(?:--!?>|\Z))"
    r"|(script|style|title|textarea|xmp|iframe|noembed|noframes)(?=[\s/>])"
    + _ATTRIBUTES
    + r"(?:>(.*?)(?:</\1(?=[\s/>])[^>]*+(?:>|\Z)|\Z)|\Z)"
    r"|!\[CDATA\[([^>]*+)(?:>|\Z)"
    r"|(?:[!?]|/[^a-z])[^>]*+(?:>|\Z)"
    r"|(/?[a-z][^\s/>]*+)" + _ATTRIBUTES + r"(?:>|\Z))",
    re.IGNORECASE | re.DOTALL,
)
"""A comment; an element whose content has no markup; what is taken for a comment; a tag."""
_GROUPS = _MARKUP.groups + 1
_CONDITIONAL = re.compile(r"\[(?:end)?if\b", re.IGNORECASE)
_CONDITION = re.compile(r"<!--\s*+\[if\b[^<>]*+>|(?:<!--\s*+)?<!\[endif\]\s*+--+>", re.IGNORECASE)
"""The beginning and the end of a comment that Outlook takes for markup."""
_FOREIGN = re.compile(r"<(?:svg|math)\b", re.IGNORECASE)
"""Elements in which a style is a tag like any other."""
_STYLED_TEXT = re.compile(r"""content\s*+:\s*+(?:"([^"]*+)"|'([^']*+)')""", re.IGNORECASE)
_BEFORE_EQUALS = re.compile(r"(?<!\s)\s++=")
_SHOWN_ATTRIBUTE = re.compile(
    r"=(?<=[eflrty]=)(?:(?<=href=)|(?<=alt=)|(?<=title=)|(?<=label=)|(?<=placeholder=)|(?<=value=)|(?<=summary=))"
    r"""\s*+(?:"([^"]*+)"?|'([^']*+)'?|([^\s"'>]++))""",
    re.IGNORECASE,
)
_BLOCKS = frozenset(
    """
    address article aside blockquote body br button caption center dd details div dl dt fieldset figcaption
    figure footer form frame h1 h2 h3 h4 h5 h6 head header hr html iframe input legend li link main menu meta
    nav object ol option p pre section select summary table tbody td textarea tfoot th thead title tr ul video
    """.split()  # noqa: SIM905 # as a list it would be sixty lines
)
"""The elements that part words; all others, also unknown ones, may stand within a word."""
_HTML_CHUNK = 1 << 20
"""Characters that are taken apart at a time: bounds the memory, as there may be a million tags in them."""
_LEADING_ZEROS = re.compile(r"(&#x?)0++(?=[0-9a-f])", re.IGNORECASE)
_NO_CHARACTER = re.compile(r"&#x?[0-9a-f]{8,}+;?", re.IGNORECASE)


def _visible_text(html: str) -> str:
    """What a reader sees of HTML, and after it the addresses of links and the texts in attributes."""
    if not _CONDITIONAL.search(html):
        return _visible(html)
    return f"{_visible(html)} | {_visible(_CONDITION.sub('', html))}"


def _visible(html: str) -> str:
    in_foreign = bool(_FOREIGN.search(html))
    if len(html) <= _HTML_CHUNK:
        return _visible_chunk(html, in_foreign=in_foreign)
    return "".join(_visible_chunk(chunk, in_foreign=in_foreign) for chunk in _chunks(html))


def _chunks(html: str) -> Iterator[str]:
    """The text in pieces that begin with a tag or a comment."""
    start = 0
    for token in _MARKUP.finditer(html):
        if token.start() - start >= _HTML_CHUNK:
            yield html[start : token.start()]
            start = token.start()
    yield html[start:]


def _visible_chunk(html: str, *, in_foreign: bool) -> str:
    pieces: list[str | None] = _MARKUP.split(html)
    names, contents = pieces[1::_GROUPS], pieces[3::_GROUPS]
    attributes = " ".join(filter(None, (*pieces[2::_GROUPS], *pieces[6::_GROUPS])))
    if " =" in attributes or "\t=" in attributes or "\n=" in attributes:
        attributes = _BEFORE_EQUALS.sub("=", attributes)
    extras = ["".join(values) for values in _SHOWN_ATTRIBUTE.findall(attributes)]
    extras += filter(None, pieces[4::_GROUPS])
    for place, (name, content) in enumerate(zip(names, contents, strict=True)):
        if name and content:
            if name.lower() == "style":
                extras += ["".join(values) for values in _STYLED_TEXT.findall(content)]
            shown = in_foreign or name.lower() not in ("script", "style")
            contents[place] = f" {content} " if shown else ""
    pieces[3::_GROUPS] = contents
    pieces[1::_GROUPS] = [
        " " if tag and tag.lower().lstrip("/") in _BLOCKS else "" for tag in pieces[5::_GROUPS]
    ]
    for group in (2, 4, 5, 6):
        pieces[group::_GROUPS] = [None] * len(contents)
    text = " | ".join(["".join(filter(None, pieces)), *extras])
    if "&" not in text:
        return text
    return unescape(_NO_CHARACTER.sub("\ufffd", _LEADING_ZEROS.sub(r"\1", text)))
