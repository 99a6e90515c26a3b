"""Requests that wait for mail: one look at the store wakes them all."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from anyio import to_thread

from gatepost.store import StoreError

__all__ = ["TooManyWaitError", "Waiting"]

_LOOK_SECONDS = 0.03
"""Between two looks at the store, at least; each takes some microseconds."""
_PAUSE_LIMIT_SECONDS = 0.5
"""Between two looks the desk has as much time for others as it spent asking, up to this: mail may pour in."""
_TROUBLE_SECONDS = 1.0
_ASKING = 2
"""Requests that ask the store at the same time, so that pages find it free."""

T = TypeVar("T")


class TooManyWaitError(Exception):
    """No more requests may wait."""


class Waiting:
    """Waits until the store holds what a request asks for; for one event loop.

    As long as anybody waits one task looks whether the store has changed, and only then is it asked again.
    """

    def __init__(self, look: Callable[[], int], *, limit: int = 100) -> None:
        """Wait over a store.

        Args:
            look: gives another number after each change of the store; cheap. Raises StoreError.
            limit: how many may wait at the same time.
        """
        self._look = look
        self._limit = limit
        self._waiters = 0
        self._watcher: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._asking = asyncio.Semaphore(_ASKING)
        self._spent_seconds = 0.0

    @property
    def waiters(self) -> int:
        """How many wait."""
        return self._waiters

    async def until(self, ask: Callable[[], Awaitable[T | None]], timeout_seconds: float) -> T | None:
        """The first result of ``ask`` other than None; None if there was none in time.

        Raises TooManyWaitError, and what ``ask`` raises.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_seconds
        async with self._waiter():
            while True:
                changed = self._changed
                async with self._asking:
                    began = loop.time()
                    found = await ask()
                    self._spent_seconds += loop.time() - began
                if found is not None or loop.time() >= deadline:
                    return found
                try:
                    async with asyncio.timeout_at(deadline):
                        await changed.wait()
                except TimeoutError:
                    return None

    @contextlib.asynccontextmanager
    async def _waiter(self) -> AsyncIterator[None]:
        if self._waiters >= self._limit:
            raise TooManyWaitError
        self._waiters += 1
        if self._watcher is None:
            self._watcher = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            self._waiters -= 1
            if not self._waiters and self._watcher:
                self._watcher.cancel()
                self._watcher = None

    async def _watch(self) -> None:
        """The first look always counts as a change: what came since a waiter asked may lie before it."""
        seen: int | None = None
        while True:
            try:
                number: int | None = await to_thread.run_sync(self._look)
                pause = _LOOK_SECONDS + min(self._spent_seconds, _PAUSE_LIMIT_SECONDS)
                self._spent_seconds = 0.0
            except StoreError:  # waiting requests ask the store themselves, and get its error
                number, pause = None, _TROUBLE_SECONDS
            if number is None or number != seen:
                seen = number
                changed, self._changed = self._changed, asyncio.Event()
                changed.set()
            await asyncio.sleep(pause)
