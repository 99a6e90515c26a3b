"""Filters that wait for the network wait side by side; the order of the rules still decides."""

import asyncio
import gc
import logging
from typing import ClassVar

import pytest
from gatepost import UnreachableError, Verdict, hookimpl
from gatepost.config.conditions import Condition
from gatepost.model.mail import Stage
from gatepost.model.verdict import Action, Result
from gatepost.pipeline import Pipeline, Threads, rehearse
from gatepost.pipeline.hooks import hooks_of
from gatepost.pipeline.rule import Rule
from gatepost.testing import make_transaction

LETTER = make_transaction(recipients=["a@example.com", "b@example.com"])


class Together:
    """Each filter waits until as many as that have begun: one after the other they would be late."""

    def __init__(self, count):
        self.count, self.begun, self.cancelled = count, [], []
        self.all_there = asyncio.Event()

    async def wait(self, name):
        self.begun.append(name)
        if len(self.begun) >= self.count:
            self.all_there.set()
        try:
            await self.all_there.wait()
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise


class Waits:
    side_by_side: ClassVar[bool] = True

    def __init__(self, name, together, answer=None):
        self.name, self.together, self.answer = name, together, answer

    async def said(self):
        await self.together.wait(self.name)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Message(Waits):
    @hookimpl
    async def filter_message(self, transaction):
        return await self.said()


class Connect(Waits):
    @hookimpl
    async def filter_connect(self, session):
        return await self.said()


class Recipients(Waits):
    @hookimpl
    async def filter_message(self, recipients):
        return await self.said()


class Earlier(Waits):
    @hookimpl
    async def filter_message(self, earlier):
        return await self.said()


class Alone(Message):
    side_by_side: ClassVar[bool] = False


class InAThread(Waits):
    @hookimpl
    def filter_message(self):
        self.together.begun.append(self.name)


def rule(one, **options):
    when = options.pop("when", None)
    return Rule(
        name=one.name,
        hooks=hooks_of(one).stages,
        side_by_side=one.side_by_side,
        when=Condition.parse(when) if when else None,
        **{"timeout_seconds": 0.5, **options},
    )


async def decided(*rules, letter=LETTER):
    threads = Threads()
    pipeline = Pipeline(rules, filter_seconds=5, threads=threads)
    try:
        steps = [step async for step in rehearse(pipeline, letter)]
    finally:
        threads.close()
    evaluations = [evaluation for step in steps for evaluation in step.evaluations]
    actions = {recipient.local_part: outcome.action for step in steps for recipient, outcome in step.decided}
    return evaluations, actions


@pytest.mark.parametrize("kind", [Message, Connect])
async def test_they_wait_together_and_each_is_evaluated_at_its_turn(kind):
    together = Together(3)
    evaluations, actions = await decided(*(rule(kind(name, together)) for name in "xyz"))
    assert [(one.rule, one.result) for one in evaluations] == [(name, Result.PASS) for name in "xyz"]
    assert set(actions.values()) == {Action.ACCEPT}


@pytest.mark.parametrize("kind", [Message, Connect])
async def test_the_first_rule_in_the_file_decides(kind):
    together = Together(3)
    rules = [
        rule(kind("x", together)),
        rule(kind("y", together, Verdict(reason="second"))),
        rule(kind("z", together, Verdict(reason="third", action=Action.DEFER))),
    ]
    evaluations, actions = await decided(*rules)
    assert [one.rule for one in evaluations] == ["x", "y"]
    assert set(actions.values()) == {Action.REJECT}


async def test_what_is_not_needed_any_more_is_cancelled_and_leaves_nothing(caplog):
    together = Together(2)
    never = Together(99)
    rules = [
        rule(Message("x", together, Verdict(reason="spam"))),
        rule(Message("y", never)),
        rule(Message("z", together, ValueError("never asked for"))),
    ]
    with caplog.at_level(logging.DEBUG):
        evaluations, _ = await decided(*rules)
        await asyncio.sleep(0.01)
        gc.collect()
    assert [one.rule for one in evaluations] == ["x"]
    assert never.cancelled == ["y"]
    assert "never retrieved" not in caplog.text
    assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


