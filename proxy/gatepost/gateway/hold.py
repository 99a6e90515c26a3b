"""Holds of one session: what is asked, and what the answer changes."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from gatepost.config.settings import Config
from gatepost.gateway.addressing import Addressing
from gatepost.holding import Answer, Decided, Held, HoldEnd, Holder
from gatepost.holding.channel import CONTENT_OCTETS
from gatepost.holding.holder import Check, Left
from gatepost.mime.fields import header_section_end
from gatepost.model import replies
from gatepost.model.mail import Envelope, Message, Recipient, Session, Stage, Transaction, new_id
from gatepost.model.record import Disposition, RecipientRecord
from gatepost.model.verdict import (
    ACTIONS_ON_ERROR,
    Action,
    Decision,
    Evaluation,
    Outcome,
    Reply,
    Result,
    Verdict,
)
from gatepost.pipeline import Early
from gatepost.pipeline.pending import PendingVerdict
from gatepost.server.data import Content, MemoryBudget
from gatepost.values import value

__all__ = ["NOT_ARMED", "HeldEarly", "HeldMessage", "hold_early", "hold_message"]

NOT_ARMED: Sequence[int] = bytes(len(Stage) + 1)
"""What a worker sees whose sessions nobody can hold with a breakpoint."""
_NOBODY = "there is no web desk to answer"


@value
class HeldEarly:
    """A stage before the message, after it was held."""

    early: Early
    """With the answer; its evaluations tell of the hold."""
    reply: Reply | None = None
    """The positive reply that was chosen; None: the usual one."""


@value
class HeldMessage:
    """A message after it was held."""

    transaction: Transaction
    """As received, or as somebody has changed it."""
    outcomes: tuple[Outcome, ...]
    """One for each recipient of the transaction."""
    note: Evaluation | None = None
    """Tells of the hold; None: it was not held."""
    reply: Reply | None = None
    """The positive reply that was chosen; None: the usual one."""
    removed: tuple[RecipientRecord, ...] = ()
    """The recipients that somebody has removed: they were told 250 at RCPT."""
    left: bool = False
    """True if the client has left: it still has its message."""


async def hold_early(
    holder: Holder | None,
    left: Left,
    stage: Stage,
    early: Early,
    session: Session,
    envelope: Envelope | None = None,
    recipient: Recipient | None = None,
    transaction_id: str = "",
) -> HeldEarly:
    """Hold a session before the message; returns what is to be answered. Never raises."""
    refusal = early.refusal
    decided = Decided(
        recipient=None,
        action=refusal.action if refusal else Action.ACCEPT,
        rule=refusal.rule if refusal else None,
        reason=refusal.reason if refusal else "",
        reply=str(refusal.reply or "") if refusal else "",
    )
    begin = time.perf_counter()
    held = Held(
        id=new_id(),
        stage=stage,
        since=datetime.now(UTC),
        session=session,
        transaction_id=transaction_id,
        envelope=envelope,
        recipient=recipient,
        decided=(decided,),
        holds=early.holds,
        size=None,
    )
    end = await _hold(holder, left, held, lambda _: "")
    if end is None:
        return HeldEarly(early=early)
    concerned = (recipient.address,) if recipient else ()
    note = _note(end, stage, time.perf_counter() - begin, concerned, "")
    pending = early.pending
    if note.action is Action.QUARANTINE and early.holds:
        cause = early.holds[0]
        pending += (
            PendingVerdict(
                index=cause.index,
                stage=stage,
                verdict=Verdict(reason=note.reason),
                action=Action.QUARANTINE,
                recipient=recipient.address if recipient else None,
            ),
        )
    answer = end.answer
    evaluations = (*early.evaluations, note)
    if refusal and note.action in (None, Action.HOLD) and stage is not Stage.RCPT:
        # the rule that refuses stays the last one, by which the journal finds what is refused before RCPT
        evaluations = (*early.evaluations[:-1], note, *early.evaluations[-1:])
    changed = replace(early, pending=pending, evaluations=evaluations)
    if note.action is not None and note.action.refuses:
        reply = answer.reply if answer else replies.TEMPORARY_FAILURE
        outcome = Outcome(action=note.action, rule=end.rule, reason=note.reason, reply=reply)
        changed = replace(changed, refusal=outcome)
    elif answer and answer.reply:
        return HeldEarly(early=replace(changed, refusal=None), reply=answer.reply)
    return HeldEarly(early=changed)


async def hold_message(
    holder: Holder | None,
    left: Left,
    transaction: Transaction,
    decision: Decision,
    config: Config,
) -> HeldMessage:
    """Hold a message that is decided; returns what is to be done with it. Never raises."""
    begin = time.perf_counter()
    recipients, content = transaction.envelope.recipients, transaction.message.content
    held = Held(
        id=new_id(),
        stage=Stage.MESSAGE,
        since=datetime.now(UTC),
        session=transaction.session,
        transaction_id=transaction.id,
        envelope=transaction.envelope,
        recipient=None,
        decided=tuple(
            Decided(
                recipient=recipient.address,
                action=outcome.action,
                rule=outcome.rule,
                reason=outcome.reason,
                reply=str(outcome.reply or ""),
            )
            for recipient, outcome in zip(recipients, decision.outcomes, strict=True)
        ),
        holds=decision.holds,
        size=len(content),
        content=content[:CONTENT_OCTETS],
    )
    end = await _hold(holder, left, held, lambda answer: _fault(answer, transaction, config))
    if end is None:
        return HeldMessage(transaction=transaction, outcomes=decision.outcomes)
    edited, outcomes, removed, told = _edited(transaction, decision.outcomes, end.answer, end.rule, config)
    note = _note(end, Stage.MESSAGE, time.perf_counter() - begin, (), told)
    reply = end.answer.reply if end.answer else None
    match note.action:
        case Action.REJECT | Action.DEFER | Action.QUARANTINE:
            refusal = None if note.action is Action.QUARANTINE else reply or replies.TEMPORARY_FAILURE
            outcomes = tuple(
                replace(one, action=note.action, rule=end.rule, reason=note.reason, reply=refusal)
                for one in outcomes
            )
        case Action.ACCEPT:
            outcomes = tuple(
                replace(one, action=Action.ACCEPT, rule=end.rule, reason=note.reason, reply=None)
                for one in outcomes
            )
        case _:
            pass
    return HeldMessage(
        transaction=edited,
        outcomes=outcomes,
        note=note,
        reply=reply if reply and reply.positive else None,
        removed=removed,
        left=end.left,
    )


async def _hold(holder: Holder | None, left: Left, held: Held, check: Check) -> HoldEnd | None:
    if holder is None:
        cause = held.holds[0]
        return HoldEnd(rule=cause.rule, on_error=cause.on_error, why=_NOBODY)
    return await holder.hold(held, left=left, check=check)


def _note(end: HoldEnd, stage: Stage, seconds: float, recipients: tuple[str, ...], edited: str) -> Evaluation:
    """The evaluation that tells the journal how a hold ended."""
    answer, action = end.answer, None
    if end.left:
        result, said = Result.ERROR, end.why
    elif answer is None:
        result = Result.TIMEOUT if end.deadline else Result.ERROR
        action = ACTIONS_ON_ERROR[end.on_error]
        said = end.why
    else:
        result, reply = Result.HIT, answer.reply
        action = Action.HOLD  # as decided
        if reply:
            action = Action.ACCEPT if reply.positive else Action.REJECT if reply.permanent else Action.DEFER
        said = "; ".join(filter(None, (f"{answer.actor}: {reply or 'go on'}", edited)))
    return Evaluation(
        rule=end.rule,
        stage=stage,
        result=result,
        action=action,
        observed=False,
        reason=Verdict(reason=f"held for {seconds:.1f} s, {said}").reason,
        recipients=recipients,
        seconds=seconds,
    )


def _edited(
    transaction: Transaction,
    outcomes: tuple[Outcome, ...],
    answer: Answer | None,
    rule: str,
    config: Config,
) -> tuple[Transaction, tuple[Outcome, ...], tuple[RecipientRecord, ...], str]:
    """The transaction as changed, its outcomes, the recipients removed, and what was changed, in words."""
    if answer is None or not answer.edits:
        return transaction, outcomes, (), ""
    envelope, content = transaction.envelope, transaction.message.content
    told: list[str] = []
    removed: tuple[RecipientRecord, ...] = ()
    if answer.mail_from is not None and answer.mail_from != envelope.mail_from:
        told.append(f"sender <{envelope.mail_from}> replaced by <{answer.mail_from}>")
        envelope = replace(envelope, mail_from=answer.mail_from)
    if answer.recipients is not None:
        kept = [*zip(envelope.recipients, outcomes, strict=True)]
        pairs: list[tuple[Recipient, Outcome]] = []
        for address in answer.recipients:
            place = next((at for at, (one, _) in enumerate(kept) if one.address == address), None)
            if place is None:
                pairs.append((Recipient(address=address), Outcome(action=Action.ACCEPT)))
            else:
                pairs.append(kept.pop(place))
        added = Counter(answer.recipients) - Counter(one.address for one in envelope.recipients)
        if added:
            told.append(f"recipients added: {', '.join(added)}")
        if kept:
            told.append(f"recipients removed: {', '.join(one.address for one, _ in kept)}")
            removed = tuple(
                RecipientRecord(
                    address=one.address,
                    disposition=Disposition.DISCARDED,
                    action=Action.DISCARD,
                    rule=rule,
                    reason=f"removed by {answer.actor}",
                )
                for one, _ in kept
            )
        envelope = replace(envelope, recipients=tuple(one for one, _ in pairs))
        outcomes = tuple(outcome for _, outcome in pairs)
    if answer.content is not None and (changed := _received(answer.content, config)[0]) != content:
        told.append(f"message of {len(content)} bytes replaced by one of {len(changed)} bytes")
        content = changed
    edited = replace(transaction, envelope=envelope, message=Message(content=content))
    return edited, outcomes, removed, "; ".join(told)


def _fault(answer: Answer, transaction: Transaction, config: Config) -> str:
    """Why an answer cannot be carried out; empty if it can."""
    envelope, addressing = transaction.envelope, Addressing(config=config)
    known = {one.address for one in envelope.recipients}
    if fault := addressing.of_sender(answer.mail_from or "", envelope):
        return fault
    for address in answer.recipients or ():
        if address not in known and (
            fault := addressing.of_recipient(address, envelope, transaction.session, envelope.recipients[0])
        ):
            return fault
    return addressing.of_number(len(answer.recipients or ())) or _fault_of_message(answer.content, config)


def _fault_of_message(content: bytes | None, config: Config) -> str:
    """Why the server would not have accepted a message; empty if it would have."""
    if content is None:
        return ""
    content, refusal = _received(content, config)
    if refusal:
        return f"the message is not acceptable: {refusal.text}"
    if header_section_end(content) > config.limits.header_size:
        return f"the message is not acceptable: {replies.HEADER_TOO_LARGE.text}"
    return ""


def _received(content: bytes, config: Config) -> tuple[bytes, Reply | None]:
    """A message as the server takes it from a client, and the reply if it would refuse it."""
    relays = any(route.servers for route in config.relay)
    how = "keep" if config.bare_newline == "accept" and not relays else config.bare_newline
    reading = Content(config.limits, MemoryBudget(2 * config.limits.message_size), how)
    reading.add(content if content.endswith(b"\r\n") else content + b"\r\n")
    received = reading.finish()
    return received, reading.refusal
