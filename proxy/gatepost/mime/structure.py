"""The MIME structure of a message: entities in entities, where each begins and ends.

One linear pass. Where the structure is broken it is read as far as it can be, and ``fault`` says what
is wrong; nothing here raises on any message. A message of which readers may see different structures is
not *sound*: `scan` finds what any of them may see.
"""

from dataclasses import dataclass, field

from gatepost.mime.delimiters import Delimiter, is_content_field, next_delimiter, prefix_in
from gatepost.mime.entity import MESSAGE_TYPES, Declared, Entity, declared_by
from gatepost.mime.fields import Fields, header_section_start, read_fields
from gatepost.values import value

__all__ = ["Structure", "read_structure"]

_NOT_A_FIELD = (b" ", b"\t", b"\r", b"\n", b"From ", b">From ")
"""Beginnings of a message whose header section may begin later."""
_NO_LINE = b"\n"
"""In place of a boundary that is not declared."""
_DEPTH_LIMIT = 50
_ENCODED_DEPTH_LIMIT = 4
"""Messages encoded in encoded messages; each is decoded, so that each costs the time of the whole."""
_ENTITIES_LIMIT = 1000
"""What is behind that many belongs to the last one."""


@value
class Structure:
    """A message taken apart."""

    root: Entity
    """The message."""
    doubts: tuple[str, ...]
    """Why readers may see another structure, for a person; empty for a sound message."""


def read_structure(content: bytes) -> Structure:
    """Take the message apart."""
    if root := _one_part(content):
        return Structure(root=root, doubts=())
    shared = _Shared()
    root = _Reader(content, shared).run()
    return Structure(root=root, doubts=tuple(shared.doubts))


def _one_part(content: bytes) -> Entity | None:
    """A message that is one part, as most are; None where `_Reader` has to look closer.

    It would find the same: nothing here is in doubt, and only a multipart or a message has parts.
    """
    if content.startswith(_NOT_A_FIELD):
        return None
    fields = read_fields(content)
    if fields.junk != fields.body:
        return None
    declared = declared_by(fields, "text/plain")
    if (
        len(declared.content_types) > 1
        or declared.fallback_types
        or declared.is_multipart
        or declared.is_message
    ):
        return None
    return Entity(declared=declared, source=content, start=fields.body, end=max(len(content), fields.body))


@dataclass(slots=True)
class _Open:
    """An entity whose end is not reached."""

    declared: Declared
    start: int
    children: list[Entity] = field(default_factory=list)
    is_split: bool = False
    """True for a multipart whose boundaries are looked for."""
    used: bool = False
    closed: bool = False
    fault: str = ""


@dataclass(slots=True)
class _Shared:
    """What the reader of a message has in common with those of the encoded messages in it."""

    entities: int = 0
    doubts: dict[str, None] = field(default_factory=dict)


