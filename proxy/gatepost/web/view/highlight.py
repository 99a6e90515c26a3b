"""Where a filter found what it looked for: the words around it, and what of them is to be marked."""

import re

from gatepost.model.verdict import Match
from gatepost.values import value
from gatepost.web.view.message import MessageView
from gatepost.web.view.text import visible, visible_line

__all__ = ["Piece", "highlight"]

_CONTEXT = 80
"""Characters of the message before and behind the match."""
_EXCERPT_LIMIT = 400
_SEARCHED_LIMIT = 1 << 20
_NAMED = re.compile(r'"([^"]{1,200})" in ')
_DOTS = "..."


@value
class Piece:
    """Some characters of a message."""

    text: str
    is_hit: bool
    """True where a page marks it."""


def highlight(match: Match, view: MessageView, *, reason: str = "") -> tuple[Piece, ...]:
    """The match with what is around it on one line, in pieces that follow each other; never empty.

    Where the reason of the evaluation names the word (``"lottery" in subject``) and it is in the match, only
    the word is marked; else the match as a whole, between what is around it in the message.
    """
    shown = visible_line(match.text, _EXCERPT_LIMIT)
    named = _NAMED.match(reason)
    if named and (found := _find(named[1], shown)):
        return _pieces(*found)
    excerpt = shown.removeprefix(_DOTS).removesuffix(_DOTS)
    for text in _places(match.where, view):
        if found := _find(excerpt, text[:_SEARCHED_LIMIT]):
            line, start, end = found
            first, last = max(start - _CONTEXT, 0), end + _CONTEXT
            before, after = "…" if first else "", "…" if last < len(line) else ""
            return _pieces(
                f"{before}{line[first:last]}{after}", *(at - first + len(before) for at in (start, end))
            )
    return (Piece(text=shown, is_hit=True),)


def _pieces(line: str, start: int, end: int) -> tuple[Piece, ...]:
    spans = ((line[:start], False), (line[start:end], True), (line[end:], False))
    return tuple([Piece(text=piece, is_hit=is_hit) for piece, is_hit in spans if piece])


def _find(words: str, text: str) -> tuple[str, int, int] | None:
    """The text on one line, and where the words are in it, whatever their case; in linear time."""
    wanted, line = " ".join(words.split()), " ".join(text.split())
    start = line.find(wanted)
    if start < 0 and len(line.lower()) == len(line):
        wanted = wanted.lower()
        start = line.lower().find(wanted)
    return (line, start, start + len(wanted)) if wanted and start >= 0 else None


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
