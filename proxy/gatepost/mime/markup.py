"""HTML as plain text, for those who search; nothing of it is safe to show as HTML.

One pass over the characters: the time is linear, whatever the markup is.
"""

import re
from collections.abc import Iterator
from html import unescape

__all__ = ["plain_text"]

_TAG = re.compile(r"<(?:!--(?!\s*+\[if\b)|/?([A-Za-z][A-Za-z0-9]{0,19}+)[^>]*+>?|[/!?][^>]*+>?)")
_NOT_SHOWN = frozenset({"script", "style", "template", "title"})
_INLINE = frozenset(
    """
    a abbr b bdi bdo big cite code del em font i ins kbd mark q s small span strike strong sub sup tt u wbr
    """.split()  # noqa: SIM905 # one a line fills a page
)
"""Elements that do not end a word."""


def plain_text(html: str) -> str:
    """The characters that a reader sees, without markup, comments, styles and scripts.

    Comments for Outlook alone (``<!--[if mso]>``) are text.
    """
    return unescape("".join(_pieces(html)))


def _pieces(html: str) -> Iterator[str]:
    lowered = html.lower()
    lowered = lowered if len(lowered) == len(html) else html  # a few characters grow
    position = 0
    while tag := _TAG.search(html, position):
        yield html[position : tag.start()]
        name = (tag[1] or "").lower()
        position = tag.end()
        if tag[0] == "<!--":
            position = _after(html, "-->", position - 2)  # "<!-->" is a whole comment
        elif name in _NOT_SHOWN and not tag[0].startswith("</"):
            position = _after(lowered, f"</{name}", position)
            position = _after(html, ">", position)
        if name not in _INLINE:
            yield " "
    yield html[position:]


def _after(html: str, end: str, position: int) -> int:
    """Behind the next end, or at the end of all where there is none."""
    found = html.find(end, position)
    return len(html) if found < 0 else found + len(end)
