"""A filter that does not wait needs no task, and cannot tell: its current task is its own."""

import asyncio
import contextvars
import gc
import weakref

import anyio
import pytest
from gatepost.pipeline.ask import FilterFailedError, FilterTimeoutError, Threads, ask
from gatepost.pipeline.rule import Hook

HERE = contextvars.ContextVar("HERE", default="session")


@pytest.fixture
def asked():
    """Ask a coroutine function, as the pipeline does; afterwards the session goes on undisturbed."""
    threads = Threads()

    async def asked(function, seconds=30.0):
        session = asyncio.current_task()
        try:
            return await ask(
                Hook(function=function, arguments=(), is_async=True),
                {},
                seconds,
                threads,
                pytest.fail,
                lambda it: it,
            )
        finally:
            assert asyncio.current_task() is session
            await asyncio.sleep(0)
            assert not session.cancelling()

    yield asked
    threads.close()


@pytest.fixture
def made():
    """The tasks that the event loop makes."""
    tasks = []

    def factory(loop, coroutine, **options):
        tasks.append(coroutine)
        return asyncio.Task(coroutine, loop=loop, **options)

    return tasks, factory


@pytest.mark.parametrize("waits", [False, True])
async def test_only_a_filter_that_waits_has_a_task_made(asked, made, waits):
    tasks, factory = made

    async def function():
        async with asyncio.Lock():
            if waits:
                await asyncio.sleep(0.001)
            return "answer"

    loop = asyncio.get_running_loop()
    loop.set_task_factory(factory)
    try:
        assert await asked(function) == "answer"
    finally:
        loop.set_task_factory(None)
    assert len(tasks) == waits


@pytest.mark.parametrize("first", [None, 0, 0.001])
async def test_the_current_task_is_the_filters_own_and_stays_the_same(asked, first):
    session, seen = asyncio.current_task(), []

    async def function():
        seen.append(asyncio.current_task())
        if first is not None:
            await asyncio.sleep(first)
        seen.append(asyncio.current_task())

    await asked(function)
    await asked(function)
    one, same, other, same_other = seen
    assert one is same
    assert other is same_other
    assert len({one, other, session}) == 3


async def test_its_timeout_ends_the_wait_of_the_filter_alone(asked):
    async def function():
        try:
            async with asyncio.timeout(0.001):
                await asyncio.sleep(60)
        except TimeoutError:
            return "too late"

    assert await asked(function) == "too late"


async def test_a_timeout_that_is_not_needed_ends_nothing(asked):
    async def function():
        async with asyncio.timeout(0.001):  # noqa: ASYNC100 - that it does not wait is the point
            return "in time"

    assert await asked(function) == "in time"
    await asyncio.sleep(0.01)


@pytest.mark.parametrize("waits_before", [False, True])
async def test_a_task_group_ends_with_the_first_failure(asked, waits_before):
    async def fail():
        raise ValueError

    async def function():
        if waits_before:
            await asyncio.sleep(0.001)
        with pytest.raises(ExceptionGroup):  # noqa: PT012 - the group is one statement
            async with asyncio.TaskGroup() as group:
                group.create_task(fail())
                await asyncio.sleep(60)
        return "contained"

    assert await asked(function) == "contained"


@pytest.mark.parametrize("seconds", [0, 0.001])
async def test_scopes_of_anyio_begin_in_the_first_step_and_end_in_another(asked, seconds):
    async def function():
        with anyio.move_on_after(0.01) as scope, anyio.CancelScope():
            await asyncio.sleep(seconds)
            async with anyio.create_task_group() as group:
                group.start_soon(asyncio.sleep, 60)
                await asyncio.sleep(60)
        return scope.cancelled_caught

    assert await asked(function) is True


@pytest.mark.parametrize("waits", [False, True])
async def test_a_filter_that_cancels_itself_has_failed(asked, waits):
    async def function():
        asyncio.current_task().cancel()
        if waits:
            await asyncio.sleep(60)
        return "answer"

    with pytest.raises(FilterFailedError, match="CancelledError"):
        await asked(function)


async def test_a_filter_that_raises_a_cancellation_has_failed(asked):
    async def function():
        raise asyncio.CancelledError

    with pytest.raises(FilterFailedError, match="CancelledError"):
        await asked(function)


async def test_what_is_to_happen_at_the_end_of_its_task_happens(asked):
    done = []

    async def function():
        asyncio.current_task().add_done_callback(done.append)

    await asked(function)
    await asyncio.sleep(0)
    assert [task.done() for task in done] == [True]


async def test_a_task_that_is_asked_for_after_the_end_ends_at_once(asked):
    kept = []

    async def function():
        kept.append(asyncio.current_task())

    await asked(function)
    assert not kept[0].done()
    await asyncio.sleep(0)
    assert kept[0].done()
    assert kept[0].exception() is None


async def test_its_context_is_its_own_before_and_after_it_waits(asked):
    seen = []

    async def function():
        seen.append(HERE.get())
        HERE.set("filter")
        await asyncio.sleep(0)
        seen.append(HERE.get())

    await asked(function)
    assert seen == ["session", "filter"]
    assert HERE.get() == "session"


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(2), KeyboardInterrupt()])
async def test_no_exception_leaves_any_step(asked, step, error):
    async def function():
        if step == 2:
            await asyncio.sleep(0.001)
        raise error

    with pytest.raises(FilterFailedError, match=type(error).__name__):
        await asked(function)


@pytest.mark.parametrize("seconds", [0.001, 30.0])
async def test_a_filter_that_is_cancelled_ends_after_what_it_waits_for(asked, seconds):
    """By its deadline, or by itself before its task has begun."""
    ended, all_ended = [], asyncio.Event()

    async def inner():
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("inner")

    async def function():
        waits_for = asyncio.create_task(inner())
        if seconds == 30.0:
            asyncio.current_task().cancel()
        try:
            await waits_for
        finally:
            ended.append("filter")
            all_ended.set()

    with pytest.raises(FilterTimeoutError if seconds < 1 else FilterFailedError):
        await asked(function, seconds=seconds)
    async with asyncio.timeout(30):
        await all_ended.wait()
    assert ended == ["inner", "filter"]


async def test_a_task_that_is_cancelled_before_its_turn_cancels_what_it_waits_for(asked):
    future = asyncio.get_running_loop().create_future()

    async def function():
        asyncio.current_task().cancel()
        await future

    with pytest.raises(FilterFailedError, match="CancelledError"):
        await asked(function)
    assert future.cancelled()


async def test_a_transaction_that_is_cancelled_cancels_its_filter(asked):
    begun, ended = asyncio.Event(), asyncio.Event()

    async def function():
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    transaction = asyncio.create_task(
        ask(Hook(function=function, arguments=(), is_async=True), {}, 30.0, Threads(), pytest.fail)
    )
    await begun.wait()
    transaction.cancel()
    with pytest.raises(asyncio.CancelledError):
        await transaction
    async with asyncio.timeout(30):
        await ended.wait()


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("looks", [False, True])
async def test_nothing_of_a_call_stays(asked, fails, waits, looks):
    class Kept:
        pass

    kept = []

    async def function():
        it = Kept()
        kept.append(weakref.ref(it))
        if looks:
            asyncio.current_task().get_name()
        if waits:
            await asyncio.sleep(0)
        if fails:
            raise ValueError

    gc.disable()
    try:
        if fails:
            with pytest.raises(FilterFailedError):
                await asked(function)
        else:
            await asked(function)
        await asyncio.sleep(0)
        assert kept[0]() is None
    finally:
        gc.enable()
