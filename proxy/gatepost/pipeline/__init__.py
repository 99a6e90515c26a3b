"""DECIDE: the rules in file order -> Decision.

At each stage the rules are asked in the order of the file, each under its own deadline. The first
final verdict for a recipient wins. A refusal before the message is answered at once; what else an
early stage says is carried along and holds at its rule's place when the message is decided.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from gatepost.edits import Edit
from gatepost.mail import Envelope, Recipient, Session, Stage, Transaction
from gatepost.pipeline.ask import FilterFailedError, FilterTimeoutError, Threads, ask
from gatepost.record import Record
from gatepost.reply_template import fill
from gatepost.rule import Hook, Rule
from gatepost.values import value
from gatepost.verdict import (
    TEMPORARY_FAILURE,
    Action,
    Decision,
    Evaluation,
    Outcome,
    Reply,
    Result,
    Sending,
    Verdict,
)

__all__ = ["Carried", "Early", "Pipeline", "Threads"]

log = logging.getLogger(__name__)

_REPORTS_LIMIT = 100
"""Reports under way at once; past it a filter is not told."""

_LONG_SECONDS = 0.002
"""After a filter that took so long it is the other sessions' turn."""

_DEFAULT_REPLIES = {
    Action.REJECT: Reply(code=550, enhanced="5.7.1", text="Refused by policy"),
    Action.DEFER: Reply(code=451, enhanced="4.7.1", text="Try again later"),
}


@value
class Carried:
    """What an early stage found without answering it: it holds at the rule's place."""

    index: int
    """The rule's place in the file."""
    stage: Stage
    """When it was found."""
    verdict: Verdict
    failed: bool = False
    """The filter failed and ``on_error`` says quarantine."""
    recipient: str | None = None
    """The one that it holds for; None: all."""


@value
class Early:
    """What a stage before the message led to."""

    refusal: Outcome | None = None
    carried: tuple[Carried, ...] = ()
    evaluations: tuple[Evaluation, ...] = ()
    sending: Sending | None = None
    """How the reply to this stage is sent, a refusal or not."""


_NOTHING = Early()
_ACCEPTED = Outcome(action=Action.ACCEPT)


@value
class _Place:
    """A rule at a stage, with the hooks that are asked there."""

    index: int
    rule: Rule
    hooks: tuple[tuple[Stage, Hook], ...]
    each_recipient: bool
    """At the message: one of the hooks is about a recipient, so it is asked for each."""


