"""The nouns: messages that the store keeps, in quarantine or in the inbox."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from gatepost.mail import new_id

__all__ = ["Box", "Kept", "KeptMessage", "KeptSummary", "Listed", "State"]


class Box(StrEnum):
    """Where a message is kept."""

    INBOX = "inbox"
    """Delivered: the route of its recipients says ``to: inbox``."""
    QUARANTINE = "quarantine"
    """Held back until somebody releases or deletes it."""


class State(StrEnum):
    """What people have done with a kept message."""

    HELD = "held"
    RELEASED = "released"
    """Sent on; its octets are still here."""
    DELETED = "deleted"
    """Its octets are gone; who deleted it is still known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A message to keep."""

    id: str = field(default_factory=new_id)
    box: Box
    mail_from: str
    """The reverse-path without brackets; empty for the null reverse-path."""
    recipients: tuple[str, ...]
    """The forward-paths that it is kept for, as received."""
    prepended: bytes
    """Trace and added header fields; the delivered form is ``prepended + content``."""
    content: bytes
    """As received (quarantine) or as edited (inbox)."""
    rule: str | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptSummary:
    """A kept message without its octets.

    Text that came from mail may hold any character but NUL and lone surrogates (they became U+FFFD).
    """

    id: str
    box: Box
    state: State
    transaction_id: str
    """The journal's record of it, unless that is older than the journal."""
    created_at: datetime
    """Aware, UTC."""
    client: str
    mail_from: str
    recipients: tuple[str, ...]
    rule: str | None
    reason: str
    size: int
    """Octets of the delivered form; stays after the message was deleted."""
    subject: str
    """The field's value, unfolded, not decoded, at most 200 characters; so are the next two."""
    header_from: str
    message_id: str
    changed_by: str | None = None
    """Who released or deleted it."""
    changed_at: datetime | None = None
    note: str = ""
    """Of a release: to whom and what the server said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptMessage(KeptSummary):
    """A kept message with its octets."""

    prepended: bytes
    content: bytes

    @property
    def delivered_form(self) -> bytes:
        """The octets to deliver."""
        return self.prepended + self.content


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
