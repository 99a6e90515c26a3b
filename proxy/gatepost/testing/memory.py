"""The state for tests: in memory, with a clock of their own."""

import time
from collections.abc import Callable

from gatepost.state import State
from gatepost.state.sqlite import SqliteState

__all__ = ["make_state"]


def make_state(*, clock: Callable[[], float] = time.time, max_entries: int = 1_000_000) -> State:
    """An empty state in memory; pass it to several filters, or to one several times.

    Args:
        clock: returns the seconds since 1970, so that a test need not wait.
        max_entries: as in rules.yaml.
    """
    return State(SqliteState(None, max_entries=max_entries, clock=clock), "test")