class Pipeline:
    """The rules, ready to be asked."""

    def __init__(
        self,
        rules: Sequence[Rule],
        *,
        filter_seconds: float,
        threads: Threads,
        evaluated: Callable[[Evaluation], None] | None = None,
    ) -> None:
        """``evaluated`` is told of each answer, once."""
        self._evaluated = evaluated
        self.rules = tuple(rules)
        self._filter_seconds = filter_seconds
        self._threads = threads
        self._reporting = tuple(rule for rule in self.rules if rule.report)
        self._reports: set[asyncio.Task[None]] = set()
        self._places: dict[Stage, tuple[_Place, ...]] = {stage: self._asked_at(stage) for stage in Stage}

    def _asked_at(self, stage: Stage) -> tuple[_Place, ...]:
        """A hook is asked at its own stage, or later where ``when`` cannot be decided yet."""
        places = []
        for index, rule in enumerate(self.rules):
            known_at = rule.when.known_at if rule.when else Stage.CONNECT
            hooks = tuple((s, hook) for s, hook in sorted(rule.hooks.items()) if max(s, known_at) is stage)
            if hooks:
                each = stage is Stage.MESSAGE and any(s is Stage.RCPT for s, _ in hooks)
                places.append(_Place(index=index, rule=rule, hooks=hooks, each_recipient=each))
        return tuple(places)

    async def early(
        self,
        stage: Stage,
        carried: Sequence[Carried],
        session: Session,
        envelope: Envelope | None = None,
        recipient: Recipient | None = None,
    ) -> Early:
        """Ask the rules of a stage before the message; stops at the first final verdict."""
        places = self._places[stage]
        if not places:
            return _NOTHING
        horizon = self._horizon(carried, recipient)
        offered = {"session": session, "envelope": envelope, "recipient": recipient}
        found: list[Carried] = []
        evaluations: list[Evaluation] = []
        sending: Sending | None = None
        for place in places:
            if place.index >= horizon:
                break
            rule = place.rule
            if rule.when and not rule.when.holds(session, envelope, recipient):
                continue
            who = (recipient.address,) if recipient else ()
            verdict, evaluation = await self._ask(place, stage, offered, who, rule.timeout_seconds)
            evaluations.append(evaluation)
            if rule.observe or evaluation.action is None:
                continue
            if verdict and verdict.sending:
                sending = Sending.joined((sending, verdict.sending))
            if evaluation.action.refuses:
                values = _reply_values(session, envelope, recipient)
                refusal = replace(_outcome(rule, verdict, evaluation, values), sending=sending)
                return Early(
                    refusal=refusal, carried=tuple(found), evaluations=tuple(evaluations), sending=sending
                )
            found.append(
                Carried(
                    index=place.index,
                    stage=stage,
                    verdict=verdict or Verdict(reason=evaluation.reason),
                    failed=evaluation.result is not Result.HIT,
                    recipient=recipient.address if recipient else None,
                )
            )
            if evaluation.action is not Action.TAG:
                break
        return Early(carried=tuple(found), evaluations=tuple(evaluations), sending=sending)

    def _horizon(self, carried: Sequence[Carried], recipient: Recipient | None) -> int:
        """The place of the first final verdict that covers the recipient: rules behind it are not asked."""
        return min(
            (
                c.index
                for c in carried
                if c.recipient is None or (recipient and c.recipient == recipient.address)
                if c.failed or _action(self.rules[c.index], c.verdict) is not Action.TAG
            ),
            default=len(self.rules),
        )

    def is_taken_out(self, carried: Sequence[Carried], recipient: Recipient) -> bool:
        """True if the first final verdict that covers the recipient already keeps it from upstream.

        A rule further up may still refuse the message itself; then nobody gets it.
        """
        if not carried:
            return False
        index = self._horizon(carried, recipient)
        return any(
            c.failed or _action(self.rules[c.index], c.verdict) in (Action.DISCARD, Action.QUARANTINE)
            for c in carried
            if c.index == index and c.recipient in (None, recipient.address)
        )

    def report(self, record: Record) -> None:
        """Tell the filters that report; nothing waits for them."""
        for rule in self._reporting:
            if len(self._reports) >= _REPORTS_LIMIT:
                log.warning("rule %s is too slow: it is not told of transaction %s", rule.name, record.id)
                continue
            task = asyncio.ensure_future(self._report(rule, record))
            self._reports.add(task)
            task.add_done_callback(self._reports.discard)

    async def _report(self, rule: Rule, record: Record) -> None:
        if rule.report is None:
            return
        try:
            await ask(rule.report, {"record": record}, rule.timeout_seconds, self._threads)
        except (FilterTimeoutError, FilterFailedError) as error:
            log.warning("rule %s failed to report: %r", rule.name, str(error))

    async def decide(self, transaction: Transaction, carried: Sequence[Carried] = ()) -> Decision:
        """One outcome for each recipient. Never raises."""
        if not self._places[Stage.MESSAGE] and not carried:
            return _all_accepted(len(transaction.envelope.recipients))
        return await _Deciding(self, transaction, carried).run()

    async def _ask(
        self,
        place: _Place,
        stage: Stage,
        offered: dict[str, Any],
        recipients: tuple[str, ...],
        seconds: float,
    ) -> tuple[Verdict | None, Evaluation]:
        """Ask a rule's hooks one after another until one has an opinion."""
        rule = place.rule
        begin = time.perf_counter()
        verdict: Verdict | None = None
        result, reason, action = Result.PASS, "", None
        try:
            for _, hook in place.hooks:
                verdict = await ask(hook, offered, seconds - (time.perf_counter() - begin), self._threads)
                if verdict is not None:
                    result, reason, action = Result.HIT, verdict.reason, _action(rule, verdict)
                    break
        except FilterTimeoutError:
            result, reason = Result.TIMEOUT, f"no answer within {seconds:.3g} s"
        except FilterFailedError as error:
            result, reason = Result.ERROR, str(error)
            log.warning("rule %s failed: %r", rule.name, reason, exc_info=error.__cause__)
        except Exception as error:
            result, reason = Result.ERROR, type(error).__name__
            log.exception("rule %s failed", rule.name)
        if result in (Result.ERROR, Result.TIMEOUT):
            action = {"defer": Action.DEFER, "quarantine": Action.QUARANTINE, "skip": None}[rule.on_error]
        evaluation = Evaluation(
            rule=rule.name,
            stage=stage,
            result=result,
            action=action,
            observed=rule.observe,
            reason=reason,
            recipients=recipients,
            seconds=time.perf_counter() - begin,
            matches=verdict.matches if verdict else (),
        )
        if self._evaluated:
            self._evaluated(evaluation)
        return verdict, evaluation


