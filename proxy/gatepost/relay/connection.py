"""One connection to upstream, after its greeting: commands out, replies in, strictly paired."""

import asyncio
import re
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from gatepost.relay.reply_reader import GarbageError, ReplyReader
from gatepost.verdict import Reply

__all__ = [
    "COMMAND_SECONDS",
    "LOST",
    "UNREACHABLE",
    "Connection",
    "UpstreamClosingError",
    "UpstreamLostError",
]

UNREACHABLE = Reply(code=451, enhanced="4.4.1", text="The destination cannot be reached, try again later")
LOST = Reply(code=451, enhanced="4.4.2", text="The connection to the destination failed, try again later")

COMMAND_SECONDS = 30.0
"""For the reply to a command, or to several in one write. RFC 5321 section 4.5.3.2 grants 5 minutes, but
the client waits as well, and a server that takes that long will hardly answer the dot in time."""
_QUIT_SECONDS = 2.0
"""For the reply to QUIT: it matters to nobody, but a close before it would look like a fault to upstream."""
_AT_ONCE_OCTETS = 64 << 10
"""So many octets are not held back for the rest of the loop's turn."""
_NO_LINGER = struct.pack("ii", 1, 0)
_UNPRINTABLE = re.compile(r"[^ -~]+")
_WHY_LIMIT = 500


class UpstreamLostError(Exception):
    """The connection is of no use any more: lost, silent, closing, or speaking nonsense."""

    def __init__(self, why: str, reply: Reply = LOST) -> None:
        """Keep ``why`` for the journal, as one printable line, and the reply that the client is to get."""
        super().__init__(_UNPRINTABLE.sub(" ", why)[:_WHY_LIMIT])
        self.reply = reply
        self.replies: tuple[Reply, ...] = ()
        """Whole replies to the first of the commands that were asked together; the others have none."""


