"""URLs in plain text: where they are and where they lead."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from gatepost.values import value

__all__ = ["FoundUrl", "TextPiece", "link_urls", "urls_in"]

_URL_LIMIT = 4000
_LINKS_LIMIT = 2000
"""Links in one text that is shown."""
_URL = re.compile(
    r"[hHmM](?:(?<![A-Za-z0-9].)(?:(?<=[hH])[tT][tT][pP][sS]?://|(?<=[mM])[aA][iI][lL][tT][oO]:))"
    r"[^\s<>\"'`{}|\\^\x00-\x20\x7f\u00a0\u200b\ufffd“”„‟«»‹›、。，；：！？「」『』【】（）《》〈〉]++"
)
_WRAPPED = re.compile(r'[^\s<>"\ufffd]++(?:[ \t]*+\n[ \t]*+[^\s<>"\ufffd]++){0,20}\s*+>')
"""The rest of a URL in angle brackets, which may be broken into lines (RFC 3986 appendix C)."""
_OPENING = re.compile(r"<(?:URL:)?\Z", re.IGNORECASE)
_NOT_AT_END = ".,;:!?\u2019…"
_MARKS = "*_~"
"""Emphasis around a URL; within one and at its end they are a part of it."""
_SCHEME_ALONE = re.compile(r"(?:https?|mailto)(?::[^\w\[]*+)?\Z", re.IGNORECASE)


class FoundUrl(NamedTuple):
    """A URL in a text."""

    start: int
    end: int
    """The text between is what one reads."""
    url: str
    """http, https or mailto, without the line breaks in it."""

    @property
    def is_web(self) -> bool:
        """True for http and https."""
        return self.url[:4].lower() == "http"


@value
class TextPiece:
    """A piece of a text, for a page."""

    text: str
    href: str = ""
    """Where it leads; empty for a piece that is no link."""


def urls_in(text: str) -> Iterator[FoundUrl]:
    """The http, https and mailto URLs of a text with LF as line ends, in order.

    Without the punctuation that ends the sentence and the brackets around the URL. Nothing else is a link:
    no other scheme, no bare host name.
    """
    position = 0
    while found := _URL.search(text, position):
        start, position = found.span()
        if _OPENING.search(text, max(start - 5, 0), start) and (wrapped := _WRAPPED.match(text, start)):
            position = wrapped.end()
            yield FoundUrl(start, position - 1, "".join(wrapped[0][:-1].split())[:_URL_LIMIT])
            continue
        url = _without_sentence_end(found[0][:_URL_LIMIT], text[start - 1 : start])
        if not _SCHEME_ALONE.match(url):
            yield FoundUrl(start, start + len(url), url)


def _without_sentence_end(url: str, before: str) -> str:
    """Without the marks that end the sentence or the brackets around it; ``before``: the character there."""
    end = len(url)
    closing = {")": url.count("(") - url.count(")"), "]": url.count("[") - url.count("]")}
    while end:
        sign = url[end - 1]
        if sign in closing and closing[sign] < 0:
            closing[sign] += 1
        elif sign not in _NOT_AT_END and not (sign in _MARKS and sign == before):
            break
        end -= 1
    return url[:end]


def link_urls(text: str) -> list[TextPiece]:
    """The text in pieces, of which the first 2,000 URLs are links."""
    pieces = []
    position = 0
    for number, found in enumerate(urls_in(text)):
        if number == _LINKS_LIMIT:
            break
        if found.start > position:
            pieces.append(TextPiece(text=text[position : found.start]))
        pieces.append(TextPiece(text=text[found.start : found.end], href=found.url))
        position = found.end
    if position < len(text):
        pieces.append(TextPiece(text=text[position:]))
    return pieces