async def test_what_has_not_begun_when_the_first_rule_has_decided_is_not_asked(recwarn):
    never = Together(99)
    evaluations, _ = await decided(
        rule(Message("x", Together(1), Verdict(reason="spam"))), rule(Message("y", never))
    )
    assert [one.rule for one in evaluations] == ["x"]
    await asyncio.sleep(0.01)
    gc.collect()
    assert never.begun == []
    assert [str(one.message) for one in recwarn if "Pipeline._first_answer" in str(one.message)] == []


@pytest.mark.parametrize("kind", [Recipients, Earlier, Alone, InAThread])
async def test_what_depends_on_earlier_rules_or_did_not_ask_for_it_waits_for_its_turn(kind):
    first, later = Together(2), Together(1)
    asyncio.get_running_loop().call_later(0.05, first.all_there.set)
    rules = [rule(Message("x", first, Verdict(reason="spam"))), rule(kind("y", later))]
    await decided(*rules)
    assert first.begun == ["x"]
    assert later.begun == []


@pytest.mark.parametrize(
    ("when", "begun"),
    [
        ({"recipient": "a@*"}, True),
        ({"recipient": "c@*"}, False),
        ({"size": ">1GB"}, False),
        ({"score": ">=0"}, False),
        ({"hit": "x"}, False),
        ({"not": {"auth": {"spf": "fail"}}}, False),
    ],
)
async def test_only_what_some_recipient_needs_is_begun(when, begun):
    first, later = Together(2), Together(1)
    asyncio.get_running_loop().call_later(0.05, first.all_there.set)
    spam = Verdict(reason="spam")
    await decided(rule(Message("x", first, spam)), rule(Message("y", later), when=when))
    assert later.begun == (["y"] if begun else [])


async def test_rules_before_the_first_of_them_come_first():
    together = Together(1)
    trusted = Together(2)
    asyncio.get_running_loop().call_later(0.05, trusted.all_there.set)
    accept = rule(Alone("trusted", trusted, Verdict(reason="ours", action=Action.ACCEPT)))
    await decided(accept, rule(Message("x", together)), rule(Message("y", together)))
    assert together.begun == []


async def test_the_rest_is_asked_for_the_recipients_that_are_left():
    together = Together(2)
    rules = [
        rule(Message("x", together, Verdict(reason="spam")), when={"recipient": "a@*"}),
        rule(Message("y", together, Verdict(reason="later", action=Action.DISCARD))),
    ]
    evaluations, actions = await decided(*rules)
    assert actions == {"a": Action.REJECT, "b": Action.DISCARD}
    assert [one.recipients for one in evaluations] == [("a@example.com",), ("b@example.com",)]


@pytest.mark.parametrize(
    ("error", "result"), [(ValueError("odd"), Result.ERROR), (UnreachableError("gone"), Result.ERROR)]
)
async def test_a_failure_counts_at_the_rules_turn(error, result):
    together = Together(2)
    rules = [rule(Message("x", together)), rule(Message("y", together, error), on_error="quarantine")]
    evaluations, actions = await decided(*rules)
    assert [one.result for one in evaluations] == [Result.PASS, result]
    assert set(actions.values()) == {Action.QUARANTINE}


async def test_one_that_is_late_has_its_own_time():
    together, never = Together(1), Together(99)
    late = rule(Message("late", never), timeout_seconds=0.05, on_error="skip")
    rules = [rule(Message("x", together)), late, rule(Message("y", together, Verdict(reason="spam")))]
    evaluations, actions = await decided(*rules)
    assert [one.result for one in evaluations] == [Result.PASS, Result.TIMEOUT, Result.HIT]
    assert evaluations[1].seconds >= 0.04
    assert set(actions.values()) == {Action.REJECT}


async def test_all_rules_of_an_early_stage_share_the_time_for_filters():
    rules = [rule(Connect(f"r{n}", Together(99)), timeout_seconds=60, on_error="skip") for n in range(3)]
    pipeline = Pipeline(rules, filter_seconds=0.1, threads=Threads())
    step = await anext(rehearse(pipeline, LETTER))
    assert step.stage is Stage.CONNECT
    assert [one.result for one in step.evaluations] == [Result.TIMEOUT] * 3
    assert sum(one.seconds for one in step.evaluations) < 5
