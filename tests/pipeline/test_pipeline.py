"""Rules in file order, each recipient for itself, and no filter can do harm."""

import asyncio
import contextlib
import inspect
import threading
import time
from datetime import UTC, datetime
from ipaddress import ip_address

import pytest
from gatepost.config.conditions import Condition
from gatepost.model.edits import AddHeader
from gatepost.model.mail import Envelope, Message, Recipient, Session, Stage, Transaction
from gatepost.model.verdict import Action, Reply, Result, Verdict
from gatepost.pipeline import Pipeline, Screening, Threads
from gatepost.pipeline.ask import FilterFailedError, ask
from gatepost.pipeline.decide import decide as decide_message
from gatepost.pipeline.rule import Hook, Rule
from gatepost.testing import make_record

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SESSION = Session(
    id="s", client=ip_address("192.0.2.1"), client_port=1, listener="l", connected_at=NOW, helo="h"
)
A, B = Recipient(address="a@example.com"), Recipient(address="b@example.com")
HIT = Verdict(reason="found it")


def transaction(*recipients):
    envelope = Envelope(mail_from="s@example.org", recipients=recipients or (A, B))
    message = Message(content=b"Subject: x\r\n\r\ny\r\n")
    return Transaction(id="t", session=SESSION, envelope=envelope, message=message, received_at=NOW)


def rule(name, function, *, stage=Stage.MESSAGE, when=None, edits=(), **settings):
    arguments = tuple(inspect.signature(function).parameters)
    hook = Hook(function=function, arguments=arguments, is_async=inspect.iscoroutinefunction(function))
    condition = Condition.parse(when) if when else None
    return Rule(name=name, hooks={stage: hook}, when=condition, edits=edits, **settings)


async def always(transaction):
    return HIT


async def never(transaction):
    return None


@pytest.fixture
def threads():
    threads = Threads(size=2, lost_limit=3)
    yield threads
    threads.close()


@pytest.fixture
def decide(threads):
    async def decide(*rules, recipients=(A, B), filter_seconds=5.0):
        pipeline = Pipeline(rules, filter_seconds=filter_seconds, threads=threads)
        return await decide_message(pipeline, transaction(*recipients))

    return decide


def actions(decision):
    return [str(outcome.action) for outcome in decision.outcomes]


async def test_without_a_verdict_every_recipient_is_accepted(decide):
    decision = await decide(rule("pass", never))
    assert actions(decision) == ["accept", "accept"]
    assert [e.result for e in decision.evaluations] == [Result.PASS]


async def test_the_first_final_verdict_in_file_order_wins(decide):
    decision = await decide(
        rule("pass", never),
        rule("first", always, action=Action.DISCARD),
        rule("second", always, action=Action.REJECT),
    )
    assert [(o.action, o.rule, o.reason) for o in decision.outcomes] == [("discard", "first", "found it")] * 2
    assert [e.rule for e in decision.evaluations] == ["pass", "first"]


async def test_each_recipient_has_its_own_outcome(decide):
    decision = await decide(
        rule("only-a", always, when={"recipient": "a@*"}, action=Action.QUARANTINE),
        rule(
            "only-b",
            always,
            when={"recipient": "b@*"},
            action=Action.REJECT,
            reply="550 5.7.1 No {rule} {recipient}",
        ),
    )
    assert actions(decision) == ["quarantine", "reject"]
    assert str(decision.outcomes[1].reply) == "550 5.7.1 No only-b b@example.com"
    assert [e.recipients for e in decision.evaluations] == [("a@example.com",), ("b@example.com",)]


async def test_a_tag_is_not_final_and_edits_add_up_for_each_recipient(decide):
    first, second = AddHeader("X-One", "1"), AddHeader("X-Two", "2")
    decision = await decide(
        rule("one", always, action=Action.TAG, edits=(first,)),
        rule("two", always, action=Action.TAG, edits=(second,), when={"recipient": "b@*"}),
        rule("three", always, action=Action.ACCEPT),
        rule("four", always, action=Action.REJECT),
    )
    assert actions(decision) == ["accept", "accept"]
    assert [o.edits for o in decision.outcomes] == [(first,), (first, second)]


