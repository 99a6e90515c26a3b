"""The end of filters: `close` of each is called once, when nothing uses it any more."""

import asyncio
import logging
import threading
import weakref
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from itertools import count

from gatepost.pipeline.ask import FilterFailedError, FilterTimeoutError, Threads, ask
from gatepost.pipeline.engine import Pipeline
from gatepost.pipeline.rule import Hook, Rule

__all__ = ["OpenFilters", "close_filters", "close_now"]

log = logging.getLogger(__name__)

_CLOSE_SECONDS = 5.0
"""For each `close`; all are called at the same time."""


class OpenFilters:
    """The filters of all pipelines that are in use.

    Sessions and transactions refer to the pipeline that they began with, and reports to the one that makes
    them. When the last of them has ended, its filters are closed: counting them would cost each message time.
    """

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._loop: asyncio.AbstractEventLoop | None = None
        self._open: dict[int, tuple[Rule, ...]] = {}
        self._numbers = count()
        self._closing: set[asyncio.Task[None]] = set()
        self._shared: list[tuple[set[int], Callable[[], Awaitable[None]]]] = []
        """What filters of these pipelines share, and how it is closed."""

    def start(self) -> None:
        """Begin to close filters that are not used any more; on the running event loop."""
        self._loop = asyncio.get_running_loop()

    def add(self, pipeline: Pipeline) -> None:
        """Close the filters of this pipeline when nothing refers to it."""
        number = next(self._numbers)
        self._open[number] = pipeline.rules
        weakref.finalize(pipeline, self._unused, number).atexit = False

    def when_unused(self, close: Callable[[], Awaitable[None]]) -> None:
        """Close what the filters of all pipelines so far share, when the last of these has ended."""
        self._shared.append((set(self._open), close))

    def _unused(self, number: int) -> None:
        """For any thread: the garbage collector calls it."""
        if self._loop:
            with suppress(RuntimeError):  # the loop is closed, and so are the filters
                self._loop.call_soon_threadsafe(self._close, number)

    def _close(self, number: int) -> None:
        rules = self._open.pop(number, ())
        for numbers, _ in self._shared:
            numbers.discard(number)
        unused = [close for numbers, close in self._shared if not numbers]
        self._shared = [(numbers, close) for numbers, close in self._shared if numbers]
        if rules or unused:
            task = asyncio.ensure_future(self._close_all(rules, unused))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _close_all(
        self, rules: tuple[Rule, ...], shared: Iterable[Callable[[], Awaitable[None]]]
    ) -> None:
        """Close filters, and then what they shared."""
        await close_filters(rules, self._threads)
        for close in shared:
            await close()

    async def close(self) -> None:
        """Close all, whether or not something still refers to them; takes seconds at most."""
        for number in tuple(self._open):
            self._close(number)
        if self._closing:
            await asyncio.wait(tuple(self._closing))


async def close_filters(rules: Iterable[Rule], threads: Threads) -> None:
    """Close the filters of these rules, all at the same time; logs what fails or does not end in time."""
    await asyncio.gather(*(_close(rule.name, rule.close, threads) for rule in rules if rule.close))


async def _close(rule: str, close: Hook, threads: Threads) -> None:
    def blocked(seconds: float) -> None:
        log.warning("rule %s blocked all connections for %.0f ms: close", rule, seconds * 1000)

    try:
        await ask(close, {}, _CLOSE_SECONDS, threads, blocked, check=_whatever)
    except FilterTimeoutError:
        log.warning("rule %s: close has not ended within %g s", rule, _CLOSE_SECONDS)
    except FilterFailedError as error:
        log.warning("rule %s cannot be closed: %r", rule, str(error), exc_info=error.__cause__)


def _whatever(_answer: object) -> None:
    """What `close` returns is of no interest."""


def close_now(rules: Iterable[Rule]) -> None:
    """Close the filters of these rules from a thread that may have an event loop or not."""
    if any(rule.close for rule in rules):
        thread = threading.Thread(target=lambda: asyncio.run(close_filters(rules, Threads())), daemon=True)
        thread.start()
        thread.join()
