"""What a backend of the state does, and the values that it takes and returns."""

from typing import Protocol

from gatepost.values import value

__all__ = ["Amount", "Backend", "Counted", "Entry", "StateError", "Value"]

Value = int | float | str | bytes


class StateError(OSError):
    """The state cannot be used: full, locked, damaged or gone; it may be back later.

    The text is for operators. Of a filter that lets it through, the rule's ``on_error`` decides.
    """


@value
class Amount:
    """What `State.add` counts: an amount, within a window of time, up to a limit."""

    key: str
    """What is counted, for example the address of a client; counts of other windows are others."""
    amount: int
    """At least 0."""
    seconds: float
    """The length of the window, more than 0."""
    limit: int
    """The most that may be counted within the window."""

    def __post_init__(self) -> None:
        if self.amount < 0 or not 0 < self.seconds < 1e9:
            raise ValueError(f"{self}: expected an amount of at least 0 and a window of more than 0 seconds")


@value
class Counted:
    """What `State.add` found for an `Amount`."""

    total: int
    """What is counted within the window, with the amount if it was added."""
    wait_seconds: float = 0.0
    """0: there is room for the amount. Else the time until there is, unless others take it; infinite if the
    amount is more than the limit."""


@value
class Entry:
    """One thing that a filter remembers, for operators."""

    key: str
    window_seconds: int
    """The length of the window of a count; 0: it is a value."""
    ends: float
    """When it is forgotten, in seconds since 1970."""


class Backend(Protocol):
    """Stores values and counts for all filters of a process; ``space`` keeps the keys of filters apart.

    All methods raise `StateError`.
    """

    def now(self) -> float:
        """Seconds since 1970."""

    async def get(self, space: str, key: str) -> Value | None:
        """The value, unless its time is over."""

    async def set(self, space: str, key: str, value: Value, seconds: float) -> None:
        """Replace the value."""

    async def add(self, space: str, amounts: tuple[Amount, ...]) -> tuple[Counted, ...]:
        """Add all amounts, or none if one of them has no room."""

    async def close(self) -> None:
        """Finish what was asked, and let go of everything."""
