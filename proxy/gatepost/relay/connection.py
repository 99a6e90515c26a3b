"""One connection to upstream, after its greeting: commands out, replies in, strictly paired."""

import asyncio
import re
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from gatepost.model import replies
from gatepost.model.mail import Session
from gatepost.model.verdict import Reply
from gatepost.relay.reply_reader import GarbageError, ReplyReader

__all__ = [
    "COMMAND_SECONDS",
    "ClientRefusedError",
    "Connection",
    "UpstreamClosingError",
    "UpstreamLostError",
]


COMMAND_SECONDS = 30.0
"""Time for the reply to a command, or to several in one write. RFC 5321 section 4.5.3.2 recommends 5 minutes,
but the client is waiting, and a server this slow would hardly answer the end of data in time."""
_QUIT_SECONDS = 2.0
"""Time for the reply to QUIT. It is ignored, but closing before it would look like a fault to upstream."""
_AT_ONCE_OCTETS = 64 << 10
"""Larger writes are not held back until the end of the loop's turn."""
_NO_LINGER = struct.pack("ii", 1, 0)
_UNPRINTABLE = re.compile(r"[^ -~]+")
_WHY_LIMIT = 500


class UpstreamLostError(Exception):
    """The connection can no longer be used: lost, no reply in time, closing, or invalid replies."""

    def __init__(self, why: str, reply: Reply = replies.LOST) -> None:
        """``why`` is for the journal (made one printable line), ``reply`` is for the client."""
        super().__init__(_UNPRINTABLE.sub(" ", why)[:_WHY_LIMIT])
        self.reply = reply
        self.replies: tuple[Reply, ...] = ()
        """The complete replies that arrived, to the first of the commands that were sent together."""


class UpstreamClosingError(UpstreamLostError):
    """Upstream replied 421 (RFC 5321 section 3.8); the client gets 451 with its text and stays connected."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply), replace(reply, code=451, enhanced=reply.enhanced or "4.4.2"))


class ClientRefusedError(UpstreamLostError):
    """Upstream refuses the original client that it was told of; its reply is the client's."""