@dataclass(slots=True, eq=False)
class _Undecided:
    """A recipient on its way to an outcome."""

    recipient: Recipient
    edits: list[Edit] = field(default_factory=list)
    sending: Sending | None = None
    outcome: Outcome | None = None


class _Deciding:
    """One transaction on its way through the rules."""

    def __init__(self, pipeline: Pipeline, transaction: Transaction, carried: Sequence[Carried]) -> None:
        self._pipeline = pipeline
        self._transaction = transaction
        self._carried: dict[int, list[Carried]] = {}
        for item in carried:
            self._carried.setdefault(item.index, []).append(item)
        self._undecided = [_Undecided(r) for r in transaction.envelope.recipients]
        self._evaluations: list[Evaluation] = []
        self._deadline = time.perf_counter() + pipeline._filter_seconds  # noqa: SLF001 - its other half

    async def run(self) -> Decision:
        places = {place.index: place for place in self._pipeline._places[Stage.MESSAGE]}  # noqa: SLF001
        for index in sorted(places.keys() | self._carried.keys()):
            pending = [u for u in self._undecided if u.outcome is None]
            if not pending:
                break
            pending = self._apply_carried(index, pending)
            if pending and index in places:
                await self._ask_place(places[index], pending)
        return Decision(
            outcomes=tuple(
                u.outcome or Outcome(action=Action.ACCEPT, edits=tuple(u.edits), sending=u.sending)
                for u in self._undecided
            ),
            evaluations=tuple(self._evaluations),
        )

    def _apply_carried(self, index: int, pending: list[_Undecided]) -> list[_Undecided]:
        """Apply what early stages found for this rule; gives those that it said nothing of."""
        rule, rest = self._pipeline.rules[index], pending
        for item in self._carried.get(index, ()):
            covered = [u for u in rest if item.recipient in (None, u.recipient.address)]
            rest = [u for u in rest if u not in covered]
            action = Action.QUARANTINE if item.failed else _action(rule, item.verdict)
            self._apply(rule, action, item.verdict, covered)
        return rest

    async def _ask_place(self, place: _Place, pending: list[_Undecided]) -> None:
        transaction, when = self._transaction, place.rule.when
        if when:
            session, envelope, message = transaction.session, transaction.envelope, transaction.message
            if when.per_recipient:
                pending = [u for u in pending if when.holds(session, envelope, u.recipient, message)]
            elif not when.holds(session, envelope, None, message):
                return
        groups = [[u] for u in pending] if place.each_recipient else [pending]
        for group in groups:
            if group:
                await self._ask_for(place, group)

    async def _ask_for(self, place: _Place, group: list[_Undecided]) -> None:
        transaction, rule = self._transaction, place.rule
        offered = {
            "transaction": transaction,
            "session": transaction.session,
            "envelope": transaction.envelope,
            "recipient": group[0].recipient,
        }
        everybody = len(group) == len(self._undecided)
        who = () if everybody else tuple(u.recipient.address for u in group)
        seconds = max(0.001, min(rule.timeout_seconds, self._deadline - time.perf_counter()))
        verdict, evaluation = await self._pipeline._ask(place, Stage.MESSAGE, offered, who, seconds)  # noqa: SLF001
        self._evaluations.append(evaluation)
        if evaluation.seconds > _LONG_SECONDS:
            await asyncio.sleep(0)
        if not rule.observe and evaluation.action is not None:
            failed = evaluation.result is not Result.HIT
            said = verdict or Verdict(reason=evaluation.reason)
            if said.sending:
                for undecided in group:
                    undecided.sending = Sending.joined((undecided.sending, said.sending))
            self._apply(rule, evaluation.action, said, group, reply=TEMPORARY_FAILURE if failed else None)

    def _apply(
        self,
        rule: Rule,
        action: Action,
        verdict: Verdict,
        group: list[_Undecided],
        *,
        reply: Reply | None = None,
    ) -> None:
        for undecided in group:
            if action in (Action.TAG, Action.ACCEPT):
                undecided.edits += (*rule.edits, *verdict.edits)
            if action is Action.TAG:
                continue
            if action.refuses and reply is None:
                values = _reply_values(
                    self._transaction.session,
                    self._transaction.envelope,
                    undecided.recipient,
                    self._transaction.id,
                )
                answer: Reply | None = _reply(rule, action, verdict, values)
            else:
                answer = reply if action.refuses else None
            undecided.outcome = Outcome(
                action=action,
                rule=rule.name,
                reason=verdict.reason,
                reply=answer,
                edits=tuple(undecided.edits) if action is Action.ACCEPT else (),
                sending=undecided.sending,
            )


