"""The journal record of one transaction, with a disposition for each recipient."""

from datetime import datetime
from enum import StrEnum

from gatepost.model.verdict import Action, Evaluation, total_score
from gatepost.values import value

__all__ = ["Disposition", "EarlyEnd", "RecipientRecord", "Record", "SessionRecord", "end_before_rcpt"]


class Disposition(StrEnum):
    """What became of a message for a recipient."""

    RELAYED = "relayed"
    """Upstream answered 2xx to the end of data."""
    INBOX = "inbox"
    """It is in the embedded store's inbox."""
    QUARANTINED = "quarantined"
    """It is in quarantine, until somebody releases or deletes it."""
    DISCARDED = "discarded"
    """The client got 250, and the message is gone."""
    REFUSED = "refused"
    """The client got 5xx."""
    DEFERRED = "deferred"
    """The client got 4xx."""
    IN_DOUBT = "in-doubt"
    """Upstream did not answer after the final dot (RFC 1047); the client got 451."""
    ABANDONED = "abandoned"
    """The client left or reset before the message was complete."""


def end_before_rcpt(reply: str) -> Disposition:
    """The disposition of a transaction that ended before RCPT, according to the reply that ended it."""
    if not reply:
        return Disposition.ABANDONED
    return Disposition.DEFERRED if reply.startswith("4") else Disposition.REFUSED


@value
class RecipientRecord:
    """One recipient and its disposition."""

    address: str
    """The forward-path, as received."""
    disposition: Disposition
    """What became of the message for this recipient."""
    action: Action
    """What the rules decided."""
    rule: str | None = None
    """The rule that decided; None if none had a final action."""
    reason: str = ""
    """The reason of the rule's verdict."""
    reply: str = ""
    """The reply for this recipient: to RCPT if it was refused there, else to the end of data."""


@value
class EarlyEnd:
    """How a transaction ended that has no recipient: at connect, EHLO, AUTH, MAIL, or before RCPT."""

    disposition: Disposition
    """Refused, deferred or abandoned."""
    rule: str | None = None
    """The rule that refused it; None if it was Gatepost itself, see `Record.reply`, or the client left."""
    reason: str = ""
    """That rule's reason; of an AUTH that failed, for which user."""


@value
class Record:
    """One transaction for the journal, or what was refused before one began: a client, EHLO, AUTH, MAIL."""

    id: str
    """The transaction's identifier, also in the Received field and in the log."""
    session_id: str
    """The session's identifier."""
    received_at: datetime
    """When the last byte of the message was read, or else when the transaction ended; aware, UTC."""
    client: str
    """The client's IP address."""
    helo: str
    """The argument of EHLO or HELO, as received; empty before it."""
    tls: str | None
    """The TLS version, for example ``TLSv1.3``; None on a plain connection."""
    authenticated: str | None
    """The user name from AUTH; None if the client has not authenticated."""
    mail_from: str | None
    """None if the session ended before MAIL."""
    recipients: tuple[RecipientRecord, ...]
    """One for each RCPT, refused ones too."""
    size: int | None
    """Bytes of the message; None if none was received."""
    message_id: str
    """The Message-ID field's value, without unprintable characters; empty if there is none."""
    subject: str
    """The Subject field's value, not decoded, at most 200 characters."""
    evaluations: tuple[Evaluation, ...]
    """One for each rule that was asked, in that order."""
    reply: str
    """The reply that ended the transaction, on one line."""
    upstream: str | None = None
    """The upstream server that was asked last, as ``host:port``."""
    upstream_reply: str | None = None
    """Its last reply, or the error."""
    seconds: float = 0.0
    """From the last byte of the message to the reply."""
    failed_user: str | None = None
    """The user name of an AUTH that failed, cut at 256 characters; None: the record is not about one."""
    node: str | None = None
    """The node that wrote the record (the setting ``node``); None: it is of a version without names."""

    @property
    def early_end(self) -> EarlyEnd | None:
        """How it ended before RCPT; None if it has recipients, which have their own dispositions."""
        if self.recipients:
            return None
        disposition = end_before_rcpt(self.reply)
        if self.failed_user is not None:
            return EarlyEnd(disposition=disposition, reason=f"AUTH failed for user {self.failed_user!r}")
        last = self.evaluations[-1] if self.evaluations and self.reply else None
        if last and last.action and last.action.refuses and not last.observed:  # no rule is asked after it
            return EarlyEnd(disposition=disposition, rule=last.rule, reason=last.reason)
        return EarlyEnd(disposition=disposition)

    def score(self, address: str) -> float:
        """The sum of the scores that rules gave the message for a recipient."""
        return total_score(self.evaluations, address)

    @property
    def dispositions(self) -> tuple[Disposition, ...]:
        """What became of it: each disposition once, in the order of the recipients; at least one."""
        if self.recipients:
            return tuple({one.disposition: None for one in self.recipients})
        return (end_before_rcpt(self.reply),)

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules that decided for a recipient or refused the client, each once."""
        if self.recipients:
            return tuple({one.rule: None for one in self.recipients if one.rule})
        end = self.early_end
        return (end.rule,) if end and end.rule else ()


@value
class SessionRecord:
    """One session, when it has ended: by QUIT, by the server, or because the connection was lost."""

    id: str
    """The session's identifier, also in the log."""
    client: str
    """The client's IP address."""
    listener: str
    """The listener's address as written in the settings."""
    connected_at: datetime
    """Aware, UTC."""
    helo: str = ""
    """The last argument of EHLO or HELO; empty before it."""
    tls: str | None = None
    """The TLS version; None on a plain connection."""
    authenticated: str | None = None
    """The user name from AUTH; None if the client has not authenticated."""
    early_talker: bool = False
    """True if the client sent something before the greeting."""
    bad_commands: int = 0
    """Commands that are unknown or malformed."""
    failed_auth: int = 0
    """AUTH commands with wrong credentials."""
    refused_recipients: int = 0
    """RCPT commands that were refused with 5xx."""
    messages: int = 0
    """Messages that were accepted."""
