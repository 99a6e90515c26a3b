"""What the sanitiser leaves out of HTML that a reader might miss, and the mark where it was."""

import re

from gatepost.values import value

__all__ = ["ELEMENTS", "MARKED", "STYLE", "Removed", "marker", "removed_element"]

ELEMENTS = {
    "form": "form",
    "button": "field",
    "input": "field",
    "select": "field",
    "textarea": "field",
    "svg": "svg",
    "video": "video",
    "audio": "audio",
    "applet": "object",
    "embed": "object",
    "object": "object",
    "frame": "frame",
    "iframe": "frame",
    "canvas": "canvas",
    "math": "math",
    "script": "script",
}
"""By name, what a reader misses."""
MARKED = {
    "form": "A form was removed here",
    "field": "A form field was removed here",
    "svg": "An SVG image was removed here",
    "video": "A video was removed here",
    "audio": "A sound was removed here",
    "object": "An embedded object was removed here",
    "frame": "A frame was removed here",
    "canvas": "A drawing was removed here",
    "math": "A formula was removed here",
}
"""The texts of the marks; a script has none, as it would not be seen."""
_UNSEEN = re.compile(
    r"""\btype\s*=\s*["']?\s*(?:hidden\b|application/(?:ld\+)?json\b|text/(?:x-)?template\b)""", re.IGNORECASE
)
"""A field that nobody sees, and a script that is data."""

STYLE = (
    "[class^=gatepost-removed]::before{display:inline-block;margin:2px;padding:0 8px;border:1px dashed "
    "#71717a;border-radius:4px;background:#f4f4f5;color:#52525b;font:12px/20px system-ui,sans-serif}\n"
) + "".join(f'.gatepost-removed-{element}::before{{content:"{text}"}}\n' for element, text in MARKED.items())
"""The texts are in the style sheet, so that they are no text of the message."""


@value
class Removed:
    """Elements of one kind that are not shown."""

    element: str
    """``form``, ``field`` (outside a form), ``svg``, ``video``, ``audio``, ``object``, ``frame``, ``canvas``,
    ``math`` or ``script``."""
    count: int


def removed_element(name: str, attributes: str) -> str:
    """The kind of element that a start tag of that name begins; empty where nobody misses it."""
    element = ELEMENTS.get(name, "")
    return "" if element in ("field", "script") and _UNSEEN.search(attributes) else element


def marker(element: str) -> str:
    """The markup that shows where such an element was."""
    return f'<span class="gatepost-removed-{element}"></span>'
