"""What is too old, by a clock that may be wrong."""

from dataclasses import dataclass
from datetime import timedelta

__all__ = ["SETTLING", "AgeBound"]

SETTLING = timedelta(hours=12)
"""For so long a clock must have said that something is too old."""
_SPAN_SECONDS = 600.0
"""Looks of so long a time are remembered as one."""


@dataclass(slots=True)
class _Span:
    began: float
    lowest: int


class AgeBound:
    """Too old is what each look of the last 12 hours found too old.

    Those hours are hours in which Gatepost ran, by a clock that nobody sets. So a clock that jumps ahead
    takes nothing with it: it can be set right meanwhile. It begins anew with each start.
    """

    def __init__(self) -> None:
        self._spans: list[_Span] = []

    def look(self, bound: int, running: float) -> int:
        """What the clock says now; gives what holds.

        Args:
            bound: what is older is too old by the clock; microseconds since 1970.
            running: seconds of a monotonic clock.

        Returns:
            What is older goes, in microseconds since 1970; 0: nothing does.
        """
        if self._spans and running - self._spans[-1].began < _SPAN_SECONDS:
            self._spans[-1].lowest = min(self._spans[-1].lowest, bound)
        else:
            self._spans.append(_Span(running, bound))
        settled = running - SETTLING.total_seconds()
        while len(self._spans) > 1 and self._spans[1].began <= settled:
            del self._spans[0]
        return min(span.lowest for span in self._spans) if self._spans[0].began <= settled else 0