@pytest.mark.parametrize("action", [Action.ACCEPT, Action.QUARANTINE, Action.REJECT])
async def test_edits_of_all_rules_that_hit_are_with_the_outcome_whatever_it_is(decide, action):
    """A copy in quarantine is edited when it is released; so is one that mixed recipients leave there."""
    first, second, third = AddHeader("X-One", "1"), AddHeader("X-Two", "2"), AddHeader("X-Three", "3")

    async def edits(transaction):
        return Verdict(reason="r", edits=(second,))

    decision = await decide(
        rule("one", always, action=Action.TAG, edits=(first,)),
        rule("watch", edits, action=Action.TAG, edits=(third,), observe=True),
        rule("two", edits, action=action),
        rule("three", always, action=Action.TAG, edits=(third,)),
    )
    assert [(o.action, o.edits) for o in decision.outcomes] == [(action, (first, second))] * 2


async def test_a_tag_that_fails_edits_nothing_though_it_quarantines(decide):
    async def fails(transaction):
        raise ValueError

    first = AddHeader("X-One", "1")
    decision = await decide(
        rule("one", always, action=Action.TAG, edits=(first,)),
        rule("two", fails, action=Action.TAG, edits=(AddHeader("X", "2"),), on_error="quarantine"),
    )
    assert [(o.action, o.edits) for o in decision.outcomes] == [(Action.QUARANTINE, (first,))] * 2


async def test_an_observing_rule_is_written_down_and_not_applied(decide):
    decision = await decide(rule("watch", always, action=Action.REJECT, observe=True))
    assert actions(decision) == ["accept", "accept"]
    assert [(e.result, e.action, e.observed) for e in decision.evaluations] == [("hit", "reject", True)]


@pytest.mark.parametrize(
    ("suggested", "expected"),
    [
        (Verdict(reason="r"), Action.REJECT),
        (Verdict(reason="r", action=Action.DISCARD), Action.DISCARD),
        (Verdict(reason="r", edits=(AddHeader("X", "y"),)), Action.ACCEPT),
        (Verdict(reason="r", reply=Reply(code=450, text="Later")), Action.DEFER),
        (Verdict(reason="r", reply=Reply(code=550, text="No")), Action.REJECT),
    ],
)
async def test_without_the_operators_word_the_filters_suggestion_holds(decide, suggested, expected):
    async def suggest(transaction):
        return suggested

    assert actions(await decide(rule("suggests", suggest))) == [expected, expected]


async def test_a_suggested_reply_of_the_wrong_class_is_not_taken(decide):
    async def suggest(transaction):
        return Verdict(reason="r", reply=Reply(code=451, enhanced="4.7.1", text="Later"))

    decision = await decide(rule("r", suggest, action=Action.REJECT))
    assert decision.outcomes[0].reply.code == 550


async def _raise(error):
    raise error


async def _hang():
    await asyncio.sleep(60)


async def _swallow():
    for _ in range(3):
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0.1)


def _recurse():
    return _recurse()


FAILURES = {
    "ascii": lambda: _raise(ValueError("secret")),
    "non-ascii": lambda: _raise(ValueError("gehéim")),
    "crlf": lambda: _raise(ValueError("secret\r\n250 ok")),
    "unprintable": lambda: _raise(type("Bad", (Exception,), {"__str__": lambda self: 1 / 0})()),
    "exit": lambda: _raise(SystemExit(3)),
    "interrupt": lambda: _raise(KeyboardInterrupt()),
    "cancelled": lambda: _raise(asyncio.CancelledError()),
    "stop": lambda: _raise(StopAsyncIteration()),
    "hang": _hang,
    "swallows its cancellation": _swallow,
}


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.parametrize(
    ("on_error", "expected"), [("defer", "defer"), ("skip", "accept"), ("quarantine", "quarantine")]
)
async def test_a_failing_filter_on_the_loop_leads_to_on_error(decide, name, on_error, expected):
    """RELIABILITY 87, 88."""

    async def fail(transaction):
        await FAILURES[name]()

    decision = await decide(rule("bad", fail, on_error=on_error, timeout_seconds=0.05))
    assert actions(decision) == [expected, expected]
    assert decision.evaluations[0].result in (Result.ERROR, Result.TIMEOUT)
    if expected == "defer":
        assert str(decision.outcomes[0].reply) == "451 4.3.0 Temporary failure, try again later"


@pytest.mark.parametrize(
    "fail",
    [
        lambda transaction: 1 / 0,
        lambda transaction: _recurse(),
        lambda transaction: exec("raise SystemExit"),
        lambda transaction: exec("raise StopIteration"),
        lambda transaction: True,
        lambda transaction: "reject",
        lambda transaction, missing=0: threading.Event().wait(0.3),
    ],
    ids=["raise", "recursion", "exit", "stop", "bool", "text", "hang"],
)
async def test_a_failing_filter_in_a_thread_leads_to_on_error(threads, fail):
    """RELIABILITY 87, 88."""
    hook = Hook(function=fail, arguments=("transaction",), is_async=False)
    bad = Rule(name="bad", hooks={Stage.MESSAGE: hook}, timeout_seconds=0.1)
    decision = await decide_message(Pipeline([bad], filter_seconds=5, threads=threads), transaction())
    assert actions(decision) == ["defer", "defer"]
    # the next one is fine
    good = rule("good", lambda transaction: HIT, action=Action.DISCARD)
    decision = await decide_message(Pipeline([good], filter_seconds=5, threads=threads), transaction())
    assert actions(decision) == ["discard", "discard"]


