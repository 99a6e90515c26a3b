"""The MIME structure of a message for showing it: entities in entities, where each begins and ends.

One linear pass. Where the structure is broken it is read as far as it can be, and ``fault`` says what
is wrong; nothing here raises on any message.
"""

import re
from dataclasses import dataclass, field, replace

from proxy.mime.fields import header_section_start, read_fields
from proxy.mime.parameters import read_parameter
from proxy.mime.transfer import decode_transfer, transfer_encoding

__all__ = ["Entity", "read_structure"]

_DELIMITER = re.compile(rb"^--([^\r\n]{1,1000})[^\n]*+(?:\n|\Z)", re.MULTILINE)
_CONTENT_FIELD = re.compile(rb"content-[a-z-]{2,30}:", re.IGNORECASE)
_WANTED = frozenset(
    {
        b"content-type",
        b"content-disposition",
        b"content-transfer-encoding",
        b"content-id",
        b"mime-version",
        b"subject",
    }
)
_MESSAGE_TYPES = frozenset({"message/rfc822", "message/global", "message/news"})
_ENCODED = frozenset({"base64", "quoted-printable"})
_DEPTH_LIMIT = 50
_ENCODED_DEPTH_LIMIT = 4
"""Messages encoded in encoded messages; each is decoded, so that each costs the time of the whole."""
_ENTITIES_LIMIT = 1000
"""What stands behind that many belongs to the last one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """A message or a part of one (RFC 2045 section 2.4)."""

    content_type: str
    """In lower case; the default of its place where none, or none of the form type/subtype, is declared."""
    charset: str
    """As declared; empty where none is."""
    transfer_encoding: str
    """In lower case; empty where none is declared."""
    filename: str
    """As the sender wrote it, decoded; may hold anything. Empty where none was given."""
    disposition: str
    """``inline``, ``attachment`` or what else is declared, in lower case; empty where nothing is."""
    content_id: str
    """Without its angle brackets."""
    subject: str
    """Of a message; empty for others."""
    declared: frozenset[str]
    """Names of the MIME fields it has, in lower case."""
    source: bytes = field(repr=False)
    """The octets that the positions are of: the message, or a decoded message in it."""
    start: int
    """Where the body begins."""
    end: int
    children: tuple["Entity", ...] = ()
    fault: str = ""
    """What is wrong with its structure, for a person; empty where nothing is."""

    @property
    def is_multipart(self) -> bool:
        """True where the body is nothing but other entities."""
        return self.content_type.startswith("multipart/")

    @property
    def is_message(self) -> bool:
        """True for a message in the message."""
        return self.content_type in _MESSAGE_TYPES

    @property
    def is_encoded(self) -> bool:
        """True where reading the body means decoding it."""
        return self.transfer_encoding in _ENCODED and not self.is_multipart

    def encoded(self) -> bytes:
        """The body as it was sent."""
        return self.source[self.start : self.end]

    def read(self) -> bytes:
        """The body after transfer decoding; what cannot be decoded comes as it stands."""
        return decode_transfer(self.encoded(), self.transfer_encoding)


def read_structure(content: bytes) -> Entity:
    """The message as an entity with its children."""
    return _Reader(content).run()


@dataclass(slots=True)
class _Open:
    """An entity whose end is not reached."""

    entity: Entity
    children: list[Entity] = field(default_factory=list)
    boundary: bytes | None = None
    """Of a multipart."""
    used: bool = False
    closed: bool = False

    @property
    def default_type(self) -> str:
        """The type of a part that declares none (RFC 2046 section 5.1.5)."""
        return "message/rfc822" if self.entity.content_type == "multipart/digest" else "text/plain"


@dataclass(slots=True)
class _Count:
    entities: int = 0


@dataclass(slots=True)
class _Reader:
    content: bytes
    depth: int = 0
    encoded_depth: int = 0
    count: _Count = field(default_factory=_Count)
    stack: list[_Open] = field(default_factory=list)
    boundaries: dict[bytes, int] = field(default_factory=dict)
    """Of the open multiparts, with their places in the stack; of two that are the same the outer one."""

    def run(self) -> Entity:
        position = self._open(header_section_start(self.content), "text/plain")
        delimiters = _DELIMITER.finditer(self.content, position) if self.boundaries else ()
        for delimiter in delimiters:
            if delimiter.start() < position:
                continue
            if self.count.entities >= _ENTITIES_LIMIT:
                self._fault(0, f"more than {_ENTITIES_LIMIT} parts")
                break
            position = self._delimit(delimiter)
        return self._close_to(0, len(self.content))

    def _open(self, start: int, default_type: str) -> int:
        """Opens the entity at ``start`` and the messages it begins with; gives where the body begins."""
        while True:
            self.count.entities += 1
            fields, _, body = read_fields(self.content, start, _WANTED)
            entity = _entity(self.content, fields, body, default_type)
            opened = _Open(entity)
            self.stack.append(opened)
            if not (entity.is_multipart or entity.is_message):
                return body
            if self.depth + len(self.stack) >= _DEPTH_LIMIT:
                self._fault(-1, f"nested more than {_DEPTH_LIMIT} deep: not opened")
                return body
            if entity.is_multipart:
                boundary = read_parameter(fields.get(b"content-type", ""), "boundary").rstrip()
                opened.boundary = boundary.encode("utf-8", "replace")
                self.boundaries.setdefault(opened.boundary, len(self.stack) - 1)
                return body
            if entity.is_encoded or self.count.entities >= _ENTITIES_LIMIT:
                return body
            start, default_type = body, "text/plain"

    def _delimit(self, delimiter: re.Match[bytes]) -> int:
        """What a line that begins with ``--`` does; gives where to go on."""
        text = delimiter[1].rstrip()
        place = self.boundaries.get(text)
        if place is None and text.endswith(b"--"):
            place = self.boundaries.get(text[:-2])
            if place is not None:
                self._close_to(place + 1, self._body_end(delimiter))
                self.stack[place].closed = self.stack[place].used = True
                return delimiter.end()
        if place is None:
            place = self._adopt(text, delimiter)
        if place is None:
            return delimiter.end()
        self._close_to(place + 1, self._body_end(delimiter))
        multipart = self.stack[place]
        multipart.used = True
        return self._open(delimiter.end(), multipart.default_type)

    def _adopt(self, text: bytes, delimiter: re.Match[bytes]) -> int | None:
        """Of a multipart that has shown no part yet, a line like a boundary is taken to be its own."""
        innermost = self.stack[-1]
        if innermost.boundary is None or innermost.used:
            return None
        if not _CONTENT_FIELD.match(self.content, delimiter.end()):
            return None
        self._fault(-1, "its parts have another boundary than it declares")
        place = len(self.stack) - 1
        self.boundaries[text] = place
        return place

    def _body_end(self, delimiter: re.Match[bytes]) -> int:
        """The line break before a delimiter belongs to it (RFC 2046 section 5.1.1)."""
        end = delimiter.start()
        if self.content.endswith(b"\r\n", 0, end):
            return end - 2
        return end - 1 if self.content.endswith(b"\n", 0, end) else end

    def _close_to(self, place: int, end: int) -> Entity:
        """Closes the entities from the innermost to the one at that place, which it gives."""
        entity = self.stack[0].entity
        while len(self.stack) > place:
            opened = self.stack.pop()
            entity = self._closed(opened, max(end, opened.entity.start))
            if self.stack:
                self.stack[-1].children.append(entity)
        self.boundaries = {text: at for text, at in self.boundaries.items() if at < len(self.stack)}
        return entity

    def _closed(self, opened: _Open, end: int) -> Entity:
        entity = replace(opened.entity, end=end)
        fault = entity.fault
        children = tuple(opened.children)
        if opened.boundary is not None:
            if not children:
                fault = fault or "a multipart without parts: its boundary is nowhere"
                if self.content[entity.start : end].strip():
                    children = (_entity(self.content, {}, entity.start, "text/plain", end),)
            elif not opened.closed:
                fault = fault or "the final boundary is missing"
        elif entity.is_message and not children and not fault:
            if self.encoded_depth < _ENCODED_DEPTH_LIMIT and self.count.entities < _ENTITIES_LIMIT:
                depth = self.depth + len(self.stack) + 1
                children = (_Reader(entity.read(), depth, self.encoded_depth + 1, self.count).run(),)
            else:
                fault = "an encoded message: not opened"
        return replace(entity, children=children, fault=fault)

    def _fault(self, place: int, fault: str) -> None:
        opened = self.stack[place]
        opened.entity = replace(opened.entity, fault=opened.entity.fault or fault)


def _entity(source: bytes, fields: dict[bytes, str], start: int, default_type: str, end: int = 0) -> Entity:
    content_type = fields.get(b"content-type", "")
    disposition = fields.get(b"content-disposition", "")
    declared = content_type.partition(";")[0].strip().lower()
    return Entity(
        content_type=declared if "/" in declared else default_type,
        charset=read_parameter(content_type, "charset"),
        transfer_encoding=transfer_encoding(fields.get(b"content-transfer-encoding", "")),
        filename=read_parameter(disposition, "filename") or read_parameter(content_type, "name"),
        disposition=disposition.partition(";")[0].strip().lower(),
        content_id=fields.get(b"content-id", "").strip().removeprefix("<").removesuffix(">"),
        subject=fields.get(b"subject", ""),
        declared=frozenset(name.decode("ascii", "replace") for name in fields if name != b"subject"),
        source=source,
        start=start,
        end=end,
    )