@dataclass(slots=True)
class _Reader:
    content: bytes
    shared: _Shared
    depth: int = 0
    encoded_depth: int = 0
    stack: list[_Open] = field(default_factory=list)
    boundaries: dict[bytes, int] = field(default_factory=dict)
    """Of the open multiparts, with their places in the stack; of two that are the same the outer one."""
    past: set[bytes] = field(default_factory=set)
    """Boundaries of multiparts that have ended."""

    def run(self) -> Entity:
        start = header_section_start(self.content)
        if start and self.content[:1] in b" \t\r\n":
            self._doubt("the header section does not begin with the first line")
        position = self._open(start, "text/plain")
        if self.boundaries:
            while delimiter := next_delimiter(self.content, position):
                if self.shared.entities >= _ENTITIES_LIMIT:
                    self._fault(0, f"more than {_ENTITIES_LIMIT} parts")
                    break
                position = self._delimit(delimiter)
        self._close_to(1, len(self.content))
        return self._closed(self.stack.pop(), len(self.content))

    def _open(self, start: int, default_type: str) -> int:
        """Open the entity at ``start`` and the messages it begins with; returns where the body begins."""
        while True:
            self.shared.entities += 1
            fields = read_fields(self.content, start)
            body = fields.body
            if fields.junk != body:
                self._doubt("a line in a header section is no field")
            declared = declared_by(fields, default_type)
            opened = _Open(declared, body)
            self.stack.append(opened)
            if len(declared.content_types) > 1:
                self._doubt("a part has two types")
            if declared.fallback_types:
                self._doubt("a Content-Type field is malformed")
            content_type = declared.content_types[0]
            is_multipart = content_type.startswith("multipart/")
            if not is_multipart and content_type not in MESSAGE_TYPES:
                return body
            if self.depth + len(self.stack) >= _DEPTH_LIMIT:
                self._fault(-1, f"nested more than {_DEPTH_LIMIT} deep: not opened")
                return body
            if is_multipart:
                self._await_parts(opened)
                return body
            if declared.is_encoded or self.shared.entities >= _ENTITIES_LIMIT:
                return body
            start, default_type = body, "text/plain"

    def _await_parts(self, multipart: _Open) -> None:
        boundaries = multipart.declared.boundaries
        if len(boundaries) != 1:
            self._doubt("a multipart has two boundaries" if boundaries else "a multipart has no boundary")
        if multipart.declared.is_encoded:
            self._doubt("a multipart is encoded")
        multipart.is_split = True
        self.boundaries.setdefault(boundaries[0] if boundaries else _NO_LINE, len(self.stack) - 1)

    def _delimit(self, delimiter: Delimiter) -> int:
        """What a line that begins with ``--`` does; returns where to go on."""
        text = delimiter.text
        place = self.boundaries.get(text)
        if place is None and text.endswith(b"--"):
            place = self.boundaries.get(text[:-2])
            if place is not None:
                self._close_to(place + 1, self._body_end(delimiter))
                self.stack[place].closed = self.stack[place].used = True
                return delimiter.end
        if place is None:
            place = self._adopt(delimiter)
        if place is None:
            if text in self.past or prefix_in(text, self.boundaries, map(len, self.boundaries)):
                self._doubt("a line may be a boundary or text")
            return delimiter.end
        self._close_to(place + 1, self._body_end(delimiter))
        multipart = self.stack[place]
        multipart.used = True
        return self._open(delimiter.end, multipart.declared.default_type)

    def _adopt(self, delimiter: Delimiter) -> int | None:
        """Of a multipart that has shown no part yet, a line like a boundary is taken to be its own."""
        innermost = self.stack[-1]
        if not innermost.is_split or innermost.used:
            return None
        if not is_content_field(self.content, delimiter.end):
            return None
        self._fault(-1, "its parts have another boundary than it declares")
        place = len(self.stack) - 1
        self.boundaries[delimiter.text] = place
        return place

    def _body_end(self, delimiter: Delimiter) -> int:
        """The line break before a delimiter belongs to it (RFC 2046 section 5.1.1)."""
        end = delimiter.start
        if self.content.endswith(b"\r\n", 0, end):
            return end - 2
        return end - 1 if self.content.endswith(b"\n", 0, end) else end

    def _close_to(self, place: int, end: int) -> None:
        """Close the entities that are open within the one before that place, the innermost first."""
        if len(self.stack) <= place:
            return
        while len(self.stack) > place:
            entity = self._closed(self.stack.pop(), end)
            self.stack[-1].children.append(entity)
        still_open = {text: at for text, at in self.boundaries.items() if at < place}
        if len(still_open) < len(self.boundaries):
            self.past.update(self.boundaries.keys() - still_open.keys())
            self.boundaries = still_open

    def _closed(self, opened: _Open, end: int) -> Entity:
        declared, start = opened.declared, opened.start
        end = max(end, start)
        fault, children = opened.fault, tuple(opened.children)
        if opened.is_split:
            if not children:
                self._doubt("a multipart without parts")
                fault = fault or "a multipart without parts: its boundary is nowhere"
                if self.content[start:end].strip():
                    text = declared_by(Fields([], start, start), "text/plain")
                    children = (Entity(declared=text, source=self.content, start=start, end=end),)
            elif not any(child.declared.pairs or child.start < child.end for child in children):
                self._doubt("a multipart whose parts are empty")
            elif not opened.closed:
                fault = fault or "the final boundary is missing"
        elif declared.is_message and not children and not fault:
            if self.encoded_depth < _ENCODED_DEPTH_LIMIT and self.shared.entities < _ENTITIES_LIMIT:
                children = (self._encoded_message(declared, start, end),)
            else:
                self._doubt("an encoded message was not opened")
                fault = "an encoded message: not opened"
        return Entity(
            declared=declared, source=self.content, start=start, end=end, children=children, fault=fault
        )

    def _encoded_message(self, declared: Declared, start: int, end: int) -> Entity:
        octets = Entity(declared=declared, source=self.content, start=start, end=end).read()
        depth = self.depth + len(self.stack) + 1
        return _Reader(octets, self.shared, depth, self.encoded_depth + 1).run()

    def _fault(self, place: int, fault: str) -> None:
        self._doubt(fault)
        opened = self.stack[place]
        opened.fault = opened.fault or fault

    def _doubt(self, doubt: str) -> None:
        self.shared.doubts.setdefault(doubt)
