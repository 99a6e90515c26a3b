"""The link that a message is about: reset a password, confirm an address, view an invoice.

Links are given points, as docs/testing.md explains. The one with most points is the main link if it leads
clearly; else there is none, as in most newsletters.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from gatepost.values import value
from gatepost.web.view.link_words import ACTIONS, FURNITURE, GENERIC, NEVER, SHOWS, SIGN_IN
from gatepost.web.view.text import Anchor
from gatepost.web.view.urls import urls_in

__all__ = ["MainLink", "find_main_link"]

_CANDIDATES_LIMIT = 300
_TEXT_LIMIT = 64 << 10
"""Characters in which URLs are looked for; a message with such a link is short."""
_CONTEXT = 120
"""Characters before a URL that say what it is for."""
_NEEDED = 3
_LEAD = 2
_PROMISES, _SHOWS, _BUTTON, _ADDRESSED, _TOKEN, _WRITTEN_OUT, _ONLY = 6, 3, 3, 2, 1, 2, 3
"""Points; docs/testing.md lists them."""

_OTHER_SITES = re.compile(
    r"""(?:^|\.)(?:facebook\.com|fb\.me|twitter\.com|x\.com|t\.co|instagram\.com|linkedin\.com|lnkd\.in
    |youtube\.com|youtu\.be|tiktok\.com|pinterest\.com|t\.me|wa\.me|discord\.gg|mastodon\.social|threads\.net|bsky\.app
    |apps\.apple\.com|itunes\.apple\.com|play\.google\.com)$""",
    re.IGNORECASE | re.VERBOSE,
)
_ACTION_URL = re.compile(
    r"""reset|confirm|verif|activat|validat|magic|invit|unlock|recover|approve|accept|(?:sign|log)[-_]?in(?![a-z])|passw
    |(?:^|[?&/])(?:auth|otp|token|ticket)[=/]""",
    re.IGNORECASE | re.VERBOSE,
)
_NEVER_URL = re.compile(
    r"unsub|opt-?out|preferences|list-?manage|abmelde|desinscri|webversion", re.IGNORECASE
)
_FURNITURE_URL = re.compile(
    r"/(?:support|help|faqs?|privacy|terms|legal|imprint|licen[cs]es?|docs?)(?=[/?#.]|\Z)", re.IGNORECASE
)
_TOKEN_URL = re.compile(
    r"""(?:[?&](?:[a-z_]*token|code|key|t|k|sig|signature|hash|otp|nonce|ticket|oobcode)=[^&]{2,}
    |(?<![\w-])(?=[\w-]{0,200}?\d)(?=[\w-]{0,200}?[a-z])[\w-]{16,})""",
    re.IGNORECASE | re.VERBOSE,
)


@value
class MainLink:
    """The link that a message is about."""

    text: str
    """The words one reads; empty where one reads the URL itself."""
    href: str
    """http or https."""


class _Candidate(NamedTuple):
    """One link, as a reader meets it."""

    words: str
    """What one reads; empty if that is the URL."""
    before: str
    href: str
    is_button: bool


def find_main_link(text: str, anchors: Sequence[Anchor], *, has_html: bool) -> MainLink | None:
    """The link with most points; None if no link has enough, or another one has nearly as many.

    Of a message with HTML the links of the HTML count, else the URLs in its text.
    """
    candidates = [*(_of_html(anchors) if has_html else _of_text(text[:_TEXT_LIMIT]))]
    by_url: dict[str, list[_Candidate]] = {}
    for candidate in candidates[:_CANDIDATES_LIMIT]:
        by_url.setdefault(candidate.href, []).append(candidate)
    chosen = {href: links for href, links in by_url.items() if _may_be_main(href, links)}
    points = {href: _points(href, links) for href, links in chosen.items()}
    if len(points) == 1:
        points = {href: number + _ONLY for href, number in points.items()}
    best = sorted(points, key=lambda href: -points[href])[:2]
    if not best or points[best[0]] < _NEEDED:
        return None
    if len(best) > 1 and points[best[0]] - points[best[1]] < _LEAD:
        return None
    return MainLink(text=_words(chosen[best[0]]), href=best[0])


def _of_html(anchors: Iterable[Anchor]) -> Iterator[_Candidate]:
    for anchor in anchors:
        if anchor.is_hidden or anchor.href[:4].lower() != "http":
            continue
        if anchor.is_image and not ACTIONS.search(anchor.text):
            continue  # a logo, or the picture of what the link beside it is about
        words = "" if _is_url(anchor.text) else anchor.text.strip("[] ") if anchor.is_image else anchor.text
        yield _Candidate(words, anchor.before, anchor.href, anchor.is_button)


def _of_text(text: str) -> Iterator[_Candidate]:
    position = 0
    for found in islice(urls_in(text), _CANDIDATES_LIMIT):
        before = " ".join(text[max(position, found.start - _CONTEXT) : found.start].split())
        position = found.end
        if found.is_web:
            yield _Candidate("", before, found.url, is_button=False)


def _is_url(words: str) -> bool:
    return next(iter(urls_in(words)), None) is not None or not words


def _may_be_main(href: str, links: Sequence[_Candidate]) -> bool:
    """Neither in the furniture of the message, nor a home page, nor another site."""
    try:
        url = urlsplit(href)
        host = url.hostname or ""
    except ValueError:
        return False
    if not (url.path.strip("/") or url.query or url.fragment) or _OTHER_SITES.search(host):
        return False
    if _NEVER_URL.search(href):
        return False
    said = [_said(link) for link in links]
    if any(NEVER.search(words[-60:]) for words in said):
        return False
    if any(map(ACTIONS.search, said)):
        return True
    return not (any(map(FURNITURE.search, said)) or _FURNITURE_URL.search(url.path))


def _said(link: _Candidate) -> str:
    """What one reads before deciding: the words of the link, or the text before it."""
    if link.words and not GENERIC.fullmatch(link.words):
        return link.words
    return link.before[-_CONTEXT:]


def _points(href: str, links: Sequence[_Candidate]) -> int:
    address = unquote(href.partition("://")[2].partition("/")[2])
    is_button = any(link.is_button for link in links)
    has_token = bool(_TOKEN_URL.search(f"/{address}"))
    said = [_said(link) for link in links]
    signs_in = any(map(SIGN_IN.search, said))
    points = _BUTTON * is_button + _TOKEN * has_token
    if any(map(ACTIONS.search, said)) or (signs_in and (is_button or has_token)):
        points += _PROMISES
    elif any(map(SHOWS.search, said)):
        points += _SHOWS
    if _ACTION_URL.search(f"/{address}") and not (signs_in and not is_button and not has_token):
        points += _ADDRESSED
    if len(links) > 1 and len({bool(link.words) for link in links}) > 1:
        points += _WRITTEN_OUT
    return points


def _words(links: Sequence[_Candidate]) -> str:
    """Of several links to one URL the words of the button, or else the first ones."""
    said = sorted((link for link in links if link.words), key=lambda link: not link.is_button)
    return said[0].words if said else ""
