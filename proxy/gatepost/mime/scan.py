"""The parts of a message that is not sound, by one linear pass: no structure is trusted, nothing is skipped.

A part begins after each line that is, or begins with, a declared boundary (RFC 2046 section 5.1.1), or that
looks like one because a ``Content-`` field follows it. What is before the first and after the last
is a part too: a sender who breaks a message on purpose may have put it there.
"""

from dataclasses import dataclass, field

from gatepost.mime.delimiters import Delimiter, is_content_field, next_delimiter, prefix_in
from gatepost.mime.entity import MESSAGE_TYPES, Declared, Entity, declared_by
from gatepost.mime.fields import Fields, header_section_start, read_fields
from gatepost.values import value

__all__ = ["Scanned", "scan_parts"]

_PARTS_LIMIT = 10_000
"""What is behind that many is one last text."""
_DEPTH_LIMIT = 10
"""Messages encoded in messages; each is smaller than its code, so the time stays linear."""
_TEXT = declared_by(Fields([], 0, 0), "text/plain")
"""Of text that is loose, without fields."""


@value
class Scanned:
    """What a scan has found."""

    parts: list[Entity]
    """The leaves and the messages in the message, in their order."""
    messages: list[Declared]
    """What the header sections of the messages in it declare."""
    unread: str
    """Which bound was exceeded, so that not all of it was read; empty where none was."""


def scan_parts(content: bytes) -> Scanned:
    """Find all parts that any reader may see."""
    scan = _Scan(content)
    scan.run()
    return Scanned(parts=scan.parts, messages=scan.messages, unread=scan.unread)


@dataclass(frozen=True, slots=True)
class _Segment:
    """What is between two delimiters: a leaf with its fields, or loose text without."""

    start: int
    """Where its body begins."""
    declared: Declared | None = None

    @property
    def is_message(self) -> bool:
        """True if one of its types says so."""
        return self.declared is not None and not MESSAGE_TYPES.isdisjoint(self.declared.content_types)


@dataclass(slots=True)
class _Scan:
    content: bytes
    depth: int = 0
    boundaries: dict[bytes, str] = field(default_factory=dict)
    """Those declared so far, with the type of a part that declares none (RFC 2046 section 5.1.5)."""
    lengths: set[int] = field(default_factory=set)
    """Of the boundaries."""
    parts: list[Entity] = field(default_factory=list)
    messages: list[Declared] = field(default_factory=list)
    unread: str = ""

    def run(self) -> None:
        """Find the parts of the content."""
        start = header_section_start(self.content)
        if start:  # all of it is body to a reader who expects the first field in the first line
            self._close(_Segment(0), read_fields(self.content, start).body)
        segment = self._open(start, is_message=self.depth > 0)
        position = segment.start
        while delimiter := next_delimiter(self.content, position):
            position = delimiter.end
            default_type = self._opens(delimiter)
            if default_type is None:
                continue
            self._close(segment, delimiter.start)
            segment = self._open(position, default_type) if default_type else _Segment(position)
            position = segment.start
            if len(self.parts) >= _PARTS_LIMIT:
                self.unread = f"more than {_PARTS_LIMIT} parts"
                break
        self._close(segment, len(self.content))

    def _opens(self, delimiter: Delimiter) -> str | None:
        """The default type of the part that it begins; empty: it begins none; None: it is no delimiter."""
        text = delimiter.text
        if text in self.boundaries:
            return self.boundaries[text]
        if text.endswith(b"--") and text[:-2] in self.boundaries:
            return ""
        if prefix := prefix_in(text, self.boundaries, self.lengths):
            return self.boundaries[prefix]
        return "text/plain" if is_content_field(self.content, delimiter.end) else None

    def _open(self, start: int, default_type: str = "text/plain", *, is_message: bool = False) -> _Segment:
        """The segment whose header fields begin at ``start``; headers of messages in it are passed."""
        while True:
            fields = read_fields(self.content, start)
            self._close(_Segment(fields.junk), fields.body)
            declared = declared_by(fields, default_type)
            if is_message:
                self.messages.append(declared)
            segment = _Segment(fields.body, declared)
            if any(content_type.startswith("multipart/") for content_type in declared.content_types):
                return self._open_multipart(segment, declared)
            if not segment.is_message or declared.is_encoded:
                return segment
            self._add(segment, len(self.content))
            if len(self.parts) >= _PARTS_LIMIT:
                self.unread = f"more than {_PARTS_LIMIT} parts"
                return _Segment(segment.start)
            start, default_type, is_message = segment.start, "text/plain", True

    def _open_multipart(self, segment: _Segment, declared: Declared) -> _Segment:
        inner_type = "text/plain"
        if "multipart/digest" in declared.content_types:
            inner_type = "message/rfc822"
        for boundary in declared.boundaries:
            self.boundaries[boundary] = inner_type
            self.lengths.add(len(boundary))
        is_alone = declared.is_multipart and len(declared.content_types) == 1
        return _Segment(segment.start) if is_alone and not declared.is_encoded else segment

    def _close(self, segment: _Segment, end: int) -> None:
        """Keep the segment, which ends before the line break that belongs to the delimiter."""
        if segment.declared is None:
            if self.content[segment.start : end].strip():
                self._add(segment, end)
            return
        if self.content.endswith(b"\n", segment.start, end) and end < len(self.content):
            end -= 2 if self.content.endswith(b"\r\n", segment.start, end) else 1
        part = self._add(segment, end)
        is_encoded_multipart = segment.declared.is_multipart and segment.declared.is_encoded
        if segment.is_message or is_encoded_multipart:
            self._run_within(part, is_multipart=is_encoded_multipart)

    def _run_within(self, part: Entity, *, is_multipart: bool) -> None:
        """Find the parts of an encoded message, or of a multipart that is encoded against RFC 2045 6.4."""
        if self.depth >= _DEPTH_LIMIT:
            self.unread = f"messages encoded in messages more than {_DEPTH_LIMIT} deep"
            return
        inner = _Scan(part.read(), self.depth + 1, parts=self.parts, messages=self.messages)
        if is_multipart:
            inner.boundaries, inner.lengths = self.boundaries, self.lengths
        inner.run()
        self.unread = self.unread or inner.unread

    def _add(self, segment: _Segment, end: int) -> Entity:
        declared = segment.declared or _TEXT
        part = Entity(declared=declared, source=self.content, start=segment.start, end=end)
        self.parts.append(part)
        return part
