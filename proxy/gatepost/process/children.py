"""The processes that a supervisor starts, and the slots in which it starts them."""

import logging
import math
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from gatepost.config import LoadedConfig
from gatepost.process.sockets import Sockets

__all__ = ["Child", "Children", "Roll", "RulesReload", "WorkerSlot"]

log = logging.getLogger("gatepost")

_KILL_SECONDS = 20.0
"""In addition to `Limits.shutdown_time`: for the store to write what is queued, for filters to end."""


@dataclass(slots=True, kw_only=True, eq=False)
class WorkerSlot:
    """One process, and during a roll also its successor."""

    kind: Literal["worker", "desk"]
    sockets: Sockets
    loaded: LoadedConfig
    """The settings for the next process: those that the previous one has loaded."""
    not_before: float = 0.0
    """On the clock of `time.monotonic`."""


@dataclass(slots=True, kw_only=True, eq=False)
class Child:
    """One process."""

    slot: WorkerSlot
    loaded: LoadedConfig
    listens: bool
    """Reported by the process; a desk's socket always listens."""
    started_at: float = 0.0
    leaving: bool = False
    """It was asked to stop."""
    counters_slot: int | None = None
    """Its slot in the shared counters; a desk has none."""
    kill_at: float = math.inf


class Children(dict[int, Child]):
    """The processes that run, by process id."""

    def at(self, slot: WorkerSlot) -> list[Child]:
        """Those in a slot."""
        return [child for child in self.values() if child.slot is slot]

    def dismiss(self, which: Callable[[Child], bool] = lambda _: True) -> None:
        """Ask these to stop, if they have not been asked."""
        for process, child in self.items():
            if which(child) and not child.leaving:
                child.leaving = True
                grace = child.loaded.config.limits.shutdown_time
                child.kill_at = time.monotonic() + grace + _KILL_SECONDS
                os.kill(process, signal.SIGTERM)

    def kill(self) -> None:
        """Kill all."""
        for process, child in self.items():
            _kill(process, child)

    def kill_overdue(self) -> None:
        """Kill those whose time to start or to end is over."""
        now = time.monotonic()
        for process, child in self.items():
            if now >= child.kill_at:
                what = "end" if child.leaving else "start"
                log.error("%s %d does not %s and is killed", child.slot.kind, process, what)
                _kill(process, child)


def _kill(process: int, child: Child) -> None:
    child.kill_at = math.inf
    os.kill(process, signal.SIGKILL)


@dataclass(slots=True, kw_only=True)
class Roll:
    """A roll: replacing the processes slot by slot."""

    loaded: LoadedConfig
    left: list[WorkerSlot]
    """Slots whose processes are still to be replaced."""
    successor: Child | None = None
    """The successor that is starting; when it listens, its predecessor is stopped."""


@dataclass(slots=True, kw_only=True)
class RulesReload:
    """A reload of the rules in every worker."""

    loaded: LoadedConfig
    give_up_at: float
    """When a worker that has not answered is counted as failed, on the clock of `time.monotonic`."""
    asked: set[int]
    """Process ids of the workers that were sent SIGHUP."""
    answered: set[int]
    failed: bool = False
