"""How events reach those who watch a session; bounded, and the server never waits."""

import threading
from collections import deque
from collections.abc import Callable, Iterator

from gatepost.traffic.events import Event

__all__ = ["Tap", "Watch", "Watchers", "fan_out"]

Tap = Callable[[Event], None]
"""Is called with each event as it happens; must neither block nor raise."""


def fan_out(*taps: Tap | None) -> Tap | None:
    """One tap that calls several; None where there is none, so that no event is made."""
    present = [tap for tap in taps if tap]
    if len(present) < 2:
        return present[0] if present else None

    def tap(event: Event) -> None:
        for one in present:
            one(event)

    return tap


class Watch:
    """One watcher's queue: at most ``limit`` events wait in it, then the oldest are dropped and counted."""

    def __init__(self, limit: int = 10_000) -> None:
        self._events: deque[Event] = deque(maxlen=limit)
        self._more = threading.Event()
        self.dropped = 0

    def put(self, event: Event) -> None:
        """Add an event; called by the event loop's thread."""
        if len(self._events) == self._events.maxlen:
            self.dropped += 1
        self._events.append(event)
        if not self._more.is_set():
            self._more.set()

    def take(self, timeout_seconds: float) -> Iterator[Event]:
        """The events that wait, after at most that time; for a thread of the watcher's own."""
        self._more.wait(timeout_seconds)
        self._more.clear()
        while self._events:
            yield self._events.popleft()


class Watchers:
    """All watchers; the server calls ``tap``."""

    def __init__(self) -> None:
        self._watches: list[Watch] = []

    def watch(self, limit: int = 10_000) -> Watch:
        """Begin to watch."""
        watch = Watch(limit)
        self._watches.append(watch)
        return watch

    def tap(self, event: Event) -> None:
        """Put an event into all queues."""
        for watch in self._watches:
            watch.put(event)
