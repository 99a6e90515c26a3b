"""Write down what became of a transaction."""

import logging
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Self

from proxy.gateway.act import Ended
from proxy.mail import Envelope, Recipient, Session
from proxy.record import Disposition, RecipientRecord, Record
from proxy.relay import Delivered
from proxy.values import value
from proxy.verdict import Action, Evaluation, Outcome, Reply

__all__ = [
    "NO_HEADER",
    "HeaderFacts",
    "disposition_of",
    "log_record",
    "make_record",
    "recipients_of",
    "refused_recipient",
]

log = logging.getLogger("gatepost.transaction")

_COLON = re.compile(rb"[ \t]*:")
_VALUE = re.compile(rb"[ \t]*(?:\r?\n[ \t]+)?([^\r\n]{0,998})")
_SUBJECT_OCTETS = 200


@value
class HeaderFacts:
    """What of a message's header section is looked at for every message."""

    message_id: str = ""
    """Of the first Message-ID field."""
    subject: str = ""
    """Of the first Subject field, as written, shortened."""
    received: int = 0
    """How many Received fields there are (RFC 5321 section 6.3)."""

    @classmethod
    def of(cls, section: bytes) -> Self:
        """Read them; never raises."""
        section = b"\n" + section
        lowered = section.lower()  # and finding in it is many times faster than a regular expression
        received, at = 0, _value_of(b"\nreceived", lowered)
        while at:
            received += 1
            at = _value_of(b"\nreceived", lowered, at)
        return cls(
            message_id=_text(section, _value_of(b"\nmessage-id", lowered)),
            subject=_text(section, _value_of(b"\nsubject", lowered), _SUBJECT_OCTETS),
            received=received,
        )


def _value_of(name: bytes, lowered: bytes, start: int = 0) -> int:
    """Where the value of the next field of that name begins; 0 where there is none."""
    while start := lowered.find(name, start) + 1:
        if colon := _COLON.match(lowered, start + len(name) - 1):
            return colon.end()
    return 0


def _text(section: bytes, start: int, octets: int | None = None) -> str:
    value = _VALUE.match(section, start) if start else None
    return value[1][:octets].decode("utf-8", "replace").strip() if value else ""


NO_HEADER = HeaderFacts()
"""Of a message that was not received."""


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
