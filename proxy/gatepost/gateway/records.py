"""Journal records and the log line of a transaction, from its result."""

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime

from gatepost.gateway.header import NO_HEADER, HeaderFacts
from gatepost.gateway.policy import Policy
from gatepost.gateway.result import MessageResult, disposition_of
from gatepost.logline import LogLine, log_later
from gatepost.model.mail import Recipient, Session
from gatepost.model.record import RecipientRecord, Record
from gatepost.model.verdict import Action, Evaluation, Outcome, Reply

__all__ = ["log_failed_auth", "make_record", "refused_recipient", "tell"]

log = logging.getLogger("gatepost.transaction")
auth_log = logging.getLogger("gatepost.auth")

_RECIPIENTS_SHOWN = 5
"""Recipients in the log line; the journal has all."""


def refused_recipient(recipient: Recipient, reply: Reply, outcome: Outcome | None) -> RecipientRecord:
    """The record of a recipient that was refused at RCPT: by a rule, by the routes or by upstream."""
    return RecipientRecord(
        address=recipient.address,
        disposition=disposition_of(reply),
        action=outcome.action if outcome else Action.REJECT if reply.permanent else Action.DEFER,
        rule=outcome.rule if outcome else None,
        reason=outcome.reason if outcome else "",
        reply=str(reply),
    )


def make_record(
    *,
    transaction_id: str,
    node: str | None,
    session: Session,
    received_at: datetime,
    mail_from: str | None,
    result: MessageResult,
    evaluations: Sequence[Evaluation],
    refused: Sequence[RecipientRecord] = (),
    size: int | None = None,
    header: HeaderFacts = NO_HEADER,
    seconds: float = 0.0,
    failed_user: str | None = None,
) -> Record:
    """The journal's record of a transaction.

    Args:
        transaction_id: its identifier.
        node: the name of this node; None: it is not known.
        session: its state at the end of the transaction.
        received_at: when the last byte of the message was read, or else when the transaction ended.
        mail_from: the reverse-path; None before MAIL.
        result: what became of the message, or of the transaction that ended without one.
        evaluations: one for each time a rule was asked.
        refused: recipients that were refused at RCPT; they come first.
        size: bytes of the message; None where none was received.
        header: facts from its header section.
        seconds: from the last byte of the message to the reply.
        failed_user: the user name of an AUTH that failed, instead of a transaction.
    """
    reply, upstream = str(result.reply or ""), result.upstream
    recipients = [
        RecipientRecord(
            address=one.recipient.address,
            disposition=one.disposition,
            action=one.outcome.action,
            rule=one.outcome.rule,
            reason=one.outcome.reason,
            reply=reply if one.reply is result.reply else str(one.reply or ""),
        )
        for one in result.recipients
    ]
    return Record(
        id=transaction_id,
        session_id=session.id,
        received_at=received_at,
        client=str(session.client),
        helo=session.helo,
        tls=session.tls,
        authenticated=session.authenticated,
        mail_from=mail_from,
        recipients=(*refused, *recipients),
        size=size,
        message_id=header.message_id,
        subject=header.subject,
        evaluations=tuple(evaluations),
        reply=reply,
        upstream=upstream.server if upstream else None,
        upstream_reply=upstream.upstream_reply if upstream else None,
        seconds=seconds,
        failed_user=failed_user,
        node=node,
    )


def tell(policy: Policy, record: Record) -> None:
    """Log how a transaction ended, count it, and report it to the filters."""
    log_later(log, _TransactionLine(record))
    policy.tally.ended(record)
    policy.pipeline.reports.transaction(record)


def log_failed_auth(record: Record) -> None:
    """Write the log line of an AUTH that failed; the client comes first, which no name can look like."""
    user, tls = record.failed_user, record.tls or "none"
    auth_log.warning(
        LogLine(
            f"{record.id} AUTH failed client={record.client} user={user!r} helo={record.helo!r} tls={tls}",
            transaction=record.id,
            session=record.session_id,
            client=record.client,
            user=user,
            helo=record.helo,
            tls=record.tls,
            reply=record.reply,
        )
    )


class _TransactionLine(LogLine):
    """The log line of a transaction; text from the client is quoted and escaped."""

    __slots__ = ("_record",)

    def __init__(self, record: Record) -> None:
        self._record = record

    def __str__(self) -> str:
        record = self._record
        rules = record.rules
        recipients = [recipient.address for recipient in record.recipients[:_RECIPIENTS_SHOWN]]
        tls = f" tls={record.tls}" if record.tls else ""
        user = f" user={record.authenticated!r}" if record.authenticated else ""
        decided = f" rules={','.join(rules)}" if rules else ""
        upstream = f" upstream={record.upstream}" if record.upstream else ""
        return (
            f"{record.id} {'+'.join(record.dispositions)} client={record.client} "
            f"helo={record.helo!r}{tls}{user} from={record.mail_from!r} to={recipients} "
            f"size={record.size}{decided}{upstream} "
            f"reply={record.reply or _first_reply(record)!r} {record.seconds * 1000:.1f}ms"
        )

    def fields(self) -> Mapping[str, object]:
        """The fields of the transaction; of many recipients only the first."""
        record = self._record
        return {
            "transaction": record.id,
            "session": record.session_id,
            "disposition": list(record.dispositions),
            "rules": list(record.rules),
            "client": record.client,
            "helo": record.helo,
            "tls": record.tls,
            "user": record.authenticated,
            "sender": record.mail_from,
            "recipients": [recipient.address for recipient in record.recipients[:_RECIPIENTS_SHOWN]],
            "recipient_count": len(record.recipients),
            "size": record.size,
            "message_id": record.message_id or None,
            "upstream": record.upstream,
            "reply": record.reply or _first_reply(record),
            "seconds": round(record.seconds, 6),
        }


def _first_reply(record: Record) -> str:
    """The first reply to a recipient, of a transaction that the client left."""
    return next((recipient.reply for recipient in record.recipients), "")
