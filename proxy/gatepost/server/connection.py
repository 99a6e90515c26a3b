"""Octets in, octets out: one connection with its bounds in size and time, and its TLS."""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from functools import lru_cache
from math import inf
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from aiosmtpd.smtp import SMTP

from gatepost.oddity import Oddity
from gatepost.server import replies
from gatepost.server.auth import BLANKED, without_secrets
from gatepost.server.endpoint import Endpoint
from gatepost.server.replies import Refusal
from gatepost.verdict import Reply, Sending

if TYPE_CHECKING:
    import ssl

__all__ = ["Connection", "SessionEnd"]

_MAX_UNREAD: Final = 1 << 16
"""Octets that a client may send ahead of what the session has come to."""
_MAX_UNSENT: Final = 1 << 14
"""Octets of replies that are collected before they are sent in the midst of a pipelined batch."""
_TLS_HANDSHAKE_SECONDS: Final = 30.0
_CLOSE_SECONDS: Final = 5.0
"""What was sent last may take so long to leave."""


class SessionEnd(Exception):  # noqa: N818 - not always an error
    """The session ends here, with a last reply where there is one."""

    def __init__(self, reply: Reply | None = None) -> None:
        super().__init__(reply)
        self.reply = reply


def encode(reply: Reply, *, utf8: bool) -> bytes:
    """The octets of a reply; an enhanced code is added where it has none."""
    return _encode(reply.code, reply.enhanced, reply.text, utf8)


@lru_cache(maxsize=256)
def _encode(code: int, enhanced: str | None, text: str, utf8: bool) -> bytes:  # noqa: FBT001 - for the cache
    if enhanced is None and code // 100 in (2, 4, 5):
        enhanced = f"{code // 100}.0.0"
    return Reply(code=code, text=text, enhanced=enhanced).to_bytes(utf8=utf8)


