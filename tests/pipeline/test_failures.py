"""What the log says of filters that fail, are late, or block everything."""

import asyncio
import inspect
import logging

import pytest
from gatepost.model.mail import Stage
from gatepost.model.verdict import Passed, Result, Verdict
from gatepost.pipeline import Pipeline, Threads, steps
from gatepost.pipeline.failures import Failures
from gatepost.pipeline.rule import Hook, Rule
from gatepost.pipeline.screening import Screening
from gatepost.testing import make_record, make_transaction

MESSAGE = make_transaction(recipients="bob@example.com")


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def threads():
    threads = Threads(size=2, lost_limit=3)
    yield threads
    threads.close()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(autouse=True)
def blocking_clock(monkeypatch):
    """The clock of blocked seconds: a filter of a test moves it, and a busy machine does not."""
    clock = Clock()
    monkeypatch.setattr(steps, "perf_counter", clock)
    return clock


@pytest.fixture
def pipeline(threads, clock):
    """A pipeline of rules that are called as their functions are."""

    def made(*functions, stage=Stage.MESSAGE, seconds=10.0):
        rules = [
            Rule(
                name=function.__name__,
                hooks={stage: hook_of(function)} if stage else {},
                report=None if stage else hook_of(function),
                timeout_seconds=seconds,
            )
            for function in functions
        ]
        made = Pipeline(rules, filter_seconds=60, threads=threads)
        made._failures = Failures(clock)
        return made

    return made


def hook_of(function):
    return Hook(
        function=function,
        arguments=tuple(inspect.signature(function).parameters),
        is_async=inspect.iscoroutinefunction(function),
    )


@pytest.fixture
def lines(caplog):
    """The log lines since they were asked for last, without tracebacks."""
    caplog.set_level(logging.INFO)

    def lines():
        found = [str(record.msg) for record in caplog.records if record.name == "gatepost.pipeline.failures"]
        caplog.clear()
        return found

    return lines


async def decided(pipeline, transaction=MESSAGE):
    screening = await begun(pipeline, transaction)
    decision = await screening.decide(transaction)
    return [evaluation.result for evaluation in decision.evaluations]


async def begun(pipeline, transaction=MESSAGE):
    screening = Screening(pipeline)
    await screening.connect(transaction.session)
    await screening.helo(transaction.session)
    _, screening = await screening.mail(transaction.session, transaction.envelope, transaction.id)
    return screening


async def test_an_error_is_named_with_rule_stage_and_transaction_and_its_traceback(pipeline, caplog):
    async def mistaken(transaction):
        return {}["key"]

    assert await decided(pipeline(mistaken)) == [Result.ERROR]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert str(record.msg).startswith(f"rule mistaken failed at message, transaction {MESSAGE.id}: ")
    assert "KeyError: 'key'" in str(record.msg)
    assert __file__ in caplog.text, "the traceback"
    fields = record.msg.fields()
    assert fields["rule"] == "mistaken"
    assert (fields["stage"], fields["transaction"]) == ("message", MESSAGE.id)
    assert fields["session"] == MESSAGE.session.id


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_time_out_is_named_with_rule_stage_and_transaction(pipeline, lines, is_async):
    released = asyncio.Event()

    async def slow(transaction):
        await released.wait()

    def slow_thread(transaction):
        asyncio.run_coroutine_threadsafe(released.wait(), loop).result(30)

    loop = asyncio.get_running_loop()
    function = slow if is_async else slow_thread
    assert await decided(pipeline(function, seconds=0.01)) == [Result.TIMEOUT]
    released.set()
    assert lines() == [
        f"rule {function.__name__} timed out at message, transaction {MESSAGE.id}: 'no answer within 0.01 s'"
    ]


