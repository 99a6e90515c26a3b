"""The links of a message, for reading and for test suites that follow them."""

import re
from collections.abc import Sequence
from itertools import chain, islice
from urllib.parse import urlsplit

from gatepost.values import value
from gatepost.web.view.text import Anchor
from gatepost.web.view.urls import urls_in

__all__ = ["LinkView", "find_links", "view_links", "words_of"]

_LINKS_LIMIT = 500
_IN_TEXT_LIMIT = 10_000
"""URLs in the text that are looked at; the same may be there many times."""
_URL_LIMIT = 4000
_NAMED_HOST = re.compile(
    r"(?:https?://)?((?:[a-z0-9-]{1,63}\.){1,8}[a-z]{2,24})(?=[/:?#\s]|\Z)", re.IGNORECASE
)


@value
class LinkView:
    """A link of the HTML."""

    text: str
    """The words one reads; empty for an image without alternative text."""
    href: str
    """Where it leads: http, https, mailto or tel."""
    misleading: bool
    """True where the words are the name of another host than it leads to."""


def find_links(text: str, anchors: Sequence[Anchor], *, anchors_first: bool = False) -> tuple[str, ...]:
    """The http and https URLs of the text and of the anchors; each once, at most 500."""
    in_text = (found.url for found in islice(urls_in(text), _IN_TEXT_LIMIT) if found.is_web)
    in_anchors = (anchor.href[:_URL_LIMIT] for anchor in anchors if anchor.href[:4].lower() == "http")
    urls = chain(in_anchors, in_text) if anchors_first else chain(in_text, in_anchors)
    found: dict[str, None] = {}
    for url in urls:
        found[url] = None
        if len(found) >= _LINKS_LIMIT:
            break
    return tuple(found)


def view_links(anchors: Sequence[Anchor]) -> tuple[LinkView, ...]:
    """The links with what one reads and where they lead, in order, at most 500."""
    return tuple(
        [
            LinkView(text=anchor.text, href=anchor.href, misleading=_misleads(anchor))
            for anchor in anchors[:_LINKS_LIMIT]
        ]
    )


def words_of(anchors: Sequence[LinkView]) -> dict[str, tuple[str, ...]]:
    """For each URL the words of the links that lead there, each once."""
    found: dict[str, dict[str, None]] = {}
    for anchor in anchors:
        if anchor.text and anchor.text != anchor.href:
            found.setdefault(anchor.href[:_URL_LIMIT], {})[anchor.text] = None
    return {url: tuple(words) for url, words in found.items()}


def _misleads(anchor: Anchor) -> bool:
    named = _NAMED_HOST.match(anchor.text.strip())
    if not named or anchor.href[:4].lower() != "http":
        return False
    try:
        host = urlsplit(anchor.href).hostname or ""
    except ValueError:
        return True
    shown = named[1].lower().removeprefix("www.")
    return not (host == shown or host.endswith(f".{shown}"))
