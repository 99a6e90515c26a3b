"""A verdict that is wrong is a failure of its filter, at every stage: what on_error says is done, no more."""

import asyncio
import re

import pytest
from gatepost import hookimpl
from gatepost.model.edits import AddHeader
from gatepost.model.mail import Envelope, Stage
from gatepost.model.verdict import Action, Match, Reply, ReplyTiming, Result, Verdict
from gatepost.pipeline import Pipeline, Screening, Threads, rehearse
from gatepost.pipeline.rule import Hook, Rule
from gatepost.testing import ask_filter, make_record, make_transaction


def unchecked(kind, **values):
    """A value whose class has not checked it."""
    made = kind(**{Verdict: {"reason": "r"}, Reply: {"code": 550, "text": "No"}}[kind])
    for field, value in values.items():
        object.__setattr__(made, field, value)
    return made


async def _coroutine():
    return Verdict(reason="r")


class Hostile:
    """Fails whatever it is asked."""

    @property
    def __class__(self):
        raise RuntimeError("no class")


class Leaving:
    """Ends the process where it is asked what it is."""

    @property
    def __class__(self):
        raise SystemExit(3)


WRONG = {
    # raised in the filter, where the author sees his own line
    "action is text": lambda: Verdict(reason="r", action="reject"),
    "reply is text": lambda: Verdict(reason="r", reply="550 no"),
    "timing is a number": lambda: Verdict(reason="r", timing=5),
    "matches hold text": lambda: Verdict(reason="r", matches=("x",)),
    "no reason": lambda: Verdict(reason=None),
    "edits without a tuple": lambda: Verdict(reason="r", edits=AddHeader("X", "y")),
    "a match of bytes": lambda: Verdict(reason="r", matches=(Match(where="w", text=b"t"),)),
    "a reply code of text": lambda: Reply(code="550", text="no"),
    "a time of text": lambda: ReplyTiming(delay_seconds="5s"),
    # returned all the same
    "unchecked action": lambda: unchecked(Verdict, action="reject"),
    "unchecked reply": lambda: unchecked(Verdict, reply="550 no"),
    "unchecked timing": lambda: unchecked(Verdict, timing=5),
    "unchecked matches": lambda: unchecked(Verdict, matches=("x",)),
    "unchecked reason": lambda: unchecked(Verdict, reason=None),
    "unchecked edits": lambda: unchecked(Verdict, edits=("tag",)),
    "unchecked reply in it": lambda: Verdict(reason="r", reply=unchecked(Reply, text=None)),
    "empty verdict": lambda: object.__new__(Verdict),
    "the class": lambda: Verdict,
    "True": lambda: True,
    "False": lambda: False,
    "an action": lambda: Action.REJECT,
    "text": lambda: "reject",
    "nothing, empty": lambda: "",
    "a list": lambda: [Verdict(reason="r")],
    "a coroutine": _coroutine,
    "hostile": Hostile,
    "leaving": Leaving,
}
HOOKS = {
    Stage.CONNECT: ("session",),
    Stage.HELO: ("session",),
    Stage.MAIL: ("session", "envelope"),
    Stage.RCPT: ("session", "envelope", "recipient"),
    Stage.MESSAGE: ("transaction",),
}
WAYS = ["plain", "async", "async that waits"]
LATER = "451 4.3.0 Temporary failure, try again later"


def hook(answer, arguments, way):
    async def at_once(**given):
        return answer()

    async def after_a_while(**given):
        await asyncio.sleep(0)
        return answer()

    hooks = {
        "plain": Hook(function=lambda **given: answer(), arguments=arguments, is_async=False),
        "async": Hook(function=at_once, arguments=arguments, is_async=True),
        "async that waits": Hook(function=after_a_while, arguments=arguments, is_async=True),
    }
    return hooks[way]


@pytest.fixture
def threads():
    threads = Threads(size=1)
    yield threads
    threads.close()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("stage", HOOKS, ids=lambda stage: stage.name.lower())
