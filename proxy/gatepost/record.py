"""What is written down of a transaction: one record, whatever became of it."""

from datetime import datetime
from enum import StrEnum

from gatepost.values import value
from gatepost.verdict import Action, Evaluation

__all__ = ["Disposition", "RecipientRecord", "Record", "end_before_rcpt"]


class Disposition(StrEnum):
    """What became of a message for a recipient."""

    RELAYED = "relayed"
    """Upstream answered 2xx to the end of data."""
    INBOX = "inbox"
    QUARANTINED = "quarantined"
    DISCARDED = "discarded"
    REFUSED = "refused"
    """The client was told 5xx."""
    DEFERRED = "deferred"
    """The client was told 4xx."""
    IN_DOUBT = "in-doubt"
    """Upstream did not answer after the final dot (RFC 1047); the client was told 451."""
    ABANDONED = "abandoned"
    """The client left or reset before the message was complete."""


def end_before_rcpt(reply: str) -> Disposition:
    """What became of a transaction that ended before RCPT, by the reply that ended it."""
    if not reply:
        return Disposition.ABANDONED
    return Disposition.DEFERRED if reply.startswith("4") else Disposition.REFUSED


@value
class RecipientRecord:
    """One forward-path and its end."""

    address: str
    disposition: Disposition
    action: Action
    rule: str | None = None
    reason: str = ""
    reply: str = ""
    """What the client was told of this recipient at RCPT, or else at the end of data."""


@value
class Record:
    """One transaction for the journal."""

    id: str
    """The transaction's; the Received field and the log show the same."""
    session_id: str
    received_at: datetime
    """When the last octet of the message was read, or else when the transaction ended; aware, UTC."""
    client: str
    helo: str
    tls: str | None
    authenticated: str | None
    mail_from: str | None
    """None where the client never got to MAIL."""
    recipients: tuple[RecipientRecord, ...]
    size: int | None
    """Octets of the message; None where none was received."""
    message_id: str
    """The Message-ID field's value, as far as it is printable; empty where there is none."""
    subject: str
    """The Subject field's value, not decoded, at most 200 characters."""
    evaluations: tuple[Evaluation, ...]
    reply: str
    """The reply that ended the transaction, on one line."""
    upstream: str | None = None
    """The server that was asked to take it, as ``host:port``."""
    upstream_reply: str | None = None
    """Its last reply, or what went wrong."""
    seconds: float = 0.0
    """From the last octet of the message to the reply."""
