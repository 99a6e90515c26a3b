"""The message stage: what becomes of the message for each recipient."""

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial

from gatepost.model import replies
from gatepost.model.edits import Edit, apply
from gatepost.model.envelope_edits import EnvelopeChanges, EnvelopeEdit, changes_of
from gatepost.model.mail import Recipient, Stage, Transaction
from gatepost.model.verdict import (
    Action,
    Decision,
    Evaluation,
    Hold,
    Outcome,
    Reply,
    ReplyTiming,
    Verdict,
)
from gatepost.pipeline.ask import FilterAnswer
from gatepost.pipeline.begun import Begun, Question
from gatepost.pipeline.changed_envelope import CanCarryOut, anything, edits_of, split, with_changes
from gatepost.pipeline.engine import Pipeline, StageRule
from gatepost.pipeline.pending import NOT_FINAL, PendingVerdict
from gatepost.pipeline.rule import Rule

__all__ = ["all_accepted", "decide"]

_LONG_SECONDS = 0.002
"""After a filter that took longer than this, other sessions get a turn on the event loop."""


async def decide(
    pipeline: Pipeline,
    transaction: Transaction,
    pending: Sequence[PendingVerdict] = (),
    earlier: tuple[Evaluation, ...] = (),
    can_carry_out: CanCarryOut = anything,
) -> Decision:
    """Decide one outcome for each recipient, in their order. Never raises.

    The rules are walked in file order. A rule's pending verdicts are applied first; then the rule is asked
    about the recipients that they have not decided. The first final verdict for a recipient wins. ``earlier``
    are the evaluations of the stages before. A change of the envelope that cannot be carried out is a
    failure of the rule that wants it.
    """
    deciding = _Deciding(pipeline, transaction, earlier, can_carry_out)
    found: dict[int, list[PendingVerdict]] = {}
    for early in pending:
        found.setdefault(early.index, []).append(early)
    asked_at = {asked.index: asked for asked in pipeline.asked_at[Stage.MESSAGE]}
    try:
        for index in sorted(asked_at.keys() | found.keys()):
            undecided = [one for one in deciding.recipients if one.outcome is None]
            if not undecided:
                break
            for early in _once(found.get(index, ())):
                covered = [one for one in undecided if early.covers(one.recipient)]
                rule = pipeline.rules[index]
                for one in covered:
                    one.note(rule, early.verdict, rule.score_of(early.verdict))
                deciding.apply(rule, early.action, early.verdict, covered)
                undecided = [one for one in undecided if one.outcome is None]
            if undecided and index in asked_at:
                await deciding.ask(asked_at[index], undecided)
    finally:
        if deciding.begun:
            deciding.begun.cancel()
    return Decision(
        outcomes=tuple(
            one.outcome
            or Outcome(action=Action.ACCEPT, edits=tuple(one.edits), timing=one.timing, changes=one.changes)
            for one in deciding.recipients
        ),
        evaluations=tuple(deciding.evaluations),
        holds=tuple(deciding.holds),
    )


def _once(found: Sequence[PendingVerdict]) -> Iterable[PendingVerdict]:
    """One rule's, without what it said again when the client named a recipient again: that counts once."""
    if len(found) == 1:
        return found
    seen: set[tuple[Stage, str | None]] = set()
    once: list[PendingVerdict] = []
    for early in found:
        key = early.stage, early.recipient
        if early.action not in NOT_FINAL:
            once.append(early)
        elif key not in seen:
            seen.add(key)
            once.append(early)
    return once


@lru_cache(maxsize=128)
def all_accepted(recipients: int) -> Decision:
    """The decision if no rule is asked and no verdict is pending."""
    return Decision(outcomes=(Outcome(action=Action.ACCEPT),) * recipients)


