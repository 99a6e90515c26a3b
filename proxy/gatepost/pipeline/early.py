"""The stages before the message: a refusal is answered at once, anything else is pending."""

import time
from dataclasses import replace

from gatepost.model import replies
from gatepost.model.mail import Envelope, Recipient, Session, Stage
from gatepost.model.verdict import (
    Action,
    Evaluation,
    Hold,
    Outcome,
    ReplyTiming,
    Verdict,
)
from gatepost.pipeline.begun import Begun
from gatepost.pipeline.changed_envelope import too_early
from gatepost.pipeline.engine import Pipeline
from gatepost.pipeline.pending import NOT_FINAL, PendingVerdict, first_final
from gatepost.values import value

__all__ = ["NOTHING_FOUND", "Early", "ask_early"]

_KEPT_FROM_UPSTREAM = (Action.DISCARD, Action.QUARANTINE)


@value
class Early:
    """The result of asking the rules at one stage before the message."""

    refusal: Outcome | None = None
    """Set if the client is refused now."""
    record_id: str = ""
    """Of a refusal: the identifier of its record in the journal, which its reply may contain."""
    timing: ReplyTiming | None = None
    """How the reply at this stage is sent, whether or not it is a refusal."""
    taken_out: bool = False
    """At RCPT: True if a final verdict (discard or quarantine) means that upstream is not asked.

    An earlier rule in the file may still refuse the message itself; then no recipient gets it.
    """
    pending: tuple[PendingVerdict, ...] = ()
    """Verdicts of this stage that are applied when the message is decided."""
    evaluations: tuple[Evaluation, ...] = ()
    """One for each rule that was asked at this stage, in that order."""
    holds: tuple[Hold, ...] = ()
    """Of all rules that hold the session before this is answered; in file order."""


NOTHING_FOUND = Early()
"""The result if no rule is asked and no verdict is pending."""


async def ask_early(
    pipeline: Pipeline,
    stage: Stage,
    pending: tuple[PendingVerdict, ...],
    session: Session,
    envelope: Envelope | None = None,
    recipient: Recipient | None = None,
    *,
    earlier: tuple[Evaluation, ...],
    record_id: str,
) -> Early:
    """Ask the rules of a stage in file order, up to the first final verdict (a pending one counts).

    ``earlier`` are the evaluations of the stages before, for filters that ask for them.
    """
    final = first_final(pending, recipient)
    offered = {"session": session, "envelope": envelope, "recipient": recipient, "earlier": earlier}
    recipients = (recipient.address,) if recipient else ()
    found: list[PendingVerdict] = []
    evaluations: list[Evaluation] = []
    holds: list[Hold] = []
    timing: ReplyTiming | None = None
    begun: Begun | None = None
    deadline = time.perf_counter() + pipeline.filter_seconds
    try:
        for asked in pipeline.asked_at[stage]:
            if final and asked.index >= final.index:
                break
            rule = asked.rule
            if rule.when and not rule.when.holds(session, envelope, recipient):
                continue
            if asked.takes_earlier:
                offered["earlier"] = (*earlier, *evaluations)
            seconds = min(rule.timeout_seconds, max(0.001, deadline - time.perf_counter()))
            transaction_id = record_id if envelope else ""
            if asked.begins and begun is None:
                begun = Begun(
                    {
                        one.index: pipeline.begin(one, stage, offered, seconds, transaction_id)
                        for one in asked.begins
                        if not one.rule.when or one.rule.when.holds(session, envelope, recipient)
                    }
                )
            ((verdict, evaluation),) = await pipeline.ask(
                asked,
                stage,
                offered,
                recipients=recipients,
                seconds=seconds,
                transaction_id=transaction_id,
                question=begun.take(asked.index) if begun else None,
                fault_of=too_early,
            )
            if verdict and not verdict.reason:
                verdict = replace(verdict, reason=rule.why(session, envelope, recipient))
                evaluation = replace(evaluation, reason=verdict.reason)
            evaluations.append(evaluation)
            action = evaluation.action
            if rule.observe or action is None:
                continue
            if verdict and verdict.timing:
                timing = ReplyTiming.joined((timing, verdict.timing))
            if action.refuses:
                reply = replies.TEMPORARY_FAILURE
                if verdict:  # else the filter failed
                    reply = rule.reply_of(
                        action,
                        verdict,
                        session=session,
                        envelope=envelope,
                        recipient=recipient,
                        record_id=record_id,
                    )
                return Early(
                    refusal=Outcome(
                        action=action, rule=rule.name, reason=evaluation.reason, reply=reply, timing=timing
                    ),
                    record_id=record_id,
                    timing=timing,
                    pending=tuple(found),
                    evaluations=tuple(evaluations),
                    holds=tuple(holds),
                )
            verdict = verdict or Verdict(reason=evaluation.reason)
            if action is Action.HOLD:
                holds.append(rule.hold(asked.index, verdict))
                action = Action.TAG  # what its filter edits is edited all the same
            one = PendingVerdict(
                index=asked.index,
                stage=stage,
                verdict=verdict,
                action=action,
                recipient=recipient.address if recipient else None,
            )
            found.append(one)
            if action not in NOT_FINAL:
                final = one
                break
    finally:
        if begun:
            begun.cancel()
    return Early(
        timing=timing,
        taken_out=recipient is not None and final is not None and final.action in _KEPT_FROM_UPSTREAM,
        pending=tuple(found),
        evaluations=tuple(evaluations),
        holds=tuple(holds),
    )
