"""The beginning of a filter: `open` of each is called before the first message, and again if it fails."""

import asyncio
import time

from gatepost.pipeline.ask import FilterFailedError, FilterTimeoutError, Threads, ask
from gatepost.pipeline.rule import Hook

__all__ = ["Opening"]

_PAUSE_SECONDS = 5.0
"""After a failure; meanwhile it fails again at once."""


class Opening:
    """Calls a filter's `open`, once for all that wait for it, until it has succeeded."""

    def __init__(self, hook: Hook, seconds: float, threads: Threads) -> None:
        """``seconds`` is the time for one call."""
        self._hook = hook
        self._seconds = seconds
        self._threads = threads
        self._call: asyncio.Task[FilterFailedError | FilterTimeoutError | None] | None = None
        self._again_at = 0.0

    async def wait(self, seconds: float) -> None:
        """Return when it has succeeded; raises FilterFailedError or FilterTimeoutError."""
        if self._call is None or (self._call.done() and time.monotonic() >= self._again_at):
            self._call = asyncio.get_running_loop().create_task(self._called())
        done, _ = await asyncio.wait((self._call,), timeout=seconds)
        if not done:
            raise FilterTimeoutError("open has not ended")
        if error := self._call.result():
            raise type(error)(*error.args) from error.__cause__

    async def _called(self) -> FilterFailedError | FilterTimeoutError | None:
        try:
            await ask(self._hook, {}, self._seconds, self._threads, lambda _: None, check=lambda _: None)
        except FilterTimeoutError as error:
            failure: FilterFailedError | FilterTimeoutError
            failure = FilterTimeoutError(
                f"open has not ended within {self._seconds:g} s: {error}".rstrip(": ")
            )
        except FilterFailedError as error:
            failure = FilterFailedError(f"open failed: {error}")
            failure.__cause__ = error.__cause__
        else:
            return None
        self._again_at = time.monotonic() + _PAUSE_SECONDS
        return failure