@lru_cache(maxsize=128)
def _all_accepted(recipients: int) -> Decision:
    return Decision(outcomes=(_ACCEPTED,) * recipients)


def _action(rule: Rule, verdict: Verdict) -> Action:
    """What a hit does: the operator's word, else the filter's suggestion, else reject."""
    return rule.action or verdict.action or (Action.TAG if verdict.edits else Action.REJECT)


def _reply_values(
    session: Session, envelope: Envelope | None, recipient: Recipient | None, transaction_id: str = ""
) -> dict[str, str]:
    return {
        "id": transaction_id or session.id,
        "client": str(session.client),
        "sender": envelope.mail_from if envelope else "",
        "recipient": recipient.address if recipient else "",
    }


def _reply(rule: Rule, action: Action, verdict: Verdict, values: dict[str, str]) -> Reply:
    if rule.reply:
        return fill(rule.reply, rule=rule.name, reason=verdict.reason, **values)
    suggested = verdict.reply
    if suggested and not suggested.positive and suggested.permanent == (action is Action.REJECT):
        return suggested
    return _DEFAULT_REPLIES[action]


def _outcome(rule: Rule, verdict: Verdict | None, evaluation: Evaluation, values: dict[str, str]) -> Outcome:
    """The outcome of a refusal at an early stage."""
    if evaluation.action is None or verdict is None:
        return Outcome(action=Action.DEFER, rule=rule.name, reason=evaluation.reason, reply=TEMPORARY_FAILURE)
    reply = _reply(rule, evaluation.action, verdict, values)
    return Outcome(action=evaluation.action, rule=rule.name, reason=verdict.reason, reply=reply)
