"""A filter in processes of its own, which can be killed: ``isolation: process`` of a rule.

Each process is asked one thing at a time, and one more than are busy is kept ready, so that nothing waits
for a start. A process that crashes, exceeds its memory or does not answer in time is killed, and only the
message that it was asked about fails (``on_error``).
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Any

from gatepost.model.mail import Message
from gatepost.pipeline.isolated_process import (
    IsolatedProcess,
    ProcessEndedError,
    Recipe,
    exception_of,
    probe,
)
from gatepost.pipeline.plain import from_plain
from gatepost.pipeline.rule import Hook
from gatepost.printable import without_controls

__all__ = ["IsolatedFilter"]

_PROCESSES = 8
"""Of one rule in one worker."""
_IDLE = 2
"""Of them, those that are kept while nothing is asked."""
_PAUSE_SECONDS = 5.0
"""After a start that failed; meanwhile its failure is the answer."""


class IsolatedFilter:
    """The processes of one rule, for one event loop."""

    def __init__(
        self,
        recipe: Recipe,
        count: Callable[[str, str], None],
        data_made: Callable[[str, str, float], None],
    ) -> None:
        """``count`` and ``data_made`` do what those of a `Place` do; they get the rule's name first."""
        self._recipe = recipe
        self._rule: str = recipe["rule"]
        self._count = count
        self._data_made = data_made
        self._log = logging.getLogger(f"gatepost.filter.{self._rule}")
        self._all: set[IsolatedProcess] = set()
        self._idle: deque[IsolatedProcess] = deque()
        self._waiting: deque[asyncio.Future[IsolatedProcess]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._starting = 0
        self._failure: Exception | None = None
        self._paused_until = 0.0
        self._is_closed = False

    def probe(self) -> dict[str, Any]:
        """What a process says that makes the filter and ends; raises ProcessEndedError."""
        return probe(self._recipe, self._told)

    def hook(self, name: str, arguments: tuple[str, ...]) -> Hook:
        """A hook that asks one of the processes."""

        async def ask(**given: Any) -> Any:
            return await self._ask(name, given)

        return Hook(function=ask, arguments=arguments, is_async=True)

    async def open(self) -> None:
        """Start the first process, which calls the filter's own `open`; raises what that raises."""
        self._give_back(await self._take())

    async def close(self) -> None:
        """End all processes."""
        self._is_closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(process.end() for process in self._all))
        self._all.clear()

    async def _ask(self, name: str, given: dict[str, Any]) -> Any:
        """What the hook answers; raises what it raises, or ProcessEndedError."""
        if transaction := given.get("transaction"):  # without the view, which is computed there
            given["transaction"] = replace(transaction, message=Message(content=transaction.message.content))
        try:
            process = await self._take()
        except asyncio.CancelledError:
            raise ProcessEndedError("its processes are busy or starting") from None
        try:
            said = await process.ask(name, given, self._told)
            answer = exception_of(said["raised"]) if "raised" in said else from_plain(said["answer"])
        except asyncio.CancelledError:
            self._kill(process)
            raise ProcessEndedError("its process was killed") from None
        except ProcessEndedError:
            self._kill(process)
            raise
        except Exception as error:
            self._kill(process)
            raise ProcessEndedError(f"its process answered no verdict: {error}") from error
        if said.get("last"):
            self._retire(process)
        else:
            self._give_back(process)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _told(self, said: Mapping[str, Any]) -> None:
        """A log line, a count or a time; raises for anything else."""
        if "count" in said:
            self._count(self._rule, str(said["count"])[:100])
        elif "made" in said:
            source, seconds = said["made"]
            self._data_made(self._rule, str(source)[:100], float(seconds))
        else:
            level, text = said["log"]
            self._log.log(min(max(int(level), logging.DEBUG), logging.CRITICAL), "%s", without_controls(text))

    # Processes -------------------------------------------------------------------------------------------

    async def _take(self) -> IsolatedProcess:
        """A process that is ready; raises what starting one has raised."""
        while self._idle:
            process = self._idle.popleft()
            if process.is_alive:
                self._grow()
                return process
            self._all.discard(process)
        waiting: asyncio.Future[IsolatedProcess] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        self._grow()
        try:
            process = await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled() and waiting.exception() is None:
                self._give_back(waiting.result())
            raise
        finally:
            with contextlib.suppress(ValueError):
                self._waiting.remove(waiting)
        self._grow()
        return process

    def _give_back(self, process: IsolatedProcess) -> None:
        while process.is_alive and self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(process)
                return
        if process.is_alive and len(self._idle) < _IDLE and not self._is_closed:
            self._idle.append(process)
        else:
            self._retire(process)

    def _kill(self, process: IsolatedProcess) -> None:
        process.kill()
        self._retire(process)

    def _retire(self, process: IsolatedProcess) -> None:
        """Let it end, and reap it."""

        async def end() -> None:
            await process.end()
            self._all.discard(process)

        self._run(end())
        self._grow()

    def _grow(self) -> None:
        """Start a process for each question that waits, and a spare one."""
        wanted = len(self._waiting) + 1 - len(self._idle) - self._starting
        room = _PROCESSES - len(self._all) - self._starting
        if self._is_closed or (self._failure and time.monotonic() < self._paused_until):
            self._fail_waiting()
            return
        for _ in range(min(wanted, room)):
            self._starting += 1
            self._run(self._start())

    async def _start(self) -> None:
        try:
            process = await IsolatedProcess.start(self._recipe, self._told)
        except Exception as error:  # noqa: BLE001 - for those that wait
            self._failure, self._paused_until = error, time.monotonic() + _PAUSE_SECONDS
            self._starting -= 1
            if not self._all:
                self._fail_waiting()
            return
        except BaseException:
            self._starting -= 1
            raise
        self._failure = None
        self._starting -= 1
        self._all.add(process)
        self._give_back(process)

    def _fail_waiting(self) -> None:
        """Tell those that wait why there is no process, unless one that is busy comes back."""
        while self._waiting and not self._all and not self._starting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_exception(self._failure or ProcessEndedError("the filter is closed"))

    def _run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