@pytest.mark.parametrize("stage", [Stage.CONNECT, Stage.HELO, Stage.MAIL, Stage.RCPT])
async def test_before_the_message_it_is_the_transaction_too_and_before_mail_the_session(
    pipeline, lines, stage
):
    async def unlucky(session):
        raise ConnectionError("no service at 192.0.2.1:80")

    screening = await begun(pipeline(unlucky, stage=stage))
    if stage is Stage.RCPT:
        await screening.rcpt(MESSAGE.session, MESSAGE.envelope, MESSAGE.envelope.recipients[0])
    begun_already = stage in (Stage.MAIL, Stage.RCPT)
    subject = f"transaction {MESSAGE.id}" if begun_already else f"session {MESSAGE.session.id}"
    (line,) = lines()
    assert line.startswith(f"rule unlucky failed at {stage.name.lower()}, {subject}: ")
    assert line.endswith("'ConnectionError: no service at 192.0.2.1:80'")


async def test_a_report_that_fails_or_is_late_is_named_with_its_transaction(pipeline, lines):
    async def mistaken(record):
        raise ConnectionError("no database")

    async def slow(record):
        await asyncio.Event().wait()

    reporting = pipeline(mistaken, slow, stage=None, seconds=0.01)
    reporting.reports.transaction(make_record(MESSAGE))
    await reporting.reports.finish(30)
    assert sorted(lines()) == [
        f"rule mistaken failed at report, transaction {MESSAGE.id}: 'ConnectionError: no database'",
        f"rule slow timed out at report, transaction {MESSAGE.id}: 'no answer within 0.01 s'",
    ]


async def test_a_service_that_is_down_is_one_line_a_minute_without_traceback_and_one_when_it_is_back(
    pipeline, lines, clock, caplog
):
    is_down = True

    async def classifier(transaction):
        if is_down:
            raise ConnectionRefusedError(111, "Connection refused")

    asked = pipeline(classifier)
    for _ in range(20):
        await decided(asked)
    assert "Traceback" not in caplog.text
    (line,) = lines()
    assert line.startswith("rule classifier failed at message, transaction ")
    clock.now += 61
    await decided(asked)
    (line,) = lines()
    assert line.endswith(" (19 more since the last such line)")
    is_down = False
    clock.now += 1
    await decided(asked)
    await decided(asked)
    assert lines() == ["rule classifier answers again after 21 failures in 62 s"]


DOWN = {
    "reset": ConnectionResetError(104, "Connection reset by peer"),
    "refused": ConnectionRefusedError(111, "Connection refused"),
    "cut off": ConnectionError("connection closed in the answer"),
    "late": TimeoutError("no answer"),
    "no socket": FileNotFoundError(2, "No such file or directory"),
    "silent": None,
}
"""How a server that goes down may show itself; None: the filter's time is over."""


@pytest.mark.parametrize("first", DOWN)
async def test_however_a_server_goes_down_it_is_one_outage(pipeline, lines, first):
    async def service(transaction):
        if isinstance(cause, Exception):
            raise cause
        if cause is None:
            await asyncio.Event().wait()

    patient, hasty = pipeline(service, seconds=30), pipeline(service, seconds=0.01)
    hasty._failures = patient._failures
    for cause in (DOWN[first], *DOWN.values(), "none"):
        await decided(hasty if cause is None else patient)
    assert [line.partition(" at message")[0] for line in lines()] == [
        f"rule service {'timed out' if first == 'silent' else 'failed'}",
        f"rule service answers again after {len(DOWN) + 1} failures in 0 s",
    ]


async def test_an_outage_in_reports_hides_none_of_decisions(pipeline, lines, clock):
    async def service(transaction):
        raise ConnectionRefusedError(111, "Connection refused")

    async def report(record):
        raise ConnectionRefusedError(111, "Connection refused")

    report.__name__ = "service"
    asked, reporting = pipeline(service), pipeline(report, stage=None)
    reporting.reports._failures = asked._failures
    reporting.reports.transaction(make_record(MESSAGE))
    await reporting.reports.finish(30)
    await decided(asked)
    assert [line.split(",")[0] for line in lines()] == [
        "rule service failed at report",
        "rule service failed at message",
    ]


async def test_a_filter_that_asked_nothing_does_not_end_an_outage(pipeline, lines, clock):
    answers = iter([ConnectionRefusedError(111, "no"), Passed(asked=False), Passed(), None])

    async def service(transaction):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    asked = pipeline(service)
    told = []
    for _ in range(4):
        clock.now += 1
        await decided(asked)
        told.append([line.partition(" at message")[0] for line in lines()])
    assert told == [["rule service failed"], [], ["rule service answers again after 1 failure in 2 s"], []]


