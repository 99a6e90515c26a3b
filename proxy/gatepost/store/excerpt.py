"""What the index knows of a message's text: bounded, whatever the message is."""

from collections.abc import Iterable
from dataclasses import dataclass

from gatepost.mail import Message
from gatepost.mime import MimeView, Text
from gatepost.mime.markup import plain_text
from gatepost.store.rows import storable

__all__ = ["CONTENT_LIMIT", "Excerpt", "read_excerpt"]

CONTENT_LIMIT = 4 << 20
"""Octets of a message that are parsed; an attachment that is cut there still counts."""
_TEXT_LIMIT = 64 << 10
"""Characters of all its texts."""
_MARKUP_LIMIT = 512 << 10
"""Characters of one HTML text before its markup is taken away."""
_FIELD_LIMIT = 4000
"""Characters of a header field."""
_NAMES_LIMIT = 200
"""Attachments whose names are indexed."""
_SHOWN_LIMIT = 200
_SNIPPET_LIMIT = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Excerpt:
    """Decoded text, free of what no database takes."""

    subject: str
    header_from: str
    recipients: str
    """To and Cc."""
    body: str
    attachment_names: str
    attachments: int
    """How many there are."""

    @property
    def shown_subject(self) -> str:
        """For a list."""
        return self.subject[:_SHOWN_LIMIT]

    @property
    def shown_from(self) -> str:
        """For a list."""
        return self.header_from[:_SHOWN_LIMIT]

    @property
    def snippet(self) -> str:
        """How the text begins, on one line."""
        return " ".join(self.body[: _SNIPPET_LIMIT * 10].split())[:_SNIPPET_LIMIT]


def read_excerpt(content: bytes) -> Excerpt:
    """Of a message's octets."""
    view = Message(content=content[:CONTENT_LIMIT]).view
    all_names = dict.fromkeys(name for attachment in view.attachments for name in attachment.filenames)
    names = [name[:_SHOWN_LIMIT] for name in list(all_names)[:_NAMES_LIMIT]]
    return Excerpt(
        subject=_field(view, "subject"),
        header_from=_field(view, "from"),
        recipients=f"{_field(view, 'to')}\n{_field(view, 'cc')}",
        body=storable(_body(view.texts)),
        attachment_names=storable("\n".join(names)),
        attachments=len(view.attachments),
    )


def _field(view: MimeView, name: str) -> str:
    return storable((view.header(name) or "")[:_FIELD_LIMIT])


def _body(texts: Iterable[Text]) -> str:
    pieces: list[str] = []
    room = _TEXT_LIMIT
    for part in sorted(texts, key=lambda text: bool(text.how)):  # the plain readings first
        html = part.content_type == "text/html"
        pieces.append((plain_text(part.text[:_MARKUP_LIMIT]) if html else part.text)[:room])
        room -= len(pieces[-1])
        if room <= 0:
            break
    return "\n".join(pieces)
