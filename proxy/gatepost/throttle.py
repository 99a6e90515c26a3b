"""Which of many log lines about the same trouble are written."""

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

__all__ = ["Throttle", "and_more"]

_TROUBLES = 1000
"""Troubles that are remembered; the oldest is forgotten for a new one."""


@dataclass(slots=True)
class _Trouble:
    """What is known of one trouble."""

    logged_at: float
    left_out: int = 0
    """Lines since the last one that was written."""


class Throttle:
    """Admits the first line about a trouble at once, then one in each period, with the number left out.

    A trouble that ends and comes back within the period stays the same trouble: one that comes and goes all
    the time does not fill the log either.
    """

    def __init__(self, seconds: float = 60.0, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._troubles: dict[Hashable, _Trouble] = {}

    def admit(self, trouble: Hashable) -> int | None:
        """How many lines were left out before this one, which is to be written; None: leave it out."""
        now = self._clock()
        known = self._troubles.get(trouble)
        if known and now - known.logged_at < self._seconds:
            known.left_out += 1
            return None
        if known is None and len(self._troubles) >= _TROUBLES:
            del self._troubles[next(iter(self._troubles))]
        self._troubles[trouble] = _Trouble(logged_at=now)
        return known.left_out if known else 0


def and_more(left_out: int, what: str = "more") -> str:
    """The end of a line before which others were left out, as `Throttle.admit` says; empty if none was."""
    return f" ({left_out} {what} since the last such line)" if left_out else ""
