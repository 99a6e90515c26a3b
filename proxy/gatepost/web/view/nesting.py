"""How much of an HTML page its parser can take: its time and memory grow with what is left open.

The parser of the HTML standard opens formatting elements again that a paragraph or a cell has closed
(section 13.2.4.3, the list of active formatting elements): a page of 200 kB can become one of gigabytes. And
for many tags it looks through all open elements.
"""

from collections import Counter

__all__ = ["Nesting"]

_DEPTH_LIMIT = 2_000
"""Open elements; browsers show no more than some hundred levels."""
_REOPENED_LIMIT = 120_000
"""Formatting elements that the parser may have to open again: about 150 ms."""
_ALIKE = 3
"""Of formatting elements with the same attributes, the parser opens only so many again."""
_FORMATTING = frozenset(
    {"a", "b", "big", "code", "em", "font", "i", "nobr", "s", "small", "strike", "strong", "tt", "u"}
)
_NEVER_IN_ITSELF = frozenset({"a", "nobr"})
_CLOSED_BY_OTHERS = frozenset(
    """
    area base basefont bgsound body br caption col colgroup dd dt embed frame head hr html image img input
    keygen li link meta option p param source tbody td tfoot th thead tr track wbr
    """.split()  # noqa: SIM905 # one a line fills pages
)
"""Elements without an end tag, and those whose end tag may be left out."""


class Nesting:
    """Counts what the tags of one page leave open."""

    def __init__(self) -> None:
        self._depth = 0
        self._open: Counter[str] = Counter()
        self._formatting: dict[str, list[str]] = {}
        """Their attributes by name."""
        self._active = 0
        self._reopened = 0

    def take(self, name: str, attributes: str, *, closing: bool) -> bool:
        """Count a tag; False if the page becomes too much for the parser with it."""
        if name in _FORMATTING:
            self._format(name, attributes, closing=closing)
        elif name not in _CLOSED_BY_OTHERS and (not closing or self._open[name]):
            step = -1 if closing else 1
            self._open[name] += step
            self._depth += step
        self._reopened += self._active
        return self._depth <= _DEPTH_LIMIT and self._reopened <= _REOPENED_LIMIT

    def _format(self, name: str, attributes: str, *, closing: bool) -> None:
        active = self._formatting.setdefault(name, [])
        if closing:
            if active:
                active.pop()
                self._active -= 1
        elif active.count(attributes) < _ALIKE and not (active and name in _NEVER_IN_ITSELF):
            active.append(attributes)
            self._active += 1