class UpstreamClosingError(UpstreamLostError):
    """Upstream said 421 (RFC 5321 section 3.8): it closes, not we, so the client gets 451 with its words."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply), replace(reply, code=451, enhanced=reply.enhanced or "4.4.2"))


class Connection(asyncio.Protocol):
    """Takes a transport over from aiosmtplib.

    Every command has one reply, in order. An octet that no command waits for ends the connection,
    since from then on no reply could be trusted to be the right one.
    """

    def __init__(self, transport: asyncio.Transport, extensions: Mapping[str, str], server: str) -> None:
        self.server = server
        """``host:port``."""
        self.extensions = extensions
        """Keyword in upper case -> argument, from the reply to EHLO; empty after HELO."""
        self._loop = asyncio.get_running_loop()
        self.gone: asyncio.Future[None] = self._loop.create_future()
        """Done when the transport is closed."""
        self._transport = transport
        self._reader = ReplyReader()
        self._asked: asyncio.Future[list[Reply]] | None = None
        """What waits for replies."""
        self._wanted = 0
        """How many they are."""
        self._collected: list[Reply] = []
        """Those of them that are here."""
        self._unsent = b""
        self._deadline = 0.0
        self._timer: asyncio.Handle | None = None
        self._rings_at = 0.0
        self._lost: UpstreamLostError | None = None
        self._paused: asyncio.Future[None] | None = None
        transport.set_protocol(self)

    @property
    def is_lost(self) -> bool:
        """True if nothing can be sent over it."""
        return self._lost is not None

    def now(self) -> float:
        """On the event loop's clock, in seconds; cheaper than to look for the loop."""
        return self._loop.time()

    @property
    def is_quiet(self) -> bool:
        """True if no reply is outstanding; what is half read has ended the connection."""
        return self._asked is None

    def write(self, octets: bytes | memoryview, deadline: float) -> None:
        """Send octets. Raises UpstreamLostError.

        If a reply that is awaited is not there at the deadline (on the event loop's clock) the
        connection is aborted.
        """
        if self._lost is not None or self._transport.is_closing():  # it closes before it says so
            self._read_what_is_left()
            raise self._end(UpstreamLostError("connection lost"))
        self._deadline = deadline
        if self._timer is None or deadline < self._rings_at:
            self._ring_at(deadline)
        if len(octets) > _AT_ONCE_OCTETS:
            self._send()
            self._transport.write(octets)
        elif octets:
            if not self._unsent:
                self._loop.call_soon(self._send)
            self._unsent += octets

    def ask(
        self, octets: bytes | memoryview, deadline: float, replies: int = 1
    ) -> asyncio.Future[list[Reply]]:
        """Send octets that are to have so many replies; gives all of them at once. Raises as `write` does.

        The future raises UpstreamLostError for any trouble, if not all replies are there at the
        deadline, and if one of them is 421; the error has the replies that came before. Only when it is
        done more may be asked.
        """
        if self._asked is not None:
            raise self.abort("asked twice at once")
        self.write(octets, deadline)
        self._asked, self._wanted = (asked := self._loop.create_future()), replies
        return asked

    def _send(self) -> None:
        """Give the transport what waits.

        What all connections have to send leaves at the end of the loop's turn: whoever reads at the
        other ends is woken once for many of them. That saves a sixth of the time of a message.
        """
        octets, self._unsent = self._unsent, b""
        if octets:
            self._transport.write(octets)

    async def drain(self, early: asyncio.Future[list[Reply]]) -> None:
        """Wait until upstream has taken most of what was written, or replies early, or is lost."""
        try:
            await asyncio.sleep(0)  # what has come is read before more is written
            if self._paused and not early.done():
                await asyncio.wait((self._paused, early), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self.abort("cancelled")
            raise

    def abort(self, why: str | UpstreamLostError) -> UpstreamLostError:
        """End it now; gives the error to raise. What was written and not yet sent is dropped.

        So nothing is delivered later of which the client was told that it failed.
        """
        if not self._transport.is_closing() and (raw := self._transport.get_extra_info("socket")):
            with suppress(OSError):
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self._transport.abort()
        return self._end(UpstreamLostError(why) if isinstance(why, str) else why)

    def quit(self) -> None:
        """Say goodbye; the answer does not matter (RFC 5321 section 4.1.1.10)."""
        if self._asked:
            self.abort("broken off")
        elif self._lost is None:
            goodbye = self.ask(b"QUIT\r\n", self._loop.time() + _QUIT_SECONDS)
            goodbye.add_done_callback(lambda _: self._transport.close())
            self._lost = UpstreamLostError("closed")

    def _end(self, error: UpstreamLostError) -> UpstreamLostError:
        self._lost = self._lost or error
        if self._asked and not self._asked.done():
            self._lost.replies = tuple(self._collected)
            self._asked.set_exception(self._lost)
            self._asked.exception()  # it may be that nobody waits for it
        self._asked, self._wanted, self._collected = None, 0, []
        self._unsent = b""
        self.resume_writing()
        if self._timer:
            self._timer.cancel()
            self._timer = None
        return self._lost

    # One timer for all replies: it is armed anew only when it rings, not for each of them.

    def _ring_at(self, when: float) -> None:
        if self._timer:
            self._timer.cancel()
        self._rings_at = when
        self._timer = self._loop.call_at(when, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._asked is None:
            return
        if self._loop.time() >= self._deadline:
            self.abort("no reply in time")
        else:
            self._ring_at(self._deadline)

    # The transport calls these.

    def data_received(self, data: bytes) -> None:
        """Pair what came with what is awaited."""
        garbage: GarbageError | None = None
        try:
            replies = self._reader.feed(data)
        except GarbageError as error:
            replies, garbage = [*error.replies], error
        for reply in replies:
            if reply.code == 421:  # it may be said at any time
                self._pair(replies[: replies.index(reply)])
                self.abort(UpstreamClosingError(reply))
                return
        self._pair(replies)
        if garbage:
            self.abort(str(garbage))

    def _pair(self, replies: list[Reply]) -> None:
        if self._collected:
            replies = self._collected + replies
        count, wanted = len(replies), self._wanted
        if count < wanted:
            self._collected = replies
        elif count > wanted:
            # One of them was not asked for, and none can tell which: none of them counts.
            self._collected = []
            self.abort(f"a reply that nothing waits for: {replies[wanted]}")
        else:
            asked = self._asked
            self._asked, self._wanted, self._collected = None, 0, []
            if asked is not None and not asked.done():
                asked.set_result(replies)
            if not self._reader.is_empty:
                self.abort("octets that nothing waits for")

    def eof_received(self) -> bool:
        """Upstream will say no more."""
        self.abort("closed by upstream")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is gone."""
        self._read_what_is_left()
        self._end(UpstreamLostError(f"connection lost: {exc}" if exc else "closed by upstream"))
        if not self.gone.done():
            self.gone.set_result(None)

    def _read_what_is_left(self) -> None:
        """Take a reply that was still unread when a write failed, since upstream had replied and closed.

        Not over TLS, where only the transport can decrypt it.
        """
        if self._asked is None or self._transport.get_extra_info("sslcontext"):
            return
        with suppress(OSError), self._transport.get_extra_info("socket").dup() as unread:
            unread.settimeout(0)
            while self._asked and (octets := unread.recv(_AT_ONCE_OCTETS)):
                self.data_received(octets)

    def pause_writing(self) -> None:
        """The transport holds enough."""
        if self._paused is None and self._lost is None:
            self._paused = self._loop.create_future()

    def resume_writing(self) -> None:
        """The transport takes more."""
        if self._paused:
            if not self._paused.done():
                self._paused.set_result(None)
            self._paused = None
