"""What is too old, by a clock that may be wrong."""

from dataclasses import dataclass
from datetime import timedelta

__all__ = ["AgeBound"]

_SPANS = 72
"""Looks within one of so many parts of the settling time are remembered as one."""


@dataclass(slots=True)
class _Span:
    began: float
    lowest: int


class AgeBound:
    """Something is too old if each look of the settling time found it too old.

    That time is counted by a monotonic clock while Gatepost runs. So a clock that jumps ahead deletes
    nothing: it can be corrected meanwhile. The count starts again with each start of Gatepost.
    """

    def __init__(self, settling: timedelta) -> None:
        self._settling_seconds = settling.total_seconds()
        self._span_seconds = self._settling_seconds / _SPANS
        self._spans: list[_Span] = []

    def look(self, bound: int, running: float) -> int:
        """Note the bound by the clock; returns the bound that holds.

        Args:
            bound: older than this is too old by the clock; microseconds since 1970.
            running: seconds of a monotonic clock.

        Returns:
            Older than this is too old, in microseconds since 1970; 0: nothing is.
        """
        if self._spans and running - self._spans[-1].began < self._span_seconds:
            self._spans[-1].lowest = min(self._spans[-1].lowest, bound)
        else:
            self._spans.append(_Span(running, bound))
        settled = running - self._settling_seconds
        while len(self._spans) > 1 and self._spans[1].began <= settled:
            del self._spans[0]
        return min(span.lowest for span in self._spans) if self._spans[0].began <= settled else 0
