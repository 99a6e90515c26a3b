"""Make the rules of new settings while the gateway runs: off the event loop, and within a time limit."""

import sys
import threading
from collections.abc import Iterator

from gatepost.config import ConfigError, LoadedConfig, Problem
from gatepost.config.problems import shown
from gatepost.pipeline.ask import FilterFailedError, FilterTimeoutError, Threads
from gatepost.pipeline.loader import collected, try_rules
from gatepost.pipeline.provided import Provided
from gatepost.pipeline.rule import Rule

__all__ = ["Loading", "overdue"]

_HANGING_LIMIT = 4
"""Threads whose import or constructor has not ended; above this number no reload is tried."""


class Loading:
    """Imports and makes filters in a thread, one reload at a time.

    Python cannot stop a thread. One that is late is abandoned; should it ever end, the filters that it has
    made are closed.
    """

    def __init__(self) -> None:
        self._threads = Threads(size=1, lost_limit=_HANGING_LIMIT)

    async def rules(self, loaded: LoadedConfig, provided: Provided, seconds: float) -> tuple[Rule, ...]:
        """Make all rules; raises ConfigError, also if they are not made in time."""
        making = _Making(loaded, provided)
        try:
            rules: tuple[Rule, ...] = await self._threads.run(making, seconds)
        except FilterTimeoutError:
            raise ConfigError([making.give_up(seconds)]) from None
        except FilterFailedError as error:
            if isinstance(error.__cause__, ConfigError):
                raise error.__cause__ from None
            what = f"the filters cannot be made: {error}"
            if error.__cause__ is None:
                what = f"{_HANGING_LIMIT} earlier reloads have not ended, because a filter hangs"
            raise ConfigError([loaded.problem((), what, "a restart")]) from error
        return rules

    def close(self) -> None:
        """End the idle thread."""
        self._threads.close()


class _GivenUpError(Exception):
    """Nothing waits for these rules any more."""


class _Making:
    """One reload: makes the rules, and knows with which it is busy."""

    def __init__(self, loaded: LoadedConfig, provided: Provided) -> None:
        self._loaded = loaded
        self._provided = provided
        self._made = 0
        self._thread = 0
        self._is_given_up = False

    def __call__(self) -> tuple[Rule, ...]:
        """Make them; for the thread."""
        self._thread = threading.get_ident()
        return collected(self._counted())

    def _counted(self) -> Iterator[Rule | ConfigError]:
        for made in try_rules(self._loaded, self._provided):
            yield made
            self._made += 1
            if self._is_given_up:
                raise _GivenUpError

    def give_up(self, seconds: float) -> Problem:
        """Let it go; returns what it is busy with."""
        self._is_given_up = True
        expected = "a constructor that ends: its thread cannot be stopped before a restart"
        return overdue(self._loaded, self._made, self._thread, seconds, expected)


def overdue(loaded: LoadedConfig, made: int, thread: int, seconds: float, expected: str) -> Problem:
    """What the thread is busy with that makes the rules, when it has made the first ``made`` of them."""
    number = min(made, len(loaded.config.rules) - 1)
    rule = loaded.config.rules[number]
    frame = sys._current_frames().get(thread)  # noqa: SLF001 - the documented way to it
    place = f"; it is at {frame.f_code.co_filename}:{frame.f_lineno}" if frame else ""
    what = f"filter {shown(rule.filter)} was not imported and made within {seconds:g} s{place}"
    return loaded.problem(("rules", number, "filter"), what, expected)
