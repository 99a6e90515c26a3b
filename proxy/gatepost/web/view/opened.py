"""One part of a message, opened in its place: what it is by its bytes, and its text."""

import re
from typing import Literal

from gatepost.mime.entity import Entity
from gatepost.mime.inline import raster_type
from gatepost.mime.structure import read_structure
from gatepost.mime.text import read_text
from gatepost.values import value
from gatepost.web.view.attachments import AttachmentView, make_attachment
from gatepost.web.view.invitation import Invitation, read_invitation
from gatepost.web.view.text import visible
from gatepost.web.view.tree import numbered

__all__ = ["CALENDARS", "OpenedPart", "PartKind", "open_part"]

PartKind = Literal["image", "pdf", "text", "other"]

CALENDARS = frozenset({"text/calendar", "application/ics"})
_TEXT_OCTETS = 512 << 10
"""Bytes of a text that are shown."""
_HEAD = 4096
"""Bytes in which text is told from other content."""
_PDF_HEAD = 1024
"""Bytes in which viewers look for the beginning of a PDF."""
_CONTROLS = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_MARKS = (b"\xff\xfe", b"\xfe\xff")
"""Of UTF-16 and UTF-32, whose text has NULs."""
_WARNED = "its charset is unknown, or its bytes do not fit it"
_WIDE = re.compile(r"utf-?(?:16|32)|ucs-?[24]", re.IGNORECASE)


@value
class OpenedPart:
    """A part of a message."""

    part: AttachmentView
    kind: PartKind
    """By the bytes: ``image`` is one that browsers only paint, ``other`` is not shown."""
    media_type: str
    """That of an image or a PDF, to serve it with; empty for others."""
    octets: bytes
    """The whole part, without its transfer encoding."""
    text: str
    """Of a text, its beginning; markup is shown as it is written."""
    cut: bool
    """True where the text is longer."""
    note: str
    """How the text was read if not as it is labelled, for a person."""
    invitation: Invitation | None
    """Of a calendar."""


def open_part(content: bytes, number: int) -> OpenedPart | None:
    """The part of that number in the tree; None where there is none or it is a multipart."""
    entity = next((part for found, part in numbered(read_structure(content).root) if found == number), None)
    if entity is None or entity.is_multipart:
        return None
    octets = entity.read()
    kind, media_type = _kind(entity, octets)
    text, note = _text(entity, octets) if kind == "text" else ("", "")
    return OpenedPart(
        part=make_attachment(number, entity, len(octets), inline=False),
        kind=kind,
        media_type=media_type,
        octets=octets,
        text=text,
        cut=kind == "text" and len(octets) > _TEXT_OCTETS,
        note=note,
        invitation=read_invitation(text, attached=True) if entity.content_type in CALENDARS else None,
    )


def _kind(entity: Entity, octets: bytes) -> tuple[PartKind, str]:
    image = raster_type(octets)
    if image:
        return "image", image
    if b"%PDF-" in octets[:_PDF_HEAD]:
        return "pdf", "application/pdf"
    head = octets[:_HEAD]
    is_wide = head.startswith(_MARKS) or _WIDE.search(entity.charset)
    return ("other", "") if _CONTROLS.search(head) and not is_wide else ("text", "")


def _text(entity: Entity, octets: bytes) -> tuple[str, str]:
    end = min(len(octets), _TEXT_OCTETS)
    while end < len(octets) and end and octets[end] & 0xC0 == 0x80:
        end -= 1
    reading = read_text(octets[:end], entity.charset, entity.content_type)[0]
    text = reading.text.replace("\r\n", "\n").replace("\r", "\n")
    return visible(text), _WARNED if reading.warning else reading.note
