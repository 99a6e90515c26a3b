"""The rules in file order, which of them are asked at which stage, and asking one of them."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gatepost.hookspecs import UnreachableError
from gatepost.model.mail import Stage
from gatepost.model.verdict import ACTIONS_ON_ERROR, Evaluation, Passed, PerRecipient, Result, Verdict
from gatepost.pipeline.ask import (
    FilterAnswer,
    FilterFailedError,
    FilterTimeoutError,
    Threads,
    ask,
    checked,
)
from gatepost.pipeline.begun import Question
from gatepost.pipeline.breaker import Breaker
from gatepost.pipeline.failures import Asked, Failures
from gatepost.pipeline.opening import Opening
from gatepost.pipeline.reports import Reports
from gatepost.pipeline.rule import Hook, Rule
from gatepost.values import value

__all__ = ["Answer", "Pipeline", "StageRule"]

log = logging.getLogger(__name__)

_INDEPENDENT = frozenset({"session", "envelope", "transaction"})
"""Arguments of hooks that do not depend on what earlier rules have decided."""
Answer = tuple[Verdict | None, Evaluation]
"""What a rule answered for some recipients: the verdict of a hit, and the evaluation."""


@value
class StageRule:
    """A rule at a stage, with the hooks that are asked there."""

    index: int
    """The rule's place in the file."""
    rule: Rule
    hooks: tuple[Hook, ...]
    """In the order of their stages."""
    each_recipient: bool
    """True at the message stage if the hooks include `filter_rcpt`: asked once for each recipient."""
    takes_earlier: bool
    """True if a hook asks for the evaluations so far."""
    takes_content: bool = False
    """True if `filter_message` asks for the message as earlier rules have edited it."""
    side_by_side: bool = False
    """True if it may be asked before its turn: neither its hooks nor ``when`` depend on earlier rules."""
    begins: "tuple[StageRule, ...]" = ()
    """The later rules at this stage that may be asked side by side with this one."""


