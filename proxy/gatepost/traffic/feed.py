"""Events from the SMTP processes to the web desk.

A socket carries packets of events, each as one line of the conversation. The server never waits: while the
desk is busy so many bytes wait for it; events after that are dropped and counted, and the count is sent with
the next packet.
"""

import asyncio
import logging
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Final, get_args

from gatepost.traffic.events import Direction, Event, event_of, moment

__all__ = ["Receiver", "Sender", "packed", "pair", "unpacked"]

log = logging.getLogger(__name__)

_LINE_OCTETS: Final = 4096
"""More of one line is not sent."""
_WAITING_OCTETS: Final = 4 << 20
"""May wait in one sender, with `_LINE_OVERHEAD` for each line."""
_LINE_OVERHEAD: Final = 100
_PACKET_OCTETS: Final = 64 << 10
"""A packet with so much is full; it is a line longer at most."""
_PACKET_LIMIT: Final = 128 << 10
_PACKETS_AT_ONCE: Final = 16
"""After so many the receiver's event loop has its turn."""
_GATHER_SECONDS: Final = 0.05

_PACKET_HEAD: Final = struct.Struct("<4sI")
"""Magic, lines that were dropped before it."""
_MAGIC: Final = b"GPF1"
_LINE_HEAD: Final = struct.Struct("<qcBH")
"""Microseconds since 1970, direction, size of the session's id, size of the line."""
_DIRECTIONS: Final[dict[bytes, Direction]] = {name.encode(): name for name in get_args(Direction)}

_Line = tuple[int, str, Direction, bytes]
"""An event to be sent: microseconds since 1970, session, direction, data."""


def pair() -> tuple[socket.socket, socket.socket]:
    """The sending and the receiving end; several processes may send.

    While any process holds the receiving end open, a desk that ended may be started again.
    """
    sending, receiving = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sending.settimeout(0)
    receiving.settimeout(0)
    return sending, receiving


class Sender:
    """A tap that sends events into the socket, from a thread of its own. Make it after forking."""

    def __init__(self, feed: socket.socket) -> None:
        self._feed = feed
        self._waiting: deque[_Line] = deque()
        self._limit = _WAITING_OCTETS
        self._put = 0  # bytes; only the tap's thread writes it
        self._sent = 0  # bytes; only the sending thread writes it
        self._told = 0
        self._packet: _Packet | None = None
        self._more = threading.Event()
        self._closed = False
        self.dropped = 0
        """Events that found no room."""
        self._thread = threading.Thread(target=self._run, name="feed-sender", daemon=True)
        self._thread.start()

    def tap(self, event: Event) -> None:
        """Send an event soon; never waits. For one thread."""
        data = event.data[:_LINE_OCTETS]
        size = len(data) + _LINE_OVERHEAD
        if self._put - self._sent + size > self._limit:
            self.dropped += 1
            return
        self._put += size
        self._waiting.append((event.at, event.session_id, event.direction, data))
        if not self._more.is_set():
            self._more.set()

    def close(self) -> None:
        """Send what the socket accepts at once, then end the thread."""
        self._closed = True
        self._more.set()
        self._thread.join()

    def _run(self) -> None:
        closed = False
        while not closed:
            self._more.wait()
            if not self._closed:
                time.sleep(_GATHER_SECONDS)
            self._more.clear()
            closed = self._closed  # read after clear(), which may have cleared what close() set
            try:
                self._send_all()
            except ConnectionError:  # the receiver has closed its socket
                self._limit = 0
                self._waiting.clear()
                return
            except OSError:  # there is no room now
                self._more.set()

    def _send_all(self) -> None:
        """Send what waits, and how much was dropped; raises OSError, and then the packet is kept."""
        while self._packet or self._waiting or self.dropped > self._told:
            packet = self._packet = self._packet or self._next_packet()
            self._feed.send(packet.octets)
            self._packet = None
            self._told += packet.dropped
            self._sent += packet.size

    def _next_packet(self) -> "_Packet":
        lines: list[_Line] = []
        size = 0
        while self._waiting and size < _PACKET_OCTETS:
            lines.append(self._waiting.popleft())
            size += len(lines[-1][3]) + _LINE_OVERHEAD
        dropped = self.dropped - self._told
        return _Packet(octets=_pack(lines, dropped=dropped), size=size, dropped=dropped)


@dataclass(slots=True, kw_only=True)
class _Packet:
    """What is sent at once."""

    octets: bytes
    size: int
    """What its lines took of the sender's limit."""
    dropped: int


class Receiver:
    """The desk's end; for one event loop."""

    def __init__(self, feed: socket.socket) -> None:
        self._feed = feed
        self.dropped = 0
        """Events that were lost on the way so far."""

    async def batches(self) -> AsyncIterator[list[Event]]:
        """Events as they come, until no process holds the sending end; what is not a packet is skipped."""
        ended = False
        while not ended:
            await self._readable()
            events: list[Event] = []
            ended = self._read(events)
            if events:
                yield events

    async def _readable(self) -> None:
        # Registered only while it is awaited: unread packets would keep the event loop busy.
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._feed, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(self._feed)

    def _read(self, events: list[Event]) -> bool:
        """Add what came; True if no more will come."""
        for _ in range(_PACKETS_AT_ONCE):
            try:
                packet = self._feed.recv(_PACKET_LIMIT)
            except (BlockingIOError, InterruptedError):
                return False
            except OSError:
                return True
            if not packet:
                return True
            try:
                dropped, sent = unpacked(packet)
            except ValueError as error:
                log.warning("not a packet of the feed, %d bytes: %s", len(packet), error)
            else:
                self.dropped += dropped
                events += sent
        return False


def packed(events: Iterable[Event]) -> bytes:
    """Events as the bytes of a packet, for `unpacked`; data is cut as on the way to the desk."""
    return _pack(
        [(one.at, one.session_id, one.direction, one.data[:_LINE_OCTETS]) for one in events], dropped=0
    )


def _pack(lines: Iterable[_Line], *, dropped: int) -> bytes:
    """Binary, as the conversation itself: nothing is escaped, so nothing grows."""
    pieces = [_PACKET_HEAD.pack(_MAGIC, dropped)]
    for at, session_id, direction, data in lines:
        name = session_id.encode()
        pieces += _LINE_HEAD.pack(at, direction.encode(), len(name), len(data)), name, data
    return b"".join(pieces)


def unpacked(packet: bytes) -> tuple[int, list[Event]]:
    """How many events were dropped before, and the events; raises ValueError for any other bytes."""
    events = []
    try:
        magic, dropped = _PACKET_HEAD.unpack_from(packet)
        if magic != _MAGIC:
            raise ValueError("not of this version")
        at = _PACKET_HEAD.size
        while at < len(packet):
            microseconds, direction, name, size = _LINE_HEAD.unpack_from(packet, at)
            at += _LINE_HEAD.size + name + size
            moment(microseconds)  # a time that can be shown
            event = event_of(
                at=microseconds,
                session_id=packet[at - size - name : at - size].decode(),
                direction=_DIRECTIONS[direction],
                data=packet[at - size : at],
            )
            events.append(event)
    except (struct.error, KeyError, OverflowError) as error:
        raise ValueError("not made of lines") from error
    if at != len(packet):
        raise ValueError("cut off")
    return dropped, events
