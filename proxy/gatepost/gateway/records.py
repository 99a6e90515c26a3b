"""Write down what became of a transaction."""

import logging
from collections.abc import Sequence
from datetime import datetime

from gatepost.gateway.act import Ended
from gatepost.gateway.header import NO_HEADER, HeaderFacts
from gatepost.mail import Envelope, Recipient, Session
from gatepost.record import Disposition, RecipientRecord, Record
from gatepost.relay import Delivered
from gatepost.verdict import Action, Evaluation, Outcome, Reply

__all__ = [
    "disposition_of",
    "log_record",
    "make_record",
    "recipients_of",
    "refused_recipient",
]

log = logging.getLogger("gatepost.transaction")


def disposition_of(reply: Reply) -> Disposition:
    """The end of a recipient whom that negative reply refused."""
    return Disposition.REFUSED if reply.permanent else Disposition.DEFERRED


def refused_recipient(recipient: Recipient, reply: Reply, outcome: Outcome | None) -> RecipientRecord:
    """A recipient who was refused at RCPT: by a rule, by the routes or by upstream."""
    return RecipientRecord(
        address=recipient.address,
        disposition=disposition_of(reply),
        action=outcome.action if outcome else Action.REJECT if reply.permanent else Action.DEFER,
        rule=outcome.rule if outcome else None,
        reason=outcome.reason if outcome else "",
        reply=str(reply),
    )


def recipients_of(envelope: Envelope, ended: Ended, reply: str) -> tuple[RecipientRecord, ...]:
    """The recipients of a message with their ends, and with what the client was told."""
    return tuple(
        [
            RecipientRecord(
                address=recipient.address,
                disposition=disposition,
                action=outcome.action,
                rule=outcome.rule,
                reason=outcome.reason,
                reply=reply,
            )
            for recipient, outcome, disposition in zip(
                envelope.recipients, ended.outcomes, ended.dispositions, strict=True
            )
        ]
    )


def make_record(
    *,
    transaction_id: str,
    session: Session,
    received_at: datetime,
    envelope: Envelope | None,
    recipients: tuple[RecipientRecord, ...],
    evaluations: Sequence[Evaluation],
    reply: str,
    size: int | None = None,
    header: HeaderFacts = NO_HEADER,
    upstream: Delivered | None = None,
    seconds: float = 0.0,
) -> Record:
    """The journal's record; without a reply: the client left before it got one."""
    return Record(
        id=transaction_id,
        session_id=session.id,
        received_at=received_at,
        client=str(session.client),
        helo=session.helo,
        tls=session.tls,
        authenticated=session.authenticated,
        mail_from=envelope.mail_from if envelope else None,
        recipients=recipients,
        size=size,
        message_id=header.message_id,
        subject=header.subject,
        evaluations=tuple(evaluations),
        reply=reply,
        upstream=upstream.server if upstream else None,
        upstream_reply=upstream.upstream_reply if upstream else None,
        seconds=seconds,
    )


def log_record(record: Record) -> None:
    """The one log line of a transaction; what the client said stands in quotes, escaped."""
    if not log.isEnabledFor(logging.INFO):
        return
    ends = {recipient.disposition: recipient.rule for recipient in record.recipients}
    reply = record.reply or next((recipient.reply for recipient in record.recipients), "")
    rules = sorted({rule for rule in ends.values() if rule})
    log.info(
        "%s %s client=%s helo=%r from=%r to=%s size=%s%s%s reply=%r %.1fms",
        record.id,
        "+".join(sorted(ends)) or ("deferred" if reply.startswith("4") else "refused"),
        record.client,
        record.helo,
        record.mail_from,
        [recipient.address for recipient in record.recipients[:5]],
        record.size,
        f" rules={','.join(rules)}" if rules else "",
        f" upstream={record.upstream}" if record.upstream else "",
        reply,
        record.seconds * 1000,
    )
