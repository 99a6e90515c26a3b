"""A service that cannot be reached is left alone for a while; nothing else has that effect."""

import asyncio

import pytest
from gatepost import UnreachableError, Verdict, hookimpl
from gatepost.model.verdict import Result
from gatepost.pipeline import Pipeline, Screening, Threads
from gatepost.pipeline.breaker import Breaker
from gatepost.pipeline.hooks import hooks_of
from gatepost.pipeline.rule import Rule
from gatepost.testing import make_transaction

LETTER = make_transaction()


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


class Asked:
    """Answers as it is told, and counts how often it was asked."""

    def __init__(self, *answers, waits=False):
        self.answers, self.waits, self.count = list(answers), waits, 0

    @hookimpl
    async def filter_message(self):
        self.count += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if self.waits:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                raise answer from None
        if isinstance(answer, BaseException):
            raise answer
        return answer


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def pipeline(clock):
    threads = Threads()

    def make(**filters):
        rules = [
            Rule(name=name, hooks=hooks_of(one).stages, on_error="skip", timeout_seconds=0.02)
            for name, one in filters.items()
        ]
        made = Pipeline(rules, filter_seconds=10, threads=threads)
        made._breaker = Breaker(clock)
        return made

    yield make
    threads.close()


async def evaluations(pipeline):
    _, screening = await Screening(pipeline).mail(LETTER.session, LETTER.envelope, "t")
    return (await screening.decide(LETTER)).evaluations


GONE = UnreachableError("127.0.0.1:9: refused")


@pytest.mark.parametrize("waits", [False, True])
async def test_after_five_failures_it_is_not_asked_until_the_pause_is_over(pipeline, clock, waits):
    gone, other = Asked(GONE, waits=waits), Asked(None)
    made = pipeline(gone=gone, other=other)
    for _ in range(5):
        await evaluations(made)
    first, second = await evaluations(made)
    assert (gone.count, other.count) == (5, 6)
    assert (first.result, second.result) == (Result.ERROR, Result.PASS)
    assert first.reason == "not asked: no connection 5 times in a row; asked again in 10 s"
    clock.now += 10
    together = await asyncio.gather(*(evaluations(made) for _ in range(3)))
    assert gone.count == 6, "one message tries again, the others do not wait for it"
    assert sum("not asked" in one[0].reason for one in together) == 2
    clock.now += 9
    await evaluations(made)
    assert gone.count == 6, "the next pause has begun"


async def test_it_is_asked_again_when_it_has_answered(pipeline, clock):
    back = Asked(*[GONE] * 6, Verdict(reason="found", score=1.0), None)
    made = pipeline(back=back)
    for _ in range(7):
        await evaluations(made)
    clock.now += 10
    await evaluations(made)
    clock.now += 10
    (hit,) = await evaluations(made)
    assert hit.reason == "found"
    assert [(await evaluations(made))[0].result for _ in range(3)] == [Result.PASS] * 3
    assert back.count == 10


@pytest.mark.parametrize(
    "errors",
    [
        [OSError("disk")],
        [ConnectionResetError("reset")],
        [ConnectionRefusedError("refused")],
        [TimeoutError("late")],
        [ValueError("odd")],
        [GONE, GONE, GONE, GONE, None],
        [GONE, GONE, GONE, GONE, Verdict(reason="x", score=1.0)],
    ],
)
async def test_nothing_else_keeps_a_rule_from_being_asked(pipeline, errors):
    asked = Asked(*errors * 20)
    made = pipeline(asked=asked)
    for _ in range(20):
        await evaluations(made)
    assert asked.count == 20


async def test_a_filter_that_is_late_is_asked_each_time(pipeline):
    late = Asked(asyncio.CancelledError(), waits=True)
    made = pipeline(late=late)
    for _ in range(7):
        await evaluations(made)
    assert late.count == 7
