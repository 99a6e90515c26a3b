"""The gateway's side of one session: it answers each command and ends each transaction once."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from gatepost.config.settings import Limits
from gatepost.gateway.act import Act, Destination, Ended, Owner, settle
from gatepost.gateway.header import NO_HEADER, HeaderFacts
from gatepost.gateway.policy import Policy
from gatepost.gateway.records import (
    disposition_of,
    log_record,
    make_record,
    recipients_of,
    refused_recipient,
)
from gatepost.mail import Envelope, Message, Recipient, Session, Stage, Transaction, new_id
from gatepost.pipeline import Carried
from gatepost.record import Disposition, RecipientRecord, Record
from gatepost.relay import Delivery, Relay
from gatepost.store import Kept, Store, StoreError, StoreFull
from gatepost.verdict import TEMPORARY_FAILURE, Action, Evaluation, Outcome, Reply, Sending

__all__ = ["Reception"]

log = logging.getLogger(__name__)

_SENDER_OK = Reply(code=250, enhanced="2.1.0", text="Sender ok")
_RECIPIENT_OK = Reply(code=250, enhanced="2.1.5", text="Recipient ok")
_NO_RELAYING = Reply(code=550, enhanced="5.7.1", text="Relaying denied")
_OTHER_ROUTE = Reply(code=452, enhanced="4.5.3", text="Send this recipient in a transaction of its own")
_STORE_FULL = Reply(code=452, enhanced="4.3.1", text="Insufficient system storage, try again later")
_CUT_OFF = Reply(code=421, enhanced="4.3.2", text="Shutting down, try again later")
_HEADER_TOO_LARGE = Reply(code=552, enhanced="5.3.4", text="Header section too big")
_LOOP = Reply(code=554, enhanced="5.4.6", text="Too many Received fields, this is a mail loop")
_NOT_STARTED = Reply(code=503, enhanced="5.5.1", text="No transaction has begun")


@dataclass(slots=True)
class _Open:
    """A transaction that has begun and not ended."""

    id: str
    policy: Policy
    session: Session
    envelope: Envelope
    carried: list[Carried]
    evaluations: list[Evaluation]
    destination: Destination | None = None
    delivery: Delivery | None = None
    refused: list[RecipientRecord] = field(default_factory=list)
    header: HeaderFacts = NO_HEADER
    """The message's, as soon as it is here."""
    keeping: bool = False
    """The store was given something to keep, which it may have done."""


