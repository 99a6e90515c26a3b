"""Messages that the store keeps in quarantine or in the inbox, as values."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from gatepost.model.edits import Edit, apply
from gatepost.model.mail import new_id
from gatepost.values import value

__all__ = [
    "CLAIM_TIME",
    "Arrivals",
    "Box",
    "Claim",
    "Counts",
    "Kept",
    "KeptMessage",
    "KeptSummary",
    "Listed",
    "Page",
    "Position",
    "Removed",
    "State",
]


class Box(StrEnum):
    """Where a message is kept."""

    INBOX = "inbox"
    """Delivered: the route of its recipients says ``to: inbox``."""
    QUARANTINE = "quarantine"
    """Held until somebody releases or deletes it."""


class State(StrEnum):
    """What was done with a kept message."""

    HELD = "held"
    RELEASED = "released"
    """Sent on; its content is still here."""
    DELETED = "deleted"
    """Its content is gone; the actor that deleted it is still known."""


@value
class Kept:
    """A message to keep."""

    id: str = field(default_factory=new_id)
    box: Box
    mail_from: str
    """The reverse-path without brackets; empty for the null reverse-path."""
    recipients: tuple[str, ...]
    """The forward-paths that it is kept for, as received."""
    prepended: bytes
    """The fields that this server puts before the message: Received."""
    content: bytes
    """As received."""
    edits: tuple[Edit, ...] = ()
    """Changes that rules made, which the delivered form has."""
    rule: str | None
    reason: str

    @property
    def pieces(self) -> tuple[bytes, ...]:
        """The delivered form in pieces that each start at a line's beginning; the last one has the body."""
        return (self.prepended, *apply(self.content, self.edits))


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptSummary:
    """A kept message without its content.

    Text that came from mail may hold any character but NUL and lone surrogates (they became U+FFFD).
    """

    id: str
    """Its identifier, for ``gatepost quarantine``."""
    box: Box
    """Inbox or quarantine."""
    state: State
    """Held, released or deleted."""
    transaction_id: str
    """The journal's record of it, unless that is older than the journal."""
    created_at: datetime
    """Aware, UTC."""
    client: str
    """The client's IP address."""
    mail_from: str
    """The reverse-path without brackets; empty for the null reverse-path."""
    recipients: tuple[str, ...]
    """The forward-paths that it is kept for, as received."""
    rule: str | None
    """The rule that quarantined it; None if none did."""
    reason: str
    """The reason of the rule's verdict."""
    size: int
    """Bytes of the delivered form; stays after the message was deleted."""
    subject: str
    """The field's value, unfolded, not decoded, at most 200 characters; so are the next two."""
    header_from: str
    """The value of From."""
    message_id: str
    """The value of Message-ID."""
    changed_by: str | None = None
    """The actor that released or deleted it."""
    changed_at: datetime | None = None
    """When; aware, UTC."""
    note: str = ""
    """Of a release: the recipients and the reply of the server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptMessage(KeptSummary):
    """A kept message with its content."""

    prepended: bytes
    """The fields that this server puts before the message: Received."""
    content: bytes
    """As received."""
    edits: tuple[Edit, ...] = ()
    """Changes that rules made, in their order; `delivered_form` has them."""

    @property
    def delivered_form(self) -> bytes:
        """The bytes to deliver: the content with the edits, behind the fields of this server."""
        return b"".join((self.prepended, *apply(self.content, self.edits)))


@value
class Removed:
    """A message that was deleted, as it was before: what `Mailbox.put_back` needs."""

    message: KeptMessage
    seen: bool
    deleted_at: datetime
    """Aware, UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed(KeptSummary):
    """A kept message as a list shows it."""

    unread: bool
    shown_subject: str
    """Decoded, at most 200 characters; so is the next."""
    shown_from: str
    attachments: int
    """0 while the message is not indexed."""
    snippet: str
    """The first words of its text; empty while it is not indexed."""


@value
class Page:
    """Some of the messages that match, newest first."""

    messages: tuple[Listed, ...]
    next: str | None
    """Where the next page begins, for ``before``; None: this is the last page."""


@value
class Position:
    """A place in the order in which messages were committed."""

    number: int
    """Enough to make a position again, in another process too."""
    before: tuple[tuple[int, str], ...] = ()
    """Number and id of the last messages before it: a store may use the numbers of removed ones again."""


@value
class Arrivals:
    """Messages in the order in which they were committed."""

    messages: tuple[Listed, ...]
    position: Position
    """Where the next ones begin."""


@value
class Counts:
    """How many messages there are, without deleted ones."""

    inbox: int
    quarantined: int
    """Held in quarantine, not released."""
    unread: int
    """In the inbox and in quarantine, released ones too."""


CLAIM_TIME = timedelta(minutes=2)
"""A claim that nobody renews for so long has expired."""


@value
class Claim:
    """A kept message that is reserved for one release."""

    kept_id: str
    token: str
    """Tells this claim from an earlier or later one of the same message."""
    actor: str
    """The person or program that releases it."""
    expires_at: datetime
    """Aware, UTC; from then on another may claim it."""
