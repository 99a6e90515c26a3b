"""TELL: what happens on the wire, to whoever watches; bounded, and it never waits for a watcher."""

import struct
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

__all__ = ["Direction", "Line", "Said", "Tap", "Watch", "Watchers", "pack", "tell_all", "unpack"]

Direction = Literal["C", "D", "S", "*"]
"""The client's command, its message data, the server's reply, or something about the session."""

Tap = Callable[[str, Direction, bytes], None]
"""Is told of each line, with its session's id; neither blocks nor raises."""

Said = tuple[int, str, Direction, bytes]
"""A `Line` as a tap keeps it until there is time: nanoseconds since 1970, session, direction, octets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One thing said in a session; secrets of AUTH are blanked."""

    at: datetime
    session_id: str
    direction: Direction
    data: bytes


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FORMAT: Final = b"\x01"
_HEAD: Final = struct.Struct("<qcBI")
"""Microseconds since 1970, direction, octets of the session's id, octets of the line."""
_DIRECTIONS: Final[dict[bytes, Direction]] = {b"C": "C", b"D": "D", b"S": "S", b"*": "*"}


def pack(lines: Iterable[Said]) -> bytes:
    """Lines as octets, to be sent or stored: a version octet, then each line behind a head of 14 octets.

    Binary, since what is said on the wire is: nothing is escaped, so nothing grows, and reading it back
    can build nothing but lines.
    """
    pieces = [_FORMAT]
    for at, session_id, direction, data in lines:
        name = session_id.encode()
        pieces += _HEAD.pack(at // 1000, direction.encode(), len(name), len(data)), name, data
    return b"".join(pieces)


def unpack(octets: bytes) -> list[Line]:
    """What `pack` was given; raises ValueError for anything else."""
    if octets[:1] != _FORMAT:
        raise ValueError("lines of an unknown version")
    lines = []
    at = 1
    while at < len(octets):
        try:
            microseconds, direction, name, size = _HEAD.unpack_from(octets, at)
            at += _HEAD.size + name
            line = Line(
                at=_EPOCH + timedelta(microseconds=microseconds),
                session_id=octets[at - name : at].decode(),
                direction=_DIRECTIONS[direction],
                data=octets[at : at + size],
            )
        except (struct.error, KeyError, OverflowError) as error:
            raise ValueError("no lines") from error
        at += size
        lines.append(line)
    if at != len(octets):
        raise ValueError("lines that were cut off")
    return lines


def tell_all(*taps: Tap) -> Tap | None:
    """One tap that tells all these, in their order; None where there are none."""
    if len(taps) <= 1:
        return taps[0] if taps else None

    def tap(session_id: str, direction: Direction, data: bytes) -> None:
        for each in taps:
            each(session_id, direction, data)

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
