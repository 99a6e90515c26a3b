"""TELL ANOTHER PROCESS: conversation lines from the SMTP processes to the web desk.

A datagram socket carries batches of lines. The sending side never waits: what the socket does not take is
dropped, counted, and the count is sent with the next batch.
"""

import asyncio
import json
import socket
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final, get_args

from proxy.events import Direction, Line

__all__ = ["Receiver", "Sender", "pair"]

_WAITING_LINES: Final = 10_000
_LINE_OCTETS: Final = 4096
"""More of one line is not sent."""
_DATAGRAM_OCTETS: Final = 30 << 10
"""Of the lines in one batch; their JSON is at most six times that, and fits the socket's buffer."""
_BUFFER_OCTETS: Final = 1 << 20
_GATHER_SECONDS: Final = 0.05
_DIRECTIONS: Final = frozenset(get_args(Direction))


def pair() -> tuple[socket.socket, socket.socket]:
    """The sending and the receiving end; several processes may send."""
    sending, receiving = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    sending.settimeout(0)
    receiving.settimeout(0)
    sending.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_OCTETS)
    receiving.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_OCTETS)
    return sending, receiving


class Sender:
    """A tap whose lines go into the socket, from a thread of its own. Make it after forking."""

    def __init__(self, feed: socket.socket) -> None:
        self._feed = feed
        self._waiting: deque[tuple[int, str, Direction, bytes]] = deque(maxlen=_WAITING_LINES)
        self._more = threading.Event()
        self._closed = False
        self._dropped = 0
        self._thread = threading.Thread(target=self._run, name="feed-sender", daemon=True)
        self._thread.start()

    def tap(self, session_id: str, direction: Direction, data: bytes) -> None:
        """Send a line soon; never waits."""
        if len(self._waiting) == _WAITING_LINES:
            self._dropped += 1
        self._waiting.append((time.time_ns() // 1000, session_id, direction, data[:_LINE_OCTETS]))
        if not self._more.is_set():
            self._more.set()

    def close(self) -> None:
        """Send what waits, then end the thread."""
        self._closed = True
        self._more.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closed:
            self._more.wait()
            if not self._closed:
                time.sleep(_GATHER_SECONDS)
            self._more.clear()
            while self._waiting:
                self._send()

    def _send(self) -> None:
        lines = []
        octets = 0
        while self._waiting and octets < _DATAGRAM_OCTETS:
            at, session_id, direction, data = self._waiting.popleft()
            lines.append((at, session_id, direction, data.decode("latin-1")))
            octets += len(data) + 64
        dropped, self._dropped = self._dropped, 0
        batch = json.dumps({"dropped": dropped, "lines": lines}, separators=(",", ":"))
        try:
            self._feed.send(batch.encode("ascii"))
        except OSError:  # full, too large, or the desk is just being started again
            self._dropped += dropped + len(lines)


class Receiver:
    """The desk's end."""

    def __init__(self, feed: socket.socket) -> None:
        self._feed = feed
        self.dropped = 0
        """Lines that were lost on the way so far."""

    async def batches(self) -> AsyncIterator[Sequence[Line]]:
        """Lines as they come; what is no batch is passed over."""
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._feed, readable.set)
        try:
            while True:
                await readable.wait()
                readable.clear()
                with suppress(BlockingIOError):
                    while True:
                        if lines := self._read(self._feed.recv(_BUFFER_OCTETS)):
                            yield lines
        finally:
            loop.remove_reader(self._feed)

    def _read(self, datagram: bytes) -> list[Line]:
        try:
            batch = json.loads(datagram)
            self.dropped += int(batch["dropped"])
            return [
                Line(
                    at=datetime.fromtimestamp(at / 1_000_000, UTC),
                    session_id=str(session_id),
                    direction=direction,
                    data=data.encode("latin-1"),
                )
                for at, session_id, direction, data in batch["lines"]
                if direction in _DIRECTIONS
            ]
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
            return []