class Reception:
    """One session's transactions, one after the other. Nothing here raises."""

    def __init__(self, policy: Callable[[], Policy], *, store: Store, relay: Relay | None) -> None:
        self._policy_now = policy
        self._policy = policy()
        self._store = store
        self._relay = relay
        self._carried: list[Carried] = []
        self._evaluations: list[Evaluation] = []
        self._open: _Open | None = None

    @property
    def transaction_id(self) -> str:
        """Of the transaction that has begun; empty where none has."""
        return self._open.id if self._open else ""

    async def connect(self, session: Session) -> Reply | Sending | None:
        """Ask the rules about the client; a reply turns it away, a `Sending` is for the greeting."""
        self._policy = self._policy_now()
        return await self._ask_session(Stage.CONNECT, session)

    async def helo(self, session: Session) -> Reply | Sending | None:
        """Ask the rules about EHLO or HELO; a reply refuses it, a `Sending` is for the usual one."""
        return await self._ask_session(Stage.HELO, session)

    async def _ask_session(self, stage: Stage, session: Session) -> Reply | Sending | None:
        """Ask about the session; what this stage said before is forgotten (a second EHLO)."""
        if self._evaluations:  # nothing is carried without one
            self._carried = [c for c in self._carried if c.stage < stage]
            self._evaluations = [e for e in self._evaluations if e.stage < stage]
        early = await self._policy.pipeline.early(stage, self._carried, session)
        self._carried += early.carried
        self._evaluations += early.evaluations
        if early.refusal:
            return self._refuse(session, None, early.refusal, self._evaluations)
        return early.sending

    async def mail(self, session: Session, envelope: Envelope) -> Reply:
        """Begin a transaction."""
        if self._store.backlog >= Store.BACKLOG_LIMIT:
            return _STORE_FULL
        if self._policy is not self._policy_now():  # reloaded: the session is judged by the new rules
            for ask in (self.connect, self.helo):
                if isinstance(refusal := await ask(session), Reply):
                    return refusal
        early = await self._policy.pipeline.early(Stage.MAIL, self._carried, session, envelope)
        evaluations = [*self._evaluations, *early.evaluations]
        if early.refusal:
            return self._refuse(session, envelope, early.refusal, evaluations)
        self._open = _Open(
            id=new_id(),
            policy=self._policy,
            session=session,
            envelope=envelope,
            carried=[*self._carried, *early.carried],
            evaluations=evaluations,
        )
        return _SENDER_OK.sent(early.sending)

    async def rcpt(self, recipient: Recipient) -> Reply:
        """Route a recipient, ask the rules, then upstream itself; positive: it belongs to the transaction."""
        transaction = self._open
        if transaction is None:
            return _NOT_STARTED
        reply, outcome = await self._answer_rcpt(transaction, recipient)
        if reply.positive:
            envelope = transaction.envelope
            transaction.envelope = Envelope(
                mail_from=envelope.mail_from,
                parameters=envelope.parameters,
                recipients=(*envelope.recipients, recipient),
            )
        else:
            transaction.refused.append(refused_recipient(recipient, reply, outcome))
        return reply

    async def _answer_rcpt(self, transaction: _Open, recipient: Recipient) -> tuple[Reply, Outcome | None]:
        config, pipeline = transaction.policy.config, transaction.policy.pipeline
        route = config.route(transaction.session, recipient)
        if route is None:
            return _NO_RELAYING, None
        if transaction.destination is not None and transaction.destination != route.to:
            return _OTHER_ROUTE, None
        early = await pipeline.early(
            Stage.RCPT, transaction.carried, transaction.session, transaction.envelope, recipient
        )
        transaction.carried += early.carried
        transaction.evaluations += early.evaluations
        if early.refusal:
            return (early.refusal.reply or TEMPORARY_FAILURE).sent(early.sending), early.refusal
        reply = _RECIPIENT_OK
        if isinstance(route.to, tuple):
            if self._relay is None:
                return _NO_RELAYING, None
            delivery = transaction.delivery
            if delivery is None or delivery.servers != route.to:
                # No recipient was accepted yet, so that the route may still be another one.
                await _abandon(transaction)
                delivery = self._relay.begin(route.to, transaction.envelope, after=delivery)
                transaction.delivery = delivery
            if not pipeline.is_taken_out(transaction.carried, recipient):
                reply = await delivery.rcpt(recipient)
        if reply.positive:
            transaction.destination = route.to
        return reply.sent(early.sending), None

    async def message(self, session: Session, content: bytes, received_at: datetime) -> Reply:
        """Decide and act; gives the answer to the final dot."""
        begin = time.perf_counter()
        opened, self._open = self._open, None
        if opened is None:
            return _NOT_STARTED
        transaction = Transaction(
            id=opened.id,
            session=session,
            envelope=opened.envelope,
            message=Message(content=content),
            received_at=received_at,
        )
        try:
            ended = await self._decide_and_act(opened, transaction)
            record = _record(opened, ended, transaction=transaction, begin=begin)
            if ended.owner is Owner.STORE:
                opened.keeping = True
                await self._store.commit(record, ended.kept)
            else:
                self._store.journal(record)
        except asyncio.CancelledError:
            self._cut_off(opened, transaction, begin)
            await _abandon(opened)
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the client keeps its message
            reply = _reply_to(error, opened.id)
            ended = _refused(opened, reply)
            record = _record(opened, ended, transaction=transaction, begin=begin)
            await _abandon(opened)
            self._store.journal(record)
        _tell(opened, record)
        return ended.reply or TEMPORARY_FAILURE

    async def _decide_and_act(self, opened: _Open, transaction: Transaction) -> Ended:
        if opened.destination is None:
            raise RuntimeError("a message without an accepted recipient")
        config = opened.policy.config
        section = transaction.message.header_section
        opened.header = HeaderFacts.of(section)
        if reply := _unreadable(section, opened.header, config.limits):
            await _abandon(opened)
            return _refused(opened, reply)
        decision = await opened.policy.pipeline.decide(transaction, opened.carried)
        opened.evaluations += decision.evaluations
        outcomes = settle(decision.outcomes, config.mixed)

        async def keep_first(kept: Sequence[Kept]) -> None:
            # Until upstream has answered the journal says what a crash would leave: doubt.
            opened.keeping = True
            await self._store.commit(_record(opened, _in_doubt(outcomes), transaction=transaction), kept)

        act = Act(
            transaction=transaction,
            outcomes=outcomes,
            config=config,
            destination=opened.destination,
            delivery=opened.delivery,
            store=self._store,
            keep_first=keep_first,
        )
        ended = await act.run()
        sendings = [outcome.sending for outcome in outcomes if outcome.sending]
        if sendings and ended.reply:
            return replace(ended, reply=ended.reply.sent(Sending.joined(sendings)))
        return ended

    def _cut_off(self, opened: _Open, transaction: Transaction, begin: float) -> None:
        """The server stops and waits no longer: it tells the client 421, here the journal is told."""
        ended = _refused(opened, _CUT_OFF)
        if opened.keeping or (opened.delivery is not None and opened.delivery.dot_was_sent):
            ended = replace(ended, dispositions=(Disposition.IN_DOUBT,) * len(ended.outcomes))
        record = _record(opened, ended, transaction=transaction, begin=begin)
        self._store.journal(record)
        _tell(opened, record)

    async def refused(self, reply: Reply, size: int) -> None:
        """The server refused the message while reading it: too large, bare newlines, no memory."""
        opened, self._open = self._open, None
        if opened:
            await self._give_up(opened, _refused(opened, reply), size=size)

    async def reset(self) -> None:
        """The client gave the transaction up: RSET, EHLO, QUIT, or it is gone."""
        opened, self._open = self._open, None
        if opened:
            await self._give_up(opened, _abandoned(opened))

    async def _give_up(self, opened: _Open, ended: Ended, *, size: int | None = None) -> None:
        await _abandon(opened)
        record = _record(opened, ended, size=size)
        self._store.journal(record)
        _tell(opened, record)

    async def close(self) -> None:
        """The connection is gone."""
        await self.reset()

    def _refuse(
        self, session: Session, envelope: Envelope | None, refusal: Outcome, evaluations: list[Evaluation]
    ) -> Reply:
        """A rule refused the client, its EHLO or its MAIL: no transaction begins, the journal says why."""
        reply = (refusal.reply or TEMPORARY_FAILURE).sent(refusal.sending)
        record = make_record(
            transaction_id=new_id(),
            session=session,
            received_at=datetime.now(UTC),
            envelope=envelope,
            recipients=(),
            evaluations=evaluations,
            reply=str(reply),
        )
        self._store.journal(record)
        log_record(record)
        self._policy.tally.ended(record)
        return reply