class _NotAskedError(FilterFailedError):
    """A rule is not asked, because its filter had no connection time after time; the log has that already."""


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
        """``filter_seconds`` is for all rules of a message; ``evaluated`` is called for each evaluation."""
        self.rules = tuple(rules)
        self.filter_seconds = filter_seconds
        self.asked_at: Mapping[Stage, tuple[StageRule, ...]] = {
            stage: _asked_at(stage, self.rules) for stage in Stage
        }
        self._evaluated = evaluated
        self._threads = threads
        self._failures = Failures()
        self._breaker = Breaker()
        self._unopened = {
            rule.name: Opening(rule.open, rule.timeout_seconds, threads) for rule in self.rules if rule.open
        }
        self.finishing = tuple(
            StageRule(index=index, rule=rule, hooks=(rule.finish,), each_recipient=False, takes_earlier=False)
            for index, rule in enumerate(self.rules)
            if rule.finish
        )
        """The rules that put fields before a finished message, in file order."""
        self.reports = Reports(self.rules, self._failures, threads)
        """Tells the rules how transactions and sessions have ended."""

    def out_of_service(self) -> tuple[Rule, ...]:
        """The rules that are not asked now, because their filters have no connection to their services."""
        if not self._breaker.failing:
            return ()
        names = self._breaker.out_of_service()
        return tuple(rule for rule in self.rules if rule.name in names)

    async def ask(
        self,
        asked: StageRule,
        stage: Stage,
        offered: Mapping[str, Any],
        *,
        recipients: tuple[str, ...],
        seconds: float,
        transaction_id: str,
        check: Callable[[object], FilterAnswer | None] = checked,
        question: Question | None = None,
        fault_of: Callable[[FilterAnswer], str] | None = None,
    ) -> tuple[Answer, ...]:
        """Ask a rule's hooks one after another until one has an opinion; several answers if `PerRecipient`.

        ``offered`` contains the hooks' arguments by name, ``recipients`` the addresses that the answer
        applies to; ``transaction_id`` is empty before MAIL. If a filter fails, the action of the evaluation
        is that of ``on_error``. ``question`` was begun before. ``fault_of`` says why an answer cannot be
        carried out, which is a failure of the filter; empty if it can.
        """
        rule, failures, breaker = asked.rule, self._failures, self._breaker

        def occasion() -> Asked:
            return Asked(rule.name, stage.name.lower(), offered["session"].id, transaction_id)

        begin = time.perf_counter()
        verdict: Verdict | None = None
        several: tuple[Answer, ...] = ()
        result, reason, action = Result.PASS, "", None
        try:
            if question:
                answer = await question.answer()
            else:
                answer = await self._first_answer(asked, offered, seconds, occasion, check)
            if answer is not None:
                if fault_of:
                    _raise_if(fault_of(answer))
                if isinstance(answer, Passed):
                    reason = answer.reason
                elif isinstance(answer, PerRecipient):
                    several = self._answers(rule, stage, answer, offered, time.perf_counter() - begin)
                else:
                    verdict = answer
                    result, reason, action = Result.HIT, verdict.reason, rule.action_of(verdict)
        except FilterTimeoutError as error:
            result, reason = Result.TIMEOUT, f"no answer within {seconds:.3g} s"
            reason += f": {error}" if str(error) else ""
            failures.timed_out(occasion(), reason)
            if isinstance(error.__cause__, UnreachableError):
                breaker.failed(rule.name)
        except _NotAskedError as error:
            result, reason = Result.ERROR, str(error)
            failures.not_asked(rule.name)
        except FilterFailedError as error:
            result, reason = Result.ERROR, str(error)
            failures.failed(occasion(), reason, error.__cause__)
            if isinstance(error.__cause__, UnreachableError):
                breaker.failed(rule.name)
        except Exception as error:  # noqa: BLE001 - a mistake of ours must not let mail pass either
            result, reason = Result.ERROR, type(error).__name__
            failures.failed(occasion(), reason, error)
        else:
            if (failures.outages or breaker.failing) and _has_asked(answer):
                failures.answered(rule.name)
                breaker.answered(rule.name)
        if several:
            return several
        if result in (Result.ERROR, Result.TIMEOUT):
            action = ACTIONS_ON_ERROR[rule.on_error]
        evaluation = Evaluation(
            rule=rule.name,
            stage=stage,
            result=result,
            action=action,
            observed=rule.observe,
            reason=reason,
            recipients=recipients,
            seconds=question.seconds if question else time.perf_counter() - begin,
            matches=verdict.matches if verdict else (),
            score=rule.score_of(verdict) if verdict else 0.0,
        )
        if self._evaluated:
            self._evaluated(evaluation)
        return ((verdict, evaluation),)

    def begin(
        self,
        asked: StageRule,
        stage: Stage,
        offered: Mapping[str, Any],
        seconds: float,
        transaction_id: str,
    ) -> Question:
        """Begin to ask a rule before its turn; its answer is for `ask`."""

        def occasion() -> Asked:
            return Asked(asked.rule.name, stage.name.lower(), offered["session"].id, transaction_id)

        return Question(self._first_answer(asked, offered, seconds, occasion, checked))

    async def _first_answer(
        self,
        asked: StageRule,
        offered: Mapping[str, Any],
        seconds: float,
        occasion: Callable[[], Asked],
        check: Callable[[object], FilterAnswer | None],
    ) -> FilterAnswer | None:
        """Ask a rule's hooks up to the first verdict; raises FilterTimeoutError or FilterFailedError."""
        begin, failures = time.perf_counter(), self._failures
        if self._breaker.failing and (why_not := self._breaker.why_not(asked.rule.name)):
            raise _NotAskedError(why_not)
        if self._unopened:
            await self._open(asked.rule, seconds)
        passed: FilterAnswer | None = None
        has_asked = False
        for hook in asked.hooks:
            left = seconds - (time.perf_counter() - begin)
            answer = await ask(
                hook,
                offered,
                left,
                self._threads,
                lambda took: failures.blocked(occasion(), took),  # not self: a traceback would keep the rules
                check,
            )
            if isinstance(answer, Passed):
                passed = answer
                has_asked |= answer.asked
            elif answer is not None:
                return answer
            else:
                has_asked = True
        if isinstance(passed, Passed) and has_asked and not passed.asked:
            return Passed(reason=passed.reason)
        return passed

    def _answers(
        self,
        rule: Rule,
        stage: Stage,
        answer: PerRecipient,
        offered: Mapping[str, Any],
        seconds: float,
    ) -> tuple[Answer, ...]:
        """One answer for the recipients of each verdict; raises FilterFailedError."""
        if stage is not Stage.MESSAGE:
            raise FilterFailedError(f"returned PerRecipient at {stage.name.lower()}, expected it at message")
        asked_about = [recipient.address for recipient in offered["recipients"]]
        known = {recipient.address for recipient in offered["envelope"].recipients}
        if unknown := answer.verdicts.keys() - known:
            raise FilterFailedError(f"returned PerRecipient with {min(unknown)!r}, which is not a recipient")
        groups: dict[Verdict | None, list[str]] = {}
        for address in asked_about:
            groups.setdefault(answer.verdicts.get(address), []).append(address)
        answers = []
        for verdict, addresses in groups.items():
            evaluation = Evaluation(
                rule=rule.name,
                stage=stage,
                result=Result.HIT if verdict else Result.PASS,
                action=rule.action_of(verdict) if verdict else None,
                observed=rule.observe,
                reason=verdict.reason if verdict else "",
                recipients=tuple(addresses),
                seconds=seconds,
                matches=verdict.matches if verdict else (),
                score=rule.score_of(verdict) if verdict else 0.0,
            )
            if self._evaluated:
                self._evaluated(evaluation)
            answers.append((verdict, evaluation))
        return tuple(answers)

    async def open(self) -> None:
        """Call `open` of all filters that have it; if one fails, its rule tries again when it is asked."""

        async def try_to_open(rule: Rule) -> None:
            try:
                await self._open(rule, rule.timeout_seconds)
            except (FilterTimeoutError, FilterFailedError) as error:
                log.warning("rule %s is not ready, on_error answers until it is: %r", rule.name, str(error))

        await asyncio.gather(*map(try_to_open, self.rules))

    async def _open(self, rule: Rule, seconds: float) -> None:
        """Raises FilterTimeoutError or FilterFailedError."""
        if opening := self._unopened.get(rule.name):
            await opening.wait(seconds)
            self._unopened.pop(rule.name, None)


