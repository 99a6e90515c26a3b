"""One connection to upstream, after its greeting: commands out, replies in, strictly paired."""

import asyncio
from collections import deque

from proxy.relay.reply_reader import GarbageError, ReplyReader
from proxy.verdict import Reply

__all__ = ["Connection", "UpstreamLostError"]


class UpstreamLostError(Exception):
    """The connection is of no use any more: lost, silent, or speaking nonsense."""


class Connection(asyncio.Protocol):
    """Takes a transport over from aiosmtplib.

    Every command has one reply, in order; an octet that no command waits for ends the connection,
    since from then on no reply could be trusted to be the right one.
    """

    def __init__(self, transport: asyncio.Transport, extensions: dict[str, str], server: str) -> None:
        self.server = server
        """``host:port``."""
        self.extensions = extensions
        """Keyword in upper case -> argument, from the reply to EHLO."""
        self.used = False
        """True once a transaction has ended on it well."""
        self._transport = transport
        self._reader = ReplyReader()
        self._awaited: deque[asyncio.Future[Reply]] = deque()
        self._lost: str | None = None
        self._paused: asyncio.Future[None] | None = None
        transport.set_protocol(self)

    @property
    def is_lost(self) -> bool:
        """True if nothing can be sent over it."""
        return self._lost is not None

    @property
    def is_quiet(self) -> bool:
        """True if no reply is outstanding and none half read."""
        return not self._awaited and self._reader.is_empty

    def write(self, octets: bytes, replies: int) -> list[asyncio.Future[Reply]]:
        """Send octets that hold that many commands; gives a future for each reply. Raises UpstreamLostError."""
        if self._lost:
            raise UpstreamLostError(self._lost)
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[Reply]] = [loop.create_future() for _ in range(replies)]
        self._awaited.extend(futures)
        self._transport.write(octets)
        return futures

    async def reply(self, future: asyncio.Future[Reply], deadline: float) -> Reply:
        """Wait for a reply; raises UpstreamLostError, and then the connection is aborted."""
        try:
            async with asyncio.timeout_at(deadline):
                return await future
        except TimeoutError:
            self.abort("no reply in time")
            raise UpstreamLostError("no reply in time") from None
        except asyncio.CancelledError:
            self.abort("cancelled")
            raise

    async def drain(self, deadline: float) -> None:
        """Wait until upstream has taken most of what was written; raises UpstreamLostError."""
        if self._lost:
            raise UpstreamLostError(self._lost)
        if self._paused is None:
            return
        try:
            async with asyncio.timeout_at(deadline):
                await self._paused
        except TimeoutError:
            self.abort("takes no octets")
            raise UpstreamLostError("takes no octets") from None
        except asyncio.CancelledError:
            self.abort("cancelled")
            raise
        if self._lost:
            raise UpstreamLostError(self._lost)

    def abort(self, why: str) -> None:
        """End it now: what was written and not sent is dropped, so that nothing is delivered later."""
        self._transport.abort()
        self._end(why)

    def quit(self) -> None:
        """Say goodbye and close; the answer does not matter (RFC 5321 section 4.1.1.10)."""
        if self._lost is None:
            self._transport.write(b"QUIT\r\n")
            self._transport.close()
            self._end("closed")

    def _end(self, why: str) -> None:
        if self._lost is None:
            self._lost = why
        for future in self._awaited:
            if not future.done():
                future.set_exception(UpstreamLostError(self._lost))
                future.exception()  # it may be that nobody waits for it
        self._awaited.clear()
        self.resume_writing()

    def data_received(self, data: bytes) -> None:
        """Pair what came with what is awaited."""
        try:
            replies = self._reader.feed(data)
        except GarbageError as error:
            self.abort(str(error))
            return
        for reply in replies:
            if not self._awaited:
                self.abort(f"a reply that nothing waits for: {reply}")
                return
            future = self._awaited.popleft()
            if not future.done():
                future.set_result(reply)
        if not self._awaited and not self._reader.is_empty:
            self.abort("octets that nothing waits for")

    def eof_received(self) -> bool:
        """Upstream will say no more."""
        self.abort("closed by upstream")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is gone."""
        self._end(f"connection lost: {exc}" if exc else "closed by upstream")

    def pause_writing(self) -> None:
        """The transport holds enough."""
        if self._paused is None and self._lost is None:
            self._paused = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        """The transport takes more."""
        if self._paused:
            if not self._paused.done():
                self._paused.set_result(None)
            self._paused = None