async def test_hanging_threads_are_replaced_up_to_a_bound_and_come_back(threads):
    release = threading.Event()
    hang = rule("hang", lambda transaction: release.wait(), timeout_seconds=0.02)
    good = rule("good", lambda transaction: HIT, action=Action.DISCARD)
    hanging = Pipeline([hang], filter_seconds=5, threads=threads)
    healthy = Pipeline([good], filter_seconds=5, threads=threads)
    for _ in range(2):
        assert actions(await decide_message(hanging, transaction(A))) == ["defer"]
        assert actions(await decide_message(healthy, transaction(A))) == ["discard"]
    await decide_message(hanging, transaction(A))
    assert "hang in filters" in (await decide_message(healthy, transaction(A))).evaluations[0].reason
    release.set()
    async with asyncio.timeout(60):  # until the threads have come back
        while actions(await decide_message(healthy, transaction(A))) != ["discard"]:
            await asyncio.sleep(0.01)


async def test_all_filters_together_have_one_deadline(decide):
    async def slow(transaction):
        await asyncio.sleep(60)

    decision = await decide(
        rule("slow", slow, on_error="skip", timeout_seconds=10), rule("late", slow), filter_seconds=0.05
    )
    assert [e.result for e in decision.evaluations] == [Result.TIMEOUT] * 2
    assert actions(decision) == ["defer", "defer"]


async def connect_hit(session):
    return HIT


async def test_an_early_refusal_is_answered_at_once(threads):
    pipeline = Pipeline(
        [
            rule(
                "no",
                connect_hit,
                stage=Stage.CONNECT,
                action=Action.REJECT,
                reply="554 5.7.1 Go away {client}",
            )
        ],
        filter_seconds=5,
        threads=threads,
    )
    early = await Screening(pipeline).connect(SESSION)
    assert str(early.refusal.reply) == "554 5.7.1 Go away 192.0.2.1"


@pytest.mark.parametrize(
    ("action", "expected"),
    [(Action.ACCEPT, "accept"), (Action.DISCARD, "discard"), (Action.QUARANTINE, "quarantine")],
)
async def test_what_an_early_stage_found_holds_at_its_rules_place(threads, action, expected):
    asked = []

    async def before(transaction):
        asked.append("before")

    async def behind(transaction):
        asked.append("behind")
        return HIT

    pipeline = Pipeline(
        [
            rule("before", before, action=Action.REJECT),
            rule("early", connect_hit, stage=Stage.CONNECT, action=action),
            rule("behind", behind, action=Action.REJECT),
        ],
        filter_seconds=5,
        threads=threads,
    )
    screening = Screening(pipeline)
    assert (await screening.connect(SESSION)).refusal is None
    _, screening = await screening.mail(SESSION, Envelope(mail_from="x"), "t")
    decision = await screening.decide(transaction())
    assert actions(decision) == [expected, expected]
    assert asked == ["before"]


async def test_a_final_early_verdict_stops_rules_behind_it_at_later_stages_too(threads):
    async def mail(session, envelope):
        return HIT

    pipeline = Pipeline(
        [
            rule("friend", connect_hit, stage=Stage.CONNECT, action=Action.ACCEPT),
            rule("no", mail, stage=Stage.MAIL, action=Action.REJECT),
        ],
        filter_seconds=5,
        threads=threads,
    )
    screening = Screening(pipeline)
    assert (await screening.connect(SESSION)).pending
    early, _ = await screening.mail(SESSION, Envelope(mail_from="x"), "t")
    assert early.refusal is None


