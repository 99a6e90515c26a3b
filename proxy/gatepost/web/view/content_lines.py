"""The content lines of iCalendar, component by component (RFC 5545 section 3.1 and 3.6)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["Component", "ContentLine", "read_calendar", "unescaped"]

_TEXT_LIMIT = 256 << 10
"""Characters of a calendar that are read."""
_LINES_LIMIT = 5000
_LINE_LIMIT = 8 << 10
_DEPTH_LIMIT = 8
_FOLD = re.compile(r"\n[ \t]")
_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")
_PARAMETER = re.compile(r';([A-Za-z0-9-]{1,64})=((?:"[^"]*"|[^";:])*)')
_ESCAPE = re.compile(r"\\([\\;,nN])")


@dataclass(frozen=True, slots=True)
class ContentLine:
    """One property of a component."""

    name: str
    """In upper case."""
    parameters: dict[str, str]
    """Names in upper case; of several values the text between them too, without quotation marks."""
    value: str
    """As written, unfolded."""


@dataclass(slots=True)
class Component:
    """What is between ``BEGIN:name`` and ``END:name``."""

    name: str
    """In upper case."""
    properties: list[ContentLine] = field(default_factory=list)
    components: list["Component"] = field(default_factory=list)

    def first(self, name: str) -> ContentLine | None:
        """The first property of that name (in upper case)."""
        return next((line for line in self.properties if line.name == name), None)

    def text(self, name: str) -> str:
        """The value of that property without escapes; empty where there is none."""
        line = self.first(name)
        return unescaped(line.value) if line else ""

    def all(self, name: str) -> list["Component"]:
        """The components of that name (in upper case) in it."""
        return [component for component in self.components if component.name == name]


def unescaped(text: str) -> str:
    """The characters of a TEXT value (RFC 5545 section 3.3.11)."""
    return _ESCAPE.sub(lambda found: "\n" if found[1] in "nN" else found[1], text)


def read_calendar(text: str) -> Component | None:
    """The first VCALENDAR of a text with LF as line ends, as far as it can be read; None where there is none.

    Lines that are no content lines are passed over, and so is what is nested more than 8 deep.
    """
    lines = _content_lines(text)
    for line in lines:
        if line.name == "BEGIN" and line.value.strip().upper() == "VCALENDAR":
            return _component(lines)
    return None


def _component(lines: Iterator[ContentLine]) -> Component:
    stack = [Component("VCALENDAR")]
    too_deep = 0
    for line in lines:
        if line.name == "BEGIN":
            if too_deep or len(stack) >= _DEPTH_LIMIT:
                too_deep += 1
                continue
            opened = Component(line.value.strip().upper())
            stack[-1].components.append(opened)
            stack.append(opened)
        elif line.name == "END":
            if too_deep:
                too_deep -= 1
                continue
            if len(stack) == 1:
                break
            stack.pop()
        elif not too_deep:
            stack[-1].properties.append(line)
    return stack[0]


def _content_lines(text: str) -> Iterator[ContentLine]:
    unfolded = _FOLD.sub("", text[:_TEXT_LIMIT])
    for line in unfolded.split("\n", _LINES_LIMIT)[:_LINES_LIMIT]:
        if read := _content_line(line[:_LINE_LIMIT].strip("\ufeff \t")):
            yield read


def _content_line(line: str) -> ContentLine | None:
    name = _NAME.match(line)
    if not name:
        return None
    parameters: dict[str, str] = {}
    position = name.end()
    while found := _PARAMETER.match(line, position):
        parameters.setdefault(found[1].upper(), found[2].replace('"', ""))
        position = found.end()
    if not line.startswith(":", position):
        return None
    return ContentLine(name[0].upper(), parameters, line[position + 1 :])
