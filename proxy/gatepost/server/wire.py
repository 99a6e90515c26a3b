"""One connection: buffered reading and writing, limits in size and time, and TLS."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from math import inf
from time import time_ns
from typing import TYPE_CHECKING, Final, cast

from gatepost.model import replies
from gatepost.model.verdict import Reply, ReplyTiming
from gatepost.server.auth import BLANKED, without_secrets
from gatepost.server.endpoint import Endpoint
from gatepost.server.replies import Refusal, SessionEnd, encode
from gatepost.server.tls import negotiate
from gatepost.traffic.events import CommandLine, ReplyLines, ReplyNotSent, TlsStarted
from gatepost.traffic.oddity import Oddity

if TYPE_CHECKING:
    import ssl

    from gatepost.traffic.watching import Tap

__all__ = ["Wire"]

_MAX_UNREAD: Final = 1 << 16
"""Bytes that a client may send ahead of what the session has read."""
_MAX_UNSENT: Final = 1 << 14
"""Bytes of replies that are collected before they are sent in the middle of a pipelined batch."""
_TLS_HANDSHAKE_SECONDS: Final = 30.0
_CLOSE_SECONDS: Final = 5.0
"""How long the last replies may take to leave."""


class Wire(asyncio.Protocol):
    """The transport side of a session: lines and chunks in, replies out.

    Every reading method takes a deadline; one timer serves all of them. Replies to a pipelined batch are sent
    in one write. ``opened`` is called when the client has connected.
    """

    # With this many attributes Python does not share the keys of instance dicts. Slots save a tenth of a
    # session's own time and a third of its memory.
    __slots__ = (
        "_alarm",
        "_alarm_at",
        "_at",
        "_deadline",
        "_eof",
        "_event",
        "_input",
        "_input_event",
        "_left",
        "_loop",
        "_lost",
        "_opened",
        "_output",
        "_output_is_scheduled",
        "_reading_paused",
        "_skipping",
        "_tls",
        "_writing_paused",
        "closed",
        "endpoint",
        "oddities",
        "session_ends_at",
        "session_id",
        "smtputf8",
        "tap",
        "transport",
    )

    transport: asyncio.Transport | None

    def __init__(self, endpoint: Endpoint, opened: Callable[["Wire"], None]) -> None:
        self.endpoint = endpoint
        self._opened = opened
        self.session_id = ""
        self.tap: Tap | None = None
        """The endpoint's tap once the session has its id: an earlier refusal is not an event."""
        self.transport = None
        self.smtputf8 = False
        self.oddities: tuple[Oddity, ...] = ()
        """What is odd about the current command, if that is tolerated."""
        self.session_ends_at = inf
        self._loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.closed: asyncio.Future[None] = self._loop.create_future()
        """Done when the transport is gone."""
        self._input = b""
        self._at = 0  # index of the first unread byte of _input
        self._skipping = False  # True while the rest of a too long command line is skipped
        self._output = b""  # replies that are not sent yet
        self._output_is_scheduled = False
        self._tls = False
        self._eof = False
        self._lost = False
        self._left: asyncio.Future[None] | None = None
        self._input_event: asyncio.Future[None] | None = None
        self._reading_paused = False
        self._writing_paused = False
        self._event: asyncio.Future[None] | None = None
        self._deadline = inf
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = inf

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self.transport = cast("asyncio.Transport", transport)
        self._opened(self)

    def data_received(self, data: bytes) -> None:
        """Buffer the bytes for the session; stop reading while it does not keep up."""
        unread = self._input
        if self._at < len(unread):
            data = unread[self._at :] + data
        self._input = data
        self._at = 0
        if len(data) > _MAX_UNREAD and not self._reading_paused and self.transport:
            # at once: uvloop passes up to 8 MB in one turn of the loop, before the session runs again
            self._reading_paused = True
            self.transport.pause_reading()
        event = self._event
        if event is not None and not event.done():
            event.set_result(None)

    def eof_received(self) -> bool:
        """The client has closed its sending side; replies are still sent, except over TLS (no half-close)."""
        self._eof = True
        self._wake()
        if self._left and not self._left.done():
            self._left.set_result(None)
        return not self._tls

    def connection_lost(self, _error: Exception | None) -> None:
        """The connection is lost; the session notices at its next read or write. Nothing is cancelled."""
        self._lost = self._eof = True
        self._writing_paused = False
        if self._alarm:
            self._alarm.cancel()
        if not self.closed.done():
            self.closed.set_result(None)
        if self._left and not self._left.done():
            self._left.set_result(None)
        self._wake()

    def pause_writing(self) -> None:
        """The transport's buffer is full: the client does not read its replies."""
        self._writing_paused = True

    def resume_writing(self) -> None:
        """The transport's buffer has room again."""
        self._writing_paused = False
        self._wake()

    def left(self) -> asyncio.Future[None]:
        """A future that is done when the client closes its side from now on, or the connection is lost.

        A client that has closed its sending side before may still wait for its replies.
        """
        self._left = self._loop.create_future()
        if self._lost:
            self._left.set_result(None)
        return self._left

    def _wake(self) -> None:
        event = self._event
        if event is not None and not event.done():
            event.set_result(None)

    # Waiting

    def _something(self, deadline: float) -> asyncio.Future[None]:
        """A future for bytes, end of file or room to write; it raises SessionEnd at the deadline."""
        deadline = min(deadline, self.session_ends_at)
        loop = self._loop
        if deadline <= loop.time():
            raise SessionEnd(replies.TIMED_OUT)
        if deadline < self._alarm_at:
            self._set_alarm(deadline)
        self._deadline = deadline
        self._event = event = loop.create_future()
        return event

    def _set_alarm(self, when: float) -> None:
        # deadlines mostly move on, so the timer is left alone and looks again when it fires
        if self._alarm:
            self._alarm.cancel()
        self._alarm_at = when
        self._alarm = self._loop.call_at(when, self._alarm_fired)

    def _alarm_fired(self) -> None:
        self._alarm = None
        self._alarm_at = inf
        if self._event is None or self._event.done():
            return  # the next wait sets it anew
        if self._deadline > self._loop.time():
            self._set_alarm(self._deadline)
        else:
            self._event.set_exception(SessionEnd(replies.TIMED_OUT))

    def seconds_from_now(self, seconds: float) -> float:
        """A deadline."""
        return self._loop.time() + seconds

    # Reading

    def has_input(self) -> bool:
        """True if there is unread input."""
        return self._at < len(self._input)

    def begins_with(self, beginning: bytes) -> bool:
        """True if these are the next bytes of unread input."""
        return self._input.startswith(beginning, self._at)

    def drop_input(self) -> None:
        """Discard unread input."""
        self._input, self._at = b"", 0

    def more_input(self, deadline: float) -> Awaitable[None]:
        """Send what is waiting and return an awaitable for more bytes; call it again while there are none.

        Raises SessionEnd, at once or when awaited, if none will come.
        """
        if self._writing_paused:
            return self.flush(deadline)
        if self._output and not self._output_is_scheduled:
            # The replies of all sessions are sent at the end of the loop's turn, so that a client with many
            # sessions is woken once for all of them. This saves a sixth of the time of a message.
            self._output_is_scheduled = True
            self._loop.call_soon(self.write_output)
        if self._reading_paused and self.transport:
            self._reading_paused = False
            self.transport.resume_reading()
        if self._eof:
            raise SessionEnd
        self._input_event = event = self._something(deadline)
        return event

    def interrupt(self, reply: Reply) -> None:
        """End the session with this reply if it waits for input now."""
        if self._input_event is not None and not self._input_event.done():
            self._input_event.set_exception(SessionEnd(reply))

    def next_line(self, limit: int, *, secret: bool = False) -> bytes | None:
        """The next line without its CRLF, None if there is none yet; raises `Refusal`."""
        unread, at = self._input, self._at
        if at == len(unread):
            return None
        end = unread.find(b"\n", at) + 1
        if not end:
            if self._skipping or len(unread) - at >= limit:
                self._skipping = True
                self.drop_input()
            return None
        self._at = end
        if self._skipping or end - at > limit:
            self._skipping = False
            raise Refusal(replies.RESPONSE_TOO_LONG if secret else replies.COMMAND_TOO_LONG)
        if self.tap:
            data = BLANKED + b"\r\n" if secret else without_secrets(unread[at:end])
            self.tap(CommandLine(at=time_ns() // 1000, session_id=self.session_id, data=data))
        if unread.find(b"\r", at, end) != end - 2:
            if self.endpoint.tolerance != "everything":
                raise Refusal(replies.BAD_COMMAND_LINE)
            if unread[end - 2 : end - 1] != b"\r":
                self.oddities += (Oddity.LINE_END,)
            return unread[at:end].rstrip(b"\r\n")
        return unread[at : end - 2]

    async def read_line(self, limit: int, deadline: float, *, secret: bool = False) -> bytes:
        """Wait for a line of at most ``limit`` bytes with its CRLF. Raises `Refusal` and SessionEnd."""
        while (line := self.next_line(limit, secret=secret)) is None:
            await self.more_input(deadline)
        return line

    async def read_some(self, limit: float, deadline: float) -> bytes:
        """Wait for bytes and return those that are there, at most ``limit``."""
        while not self.has_input():
            await self.more_input(deadline)
        unread = len(self._input) - self._at
        if self._at == 0 and unread <= limit:
            octets, self._input = self._input, b""
        else:
            end = self._at + int(min(limit, unread))
            octets = self._input[self._at : end]
            self._at = end
        return octets

    async def read_exactly(self, count: int, deadline: float) -> bytes:
        """Wait for that many bytes."""
        octets = b""
        while len(octets) < count:
            octets += await self.read_some(count - len(octets), deadline)
        return octets

    def tolerate(self, oddity: Oddity, refusal: Reply) -> None:
        """Note what is odd about the command if everything is accepted; else raise `Refusal`."""
        if self.endpoint.tolerance != "everything":
            raise Refusal(refusal)
        self.oddities += (oddity,)

    def put_back(self, octets: bytes) -> None:
        """Return bytes from `read_some` that belong to what follows."""
        self._input = octets + self._input[self._at :]
        self._at = 0

    # Writing

    def reply(self, reply: Reply) -> None:
        """Queue a reply; it is sent with the next `flush`."""
        self.send(encode(reply.code, reply.enhanced, reply.text, self.smtputf8))

    async def answer(self, reply: Reply) -> None:
        """Send the gateway's reply with its timing; raises SessionEnd after 421 (RFC 5321 section 3.8)."""
        if reply.timing:
            octets = encode(reply.code, reply.enhanced, reply.text, self.smtputf8)
            await self.send_as(octets, reply.timing)
        else:
            self.reply(reply)
        if reply.code == 421:
            raise SessionEnd

    def send(self, octets: bytes) -> None:
        """Queue a complete reply, given as bytes."""
        if self.tap:
            self.tap(ReplyLines(at=time_ns() // 1000, session_id=self.session_id, data=octets))
        self._output += octets

    async def send_as(self, octets: bytes, timing: ReplyTiming | None) -> None:
        """Queue a complete reply, or send it with its timing; raises SessionEnd if the timing drops it.

        Earlier replies of a pipelined batch are sent first. At the end of the grace period or of the session
        the rest is sent at once.
        """
        if timing is None:
            self.send(octets)
            return
        self.write_output()
        if timing.drop:
            await self._pause(timing.delay_seconds)
            if self.tap:
                self.tap(
                    ReplyNotSent(at=time_ns() // 1000, session_id=self.session_id, reply=octets.rstrip())
                )
            raise SessionEnd
        sent = 0
        try:
            await self._pause(timing.delay_seconds)
            if self.tap:
                self.tap(ReplyLines(at=time_ns() // 1000, session_id=self.session_id, data=octets))
            while timing.drip_seconds and sent < len(octets) - 1:
                self._output += octets[sent : sent + 1]
                self.write_output()
                sent += 1
                await self._pause(timing.drip_seconds)
        finally:
            self._output += octets[sent:]

    async def _pause(self, seconds: float) -> None:
        """Wait, at most until the client closes its side: it may be gone, or wait only for this reply."""
        until = self.seconds_from_now(seconds)
        with suppress(SessionEnd):  # the pause is over
            while seconds and not self._eof:
                await self._something(until)

    def output_is_due(self) -> bool:
        """True if enough replies are waiting for a `flush`."""
        return len(self._output) > _MAX_UNSENT

    def write_output(self) -> None:
        """Pass all waiting replies to the transport in one write."""
        octets, self._output, self._output_is_scheduled = self._output, b"", False
        if octets and self.transport and not self.transport.is_closing():
            self.transport.write(octets)

    async def flush(self, deadline: float) -> None:
        """Write the waiting replies; if the client does not read, wait until it does."""
        self.write_output()
        while self._writing_paused:
            try:
                await self._something(deadline)
            except SessionEnd:
                self.abort()
                raise

    # TLS and the end

    async def start_tls(self) -> str:
        """Negotiate TLS as the server and return its version; raises SessionEnd if that fails.

        Unread input is the beginning of the client's handshake.
        """
        plain = self.transport
        if plain is None or plain.is_closing():
            raise SessionEnd
        self._tls = True
        hello = self._input[self._at :]
        self.drop_input()
        self._reading_paused = False
        try:
            transport = await negotiate(
                plain,
                self,
                cast("ssl.SSLContext", self.endpoint.tls),
                hello,
                timeout_seconds=min(_TLS_HANDSHAKE_SECONDS, self.endpoint.limits.command_time),
            )
        except OSError as error:
            self.abort()
            raise SessionEnd from error
        if transport is None or self._lost:
            raise SessionEnd
        self.transport = transport
        version = str(transport.get_extra_info("ssl_object").version())
        if self.tap:
            self.tap(TlsStarted(at=time_ns() // 1000, session_id=self.session_id, version=version))
        return version

    def abort(self) -> None:
        """Close now and discard unsent output."""
        self._lost = self._eof = True
        if self.transport:
            self.transport.abort()

    @property
    def is_closed(self) -> bool:
        """Closed by this side, or lost; output may still be on its way."""
        return self._lost or (self.transport is not None and self.transport.is_closing())

    def close(self) -> None:
        """Close after all output was sent, or after a few seconds if the client does not read."""
        self.write_output()
        if self._alarm:
            self._alarm.cancel()
        if self.transport and not self._lost:
            self.transport.close()
            self._alarm = self._loop.call_later(_CLOSE_SECONDS, self.transport.abort)
