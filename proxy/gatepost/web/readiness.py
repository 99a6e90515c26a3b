"""Whether the gateway can take mail: the answer of ``/readyz``, however often it is asked."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

__all__ = ["Check", "Readiness"]

log = logging.getLogger("gatepost")

Check = Callable[[], Awaitable[str]]
"""Returns what is wrong, for the log; empty: nothing."""

_FRESH_SECONDS = 1.0
"""How long an answer is repeated."""
_DEADLINE_SECONDS = 3.0


class Readiness:
    """Runs checks, at most once a second, and logs when the answer changes; for one event loop."""

    def __init__(self, checks: Mapping[str, Check], *, optional: frozenset[str] = frozenset()) -> None:
        """``optional``: the checks without which mail can be taken, though not all of it."""
        self._checks = checks
        self._optional = optional
        self._running: dict[str, asyncio.Future[str]] = {}
        self._round: asyncio.Task[Mapping[str, bool]] | None = None
        self._fresh_until = 0.0
        self._failing: frozenset[str] = frozenset()

    def status(self, passed: Mapping[str, bool]) -> str:
        """``ready``, ``degraded`` if only optional checks failed, or ``not ready``."""
        return self._status(frozenset(name for name, fine in passed.items() if not fine))

    def _status(self, failing: frozenset[str]) -> str:
        if not failing:
            return "ready"
        return "degraded" if failing <= self._optional else "not ready"

    async def passed(self) -> Mapping[str, bool]:
        """Whether each check passed; concurrent callers share one round of checks, of bounded time."""
        now = asyncio.get_running_loop().time()
        if self._round is None or (self._round.done() and now >= self._fresh_until):
            self._round = asyncio.create_task(self._ask())
        return await asyncio.shield(self._round)

    async def passed_again(self) -> Mapping[str, bool]:
        """As `passed`, by checks that begin from now on: something has just failed."""
        if self._round is not None:
            await asyncio.wait((self._round,))
        self._fresh_until = 0.0
        return await self.passed()

    async def _ask(self) -> Mapping[str, bool]:
        for name, check in self._checks.items():
            if name not in self._running:  # one without an answer is not asked again meanwhile
                self._running[name] = asyncio.ensure_future(check())
        if self._running:
            await asyncio.wait(self._running.values(), timeout=_DEADLINE_SECONDS)
        wrong = {name: self._result(name) for name in self._checks}
        self._note({name: text for name, text in wrong.items() if text})
        self._fresh_until = asyncio.get_running_loop().time() + _FRESH_SECONDS
        return {name: not text for name, text in wrong.items()}

    def _result(self, name: str) -> str:
        check = self._running[name]
        if not check.done():
            return f"no answer within {_DEADLINE_SECONDS:g} s"
        del self._running[name]
        error = check.exception()
        return check.result() if error is None else f"{type(error).__name__}: {error}"

    def _note(self, wrong: Mapping[str, str]) -> None:
        failing = frozenset(wrong)
        if failing and failing != self._failing:
            reasons = "; ".join(f"{name}: {text}" for name, text in wrong.items())
            log.warning("%s: %s", self._status(failing), reasons)
        elif self._failing and not failing:
            log.warning("ready again")
        self._failing = failing

    def close(self) -> None:
        """Stop the checks that are running."""
        for task in (*self._running.values(), self._round):
            if task:
                task.cancel()