@dataclass(slots=True, eq=False)
class _Undecided:
    """A recipient, what was found for it so far (a `Standing`), and its outcome once it is decided."""

    recipient: Recipient
    edits: list[Edit] = field(default_factory=list)
    timing: ReplyTiming | None = None
    outcome: Outcome | None = None
    tagged_by: Rule | None = None
    """The last rule whose own edits are among these: several hits of one rule add them once."""
    score: float = 0.0
    hits: tuple[str, ...] = ()
    auth: tuple[str, ...] = ()
    envelope_edits: tuple[tuple[str, EnvelopeEdit], ...] = ()
    """Each with the name of its rule."""

    @property
    def changes(self) -> EnvelopeChanges | None:
        """What they come to."""
        return changes_of(self.recipient.address, self.envelope_edits) if self.envelope_edits else None

    def edit(self, rule: Rule, edits: tuple[Edit | EnvelopeEdit, ...]) -> None:
        """Add the edits of a hit to those that were found before."""
        of_message, of_envelope = split(edits)
        self.edits += of_message
        if of_envelope:
            self.envelope_edits += tuple((rule.name, edit) for edit in of_envelope)

    def note(self, rule: Rule, verdict: Verdict, score: float) -> None:
        """Take a hit into account, for the ``when`` of later rules."""
        self.hits += (rule.name,)
        self.auth += verdict.auth
        if score:
            self.score = round(self.score + score, 3)


