"""Sliding windows: what was counted lately, in slices of time."""

import math
from collections.abc import Mapping

from gatepost.state.contract import Amount, Counted

__all__ = ["SLICES", "Slices", "fitted"]

SLICES = 12
"""A window has so many slices; with the current one, that is not over, there is one more."""
_SHORTEST_SECONDS = 0.001

Slices = Mapping[int, int]
"""What was counted, by the number of the slice: the time in seconds since 1970 by its length."""


def fitted(slices: Slices, amount: Amount, now: float) -> tuple[Slices, Counted]:
    """Count an amount if there is room; returns the slices that are not over, and what was found.

    Slices of the future, from before the clock was set back, become part of the current one: they count for
    one more window, not until the clock is there.
    """
    length = amount.seconds / SLICES
    current = math.floor(now / length)
    kept = {number: count for number, count in slices.items() if current - SLICES <= number < current}
    kept[current] = sum(count for number, count in slices.items() if number >= current)
    total = sum(kept.values())
    if total + amount.amount <= amount.limit:
        kept[current] += amount.amount
        return kept, Counted(total=total + amount.amount)
    return kept, Counted(total=total, wait_seconds=_wait(kept, total, amount, length, now))


def _wait(slices: Slices, total: int, amount: Amount, length: float, now: float) -> float:
    """The time until so many slices are over that there is room."""
    left = total
    for number in sorted(slices):
        left -= slices[number]
        if left + amount.amount <= amount.limit:
            return max((number + SLICES + 1) * length - now, _SHORTEST_SECONDS)
    return math.inf