class Connection(asyncio.Protocol):
    """One connection; it takes over the transport from aiosmtplib.

    Every command has one reply, in order. Unexpected bytes end the connection, since replies could no longer
    be matched to commands.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        extensions: Mapping[str, str],
        server: str,
        client: Session | None = None,
        *,
        was_told: bool = False,
    ) -> None:
        self.server = server
        """``host:port``."""
        self.extensions = extensions
        """The argument of each keyword (upper case) in the reply to EHLO; empty after HELO."""
        self.client = client
        """The client that it belongs to (`client_of_connection`): it sends that client's mail alone."""
        self.was_told = was_told
        """True if upstream has accepted XCLIENT."""
        self.takes_chunks = False
        """True if upstream has accepted BDAT (RFC 3030)."""
        self._loop = asyncio.get_running_loop()
        self.gone: asyncio.Future[None] = self._loop.create_future()
        """Done when the transport is closed."""
        self._transport = transport
        self._reader = ReplyReader()
        self._asked: asyncio.Future[list[Reply]] | None = None
        """The future of the caller that waits for replies."""
        self._wanted = 0
        """The number of replies that it waits for."""
        self._collected: list[Reply] = []
        """The replies that have arrived so far."""
        self._unsent = b""
        self._deadline = 0.0
        self._timer: asyncio.Handle | None = None
        self._rings_at = 0.0
        self._lost: UpstreamLostError | None = None
        self._paused: asyncio.Future[None] | None = None
        transport.set_protocol(self)

    @property
    def is_lost(self) -> bool:
        """True if nothing can be sent any more."""
        return self._lost is not None

    def now(self) -> float:
        """The event loop's clock, in seconds; faster than `asyncio.get_running_loop`."""
        return self._loop.time()

    @property
    def is_quiet(self) -> bool:
        """True if no reply is outstanding; unexpected bytes have already ended the connection."""
        return self._asked is None

    def write(self, octets: bytes | memoryview, deadline: float) -> None:
        """Send bytes. Raises UpstreamLostError.

        If an awaited reply has not arrived at the deadline (on the event loop's clock), the connection is
        aborted.
        """
        if self._lost is not None or self._transport.is_closing():  # before connection_lost
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
        """Send bytes and wait for this many replies; returns all of them. Raises as `write` does.

        The future raises UpstreamLostError if the connection fails, if not all replies have arrived at the
        deadline, or if one of them is 421; the error has the replies before that. The next call is allowed
        only after the future is done.
        """
        if self._asked is not None:
            raise self.abort("a command was sent before the last reply")
        self.write(octets, deadline)
        self._asked, self._wanted = (asked := self._loop.create_future()), replies
        return asked

    def _send(self) -> None:
        """Pass the unsent bytes to the transport.

        All connections send at the end of the loop's turn, so that a server is woken once for many
        connections. This saves a sixth of the time of a message.
        """
        octets, self._unsent = self._unsent, b""
        if octets:
            self._transport.write(octets)

    async def drain(self, early: asyncio.Future[list[Reply]]) -> None:
        """Wait until upstream has read most of what was written, replies early, or is lost."""
        try:
            await asyncio.sleep(0)  # read what has arrived before more is written
            if self._paused and not early.done():
                await asyncio.wait((self._paused, early), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self.abort("cancelled")
            raise

    def abort(self, why: str | UpstreamLostError) -> UpstreamLostError:
        """Close at once and discard unsent bytes; returns the error to raise.

        So a message that the client was told has failed cannot be delivered later.
        """
        if not self._transport.is_closing() and (raw := self._transport.get_extra_info("socket")):
            with suppress(OSError):
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self._transport.abort()
        return self._end(UpstreamLostError(why) if isinstance(why, str) else why)

    def quit(self) -> None:
        """Send QUIT; its reply is ignored (RFC 5321 section 4.1.1.10)."""
        if self._asked:
            self.abort("closed while a reply was outstanding")
        elif self._lost is None:
            goodbye = self.ask(b"QUIT\r\n", self._loop.time() + _QUIT_SECONDS)
            goodbye.add_done_callback(lambda _: self._transport.close())
            self._lost = UpstreamLostError("closed")

    def _end(self, error: UpstreamLostError) -> UpstreamLostError:
        self._lost = self._lost or error
        if self._asked and not self._asked.done():
            self._lost.replies = tuple(self._collected)
            self._asked.set_exception(self._lost)
            self._asked.exception()  # marks it as retrieved, since nothing may be waiting for it
        self._asked, self._wanted, self._collected = None, 0, []
        self._unsent = b""
        self.resume_writing()
        if self._timer:
            self._timer.cancel()
            self._timer = None
        return self._lost

    # One timer for all replies: it is set again only when it fires, not for each reply.

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
        """Read replies and match them to the commands that wait for them."""
        garbage: GarbageError | None = None
        try:
            replies = self._reader.feed(data)
        except GarbageError as error:
            replies, garbage = [*error.replies], error
        for reply in replies:
            if reply.code == 421:  # it may be sent at any time
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
            # One of them is unexpected, and it is not known which one, so none of them counts.
            self._collected = []
            self.abort(f"unexpected reply: {replies[wanted]}")
        else:
            asked = self._asked
            self._asked, self._wanted, self._collected = None, 0, []
            if asked is not None and not asked.done():
                asked.set_result(replies)
            if not self._reader.is_empty:
                self.abort("unexpected bytes after a reply")

    def eof_received(self) -> bool:
        """Upstream has closed its sending side."""
        self.abort("closed by upstream")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is closed."""
        self._read_what_is_left()
        self._end(UpstreamLostError(f"connection lost: {exc}" if exc else "closed by upstream"))
        if not self.gone.done():
            self.gone.set_result(None)

    def _read_what_is_left(self) -> None:
        """Read a reply that had arrived when a write failed, because upstream had replied and closed.

        Not over TLS: only the transport can decrypt it.
        """
        if self._asked is None or self._transport.get_extra_info("sslcontext"):
            return
        with suppress(OSError), self._transport.get_extra_info("socket").dup() as unread:
            unread.settimeout(0)
            while self._asked and (octets := unread.recv(_AT_ONCE_OCTETS)):
                self.data_received(octets)

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        if self._paused is None and self._lost is None:
            self._paused = self._loop.create_future()

    def resume_writing(self) -> None:
        """The transport's buffer has room again."""
        if self._paused:
            if not self._paused.done():
                self._paused.set_result(None)
            self._paused = None