def _raise_if(fault: str) -> None:
    if fault:
        raise FilterFailedError(fault)


def _has_asked(answer: FilterAnswer | None) -> bool:
    """False if the filter says that it has asked no service."""
    return not isinstance(answer, Passed) or answer.asked


def _asked_at(stage: Stage, rules: Sequence[Rule]) -> tuple[StageRule, ...]:
    """The rules with a hook of that stage, or of an earlier one if ``when`` can only be decided now."""
    asked: list[StageRule] = []
    for index, rule in reversed(list(enumerate(rules))):
        hooks = {own: hook for own, hook in sorted(rule.hooks.items()) if rule.asked_at(own) is stage}
        if not hooks:
            continue
        each = stage is Stage.MESSAGE and Stage.RCPT in hooks
        arguments = {name for hook in hooks.values() for name in hook.arguments}
        side_by_side = (
            rule.side_by_side
            and not each
            and arguments <= _INDEPENDENT
            and all(hook.is_async for hook in hooks.values())
            and not (rule.when and rule.when.weighs)
        )
        asked.insert(
            0,
            StageRule(
                index=index,
                rule=rule,
                hooks=tuple(hooks.values()),
                each_recipient=each,
                takes_earlier="earlier" in arguments,
                takes_content="content" in arguments,
                side_by_side=side_by_side,
                begins=tuple(one for one in asked if one.side_by_side) if side_by_side else (),
            ),
        )
    return tuple(asked)
