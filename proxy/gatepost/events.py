"""TELL: what happens on the wire, to whoever watches; bounded, and it never waits for a watcher."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

__all__ = ["Direction", "Line", "Tap", "Watch", "Watchers", "fan_out"]

Direction = Literal["C", "D", "S", "*"]
"""The client's command, its message data, the server's reply, or something about the session."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One thing said in a session; secrets of AUTH are blanked."""

    at: datetime
    session_id: str
    direction: Direction
    data: bytes


Tap = Callable[[str, Direction, bytes], None]
"""Is told of each line with its session's id; must neither block nor raise."""


def fan_out(*taps: Tap | None) -> Tap | None:
    """One tap that tells several; None where there is none, so that nothing is spent on it."""
    present = [tap for tap in taps if tap]
    if len(present) < 2:
        return present[0] if present else None

    def tap(session_id: str, direction: Direction, data: bytes) -> None:
        for one in present:
            one(session_id, direction, data)

    return tap


class Watch:
    """One watcher's view: at most ``limit`` lines wait for it, then the oldest go and are counted."""

    def __init__(self, limit: int = 10_000) -> None:
        self._lines: deque[Line] = deque(maxlen=limit)
        self._more = threading.Event()
        self.dropped = 0

    def put(self, line: Line) -> None:
        """Add a line; called by the event loop's thread."""
        if len(self._lines) == self._lines.maxlen:
            self.dropped += 1
        self._lines.append(line)
        if not self._more.is_set():
            self._more.set()

    def take(self, timeout_seconds: float) -> Iterator[Line]:
        """The lines that wait, after at most that time; for a thread of the watcher's own."""
        self._more.wait(timeout_seconds)
        self._more.clear()
        while self._lines:
            yield self._lines.popleft()


class Watchers:
    """All who watch; ``tap`` is what the server calls."""

    def __init__(self) -> None:
        self._watches: list[Watch] = []

    def watch(self, limit: int = 10_000) -> Watch:
        """Begin to watch."""
        watch = Watch(limit)
        self._watches.append(watch)
        return watch

    def tap(self, session_id: str, direction: Direction, data: bytes) -> None:
        """Tell all watchers."""
        line = Line(at=datetime.now(UTC), session_id=session_id, direction=direction, data=data)
        for watch in self._watches:
            watch.put(line)