async def test_a_service_that_comes_and_goes_does_not_fill_the_log(pipeline, lines, clock):
    is_down = False

    async def flapping(transaction):
        nonlocal is_down
        is_down = not is_down
        if is_down:
            raise ConnectionResetError(104, "Connection reset by peer")

    asked = pipeline(flapping)
    for _ in range(100):
        await decided(asked)
    assert len(lines()) == 2, "one outage, one recovery"
    clock.now += 60
    await decided(asked)
    (line,) = lines()
    assert line.endswith(" (49 more since the last such line)")


async def test_two_mistakes_of_one_filter_are_two_lines_and_a_recovery_is_not_theirs(pipeline, lines):
    async def mistaken(transaction):
        subject = transaction.message.view.subject
        if subject == "1":
            raise KeyError(subject)
        if subject == "2":
            raise KeyError(subject)

    asked = pipeline(mistaken)
    for subject in "1213":
        await decided(asked, make_transaction(subject=subject))
    assert len(lines()) == 2


async def test_a_filter_that_is_cancelled_may_say_what_it_was_waiting_for(pipeline, lines):
    async def patient(transaction):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise TimeoutError("classifier at 192.0.2.1:80 was connected and silent") from None

    asked = pipeline(patient, seconds=0.01)
    assert await decided(asked) == [Result.TIMEOUT]
    (line,) = lines()
    assert line.endswith(
        "'no answer within 0.01 s: TimeoutError: classifier at 192.0.2.1:80 was connected and silent'"
    )


@pytest.mark.parametrize("awaits", [True, False])
async def test_an_async_filter_that_blocks_longer_than_its_time_out_is_named(
    pipeline, lines, blocking_clock, monkeypatch, awaits
):
    monkeypatch.setattr(steps, "_BLOCKED_SECONDS", 60.0)

    async def blocking(transaction):
        blocking_clock.now += 31
        return Verdict(reason="late")

    async def blocking_later(transaction):
        await asyncio.sleep(0)
        return await blocking(transaction)

    function = blocking_later if awaits else blocking
    assert await decided(pipeline(function, seconds=32)) == [Result.HIT]
    assert lines() == []
    assert await decided(pipeline(function, seconds=30)) == [Result.HIT], "its answer counts"
    (line,) = lines()
    assert line == (
        f"rule {function.__name__} blocked all connections for 31,000 ms at message, "
        f"transaction {MESSAGE.id}: an async def must not block, use a plain def"
    )


async def test_an_async_filter_that_blocks_for_longer_than_a_second_is_named(pipeline, lines, blocking_clock):
    async def blocking(transaction):
        blocking_clock.now += 1.5
        await asyncio.sleep(0)

    async def waiting(transaction):
        for _ in range(4):
            await asyncio.sleep(0.01)
            blocking_clock.now += 0.9

    asked = pipeline(blocking), pipeline(waiting)
    await asyncio.gather(*map(decided, asked))
    assert [line.split()[1] for line in lines()] == ["blocking"], "waiting is not blocking"


async def test_a_filter_that_blocks_when_it_is_cancelled_is_named(pipeline, lines, blocking_clock):
    async def stubborn(transaction):
        try:
            await asyncio.Event().wait()
        finally:
            blocking_clock.now += 0.02

    assert await decided(pipeline(stubborn, seconds=0.01)) == [Result.TIMEOUT]
    assert sorted(line.split()[2] for line in lines()) == ["blocked", "timed"]


async def test_what_a_cancelled_filter_raises_does_not_reach_the_event_loop(pipeline, caplog):
    released = asyncio.Event()

    async def late(transaction):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await released.wait()
            raise ValueError("late") from None

    assert await decided(pipeline(late, seconds=0.01)) == [Result.TIMEOUT]
    (task,) = asyncio.all_tasks() - {asyncio.current_task()}
    released.set()
    await asyncio.wait([task])
    del task
    assert [record.name for record in caplog.records] == ["gatepost.pipeline.failures"]
