"""The text of a message for an index: bounded, for any message."""

from collections.abc import Iterable
from typing import NamedTuple

from gatepost.mime import MimeView, Text
from gatepost.mime.html import plain_text
from gatepost.mime.inline import shown_in_html
from gatepost.model.bcc import bcc, named_mailboxes
from gatepost.model.edits import Edit, apply
from gatepost.model.mail import Message
from gatepost.printable import storable
from gatepost.store.folding import folded
from gatepost.store.query.messages import Where
from gatepost.values import value

__all__ = ["CONTENT_LIMIT", "PARTS", "SEEN", "Excerpt", "SearchedText", "read_excerpt", "searched_text"]

CONTENT_LIMIT = 4 << 20
"""Bytes of a message that are parsed; an attachment that is cut there still counts."""
_TEXT_LIMIT = 64 << 10
"""Characters of all its texts."""
_MARKUP_LIMIT = 512 << 10
"""Characters of one HTML text before its markup is removed."""
_FIELD_LIMIT = 4000
"""Characters of a header field."""
_LINE_LIMIT = 200
"""Characters of each field in the text of all fields: of a signature enough to tell it from others."""
_FIELDS_LIMIT = 100
"""Fields in that text."""
_NAMES_LIMIT = 200
"""Attachments whose names are indexed."""
_SHOWN_LIMIT = 200
_SNIPPET_LIMIT = 120
_READ_FIRST = ("text/plain", "text/html")


@value
class Excerpt:
    """Decoded text that a store can hold."""

    subject: str
    header_from: str
    to: str
    cc: str
    named: frozenset[str]
    """The mailboxes in To and Cc, as `gatepost.model.bcc.named_mailboxes` writes them."""
    reply_to: str
    message_id: str
    header: str
    """The fields, one on a line."""
    body: str
    snippet: str
    """How the text begins, on one line; attached texts and calendars are left out."""
    attachment_names: str
    attachments: int
    """How many attachments the message has, without the images that its HTML shows in their places."""

    @property
    def shown_subject(self) -> str:
        """For a list."""
        return self.subject[:_SHOWN_LIMIT]

    @property
    def shown_from(self) -> str:
        """For a list."""
        return self.header_from[:_SHOWN_LIMIT]


class SearchedText(NamedTuple):
    """The folded texts of a message in which words are looked for."""

    subject: str
    sender: str
    """What ``from:`` searches: the From field and the reverse-path."""
    recipients: str
    """What ``to:`` searches: the To and Cc fields and the forward-paths."""
    body: str
    attachments: str
    """The names of its attachments."""
    cc: str
    bcc: str
    reply_to: str
    message_id: str
    header: str

    def of(self, where: Where | None) -> tuple[str, ...]:
        """That part of the message; None: each text that a reader sees."""
        return (getattr(self, PARTS[where]),) if where else self[: len(SEEN)]


SEEN = ("subject", "sender", "recipients", "body", "attachments")
"""The parts that a word alone is looked for in."""
PARTS = {
    Where.FROM: "sender",
    Where.TO: "recipients",
    Where.SUBJECT: "subject",
    Where.CC: "cc",
    Where.BCC: "bcc",
    Where.REPLY_TO: "reply_to",
    Where.MESSAGE_ID: "message_id",
    Where.HEADER: "header",
}


def searched_text(excerpt: Excerpt, *, mail_from: str, recipients: Iterable[str]) -> SearchedText:
    """The texts of a message with this excerpt and envelope."""
    recipients = tuple(recipients)
    texts = (
        excerpt.subject,
        f"{excerpt.header_from}\n{mail_from}",
        "\n".join((excerpt.to, excerpt.cc, *recipients)),
        excerpt.body,
        excerpt.attachment_names,
        excerpt.cc,
        "\n".join(bcc(recipients, excerpt.named)),
        excerpt.reply_to,
        excerpt.message_id,
        excerpt.header,
    )
    return SearchedText(*map(folded, texts))


def read_excerpt(content: bytes, edits: tuple[Edit, ...] = ()) -> Excerpt:
    """Read the excerpt of a message from its bytes, with the edits that its delivered form has."""
    view = Message(content=b"".join(apply(content[:CONTENT_LIMIT], edits))).view
    all_names = dict.fromkeys(name for attachment in view.attachments for name in attachment.filenames)
    names = [name[:_SHOWN_LIMIT] for name in list(all_names)[:_NAMES_LIMIT]]
    pieces = _pieces(view.texts)
    return Excerpt(
        subject=_field(view, "subject"),
        header_from=_field(view, "from"),
        to=_field(view, "to"),
        cc=_field(view, "cc"),
        named=named_mailboxes(view.headers).mailboxes,
        reply_to=_field(view, "reply-to"),
        message_id=_field(view, "message-id"),
        header="\n".join(
            storable(f"{field.name}: {field.value[:_LINE_LIMIT]}") for field in view.headers[:_FIELDS_LIMIT]
        ),
        body=storable("\n".join(piece for _, piece in pieces)),
        snippet=_snippet(
            piece for text, piece in pieces if not text.filename and text.content_type in _READ_FIRST
        ),
        attachment_names=storable("\n".join(names)),
        attachments=_count(view),
    )


def _count(view: MimeView) -> int:
    files = [attachment for attachment in view.attachments if not attachment.is_other_reading]
    parts = [(file.content_id, file.read) for file in files]
    htmls = (text.text for text in view.texts if text.content_type == "text/html")
    return len(parts) - sum(shown_in_html(parts, htmls))


def _field(view: MimeView, name: str) -> str:
    return storable((view.header(name) or "")[:_FIELD_LIMIT])


def _pieces(texts: Iterable[Text]) -> list[tuple[Text, str]]:
    pieces: list[tuple[Text, str]] = []
    room = _TEXT_LIMIT
    for part in sorted(texts, key=lambda text: bool(text.how)):  # the plain readings first
        html = part.content_type == "text/html"
        piece = (plain_text(part.text[:_MARKUP_LIMIT]) if html else part.text)[:room]
        pieces.append((part, piece))
        room -= len(piece)
        if room <= 0:
            break
    return pieces


def _snippet(pieces: Iterable[str]) -> str:
    beginnings = (piece[: _SNIPPET_LIMIT * 10] for piece in pieces)
    return storable(" ".join(" ".join(beginnings).split())[:_SNIPPET_LIMIT])