class _Deciding:
    """The state of one decision: recipients, evaluations and the deadline for all rules."""

    def __init__(
        self,
        pipeline: Pipeline,
        transaction: Transaction,
        earlier: tuple[Evaluation, ...],
        can_carry_out: CanCarryOut,
    ) -> None:
        self._pipeline = pipeline
        self._can_carry_out = can_carry_out
        self._transaction = transaction
        self.recipients = [_Undecided(recipient) for recipient in transaction.envelope.recipients]
        self.evaluations: list[Evaluation] = []
        self.holds: list[Hold] = []
        self.begun: Begun | None = None
        self._earlier = earlier
        self._deadline = time.perf_counter() + pipeline.filter_seconds

    async def ask(self, asked: StageRule, undecided: list[_Undecided]) -> None:
        """Ask a rule about the recipients that match its ``when``: once, or once for each."""
        transaction, when = self._transaction, asked.rule.when
        if when:
            session, envelope, message = transaction.session, transaction.envelope, transaction.message
            if when.per_recipient:
                undecided = [
                    one for one in undecided if when.holds(session, envelope, one.recipient, message, one)
                ]
            elif not when.holds(session, envelope, None, message):
                return
        if asked.begins and self.begun is None:
            self.begun = self._begin(asked.begins)
        for group in _groups(asked, undecided):
            await self._ask_for(asked, group)

    def _begin(self, later: Iterable[StageRule]) -> Begun:
        """Begin those of these rules that some recipient needs, as far as is known now."""
        transaction = self._transaction
        session, envelope, message = transaction.session, transaction.envelope, transaction.message
        offered = {"transaction": transaction, "session": session, "envelope": envelope}
        undecided = [one.recipient for one in self.recipients if one.outcome is None]
        questions: dict[int, Question] = {}
        for asked in later:
            when = asked.rule.when
            if when is None or any(when.holds(session, envelope, one, message) for one in undecided):
                seconds = self._seconds_for(asked.rule)
                questions[asked.index] = self._pipeline.begin(
                    asked, Stage.MESSAGE, offered, seconds, transaction.id
                )
        return Begun(questions)

    def _seconds_for(self, rule: Rule) -> float:
        return max(0.001, min(rule.timeout_seconds, self._deadline - time.perf_counter()))

    async def _ask_for(self, asked: StageRule, group: list[_Undecided]) -> None:
        transaction, rule = self._transaction, asked.rule
        offered = {
            "transaction": transaction,
            "session": transaction.session,
            "envelope": transaction.envelope,
            "recipient": group[0].recipient,
            "recipients": tuple([one.recipient for one in group]),
        }
        if asked.takes_earlier:
            offered["earlier"] = (*self._earlier, *self.evaluations)
        if asked.takes_content:
            offered["content"] = b"".join(apply(transaction.message.content, tuple(group[0].edits)))
        for_all = len(group) == len(self.recipients)
        answers = await self._pipeline.ask(
            asked,
            Stage.MESSAGE,
            offered,
            recipients=() if for_all else tuple(one.recipient.address for one in group),
            seconds=self._seconds_for(rule),
            transaction_id=transaction.id,
            question=self.begun.take(asked.index) if self.begun else None,
            fault_of=partial(self._fault_of, group),
        )
        for verdict, answered in answers:
            evaluation = with_changes(answered, verdict) if verdict and verdict.edits else answered
            of_it = group
            if len(answers) > 1:
                of_it = [one for one in group if one.recipient.address in evaluation.recipients]
            for answer in self._with_reasons(rule, verdict, evaluation, of_it):
                self.evaluations.append(answer[1])
                self._take(asked, *answer)
        if answers[0][1].seconds > _LONG_SECONDS:
            await asyncio.sleep(0)

    def _fault_of(self, group: list[_Undecided], answer: FilterAnswer) -> str:
        """Why an answer about these recipients cannot be carried out; empty if it can."""
        edits = edits_of(answer)
        if not edits:
            return ""
        before = {edit: None for one in self.recipients for _, edit in one.envelope_edits}
        return self._can_carry_out(self._transaction, group[0].recipient, (*before, *edits))

    def _with_reasons(
        self, rule: Rule, verdict: Verdict | None, evaluation: Evaluation, group: list[_Undecided]
    ) -> list[tuple[Verdict | None, Evaluation, list[_Undecided]]]:
        """The answer; of a verdict without a reason one for each reason why the rule was asked."""
        if verdict is None or verdict.reason:
            return [(verdict, evaluation, group)]
        transaction = self._transaction
        session, envelope, message = transaction.session, transaction.envelope, transaction.message
        reasons: dict[str, list[_Undecided]] = {}
        for one in group:
            reasons.setdefault(rule.why(session, envelope, one.recipient, message, one), []).append(one)
        if evaluation.action is Action.HOLD:  # a session stops once for a rule
            reasons = {"; ".join(reasons): group}
        answers: list[tuple[Verdict | None, Evaluation, list[_Undecided]]] = []
        for reason, those in reasons.items():
            addresses = tuple(one.recipient.address for one in those)
            recipients = evaluation.recipients if len(reasons) == 1 else addresses
            explained = replace(evaluation, reason=reason, recipients=recipients)
            answers.append((replace(verdict, reason=reason), explained, those))
        return answers

    def _take(
        self, asked: StageRule, verdict: Verdict | None, evaluation: Evaluation, group: list[_Undecided]
    ) -> None:
        """Take what a rule answered for these recipients."""
        rule, action = asked.rule, evaluation.action
        if rule.observe or action is None:
            return
        failed = verdict is None
        verdict = verdict or Verdict(reason=evaluation.reason)
        if verdict.timing:
            for one in group:
                one.timing = ReplyTiming.joined((one.timing, verdict.timing))
        if not failed:
            for one in group:
                one.note(rule, verdict, evaluation.score)
        if action is Action.HOLD:
            self.holds.append(rule.hold(asked.index, verdict))
            action = Action.TAG  # what its filter edits is edited all the same
        self.apply(rule, action, verdict, group, reply=replies.TEMPORARY_FAILURE if failed else None)

    def apply(
        self,
        rule: Rule,
        action: Action,
        verdict: Verdict,
        group: list[_Undecided],
        *,
        reply: Reply | None = None,
    ) -> None:
        """Apply a verdict to its recipients; if it refuses, ``reply`` replaces the rule's reply."""
        transaction = self._transaction
        for one in group:
            if action is Action.TAG and one.tagged_by is not rule:
                one.edits += rule.edits
                one.tagged_by = rule
            if verdict.edits:
                one.edit(rule, verdict.edits)
            if action in NOT_FINAL:
                continue
            answer = None
            if action.refuses:
                answer = reply or rule.reply_of(
                    action,
                    verdict,
                    session=transaction.session,
                    envelope=transaction.envelope,
                    recipient=one.recipient,
                    record_id=transaction.id,
                )
            one.outcome = Outcome(
                action=action,
                rule=rule.name,
                reason=verdict.reason,
                reply=answer,
                edits=tuple(one.edits),
                timing=one.timing,
                changes=one.changes,
            )


def _groups(asked: StageRule, undecided: list[_Undecided]) -> Iterable[list[_Undecided]]:
    """The recipients that a rule is asked about together."""
    if asked.each_recipient:
        return [[one] for one in undecided]
    if not asked.takes_content or len(undecided) < 2:
        return [undecided] if undecided else []
    groups: dict[tuple[Edit, ...], list[_Undecided]] = {}
    for one in undecided:
        groups.setdefault(tuple(one.edits), []).append(one)
    return groups.values()