@pytest.mark.parametrize(
    ("at_message", "expected"),
    [
        (None, "accept"),
        (Verdict(reason="r", action=Action.TAG, edits=(AddHeader("X-Message", "3"),)), "accept"),
        (Verdict(reason="r", action=Action.REJECT), "reject"),
        (Verdict(reason="r", action=Action.QUARANTINE), "quarantine"),
    ],
)
async def test_a_rule_that_has_tagged_is_asked_at_its_later_stages_too(threads, at_message, expected):
    def tag(name):
        return Verdict(reason="r", action=Action.TAG, edits=(AddHeader(name, "2"),))

    async def connect():
        return tag("X-Connect")

    async def rcpt(recipient):
        return tag("X-Rcpt") if recipient == A else None

    async def message(transaction):
        return at_message

    functions = {Stage.CONNECT: connect, Stage.RCPT: rcpt, Stage.MESSAGE: message}
    hooks = {
        stage: hook for stage, one in functions.items() for hook in rule("r", one, stage=stage).hooks.values()
    }
    rules = [Rule(name="both", hooks=hooks, edits=(AddHeader("X-Rule", "1"),))]
    screening = Screening(Pipeline(rules, filter_seconds=5, threads=threads))
    await screening.connect(SESSION)
    _, screening = await screening.mail(SESSION, Envelope(mail_from="x"), "t")
    for recipient in (A, B):
        await screening.rcpt(SESSION, Envelope(mail_from="x"), recipient)
    decision = await screening.decide(transaction())
    assert actions(decision) == [expected, expected]
    added = [edit.name for edit in at_message.edits] if at_message else []
    assert [[edit.name for edit in one.edits] for one in decision.outcomes] == [
        ["X-Rule", "X-Connect", "X-Rcpt", *added],
        ["X-Rule", "X-Connect", *added],
    ]


async def test_a_hook_is_asked_when_its_condition_can_be_decided(threads):
    pipeline = Pipeline(
        [rule("later", connect_hit, stage=Stage.CONNECT, action=Action.REJECT, when={"recipient": "b@*"})],
        filter_seconds=5,
        threads=threads,
    )
    envelope = Envelope(mail_from="x")
    screening = Screening(pipeline)
    assert (await screening.connect(SESSION)).refusal is None
    _, screening = await screening.mail(SESSION, envelope, "t")
    assert (await screening.rcpt(SESSION, envelope, A)).refusal is None
    assert (await screening.rcpt(SESSION, envelope, B)).refusal.reply.code == 550


async def test_a_recipient_hook_under_a_message_condition_is_asked_for_each_recipient(threads):
    async def not_b(session, envelope, recipient):
        return HIT if recipient == B else None

    pipeline = Pipeline(
        [rule("late", not_b, stage=Stage.RCPT, action=Action.DISCARD, when={"size": ">1B"})],
        filter_seconds=5,
        threads=threads,
    )
    assert actions(await decide_message(pipeline, transaction())) == ["accept", "discard"]


async def test_a_reporting_filter_that_fails_or_hangs_changes_nothing(threads, caplog):
    told = []

    async def good(record):
        told.append(record)

    async def bad(record):
        raise ValueError("x")

    reports = [
        Rule(name=f.__name__, hooks={}, report=Hook(function=f, arguments=("record",), is_async=True))
        for f in (bad, good)
    ]
    pipeline = Pipeline(reports, filter_seconds=5, threads=threads)
    record = make_record()
    pipeline.reports.transaction(record)
    await pipeline.reports.finish(30)
    assert told == [record]
    assert "rule bad failed at report" in caplog.text


@pytest.mark.parametrize("waits", [False, True])
async def test_an_async_filter_is_asked_whether_it_ever_waits_or_not(threads, waits):
    asked, message = [], transaction(A)

    async def at_once(transaction):
        asked.append(transaction.id)
        return Verdict(reason="found")

    async def after_a_while(transaction):
        await asyncio.sleep(0)
        asked.append(transaction.id)
        return Verdict(reason="found")

    hook = Hook(function=after_a_while if waits else at_once, arguments=("transaction",), is_async=True)
    assert await ask(hook, {"transaction": message}, 1.0, threads, pytest.fail) == Verdict(reason="found")
    assert asked == [message.id]


async def test_what_an_async_filter_raises_that_never_waits_is_contained(threads):
    async def leave(transaction):
        raise SystemExit(transaction.id)

    hook = Hook(function=leave, arguments=("transaction",), is_async=True)
    with pytest.raises(FilterFailedError, match="SystemExit"):
        await ask(hook, {"transaction": transaction(A)}, 1.0, threads, pytest.fail)


async def test_after_a_filter_that_takes_long_others_have_their_turn(decide):
    happened = []

    async def long(transaction):
        asyncio.get_running_loop().call_soon(happened.append, "another session")
        time.sleep(0.01)  # noqa: ASYNC251 - what a filter should not do

    async def next_one(transaction):
        happened.append("next filter")

    await decide(rule("long", long), rule("next", next_one))
    assert happened == ["another session", "next filter"]