def _tell(opened: _Open, record: Record) -> None:
    log_record(record)
    opened.policy.tally.ended(record)
    opened.policy.pipeline.report(record)


def _unreadable(section: bytes, header: HeaderFacts, limits: Limits) -> Reply | None:
    """The refusal of a message that no filter should be asked about."""
    if len(section) > limits.header_size:
        return _HEADER_TOO_LARGE
    return _LOOP if header.received > limits.received_fields else None


def _reply_to(error: Exception, transaction_id: str) -> Reply:
    if isinstance(error, StoreError):
        log.error("transaction %s deferred, the store failed: %s", transaction_id, error)
        return _STORE_FULL if isinstance(error, StoreFull) else TEMPORARY_FAILURE
    log.error("transaction %s failed", transaction_id, exc_info=error)
    return TEMPORARY_FAILURE


def _refused(opened: _Open, reply: Reply) -> Ended:
    """All recipients end with that reply, whatever the rules said."""
    action = Action.REJECT if reply.permanent else Action.DEFER
    count = len(opened.envelope.recipients)
    return Ended(
        reply=reply,
        outcomes=(Outcome(action=action, reply=reply),) * count,
        dispositions=(disposition_of(reply),) * count,
    )


def _in_doubt(outcomes: tuple[Outcome, ...]) -> Ended:
    """What is known between the dot and its reply: who gets nothing, and of the others nothing."""
    dispositions = tuple(
        Disposition.DISCARDED if outcome.action is Action.DISCARD else Disposition.IN_DOUBT
        for outcome in outcomes
    )
    return Ended(reply=None, outcomes=outcomes, dispositions=dispositions)


def _abandoned(opened: _Open) -> Ended:
    """The client left."""
    count = len(opened.envelope.recipients)
    outcomes = (Outcome(action=Action.ACCEPT),) * count
    return Ended(reply=None, outcomes=outcomes, dispositions=(Disposition.ABANDONED,) * count)


def _record(
    opened: _Open,
    ended: Ended,
    *,
    transaction: Transaction | None = None,
    size: int | None = None,
    begin: float | None = None,
) -> Record:
    reply = str(ended.reply or "")
    return make_record(
        transaction_id=opened.id,
        session=transaction.session if transaction else opened.session,
        received_at=transaction.received_at if transaction else datetime.now(UTC),
        envelope=opened.envelope,
        recipients=(*opened.refused, *recipients_of(opened.envelope, ended, reply)),
        evaluations=opened.evaluations,
        reply=reply,
        size=len(transaction.message.content) if transaction else size,
        header=opened.header,
        upstream=ended.upstream,
        seconds=time.perf_counter() - begin if begin else 0.0,
    )


async def _abandon(opened: _Open) -> None:
    if opened.delivery:
        await opened.delivery.abandon()
