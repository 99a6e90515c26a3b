"""The parts of a message by one linear pass: no structure is trusted, nothing is skipped.

A part begins after each line that is a declared boundary (RFC 2046 section 5.1.1), or that looks
like one because a ``Content-`` field follows it. What stands before the first and after the last
is a part too: whoever breaks a message on purpose may have put it there.
"""

import re
from dataclasses import dataclass, field

from proxy.mime.fields import header_section_start, read_fields
from proxy.mime.parameters import read_parameter
from proxy.mime.part import Part
from proxy.mime.transfer import decode_transfer, transfer_encoding

__all__ = ["scan_parts"]

_DELIMITER = re.compile(rb"^--([^\r\n]{1,1000})[^\n]*+(?:\n|\Z)", re.MULTILINE)
_CONTENT_FIELD = re.compile(rb"content-[a-z-]{2,30}:", re.IGNORECASE)
_WANTED = frozenset({b"content-type", b"content-disposition", b"content-transfer-encoding"})
_MESSAGE_TYPES = frozenset({"message/rfc822", "message/global", "message/news"})
_ENCODED = frozenset({"base64", "quoted-printable"})
_PARTS_LIMIT = 10_000
"""What stands behind that many is one last text."""
_DEPTH_LIMIT = 10
"""Messages encoded in messages; each is smaller than its code, so the time stays linear."""


def scan_parts(content: bytes) -> list[Part]:
    """The parts that can be found, in their order."""
    scan = _Scan(content)
    scan.run()
    return scan.parts


@dataclass(frozen=True, slots=True)
class _Segment:
    """What stands between two delimiters: a leaf with its fields, or loose text without."""

    start: int
    """Where its body begins."""
    fields: dict[bytes, str] | None = None
    default_type: str = "text/plain"

    @property
    def content_type(self) -> str:
        declared = (self.fields or {}).get(b"content-type", "").partition(";")[0].strip().lower()
        return declared if "/" in declared else self.default_type

    @property
    def encoding(self) -> str:
        return transfer_encoding((self.fields or {}).get(b"content-transfer-encoding", ""))


@dataclass(slots=True)
class _Scan:
    content: bytes
    depth: int = 0
    boundaries: dict[bytes, str] = field(default_factory=dict)
    """Those declared so far, with the type of a part that declares none (RFC 2046 section 5.1.5)."""
    parts: list[Part] = field(default_factory=list)

    def run(self) -> None:
        """Finds the parts of the content."""
        start = header_section_start(self.content)
        self._close(_Segment(0), start)
        segment = self._open(start)
        for delimiter in _DELIMITER.finditer(self.content, segment.start):
            if delimiter.start() < segment.start or (default_type := self._opens(delimiter)) is None:
                continue
            self._close(segment, delimiter.start())
            segment = self._open(delimiter.end(), default_type) if default_type else _Segment(delimiter.end())
            if len(self.parts) >= _PARTS_LIMIT:
                break
        self._close(segment, len(self.content))

    def _opens(self, delimiter: re.Match[bytes]) -> str | None:
        """The default type of the part that it begins; empty: it begins none; None: it is no delimiter."""
        text = delimiter[1].rstrip()
        if text in self.boundaries:
            return self.boundaries[text]
        if text.endswith(b"--") and text[:-2] in self.boundaries:
            return ""
        return "text/plain" if _CONTENT_FIELD.match(self.content, delimiter.end()) else None

    def _open(self, start: int, default_type: str = "text/plain") -> _Segment:
        """The segment whose header fields begin at ``start``; headers of messages in it are passed."""
        while True:
            fields, junk, body = read_fields(self.content, start, _WANTED)
            self._close(_Segment(junk), body)
            segment = _Segment(body, fields, default_type)
            if segment.content_type.startswith("multipart/"):
                boundary = read_parameter(fields[b"content-type"], "boundary")
                inner_type = "message/rfc822" if segment.content_type == "multipart/digest" else "text/plain"
                self.boundaries[boundary.rstrip().encode("utf-8", "replace")] = inner_type
                return _Segment(body)
            if segment.content_type not in _MESSAGE_TYPES or segment.encoding in _ENCODED:
                return segment
            self._add(segment, len(self.content))
            if len(self.parts) >= _PARTS_LIMIT:
                return _Segment(body)
            start, default_type = body, "text/plain"

    def _close(self, segment: _Segment, end: int) -> None:
        """Keeps the segment, which ends before the line break that belongs to the delimiter."""
        if segment.fields is None:
            if self.content[segment.start : end].strip():
                self._add(segment, end)
            return
        if self.content.endswith(b"\n", segment.start, end) and end < len(self.content):
            end -= 2 if self.content.endswith(b"\r\n", segment.start, end) else 1
        self._add(segment, end)
        if segment.content_type in _MESSAGE_TYPES and self.depth < _DEPTH_LIMIT:
            inner = _Scan(self.parts[-1].read(), self.depth + 1, parts=self.parts)
            inner.run()

    def _add(self, segment: _Segment, end: int) -> None:
        fields = segment.fields or {}
        content, start, encoding = self.content, segment.start, segment.encoding
        content_type = fields.get(b"content-type", "")
        disposition = fields.get(b"content-disposition", "")
        self.parts.append(
            Part(
                content_type=segment.content_type,
                charset=read_parameter(content_type, "charset"),
                filename=read_parameter(disposition, "filename") or read_parameter(content_type, "name"),
                attached=disposition.partition(";")[0].strip().lower() == "attachment",
                read=lambda: decode_transfer(content[start:end], encoding),
            )
        )
