"""Several servers of one service that a filter asks: addresses, connections, failover.

The servers are asked in the order of the settings. One that failed is asked last for a while, so that mail
does not wait for it each time; then by one message at a time until it answers.
"""

import asyncio
import re
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from gatepost import Place, UnreachableError, connect

__all__ = ["FinalError", "Servers", "addresses", "exchange"]

T = TypeVar("T")

_CONNECT_SECONDS = 3.0
"""For one connection: a lost SYN is sent again after a second, and after three."""
_LAST_SECONDS = 10.0
"""So long a server that failed is asked after the others."""
_SLOW_SECONDS = 1.0
"""A question that is cancelled after this time was cancelled because the server is slow."""
_BEGUN_LIMIT = 2
"""Servers that get one message; a message that makes them fail shall not reach all of them."""
_QUEUE_SECONDS = 0.02
"""Between two attempts to connect to a Unix socket whose queue is full."""
_PIECE_BYTES = 1 << 16
_JOINED_BYTES = 1 << 14
"""What a socket's buffer takes at once, so that a server cannot answer between the joined pieces."""
_TCP_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:/\[\]]+)):(\d{1,5})", re.ASCII)


class FinalError(ConnectionError):
    """A server could not scan this message, and another one could not either."""


def addresses(given: str | list[str], setting: str = "address") -> tuple[str, ...]:
    """The addresses of a setting, which is one or a list; raises ValueError."""
    found = (given,) if isinstance(given, str) else tuple(given)
    if not found:
        raise ValueError(f"{setting}: no server, expected at least one")
    for address in found:
        if not address.startswith("unix:/"):
            _tcp_address(address, setting)
    if len(set(found)) < len(found):
        raise ValueError(f"{setting}: the same server twice")
    return found


def _tcp_address(text: str, setting: str = "address") -> tuple[str, int]:
    found = _TCP_ADDRESS.fullmatch(text)
    if not found or not 1 <= int(found[3]) <= 65535:
        raise ValueError(f"{setting} {text!r}: expected unix:/path or host:port")
    return found[1] or found[2], int(found[3])


class _Server:
    """One server."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.last_until = 0.0
        """Until then it is asked after the others, by the clock of `Servers`; 0: it has answered."""
        self.is_failing = False
        """True if its failure was logged and it has not answered since."""

    def connect_at_once(self) -> socket.socket | None:
        """A connected Unix socket, for the caller to close, if that takes no wait; raises OSError."""
        if not self.address.startswith("unix:"):
            return None
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(0)  # required by the event loop's sock_* functions
            connection.connect(self.address.removeprefix("unix:"))
        except BaseException as error:
            connection.close()
            if isinstance(error, BlockingIOError):  # its queue is full
                return None
            raise
        return connection

    async def connect(self) -> socket.socket:
        """A connected socket, for the caller to close; raises OSError or UnicodeError."""
        if self.address.startswith("unix:"):
            while True:  # the event loop takes a full queue, which is EAGAIN, for a connection
                await asyncio.sleep(_QUEUE_SECONDS)
                if local := self.connect_at_once():
                    return local
        return await connect(*_tcp_address(self.address))


class Servers:
    """The servers of one service, such as clamd."""

    def __init__(
        self,
        service: str,
        given: str | list[str],
        place: Place,
        clock: Callable[[], float] = time.monotonic,
        setting: str = "address",
    ) -> None:
        """``given`` is what the setting of this name says, as `addresses` takes it; raises ValueError."""
        self._service = service
        self._clock = clock
        self._place = place
        self._servers = [_Server(address) for address in addresses(given, setting)]

    @property
    def addresses(self) -> tuple[str, ...]:
        """In the order of the settings."""
        return tuple(server.address for server in self._servers)

    async def ask(self, question: Callable[[socket.socket], Awaitable[T]]) -> T:
        """The answer of the first server that has one.

        ``question`` raises an OSError if another server may be asked instead, FinalError if not. Raises
        FinalError, UnreachableError if there is no connection to any, and else ConnectionError or
        TimeoutError; the text names the servers.
        """
        failures: list[str] = []
        begun = 0
        for server in self._in_order():
            where = f"{self._service} at {server.address}"
            if server.last_until:  # it failed: one message shows whether it still does, the next ones go on
                self._is_last(server)
            try:
                connection = await self._connect(server)
            except asyncio.CancelledError:
                self._is_last(server)
                failures.append(f"{where}: not connected")
                break
            except (OSError, UnicodeError) as error:
                failures.append(f"{where}: {error}")
                self._failed(server, str(error))
                continue
            begun += 1
            asked_at = self._clock()
            try:
                with connection:
                    answer = await question(connection)
            except asyncio.CancelledError:
                if self._clock() - asked_at > _SLOW_SECONDS:
                    self._failed(server, "connected, no answer")
                failures.append(f"{where}: connected, no answer")
                raise TimeoutError("; ".join(failures)) from None  # the rule's time is over
            except FinalError as error:
                raise FinalError(f"{where}: {error}") from error
            except OSError as error:
                failures.append(f"{where}: {error}")
                self._failed(server, str(error))
                if begun == _BEGUN_LIMIT:
                    break
            else:
                self._answered(server)
                return answer
        raise (ConnectionError if begun else UnreachableError)("; ".join(failures))

    async def ask_each(self, question: Callable[[socket.socket], Awaitable[T]]) -> dict[str, T | OSError]:
        """What every server answers, or how it failed, by address; of each it takes seconds at most."""

        async def answer(server: _Server) -> T | OSError:
            try:
                with await self._connect(server) as connection:
                    async with asyncio.timeout(_CONNECT_SECONDS):
                        found = await question(connection)
            except TimeoutError as error:
                failure: OSError = TimeoutError(str(error) or "no answer")
            except (OSError, UnicodeError) as error:
                failure = error if isinstance(error, OSError) else ConnectionError(str(error))
            else:
                self._answered(server)
                return found
            self._failed(server, str(failure))
            return failure

        found = await asyncio.gather(*map(answer, self._servers))
        return dict(zip(self.addresses, found, strict=True))

    def _in_order(self) -> Sequence[_Server]:
        if len(self._servers) == 1:
            return self._servers
        now = self._clock()
        return sorted(self._servers, key=lambda server: server.last_until > now)

    async def _connect(self, server: _Server) -> socket.socket:
        if connection := server.connect_at_once():
            return connection
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                return await server.connect()
        except TimeoutError as error:
            raise TimeoutError(str(error) or f"not connected within {_CONNECT_SECONDS:g} s") from None

    def _is_last(self, server: _Server) -> None:
        server.last_until = self._clock() + _LAST_SECONDS

    def _failed(self, server: _Server, problem: str) -> None:
        """Log it once per outage; the failure of an only server is the rule's own, and logged as such."""
        self._is_last(server)
        if len(self._servers) > 1 and not server.is_failing:
            server.is_failing = True
            self._place.count("server_failed")
            self._place.logger.warning("%s at %s fails: %s", self._service, server.address, problem)

    def _answered(self, server: _Server) -> None:
        server.last_until = 0.0
        if server.is_failing:
            server.is_failing = False
            self._place.logger.warning("%s at %s answers again", self._service, server.address)


