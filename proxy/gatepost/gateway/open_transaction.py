"""An open transaction: MAIL was accepted, and it has not ended yet."""

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

from gatepost.gateway.header import NO_HEADER, HeaderFacts
from gatepost.gateway.plan import RouteTarget
from gatepost.gateway.policy import Policy
from gatepost.gateway.records import make_record, refused_recipient
from gatepost.gateway.result import MessageResult
from gatepost.model.mail import Envelope, Recipient, Session, Transaction
from gatepost.model.record import RecipientRecord, Record
from gatepost.model.verdict import Outcome, Reply
from gatepost.pipeline import TransactionScreening
from gatepost.relay import Delivery

__all__ = ["OpenTransaction"]

_REFUSED_LIMIT = 1000
"""Recipients refused at RCPT that the record of a transaction has at most: a client may go on for hours."""


@dataclass(slots=True)
class OpenTransaction:
    """What is known of it so far."""

    id: str
    policy: Policy
    session: Session
    envelope: Envelope
    screening: TransactionScreening
    destination: RouteTarget | None = None
    delivery: Delivery | None = None
    refused: list[RecipientRecord] = field(default_factory=list)
    header: HeaderFacts = NO_HEADER
    """Facts about the header section, after the message was received."""
    keeping: bool = False
    """True as soon as the store was asked to commit; whether it has done so is not known."""

    @property
    def has_refused_enough(self) -> bool:
        """True if no more refused recipients are recorded."""
        return len(self.refused) >= _REFUSED_LIMIT

    def note_refused(self, recipient: Recipient, reply: Reply, outcome: Outcome | None = None) -> None:
        """Record a recipient that was refused at RCPT."""
        if not self.has_refused_enough:
            self.refused.append(refused_recipient(recipient, reply, outcome))

    def record(
        self,
        result: MessageResult,
        *,
        transaction: Transaction | None = None,
        size: int | None = None,
        begin: float | None = None,
    ) -> Record:
        """The journal's record of how it ended.

        Args:
            result: what became of it.
            transaction: the complete one; None if no message was received.
            size: the bytes that were received, where there is no complete one.
            begin: when the last byte of the message was read, as `time.perf_counter` says.
        """
        return make_record(
            transaction_id=self.id,
            node=self.policy.config.node,
            session=transaction.session if transaction else self.session,
            received_at=transaction.received_at if transaction else datetime.now(UTC),
            mail_from=self.envelope.mail_from,
            result=result,
            evaluations=self.screening.evaluations,
            refused=self.refused,
            size=len(transaction.message.content) if transaction else size,
            header=self.header,
            seconds=time.perf_counter() - begin if begin else 0.0,
        )

    async def abandon(self) -> None:
        """End its upstream transaction, if there is one."""
        if self.delivery:
            await self.delivery.abandon()
