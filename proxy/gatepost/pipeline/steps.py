"""A filter's coroutine, step by step: as a task of its own, but without a task's cost if it does not wait."""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from contextvars import copy_context
from time import perf_counter
from typing import Any, cast

from gatepost.model.checks import one_line

__all__ = ["Blocked", "FilterFailedError", "Steps", "described"]

Blocked = Callable[[float], None]
"""Is told for how many seconds an ``async def`` blocked the event loop, if that was too long."""
_BLOCKED_SECONDS = 1.0
"""The longest time that is not too long, unless the filter has less for its answer."""
_REASON_LIMIT = 500
# The functions for other implementations of tasks than asyncio's own:
# https://docs.python.org/3/library/asyncio-extending.html#task-lifetime-support
_enter: Callable[[asyncio.AbstractEventLoop, Any], None] = asyncio._enter_task  # noqa: SLF001
_leave: Callable[[asyncio.AbstractEventLoop, Any], None] = asyncio._leave_task  # noqa: SLF001


class FilterFailedError(Exception):
    """A filter raised, exited, or returned something other than a Verdict or None."""


def described(error: BaseException) -> str:
    """The class and the text of what a filter raised, on one line."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - an exception's own __str__ may raise
        text = ""
    name = type(error).__name__
    return one_line("error", f"{name}: {text}" if text else name, _REASON_LIMIT)


class Steps:
    """A filter's coroutine: its failures are contained, and each step from one wait to the next is timed.

    `begin` runs the first step at once, in the caller's turn of the event loop. Most filters then have their
    answer. For one that waits, `task` goes on from there.

    In all steps this object is the current task instead of the caller's, so that what a filter does with its
    task, for example in `asyncio.timeout`, concerns the filter alone. It has all that `task` has.
    """

    has_ended = False
    """True if the first step was the last one."""
    answer: Any = None
    """What it returned then."""
    _task: asyncio.Task[Any] | None = None
    _waits_for: Any = None
    """What the first step waits for, until the task waits for it."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], seconds: float, blocked: Blocked) -> None:
        self._coroutine = coroutine
        self._seconds = seconds
        self._blocked = blocked
        self._loop = asyncio.get_running_loop()
        self._context = copy_context()

    @property
    def task(self) -> asyncio.Task[Any]:
        """The task of these steps; made when it is needed."""
        if self._task is None:
            self._task = self._loop.create_task(cast("Coroutine[Any, Any, Any]", self), context=self._context)
        return self._task

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)

    def begin(self) -> None:
        """Run the first step; raises FilterFailedError."""
        loop = self._loop
        outer = asyncio.current_task(loop)
        if outer is not None:
            _leave(loop, outer)
        _enter(loop, self)
        self.has_ended = True
        begin = perf_counter()
        try:
            self._waits_for = self._context.run(self._coroutine.send, None)
            self.has_ended = False
        except StopIteration as end:  # here and not from `_step`, through which it would take twice as long
            self.answer = end.value
            if self._task and self._task.cancelling():  # by itself
                raise FilterFailedError("CancelledError") from None
        except asyncio.CancelledError as error:
            raise FilterFailedError(described(error)) from None
        except BaseException as error:  # SystemExit would end the event loop
            raise FilterFailedError(described(error)) from error
        finally:
            took = perf_counter() - begin
            _leave(loop, self)
            if outer is not None:
                _enter(loop, outer)
            if took > _BLOCKED_SECONDS or took > self._seconds:
                self._blocked(took)

    def send(self, value: Any) -> Any:
        """Run the next step, when it is the task's turn."""
        if self.has_ended:
            raise StopIteration
        if (waits_for := self._waits_for) is not None:
            self._waits_for = None
            return waits_for
        return self._step(self._coroutine.send, value)

    def throw(self, error: Any, *deprecated: Any) -> Any:
        """Run the next step, which begins with an exception: the filter is cancelled."""
        if self.has_ended:
            raise error
        if (waits_for := self._waits_for) is not None:
            self._waits_for = None
            if waits_for.cancel():
                return waits_for  # the filter is told when that has ended, as in any task
        return self._step(self._coroutine.throw, error, *deprecated)

    def _step(self, run: Callable[..., Any], *value: Any) -> Any:
        loop = self._loop
        outer = asyncio.current_task(loop)
        if outer is not None:
            _leave(loop, outer)
        _enter(loop, self)
        begin = perf_counter()
        try:
            return run(*value)
        except BaseException as error:
            self.has_ended, self._task = True, None  # as below
            if isinstance(error, StopIteration | asyncio.CancelledError):
                raise
            raise FilterFailedError(described(error)) from error
        finally:
            took = perf_counter() - begin
            _leave(loop, self)
            if outer is not None:
                _enter(loop, outer)
            del outer  # a task whose exception refers to this frame: a circle would keep the rules in memory
            if took > _BLOCKED_SECONDS or took > self._seconds:
                self._blocked(took)

    def close(self) -> None:
        """End it where it waits."""
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._coroutine.__await__()
