"""The resolver: asks the name servers, and remembers what they answer."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Literal

from gatepost.dns.answer import Answer, DnsStatus

__all__ = ["Ask", "Kind", "Resolver"]

Kind = Literal["A", "AAAA", "MX", "PTR", "TXT"]
Ask = Callable[[str, str], Awaitable[tuple[Answer, float]]]
"""Asks name servers; returns the answer, and for how many seconds it holds."""

_CACHE_LIMIT = 10_000
_LONGEST_SECONDS = 3600.0
_FAILURE_SECONDS = 2.0
"""Servers that do not answer are left alone for that time."""


class Resolver:
    """Asks DNS, with one cache for all filters of a process.

    A filter gets it as the argument of a constructor's parameter with this annotation. The servers are those
    of ``dns`` in rules.yaml, or of the system. Answers are remembered as long as their records say, at most
    an hour; negative ones a minute. What several sessions want to know at the same time is asked once.
    """

    def __init__(
        self, *, servers: Sequence[str] = (), timeout_seconds: float = 5.0, ask: Ask | None = None
    ) -> None:
        """Make it without asking anything, in any thread.

        Args:
            servers: as ``address:port``; none: those of the system.
            timeout_seconds: for one question.
            ask: is called instead of the servers.
        """
        self._servers = tuple(servers)
        self._timeout = timeout_seconds
        self._ask = ask
        self._close: Callable[[], Awaitable[None]] | None = None
        self._cache: OrderedDict[tuple[str, Kind], tuple[float, Answer]] = OrderedDict()
        self._questions: dict[tuple[str, Kind], asyncio.Task[Answer]] = {}

    async def look_up(self, name: str, kind: Kind) -> Answer:
        """Ask for the records of a type that a name has; the name is absolute, in A-labels.

        Whatever goes wrong is in the answer's status; it raises nothing.
        """
        question = (name.lower().removesuffix("."), kind)
        known = self._cache.get(question)
        if known is not None and known[0] > time.monotonic():
            self._cache.move_to_end(question)
            return known[1]
        task = self._questions.get(question)
        if task is None:
            task = self._questions[question] = asyncio.get_running_loop().create_task(self._answer(*question))
            task.add_done_callback(lambda _: self._questions.pop(question, None))
        return await asyncio.shield(task)

    async def close(self) -> None:
        """End all questions."""
        for task in tuple(self._questions.values()):
            task.cancel()
        if self._close:
            await self._close()
            self._ask = self._close = None

    async def _answer(self, name: str, kind: Kind) -> Answer:
        if not name.isascii() or "\0" in name or "\\" in name or not name:  # c-ares reads a\b as ab
            return Answer(status=DnsStatus.NO_NAME)
        if self._ask is None:
            from gatepost.dns.cares import Cares  # noqa: PLC0415 - few settings need DNS

            channel = Cares(self._servers)
            self._ask, self._close = channel.ask, channel.close
        answer, seconds = Answer(status=DnsStatus.TIMED_OUT), _FAILURE_SECONDS
        with suppress(TimeoutError):
            async with asyncio.timeout(self._timeout):
                answer, seconds = await self._ask(name, kind)
        self._cache[name, kind] = (time.monotonic() + min(seconds, _LONGEST_SECONDS), answer)
        self._cache.move_to_end((name, kind))
        if len(self._cache) > _CACHE_LIMIT:
            self._cache.popitem(last=False)
        return answer
