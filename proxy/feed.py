"""FEED: live lines from the SMTP processes to the web desk; bounded, and it never waits for the desk.

Packets over a pair of AF_UNIX sockets. Each holds how many lines its sender dropped before it, and
packed lines (`events.pack`).
"""

import asyncio
import logging
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import Final

from proxy.events import Direction, Line, Said, pack, unpack

__all__ = ["Receiver", "Sender", "pair"]

log = logging.getLogger(__name__)

_LINE_LIMIT: Final = 16 << 10
"""Octets of one line that are sent."""
_PACKET: Final = 64 << 10
"""Octets of lines after which a packet is full; a packet is at most one line longer."""
_PACKET_LIMIT: Final = 128 << 10
_WAITING_LIMIT: Final = 4 << 20
"""Octets that may wait in a sender, with `_OVERHEAD` for each line."""
_OVERHEAD: Final = 100
_GATHER_SECONDS: Final = 0.05
_PACKETS_AT_ONCE: Final = 16
"""After so many packets a receiver hands over what it has."""
_HEAD: Final = struct.Struct("<4sI")
_MAGIC: Final = b"GPF1"
_MOST: Final = (1 << 32) - 1


def pair() -> tuple[socket.socket, socket.socket]:
    """The senders' side and the receiver's side; to be made before forking.

    Several processes may each have a `Sender` on the same socket.
    """
    sender, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sender.settimeout(0)
    receiver.settimeout(0)
    return sender, receiver


class Sender:
    """Sends what it is told from a thread of its own. To be made after forking.

    While the receiver does not keep up the newest lines are dropped, and it is told how many.
    """

    def __init__(self, to: socket.socket) -> None:
        self._to = to
        self._waiting: deque[Said] = deque()
        self._limit = _WAITING_LIMIT
        self._put = 0  # octets; the tap's thread alone writes it
        self._sent = 0  # octets; the sending thread alone writes it
        self._told = 0
        self._packet: _Packet | None = None
        self._more = threading.Event()
        self._closing = False
        self.dropped = 0
        """Lines that found no room."""
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)
        self._thread.start()

    def tap(self, session_id: str, direction: Direction, data: bytes) -> None:
        """Queue a line; never blocks, never raises. For one thread."""
        size = len(data)
        if size > _LINE_LIMIT:
            self.tap(session_id, direction, data[:_LINE_LIMIT])
            self.tap(session_id, "*", b"left out %d" % (size - _LINE_LIMIT))
            return
        size += _OVERHEAD
        if self._put - self._sent + size > self._limit:
            self.dropped += 1
            return
        self._put += size
        self._waiting.append((time.time_ns(), session_id, direction, data))
        if not self._more.is_set():
            self._more.set()

    def close(self) -> None:
        """Send what can be sent at once and end the thread; the socket stays open."""
        self._closing = True
        self._more.set()
        self._thread.join()

    def _run(self) -> None:
        closing = False
        while not closing:
            self._more.wait()
            closing = self._closing
            if not closing:
                time.sleep(_GATHER_SECONDS)
            self._more.clear()
            try:
                self._send_all()
            except ConnectionError:
                self._limit = 0  # nobody will ever read it
                self._waiting.clear()
                return
            except OSError:  # above all BlockingIOError: no room now
                self._more.set()

    def _send_all(self) -> None:
        """Send what waits, and how much was dropped; raises OSError, and then the packet is kept."""
        while self._packet or self._waiting or self.dropped > self._told:
            packet = self._packet = self._packet or self._next_packet()
            self._to.send(packet.octets)
            self._packet = None
            self._told += packet.dropped
            self._sent += packet.size

    def _next_packet(self) -> "_Packet":
        lines = []
        size = 0
        while self._waiting and size < _PACKET:
            lines.append(line := self._waiting.popleft())
            size += len(line[3]) + _OVERHEAD
        dropped = min(self.dropped - self._told, _MOST)
        return _Packet(_HEAD.pack(_MAGIC, dropped) + pack(lines), size=size, dropped=dropped)


class _Packet:
    """What is sent at once."""

    __slots__ = ("dropped", "octets", "size")

    def __init__(self, octets: bytes, *, size: int, dropped: int) -> None:
        self.octets = octets
        self.size = size  # what it took of the limit
        self.dropped = dropped  # lines before it


class Receiver:
    """Gives what all senders on the other side send. For one event loop, asyncio's or uvloop's."""

    def __init__(self, source: socket.socket) -> None:
        self._source = source
        self.dropped = 0
        """Lines that did not come; grows before the batch that came after them."""

    async def batches(self) -> AsyncIterator[list[Line]]:
        """Lines as they come, in the order of each sender; ends when no sender is left.

        Who takes long over a batch makes the senders drop lines, and nothing else.
        """
        while True:
            lines: list[Line] = []
            ended = self._read(lines)
            if lines:
                yield lines
            if ended:
                return
            await self._readable()

    def _read(self, lines: list[Line]) -> bool:
        """Take some of the packets that are there; True if there will be no more."""
        for _ in range(_PACKETS_AT_ONCE):
            try:
                packet = self._source.recv(_PACKET_LIMIT)
            except (BlockingIOError, InterruptedError):
                return False
            except OSError:
                return True
            if not packet:
                return True
            try:
                lines += self._lines(packet)
            except ValueError as error:
                log.warning("the feed brought a packet of %d octets that is none: %s", len(packet), error)
        return False

    def _lines(self, packet: bytes) -> list[Line]:
        if len(packet) < _HEAD.size:
            raise ValueError("too short")
        magic, dropped = _HEAD.unpack_from(packet)
        if magic != _MAGIC:
            raise ValueError("not of this version")
        lines = unpack(packet[_HEAD.size :])
        self.dropped += dropped
        return lines

    async def _readable(self) -> None:
        # Only while it is waited for: what is readable and not read would keep the event loop busy.
        loop = asyncio.get_running_loop()
        readable = loop.create_future()

        def ready() -> None:
            if not readable.done():
                readable.set_result(None)

        loop.add_reader(self._source.fileno(), ready)
        try:
            await readable
        finally:
            loop.remove_reader(self._source.fileno())
