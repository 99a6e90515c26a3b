"""A rule whose service cannot be reached is not asked for a while: mail need not wait for it each time."""

import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Breaker"]

_FAILURES = 5
"""In a row, after which a rule is not asked."""
_PAUSE_SECONDS = 10.0
"""After it one question is let through; if that fails too, the next pause begins."""


@dataclass(slots=True)
class _Failing:
    failures: int = 0
    asked_again_at: float = 0.0


class Breaker:
    """Knows which rules are out of service: their filter raises UnreachableError, time after time.

    Nothing else counts, neither other errors nor a time-out: what one message brings about must not keep a
    rule from being asked about the next one.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.failing: dict[str, _Failing] = {}
        """By rule. Look whether it is empty before anything else, which is for each question."""

    def why_not(self, rule: str) -> str:
        """Why a rule is not asked now; empty if it is, and then nobody else asks it during the pause."""
        found = self.failing.get(rule)
        if found is None or found.failures < _FAILURES:
            return ""
        now = self._clock()
        if now >= found.asked_again_at:
            found.asked_again_at = now + _PAUSE_SECONDS
            return ""
        left = found.asked_again_at - now
        return f"not asked: no connection {found.failures} times in a row; asked again in {left:.0f} s"

    def out_of_service(self) -> tuple[str, ...]:
        """The rules that are not asked now."""
        now = self._clock()
        return tuple(rule for rule, found in self.failing.items() if found.asked_again_at > now)

    def failed(self, rule: str) -> None:
        """A rule's filter could not reach its service."""
        found = self.failing.setdefault(rule, _Failing())
        found.failures += 1
        if found.failures >= _FAILURES:
            found.asked_again_at = self._clock() + _PAUSE_SECONDS

    def answered(self, rule: str) -> None:
        """A rule has answered."""
        self.failing.pop(rule, None)