class Connection(SMTP):
    """The transport side of a session.

    aiosmtpd's stream reader is replaced by one buffer that knows lines and chunks: whoever reads
    gives a deadline, one timer serves them all, and replies to a pipelined batch leave in one write.
    """

    # With so many attributes a dict of them is neither shared by all sessions nor looked up fast:
    # slots save a tenth of a session's own time, and a third of its memory.
    __slots__ = (
        "_alarm",
        "_alarm_at",
        "_at",
        "_closed",
        "_deadline",
        "_eof",
        "_event",
        "_input",
        "_input_event",
        "_loop",
        "_lost",
        "_output",
        "_output_is_scheduled",
        "_reading_paused",
        "_skipping",
        "_tls",
        "_writing_paused",
        "endpoint",
        "oddities",
        "session_ends_at",
        "session_id",
        "smtputf8",
        "transport",
    )

    transport: asyncio.Transport | None

    def __init__(self, endpoint: Endpoint) -> None:
        # SMTP.__init__ introspects its handler for 0.25 ms; nothing that it or its bases prepare is used
        # here, and without their attributes a session needs no dict
        self.endpoint = endpoint
        self.session_id = ""
        self.transport = None
        self.smtputf8 = False
        self.oddities: tuple[Oddity, ...] = ()
        """What is odd about the command that is being read or done, where that is tolerated."""
        self.session_ends_at = inf
        self._loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self._closed: asyncio.Future[None] = self._loop.create_future()  # __del__ of a base asks for it
        self._input = b""
        self._at = 0  # what is before it was read
        self._skipping = False  # the rest of a command line that was too long
        self._output = b""  # replies that were not sent yet
        self._output_is_scheduled = False
        self._tls = False
        self._eof = False
        self._lost = False
        self._input_event: asyncio.Future[None] | None = None
        self._reading_paused = False
        self._writing_paused = False
        self._event: asyncio.Future[None] | None = None
        self._deadline = inf
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = inf

    @property
    def closed(self) -> asyncio.Future[None]:
        """Done when the transport is gone."""
        return self._closed

    # What the event loop calls

    def data_received(self, data: bytes) -> None:
        """Keeps the octets for the session; stops reading while it does not keep up."""
        unread = self._input
        if self._at < len(unread):
            data = unread[self._at :] + data
        self._input = data
        self._at = 0
        if len(data) > _MAX_UNREAD and not self._reading_paused and self.transport:
            # at once: uvloop gives up to 8 MB in one turn of the loop, before the session runs again
            self._reading_paused = True
            self.transport.pause_reading()
        event = self._event
        if event is not None and not event.done():
            event.set_result(None)

    def eof_received(self) -> bool:
        """A half-close: the client still reads, so its replies are still sent, but TLS cannot."""
        self._eof = True
        self._wake()
        return not self._tls

    def connection_lost(self, _error: Exception | None) -> None:
        """Lets the session find out when it reads or writes next; nothing is cancelled."""
        self._lost = self._eof = True
        self._writing_paused = False
        if self._alarm:
            self._alarm.cancel()
        if not self._closed.done():
            self._closed.set_result(None)
        self._wake()

    def pause_writing(self) -> None:
        """The client does not read its replies."""
        self._writing_paused = True

    def resume_writing(self) -> None:
        """The client has read its replies."""
        self._writing_paused = False
        self._wake()

    def _wake(self) -> None:
        event = self._event
        if event is not None and not event.done():
            event.set_result(None)

    # Waiting

    def _something(self, deadline: float) -> asyncio.Future[None]:
        """To be awaited for octets, end of file or room to write; it raises SessionEnd at the deadline."""
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
        """True if there are octets that were not read yet."""
        return self._at < len(self._input)

    def drop_input(self) -> None:
        """Forgets what was not read yet."""
        self._input, self._at = b"", 0

    def more_input(self, deadline: float) -> Awaitable[None]:
        """Sends what there is to send; to be awaited for octets, and to be asked again while there are none.

        Raises SessionEnd, at once or when awaited, where none will come.
        """
        if self._writing_paused:
            return self.flush(deadline)
        if self._output and not self._output_is_scheduled:
            # What all sessions have to say leaves at the end of the loop's turn: whoever reads at the
            # other ends is woken once for many of them. That saves a sixth of the time of a message.
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
        """Ends the session with this reply if it waits for input now."""
        if self._input_event is not None and not self._input_event.done():
            self._input_event.set_exception(SessionEnd(reply))

    def next_line(self, limit: int, *, secret: bool = False) -> bytes | None:
        """The next line without its CRLF, None while there is none; raises `Refusal`."""
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
        if self.endpoint.tap:
            self.tap("C", BLANKED + b"\r\n" if secret else without_secrets(unread[at:end]))
        if unread.find(b"\r", at, end) != end - 2:
            if self.endpoint.tolerance != "everything":
                raise Refusal(replies.BAD_COMMAND_LINE)
            if unread[end - 2 : end - 1] != b"\r":
                self.oddities += (Oddity.LINE_END,)
            return unread[at:end].rstrip(b"\r\n")
        return unread[at : end - 2]

    async def read_line(self, limit: int, deadline: float, *, secret: bool = False) -> bytes:
        """Waits for a line; ``limit`` are octets with CRLF. Raises `Refusal` and SessionEnd."""
        while (line := self.next_line(limit, secret=secret)) is None:
            await self.more_input(deadline)
        return line

    async def read_some(self, limit: float, deadline: float) -> bytes:
        """Waits for octets and gives those that are there, at most ``limit``."""
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
        """Waits for that many octets."""
        octets = b""
        while len(octets) < count:
            octets += await self.read_some(count - len(octets), deadline)
        return octets

    def put_back(self, octets: bytes) -> None:
        """Octets of `read_some` that were not for the reader."""
        self._input = octets + self._input[self._at :]
        self._at = 0

    # Writing

    def reply(self, reply: Reply) -> None:
        """Adds a reply to those that leave with the next `flush`."""
        self.send(_encode(reply.code, reply.enhanced, reply.text, self.smtputf8))

    def send(self, octets: bytes) -> None:
        """Adds a whole reply as octets."""
        if self.endpoint.tap:
            self.tap("S", octets)
        self._output += octets

    async def send_as(self, octets: bytes, sending: Sending | None) -> None:
        """Adds a whole reply, or sends it slowly; raises SessionEnd where it is not sent.

        Replies before it in a pipelined batch leave first. The end of the grace period or of the
        session makes the rest leave at once.
        """
        if sending is None:
            self.send(octets)
            return
        self.write_output()
        if sending.drop:
            await self._pause(sending.delay_seconds)
            self.tap("*", b"not sent " + octets.rstrip())
            raise SessionEnd
        sent = 0
        try:
            await self._pause(sending.delay_seconds)
            self.tap("S", octets)
            while sending.drip_seconds and sent < len(octets) - 1:
                self._output += octets[sent : sent + 1]
                self.write_output()
                sent += 1
                await self._pause(sending.drip_seconds)
        finally:
            self._output += octets[sent:]

    async def _pause(self, seconds: float) -> None:
        """Lets time pass until the client has closed its side: it may be gone, or waits for this alone."""
        until = self.seconds_from_now(seconds)
        with suppress(SessionEnd):  # the time is over
            while seconds and not self._eof:
                await self._something(until)

    def output_is_due(self) -> bool:
        """True if so many replies are waiting that a `flush` should not wait for more."""
        return len(self._output) > _MAX_UNSENT

    def write_output(self) -> None:
        """Gives all waiting replies to the transport in one write."""
        octets, self._output, self._output_is_scheduled = self._output, b"", False
        if octets and self.transport and not self.transport.is_closing():
            self.transport.write(octets)

    async def flush(self, deadline: float) -> None:
        """Writes the waiting replies; where the client does not read, waits until it does."""
        self.write_output()
        while self._writing_paused:
            try:
                await self._something(deadline)
            except SessionEnd:
                self.abort()
                raise

    # TLS and the end

    async def start_tls(self) -> str:
        """Negotiates TLS as the server and gives its version; raises SessionEnd where that fails.

        What was received and not read yet is the beginning of the client's handshake.
        """
        plain = self.transport
        if plain is None or plain.is_closing():
            raise SessionEnd
        self._tls = True
        hello = self._input[self._at :]
        self.drop_input()
        self._reading_paused = False
        handshake = self._loop.start_tls(
            plain,
            self,
            cast("ssl.SSLContext", self.endpoint.tls),
            server_side=True,
            ssl_handshake_timeout=min(_TLS_HANDSHAKE_SECONDS, self.endpoint.limits.command_time),
        )
        try:
            if hello:
                _, transport = await asyncio.gather(self._hand_over(plain, hello), handshake)
            else:
                transport = await handshake
        except OSError as error:
            self.abort()
            raise SessionEnd from error
        if transport is None or self._lost:
            raise SessionEnd
        self.transport = transport
        version = str(transport.get_extra_info("ssl_object").version())
        if self.endpoint.tap:
            self.tap("*", f"tls {version}".encode())
        return version

    async def _hand_over(self, plain: asyncio.Transport, octets: bytes) -> None:
        """Gives octets to the TLS layer as if it had received them itself, and before all others."""
        await asyncio.sleep(0)  # start_tls puts the layer between transport and session
        await asyncio.sleep(0)  # and the layer is told of its transport
        layer: Any = plain.get_protocol()  # uvloop's is no subclass of asyncio.BufferedProtocol
        while octets and layer not in (self, None):  # it is, where the client is gone already
            buffer = layer.get_buffer(len(octets))
            count = min(len(buffer), len(octets))
            buffer[:count] = octets[:count]
            layer.buffer_updated(count)
            octets = octets[count:]

    def abort(self) -> None:
        """Closes now; what was not sent is lost."""
        self._lost = self._eof = True
        if self.transport:
            self.transport.abort()

    def close(self) -> None:
        """Closes when all that was sent has left, or soon after where the client does not read."""
        self.write_output()
        if self._alarm:
            self._alarm.cancel()
        if self.transport and not self._lost:
            self.transport.close()
            self._alarm = self._loop.call_later(_CLOSE_SECONDS, self.transport.abort)

    def tap(self, direction: Literal["C", "D", "S", "*"], data: bytes) -> None:
        """Shows it to whoever listens in; a connection that never became a session is not shown."""
        if self.endpoint.tap and self.session_id:
            self.endpoint.tap(self.session_id, direction, data)
