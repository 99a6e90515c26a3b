"""Where a filter found what it looked for: the words around it, and what of them is to be marked."""

import re
from dataclasses import dataclass

from proxy.verdict import Match
from proxy.web.view.message import MessageView
from proxy.web.view.text import visible, visible_line

__all__ = ["Piece", "highlight"]

_CONTEXT = 80
"""Characters of the message before and behind the match."""
_EXCERPT_LIMIT = 400
_SEARCHED_LIMIT = 1 << 20
_NAMED = re.compile(r'"([^"]{1,200})" in ')
_DOTS = "..."


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Some characters of a message."""

    text: str
    is_hit: bool
    """True where a page marks it."""


def highlight(match: Match, view: MessageView, *, reason: str = "") -> tuple[Piece, ...]:
    """The match with what stands around it, in pieces that follow each other; never empty.

    Where the reason of the evaluation names the word (``"lottery" in subject``) and it is in the match, only
    the word is marked; else the match as a whole, between what stands around it in the message.
    """
    shown = visible_line(match.text, _EXCERPT_LIMIT)
    excerpt = shown.removeprefix(_DOTS).removesuffix(_DOTS)
    named = _NAMED.match(reason)
    word = _loosely(named[1]).search(shown) if named else None
    if word:
        return _pieces(shown, word.start(), word.end())
    for text in _places(match.where, view):
        if excerpt.strip() and (found := _loosely(excerpt).search(text, 0, _SEARCHED_LIMIT)):
            start, end = max(found.start() - _CONTEXT, 0), found.end() + _CONTEXT
            around = f"{'…' if start else ''}{text[start:end]}{'…' if end < len(text) else ''}"
            offset = start - bool(start)
            return _pieces(around, found.start() - offset, found.end() - offset)
    return (Piece(text=shown, is_hit=True),)


def _pieces(text: str, start: int, end: int) -> tuple[Piece, ...]:
    spans = ((text[:start], False), (text[start:end], True), (text[end:], False))
    return tuple([Piece(text=piece, is_hit=is_hit) for piece, is_hit in spans if piece])


def _loosely(words: str) -> re.Pattern[str]:
    """Finds the words whatever their case and the white space between them."""
    return re.compile(r"\s{1,20}".join(map(re.escape, words.split())), re.IGNORECASE)


def _places(where: str, view: MessageView) -> list[str]:
    """The texts of the message that a filter's ``where`` means."""
    kind, _, name = where.partition(" ")
    match kind:
        case "subject":
            return [view.subject]
        case "header":
            return [visible(h.value) for h in view.headers if h.name.lower() == name.lower()]
        case "attachment":
            return [one.filename for one in view.attachments if one.filename == name]
        case _:
            return [view.text] if view.text and kind.startswith("text/") else []