async def exchange(
    connection: socket.socket, pieces: Iterable[bytes | memoryview], *, limit_bytes: int, end: bytes = b""
) -> tuple[bytes, bool]:
    """Send a request and read all until the server closes: the answer, and whether it had the whole request.

    With ``end``, the answer is complete as soon as it ends so. A server may answer, and close, while the
    request is still being sent. The socket is used without a stream around it, because a stream drops unread
    data when a write fails. Raises OSError, also for an answer of more than ``limit_bytes``.
    """
    loop = asyncio.get_running_loop()
    complete = True
    try:
        for piece in _with_last(_joined(pieces)):
            if piece is None:
                complete = not _has_answered(connection)
            else:
                await loop.sock_sendall(connection, piece)
    except ConnectionError:
        complete = False
    answer = bytearray()
    try:
        while received := await loop.sock_recv(connection, _PIECE_BYTES):
            answer += received
            if len(answer) > limit_bytes:
                shown = bytes(answer[:200])
                raise FinalError(f"its answer has more than {limit_bytes:,} bytes: {shown!r}")
            if end and answer.endswith(end):
                break
    except ConnectionResetError:
        if not answer:
            raise
        complete = False  # it has not read all
    return bytes(answer), complete


def _joined(pieces: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    """The same bytes in fewer pieces: small ones together, so that one system call sends them."""
    small: list[bytes | memoryview] = []
    size = 0
    for piece in pieces:
        if size + len(piece) > _JOINED_BYTES:
            yield b"".join(small)
            small, size = [], 0
        if len(piece) > _JOINED_BYTES:
            yield piece
        else:
            small.append(piece)
            size += len(piece)
    yield b"".join(small)


def _with_last(pieces: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview | None]:
    """The pieces that are not empty, with None before the last one."""
    before: bytes | memoryview | None = None
    for piece in pieces:
        if not piece:
            continue
        if before is not None:
            yield before
        before = piece
    yield None
    if before is not None:
        yield before


def _has_answered(connection: socket.socket) -> bool:
    """True if something is there to be read, or the other side has closed."""
    try:
        connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    return True
