"""Call one hook of a filter and contain its failures; the only place where hooks are called."""

import asyncio
import queue
import threading
from collections.abc import Callable, Mapping
from types import CoroutineType
from typing import Any, NoReturn

from gatepost.model.verdict import Passed, PerRecipient, Verdict, check_again
from gatepost.pipeline.rule import Hook
from gatepost.pipeline.steps import Blocked, FilterFailedError, Steps, described

__all__ = [
    "Blocked",
    "FilterAnswer",
    "FilterFailedError",
    "FilterTimeoutError",
    "Threads",
    "ask",
    "cancel",
    "checked",
    "unexpected",
]

FilterAnswer = Verdict | PerRecipient | Passed
"""What a hook returns that decides about mail, if it has something to say."""


class FilterTimeoutError(Exception):
    """A filter did not answer in time; the text says what it was waiting for, if the filter told."""


class Threads:
    """Worker threads for filters that block.

    A thread whose filter does not return is abandoned and replaced, up to ``lost_limit`` times. All are
    daemon threads, so that a hanging filter cannot keep the process alive.
    """

    def __init__(self, *, size: int = 16, lost_limit: int = 64) -> None:
        self._size = size
        self._lost_limit = lost_limit
        self._jobs: queue.SimpleQueue[Callable[[], bool] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._alive = 0
        self._lost = 0
        self._waiting = 0

    async def run(self, function: Callable[[], Any], seconds: float) -> Any:
        """Return what the function returns; raises what it raises, or FilterTimeoutError."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        job = _Job(function, loop, answer)
        with self._lock:
            if self._lost >= self._lost_limit:
                raise FilterFailedError(f"{self._lost} threads hang in filters")
            self._waiting += 1
            if self._alive - self._lost < min(self._size, self._waiting):
                self._alive += 1
                threading.Thread(target=self._work, name="gatepost-filter", daemon=True).start()
        self._jobs.put(job)
        try:
            done, _ = await asyncio.wait((answer,), timeout=seconds)
        except BaseException:
            self._give_up(job)
            raise
        if not done:
            self._give_up(job)
            raise FilterTimeoutError
        with self._lock:
            self._waiting -= 1
        try:
            return answer.result()
        finally:
            del answer, job, done  # as in `_ask_on_the_loop`

    def close(self) -> None:
        """End the idle threads; hanging threads end with the process."""
        with self._lock:
            for _ in range(self._alive):
                self._jobs.put(None)

    def _give_up(self, job: "_Job") -> None:
        with self._lock:
            self._waiting -= 1
            if job.give_up():
                self._lost += 1

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            came_back_late = job()
            if came_back_late:
                with self._lock:
                    self._lost -= 1
                    self._alive -= 1
                return
        with self._lock:
            self._alive -= 1


class _Job:
    """One call in a thread; it does not run if it was cancelled before it started."""

    def __init__(
        self, function: Callable[[], Any], loop: asyncio.AbstractEventLoop, answer: asyncio.Future[Any]
    ) -> None:
        self._function = function
        self._loop = loop
        self._answer = answer
        self._lock = threading.Lock()
        self._state = "waiting"

    def give_up(self) -> bool:
        """Cancel the call; True if it is already running, so that its thread is lost."""
        with self._lock:
            was, self._state = self._state, "given up"
            return was == "running"

    def __call__(self) -> bool:
        """Run it; True if it was cancelled meanwhile, so that nothing waits for the answer."""
        with self._lock:
            if self._state != "waiting":
                return False
            self._state = "running"
        try:
            result, error = self._function(), None
        except BaseException as raised:  # noqa: BLE001 - SystemExit of a filter too must not end the thread
            result, error = None, raised
        with self._lock:
            if self._state == "given up":
                return True
            self._state = "done"
        try:
            self._loop.call_soon_threadsafe(self._set, result, error)
        except RuntimeError:  # the loop is closed
            return False
        return False

    def _set(self, result: Any, error: BaseException | None) -> None:
        if self._answer.done():
            return
        if error is None:
            self._answer.set_result(result)
        else:
            # A future takes no StopIteration, and SystemExit must not reach the loop.
            failed = FilterFailedError(described(error))
            failed.__cause__ = error
            self._answer.set_exception(failed)


def checked(answer: object) -> FilterAnswer:
    """A filter's answer; raises TypeError or ValueError if it is not a valid Verdict, or several, or Passed.

    Verdicts check themselves when they are made, but a filter may get round that.
    """
    if isinstance(answer, PerRecipient):
        for verdict in answer.verdicts.values():
            if verdict is not None and not isinstance(checked(verdict), Verdict):
                what = type(verdict).__name__
                raise TypeError(f"returned {what} in PerRecipient, expected Verdict or None")
        return answer
    if not isinstance(answer, Verdict):
        if isinstance(answer, Passed):
            Passed.__post_init__(answer)
            return answer
        raise TypeError(f"returned {_kind(answer)}, expected Verdict or None")
    check_again(answer)
    return answer


def unexpected(answer: object) -> NoReturn:
    """Raise TypeError: of a hook that answers nothing."""
    raise TypeError(f"returned {_kind(answer)}, expected None")


def _kind(answer: object) -> str:
    """The name of its class; a coroutine is closed, since nothing awaits it."""
    if type(answer) is CoroutineType:
        answer.close()
        return "a coroutine (expected async def, also of a decorator around the hook)"
    return type(answer).__name__


async def ask(
    hook: Hook,
    offered: Mapping[str, Any],
    seconds: float,
    threads: Threads,
    blocked: Blocked,
    check: Callable[[object], FilterAnswer | None] = checked,
) -> FilterAnswer | None:
    """The filter's answer, checked; raises only FilterFailedError and FilterTimeoutError."""
    arguments = {name: offered[name] for name in hook.arguments}
    if hook.is_async:
        steps = Steps(hook.function(**arguments), seconds, blocked)
        try:
            steps.begin()
            answer = steps.answer if steps.has_ended else await _answer(steps.task, seconds)
        finally:
            del steps  # as `task` in `_answer`
    else:
        answer = await threads.run(lambda: hook.function(**arguments), seconds)
    if answer is None:
        return None
    try:
        return check(answer)
    except BaseException as error:  # noqa: BLE001 - a foreign object may raise anything when it is looked at
        raise FilterFailedError(described(error)) from None


async def _answer(task: asyncio.Task[Any], seconds: float) -> Any:
    # Wait beside the task, not for it: a filter that ignores its cancellation cannot delay the transaction.
    try:
        await _end_of(task, seconds)
    except BaseException:
        cancel(task)
        raise
    if not task.done():
        cancel(task)
        await asyncio.sleep(0)  # now it is cancelled, and may say what it was waiting for
        waited_for = task.exception() if task.done() and not task.cancelled() else None
        raise FilterTimeoutError(str(waited_for or "")) from (waited_for and waited_for.__cause__)
    try:
        if task.cancelled():
            raise FilterFailedError("CancelledError")
        return task.result()
    finally:
        del task  # its exception refers to this frame: a circle would keep the rules in memory after a reload


async def _end_of(task: asyncio.Task[Any], seconds: float) -> None:
    """Wait until it is done, at most so long; `asyncio.wait` for a single task, with a third of the calls."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def end(_task: asyncio.Task[Any] | None = None) -> None:
        if not ended.done():
            ended.set_result(None)

    timer = loop.call_later(seconds, end)
    task.add_done_callback(end)
    try:
        await ended
    finally:
        timer.cancel()
        task.remove_done_callback(end)


def cancel(task: asyncio.Task[Any]) -> None:
    """Cancel it; what it raises then is of no interest to the event loop."""
    task.cancel()
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
