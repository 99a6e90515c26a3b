"""The gateway's side of one session: it answers each command and ends each transaction once."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

from gatepost.gateway.addressing import Addressing
from gatepost.gateway.execute import PlanExecutor
from gatepost.gateway.finish import finish_plan
from gatepost.gateway.header import HeaderFacts, unreadable
from gatepost.gateway.hold import NOT_ARMED, HeldMessage, hold_early, hold_message
from gatepost.gateway.open_transaction import OpenTransaction
from gatepost.gateway.plan import make_plan
from gatepost.gateway.policy import Policy
from gatepost.gateway.records import log_failed_auth, make_record, tell
from gatepost.gateway.result import MessageResult, Owner, all_abandoned, all_refused, with_reply
from gatepost.gateway.session_counts import SessionCounts
from gatepost.gateway.trace import received_field
from gatepost.holding import Holder
from gatepost.holding.holder import Left
from gatepost.model import replies
from gatepost.model.mail import Envelope, Message, Recipient, Session, Stage, Transaction, new_id
from gatepost.model.record import Disposition, RecipientRecord, Record
from gatepost.model.verdict import Decision, Evaluation, Outcome, Reply, ReplyTiming
from gatepost.pipeline import Early, Screening
from gatepost.relay import Relay
from gatepost.store import Store

__all__ = ["SessionHandler"]

_USER_LIMIT = 256
"""Characters of a user name that are journalled and logged."""


class SessionHandler:
    """Answers the commands of one session and runs its transactions in turn. No method raises."""

    __slots__ = (
        "_armed",
        "_counts",
        "_failed",
        "_holder",
        "_left",
        "_open",
        "_policy",
        "_policy_now",
        "_relay",
        "_screening",
        "_store",
    )

    def __init__(
        self,
        policy: Callable[[], Policy],
        *,
        store: Store,
        relay: Relay | None,
        holder: Holder | None,
        left: Left,
        failed: Callable[[Exception, str], Reply],
    ) -> None:
        self._policy_now = policy
        self._policy = policy()
        self._store = store
        self._relay = relay
        self._holder = holder
        self._left = left
        self._failed = failed
        self._armed = holder.armed if holder else NOT_ARMED
        """For each stage: not 0 if a breakpoint may hold sessions there."""
        self._screening = Screening(self._policy.pipeline)
        self._open: OpenTransaction | None = None
        self._counts: SessionCounts | None = None
        """None if no rule wants to know, and of a source that has not named a client yet."""

    @property
    def transaction_id(self) -> str:
        """The identifier of the open transaction; empty if there is none."""
        return self._open.id if self._open else ""

    async def connect(self, session: Session) -> Reply | ReplyTiming | None:
        """Ask the rules about the client; a reply refuses it, a `ReplyTiming` applies to the greeting."""
        self._policy = self._policy_now()
        self._screening = Screening(self._policy.pipeline)
        self._begin_counting(session)
        early = await self._screening.connect(session)
        if early.holds or self._armed[Stage.CONNECT]:
            early = await self._hold(Stage.CONNECT, early, session)
        return self._answer(session, early)

    async def helo(self, session: Session) -> Reply | ReplyTiming | None:
        """Ask the rules about EHLO or HELO; a reply refuses it, a `ReplyTiming` applies to its reply."""
        if self._counts:
            self._counts.session = session
        early = await self._screening.helo(session)
        if early.holds or self._armed[Stage.HELO]:
            early = await self._hold(Stage.HELO, early, session)
        return self._answer(session, early)

    async def introduce(self, session: Session, envelope: Envelope) -> Reply | None:
        """Ask the rules about the connection and EHLO of another client; a reply refuses its MAIL."""
        self._policy = self._policy_now()
        self._screening = Screening(self._policy.pipeline)
        self._begin_counting(session)
        early = await self._screening.reload(self._policy.pipeline, session)
        if early.holds:
            early = await self._hold(Stage.HELO, early, session)
        return self._refuse(self._policy, session, envelope, early) if early.refusal else None

    async def _hold(self, stage: Stage, early: Early, session: Session) -> Early:
        """Hold the session at connect or helo; returns the result of the stage with the answer."""
        held = await hold_early(self._holder, self._left, stage, early, session)
        self._screening.settle(stage, held.early)
        return held.early

    def _answer(self, session: Session, early: Early) -> Reply | ReplyTiming | None:
        return self._refuse(self._policy, session, None, early) if early.refusal else early.timing

    async def auth_failed(self, session: Session, user: str, reply: Reply) -> None:
        """Journal, count and log wrong credentials; the password is not known here."""
        if self._counts and self._counts.is_about(session):
            self._counts.failed_auth += 1
        record = self._early_record(session, None, reply, failed_user=user[:_USER_LIMIT])
        self._store.journal(record)
        self._policy.tally.auth_failed()
        log_failed_auth(record)

    def bad_command(self, session: Session) -> None:
        """Count an invalid command."""
        if self._counts and self._counts.is_about(session):
            self._counts.bad_commands += 1

    async def mail(self, session: Session, envelope: Envelope) -> Reply:
        """Begin a transaction."""
        policy = self._policy_now()
        if self._store.overloaded:  # the room that is left is for the records of open transactions
            tell(policy, self._early_record(session, envelope, replies.STORE_FULL))
            return replies.STORE_FULL
        if self._policy is not policy:  # reloaded: the new rules are asked about the session too
            early = await self._screening.reload(policy.pipeline, session)
            if early.holds:
                early = await self._hold(Stage.HELO, early, session)
            if early.refusal:
                return self._refuse(policy, session, envelope, early)
            self._policy = policy
        transaction_id = new_id()
        early, screening = await self._screening.mail(session, envelope, transaction_id)
        chosen = None
        if early.holds or self._armed[Stage.MAIL]:
            held = await hold_early(
                self._holder,
                self._left,
                Stage.MAIL,
                early,
                session,
                envelope,
                transaction_id=transaction_id,
            )
            early, chosen = held.early, held.reply
            screening = self._screening.transaction(early, transaction_id)
        if early.refusal:
            return self._refuse(policy, session, envelope, early)
        self._open = OpenTransaction(
            id=transaction_id, policy=policy, session=session, envelope=envelope, screening=screening
        )
        reply = chosen or replies.SENDER_OK
        return reply.with_timing(early.timing) if early.timing else reply

    async def rcpt(self, recipient: Recipient) -> Reply:
        """Route a recipient, ask the rules, then upstream; a positive reply adds it to the transaction."""
        transaction = self._open
        if transaction is None:
            return replies.NO_TRANSACTION
        screening = transaction.screening
        before = screening.pending, screening.evaluations
        reply, outcome = await self._answer_rcpt(transaction, recipient)
        if reply.positive:
            envelope = transaction.envelope
            transaction.envelope = Envelope(
                mail_from=envelope.mail_from,
                parameters=envelope.parameters,
                recipients=(*envelope.recipients, recipient),
            )
        else:
            if self._counts and reply.permanent:
                self._counts.refused_recipients += 1
            if transaction.has_refused_enough:
                screening.pending, screening.evaluations = before
            transaction.note_refused(recipient, reply, outcome)
        return reply

    async def refused_rcpt(self, recipient: Recipient, reply: Reply) -> None:
        """The server itself refused a recipient, for example because there are too many."""
        if self._open:
            self._open.note_refused(recipient, reply)

    async def _answer_rcpt(
        self, transaction: OpenTransaction, recipient: Recipient
    ) -> tuple[Reply, Outcome | None]:
        session = transaction.session
        route = transaction.policy.config.route(session, recipient)
        if route is None:
            return replies.NO_RELAYING, None
        if transaction.destination is not None and transaction.destination != route.to:
            return replies.OTHER_ROUTE, None
        early = await transaction.screening.rcpt(session, transaction.envelope, recipient)
        chosen = None
        if early.holds or self._armed[Stage.RCPT]:
            held = await hold_early(
                self._holder,
                self._left,
                Stage.RCPT,
                early,
                session,
                transaction.envelope,
                recipient,
                transaction.id,
            )
            transaction.screening.settle(early, held.early)
            early, chosen = held.early, held.reply
        if early.refusal:
            return (early.refusal.reply or replies.TEMPORARY_FAILURE).with_timing(early.timing), early.refusal
        reply = replies.RECIPIENT_OK
        if isinstance(route.to, tuple):
            if self._relay is None:
                return replies.NO_RELAYING, None
            delivery = transaction.delivery
            if delivery is None or delivery.servers != route.to:
                # No recipient was accepted yet, so the transaction may still change to another route.
                await transaction.abandon()
                delivery = self._relay.begin(
                    route.to,
                    transaction.envelope,
                    session=session,
                    transaction_id=transaction.id,
                    after=delivery,
                )
                transaction.delivery = delivery
            if not early.taken_out:
                reply = await delivery.rcpt(recipient)
        if reply.positive:
            transaction.destination = route.to
            reply = chosen or reply
        return reply.with_timing(early.timing), None

    async def message(self, session: Session, content: bytes, received_at: datetime) -> Reply:
        """Decide what becomes of a message and do it; returns the reply to the end of data."""
        begin = time.perf_counter()
        opened, self._open = self._open, None
        if opened is None:
            return replies.NO_TRANSACTION
        transaction = Transaction(
            id=opened.id,
            session=session,
            envelope=opened.envelope,
            message=Message(content=content),
            received_at=received_at,
        )
        try:
            result, transaction = await self._decide_and_execute(opened, transaction)
            record = opened.record(result, transaction=transaction, begin=begin)
            if result.owner is Owner.STORE:
                opened.keeping = True
                await self._store.commit(record, result.kept)
            else:
                self._store.journal(record)
        except asyncio.CancelledError:
            self._cut_off(opened, transaction, begin)
            await opened.abandon()
            raise
        except Exception as error:  # noqa: BLE001 - after any failure the client is told 4xx and keeps its message
            result = all_refused(opened.envelope.recipients, self._failed(error, opened.id))
            record = opened.record(result, transaction=transaction, begin=begin)
            await opened.abandon()
            self._store.journal(record)
        tell(opened.policy, record)
        if self._counts and result.reply and result.reply.positive:
            self._counts.messages += 1
        return result.reply or replies.TEMPORARY_FAILURE

    async def _decide_and_execute(
        self, opened: OpenTransaction, transaction: Transaction
    ) -> tuple[MessageResult, Transaction]:
        """What became of the message, and the transaction as it was carried out."""
        if opened.destination is None:
            raise RuntimeError("a message without an accepted recipient")
        config = opened.policy.config
        section = transaction.message.header_section
        opened.header = HeaderFacts.of(section)
        if reply := unreadable(section, opened.header, config.limits):
            await opened.abandon()
            return all_refused(opened.envelope.recipients, reply), transaction
        begin = time.perf_counter()
        decision = await opened.screening.decide(transaction, Addressing(config=config).of_edits)
        seconds_left = config.limits.filter_time - (time.perf_counter() - begin)
        outcomes, chosen = decision.outcomes, None
        removed: tuple[RecipientRecord, ...] = ()
        if decision.holds or self._armed[Stage.MESSAGE]:
            held = await self._hold_message(opened, transaction, decision)
            if held.left:
                await opened.abandon()
                return all_abandoned(opened.envelope.recipients), transaction
            transaction, outcomes, chosen = held.transaction, held.outcomes, held.reply
            removed = held.removed

        async def commit_first(result: MessageResult) -> None:
            opened.keeping = True
            await self._store.commit(opened.record(result, transaction=transaction), result.kept)

        plan = make_plan(transaction.envelope, outcomes, opened.destination, config.mixed_recipients)
        pipeline = opened.policy.pipeline
        if pipeline.finishing:
            finished = await finish_plan(plan, pipeline, transaction, seconds=seconds_left)
            plan = finished.plan
            opened.screening.evaluations += finished.evaluations
        executor = PlanExecutor(
            plan=plan,
            trace=partial(received_field, transaction, config.hostname, config.shown_node),
            content=transaction.message.content,
            ok_text=f"Ok: {transaction.id}",
            delivery=opened.delivery,
            upstream_seconds=config.limits.upstream_time,
            store=self._store,
            commit_first=commit_first,
        )
        result = await executor.run()
        if removed and result.reply and result.reply.positive:
            opened.refused += removed
        return with_reply(result, chosen) if chosen else result, transaction

    async def _hold_message(
        self, opened: OpenTransaction, transaction: Transaction, decision: Decision
    ) -> HeldMessage:
        """Hold a decided message; nothing is sent upstream meanwhile."""
        await opened.abandon()  # upstream would not wait as long as a person may take
        held = await hold_message(self._holder, self._left, transaction, decision, opened.policy.config)
        if held.note:
            opened.screening.evaluations += (held.note,)
        edited = held.transaction
        if edited is transaction:
            return held
        opened.envelope = edited.envelope
        opened.header = HeaderFacts.of(edited.message.header_section)
        if opened.delivery and self._relay and isinstance(opened.destination, tuple):
            opened.delivery = self._relay.begin(
                opened.destination,
                edited.envelope,
                session=edited.session,
                transaction_id=edited.id,
                after=opened.delivery,
            )
        return held

    def _cut_off(self, opened: OpenTransaction, transaction: Transaction, begin: float) -> None:
        """Journal a message whose session was cancelled at shutdown; the server replies 421 itself."""
        in_doubt = opened.keeping or (opened.delivery is not None and opened.delivery.end_of_data_sent)
        result = all_refused(
            opened.envelope.recipients, replies.SHUTTING_DOWN, Disposition.IN_DOUBT if in_doubt else None
        )
        record = opened.record(result, transaction=transaction, begin=begin)
        self._store.journal(record)
        tell(opened.policy, record)

    async def refused(self, reply: Reply, size: int) -> None:
        """End the transaction: the server refused the message while reading it, for example for its size."""
        opened, self._open = self._open, None
        if opened:
            await self._give_up(opened, all_refused(opened.envelope.recipients, reply), size=size)

    async def reset(self) -> None:
        """End the transaction: the client sent RSET, EHLO or QUIT, or its connection is lost."""
        opened, self._open = self._open, None
        if opened:
            await self._give_up(opened, all_abandoned(opened.envelope.recipients))

    async def _give_up(
        self, opened: OpenTransaction, result: MessageResult, *, size: int | None = None
    ) -> None:
        await opened.abandon()
        record = opened.record(result, size=size)
        self._store.journal(record)
        tell(opened.policy, record)

    async def close(self, session: Session) -> None:
        """End the session: its connection is closed or lost."""
        await self.reset()
        if self._counts and self._counts.is_about(session):
            self._counts.session = session
        self._report_session()

    def _begin_counting(self, session: Session) -> None:
        """Count what a client does, if a rule wants to know; the last client's session has ended."""
        if self._counts and self._counts.is_about(session):
            return
        self._report_session()
        if self._policy.pipeline.reports.wants_sessions:
            self._counts = SessionCounts(session)

    def _report_session(self) -> None:
        counts, self._counts = self._counts, None
        if counts:
            self._policy.pipeline.reports.session(counts.record())

    async def refused_early(self, session: Session, envelope: Envelope | None, reply: Reply) -> None:
        """The server itself refused the client, or its MAIL; no transaction begins."""
        record = self._early_record(session, envelope, reply)
        self._store.journal(record)
        tell(self._policy, record)

    def _refuse(self, policy: Policy, session: Session, envelope: Envelope | None, early: Early) -> Reply:
        """Journal that a rule refused the client, its EHLO or its MAIL; no transaction begins."""
        reply = replies.TEMPORARY_FAILURE
        if early.refusal and early.refusal.reply:
            reply = early.refusal.reply
        reply = reply.with_timing(early.timing)
        record = self._early_record(
            session, envelope, reply, record_id=early.record_id, evaluations=early.evaluations
        )
        self._store.journal(record)
        tell(policy, record)
        return reply

    def _early_record(
        self,
        session: Session,
        envelope: Envelope | None,
        reply: Reply,
        *,
        record_id: str = "",
        evaluations: tuple[Evaluation, ...] = (),
        failed_user: str | None = None,
    ) -> Record:
        return make_record(
            transaction_id=record_id or new_id(),
            node=self._policy.config.node,
            session=session,
            received_at=datetime.now(UTC),
            mail_from=envelope.mail_from if envelope else None,
            result=MessageResult(reply=reply, recipients=()),
            evaluations=self._screening.evaluations + evaluations,
            failed_user=failed_user,
        )