@pytest.mark.parametrize("name", WRONG)
async def test_what_on_error_says_is_done_once_and_no_more(threads, caplog, name, stage, way):
    transaction = make_transaction()
    for on_error, action in (("defer", "defer"), ("skip", "accept"), ("quarantine", "quarantine")):
        rule = Rule(name="bad", hooks={stage: hook(WRONG[name], HOOKS[stage], way)}, on_error=on_error)
        behind = Rule(
            name="behind",
            hooks={Stage.MESSAGE: hook(lambda: None, ("transaction",), "async")},
        )
        pipeline = Pipeline([rule, behind], filter_seconds=5, threads=threads)
        steps = [step async for step in rehearse(pipeline, transaction)]
        evaluations = [evaluation for step in steps for evaluation in step.evaluations]
        ((_, outcome),) = [decided for step in steps for decided in step.decided]
        assert (outcome.action, outcome.edits, outcome.timing) == (action, (), None)
        assert outcome.rule == (None if action == "accept" else "bad")
        assert str(outcome.reply) == (LATER if action == "defer" else "None")
        failed, *others = evaluations
        assert (failed.rule, failed.stage, failed.result) == ("bad", stage, Result.ERROR)
        assert failed.action == (None if action == "accept" else action)
        assert (failed.matches, outcome.reason) == ((), failed.reason if action != "accept" else "")
        assert [one.rule for one in others] == (["behind"] if action == "accept" else [])
        assert re.match(r"(\w+Error|SystemExit): ", failed.reason)
        assert len(failed.reason) <= 500
        assert failed.reason.isprintable()
    place = f"rule bad failed at {stage.name.lower()}, "
    assert all(message.startswith(place) for message in caplog.messages)
    assert all(message.endswith(f": {failed.reason!r}") for message in caplog.messages)
    assert len(caplog.messages) == 3, "one line for each time"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", WRONG)
async def test_a_report_that_answers_or_raises_is_in_the_log_and_nothing_else(threads, caplog, name, way):
    bad = Rule(name="bad", hooks={}, report=hook(WRONG[name], ("record",), way))
    reported = []
    good = Rule(name="good", hooks={}, report=hook(lambda: reported.append(1), ("record",), "async"))
    pipeline = Pipeline([bad, good], filter_seconds=5, threads=threads)
    pipeline.reports.transaction(make_record(make_transaction()))
    await pipeline.reports.finish(30)
    assert reported == [1]
    (message,) = caplog.messages
    assert message.startswith("rule bad failed at report, transaction ")


@pytest.mark.parametrize("stage", [Stage.CONNECT, Stage.RCPT, Stage.MESSAGE])
async def test_an_early_failure_that_quarantines_holds_at_the_rules_place(threads, stage):
    rule = Rule(
        name="bad",
        hooks={stage: hook(WRONG["action is text"], HOOKS[stage], "async")},
        on_error="quarantine",
    )
    pipeline = Pipeline([rule], filter_seconds=5, threads=threads)
    transaction = make_transaction()
    screening = Screening(pipeline)
    assert (await screening.connect(transaction.session)).refusal is None
    _, of_transaction = await screening.mail(transaction.session, Envelope(mail_from=""), transaction.id)
    (recipient,) = transaction.envelope.recipients
    early = await of_transaction.rcpt(transaction.session, Envelope(mail_from=""), recipient)
    assert early.taken_out == (stage is not Stage.MESSAGE)
    (outcome,) = (await of_transaction.decide(transaction)).outcomes
    assert outcome.action is Action.QUARANTINE
    assert outcome.reason.startswith("TypeError: Verdict.action is 'reject' (str), expected an Action")


@pytest.mark.parametrize("name", WRONG)
async def test_the_kit_raises_what_the_gateway_would_call_a_failure(name):
    class Bad:
        @hookimpl
        def filter_message(self, transaction):
            return WRONG[name]()

    with pytest.raises((TypeError, ValueError, AttributeError, RuntimeError, SystemExit)):
        await ask_filter(Bad(), make_transaction())


async def test_a_valid_verdict_is_no_failure(threads):
    verdict = Verdict(reason="r", action=Action.DISCARD, timing=ReplyTiming(delay_seconds=1))
    rule = Rule(name="good", hooks={Stage.MESSAGE: hook(lambda: verdict, ("transaction",), "plain")})
    pipeline = Pipeline([rule], filter_seconds=5, threads=threads)
    steps = [step async for step in rehearse(pipeline, make_transaction())]
    ((_, outcome),) = steps[-1].decided
    assert (outcome.action, outcome.timing) == (Action.DISCARD, verdict.timing)
