"""Screening: asks the rules stage by stage about a session and each of its transactions.

The caller asks at each stage before the message (connect, helo, mail, rcpt), replies to its client according
to the returned `Early`, and finally calls `TransactionScreening.decide`. Pending verdicts and evaluations are
stored here.
"""

from dataclasses import replace

from gatepost.model.mail import Envelope, Recipient, Session, Stage, Transaction, new_id
from gatepost.model.verdict import Decision, Evaluation
from gatepost.pipeline.changed_envelope import CanCarryOut, anything
from gatepost.pipeline.decide import all_accepted, decide
from gatepost.pipeline.early import NOTHING_FOUND, Early, ask_early
from gatepost.pipeline.engine import Pipeline
from gatepost.pipeline.pending import PendingVerdict

__all__ = ["Screening", "TransactionScreening"]


class Screening:
    """Asks the rules about one session; each transaction inherits its verdicts and evaluations."""

    __slots__ = ("_pipeline", "evaluations", "pending")

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self.pending: tuple[PendingVerdict, ...] = ()
        """Verdicts about the session that are applied when a message is decided."""
        self.evaluations: tuple[Evaluation, ...] = ()
        """One for each rule that was asked about the session, in that order.

        Without those of a stage that was refused: the session goes on as if it had not been tried.
        """

    async def connect(self, session: Session) -> Early:
        """Ask about the client."""
        return await self._ask(Stage.CONNECT, session)

    async def helo(self, session: Session) -> Early:
        """Ask about EHLO or HELO; discards the results of an earlier one (RFC 5321 section 4.1.4)."""
        return await self._ask(Stage.HELO, session)

    async def reload(self, pipeline: Pipeline, session: Session) -> Early:
        """Replace the rules: ask the new ones about the client, then about its EHLO, up to a refusal."""
        self._pipeline = pipeline
        early = await self.connect(session)
        if early.refusal:
            return early
        later = await self.helo(session)
        return replace(later, holds=early.holds + later.holds) if early.holds else later

    async def _ask(self, stage: Stage, session: Session) -> Early:
        if self.evaluations:  # without evaluations nothing is pending
            self.pending = tuple(one for one in self.pending if one.stage < stage)
            self.evaluations = tuple(one for one in self.evaluations if one.stage < stage)
        if not self._pipeline.asked_at[stage]:
            return NOTHING_FOUND
        early = await ask_early(
            self._pipeline, stage, self.pending, session, earlier=self.evaluations, record_id=new_id()
        )
        if not early.refusal:
            self.pending += early.pending
            self.evaluations += early.evaluations
        return early

    def settle(self, stage: Stage, early: Early) -> None:
        """Take the result of a stage of the session again, after somebody has changed it."""
        self.pending = tuple(one for one in self.pending if one.stage < stage)
        self.evaluations = tuple(one for one in self.evaluations if one.stage < stage)
        if not early.refusal:
            self.pending += early.pending
            self.evaluations += early.evaluations

    async def mail(
        self, session: Session, envelope: Envelope, transaction_id: str
    ) -> tuple[Early, "TransactionScreening"]:
        """Ask about MAIL; also returns the screening of the transaction that it begins."""
        early = NOTHING_FOUND
        if self._pipeline.asked_at[Stage.MAIL]:
            early = await ask_early(
                self._pipeline,
                Stage.MAIL,
                self.pending,
                session,
                envelope,
                earlier=self.evaluations,
                record_id=transaction_id,
            )
        return early, self.transaction(early, transaction_id)

    def transaction(self, early: Early, transaction_id: str) -> "TransactionScreening":
        """The screening of a transaction that begins with this result of MAIL."""
        return TransactionScreening(
            self._pipeline,
            transaction_id,
            self.pending + early.pending,
            self.evaluations + early.evaluations,
        )


class TransactionScreening:
    """Asks the rules about one transaction, from its first recipient to the decision."""

    __slots__ = ("_pipeline", "_transaction_id", "evaluations", "pending")

    def __init__(
        self,
        pipeline: Pipeline,
        transaction_id: str,
        pending: tuple[PendingVerdict, ...],
        evaluations: tuple[Evaluation, ...],
    ) -> None:
        self._pipeline = pipeline
        self._transaction_id = transaction_id
        self.pending = pending
        """Verdicts that are applied when the message is decided."""
        self.evaluations = evaluations
        """One for each rule that was asked about the session and the transaction, in that order."""

    async def rcpt(self, session: Session, envelope: Envelope, recipient: Recipient) -> Early:
        """Ask about one recipient; ``envelope`` contains those that were accepted before it."""
        if not (self.pending or self._pipeline.asked_at[Stage.RCPT]):
            return NOTHING_FOUND
        early = await ask_early(
            self._pipeline,
            Stage.RCPT,
            self.pending,
            session,
            envelope,
            recipient,
            earlier=self.evaluations,
            record_id=self._transaction_id,
        )
        self.pending += early.pending
        self.evaluations += early.evaluations
        return early

    def settle(self, before: Early, after: Early) -> None:
        """Take what somebody has added to the result of one recipient."""
        self.pending += after.pending[len(before.pending) :]
        self.evaluations += after.evaluations[len(before.evaluations) :]

    async def decide(self, transaction: Transaction, can_carry_out: CanCarryOut = anything) -> Decision:
        """Ask about the message and apply the pending verdicts. Never raises.

        A change of the envelope that cannot be carried out is a failure of the rule that wants it.
        """
        if not (self.pending or self._pipeline.asked_at[Stage.MESSAGE]):
            return all_accepted(len(transaction.envelope.recipients))
        decision = await decide(self._pipeline, transaction, self.pending, self.evaluations, can_carry_out)
        self.evaluations += decision.evaluations
        return decision
