"""The filter ``clamav``: asks a ClamAV daemon (clamd) about the whole message, as received.

clamd takes the message apart by itself: MIME parts, archives, documents. Two of its settings matter:
``StreamMaxLength`` must be at least the gateway's ``limits.message_size``, because what clamd refuses
to look at is a failure of the rule (``on_error``) and never clean; and only with ``AlertExceedsMax yes``
does it report what lies beyond its other limits (``MaxScanSize``, ``MaxRecursion``, ...), as
``Heuristics.Limits.Exceeded``.
"""

import asyncio
import re
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from gatepost import Match, Transaction, Verdict, hookimpl

__all__ = ["ClamAV", "ClamdError"]

_CHUNK_OCTETS = 1 << 20
_END = bytes(4)
"""A chunk of no octets."""
_REPLY_OCTETS = 1024
"""Far more than any signature's name needs; a longer reply is not clamd's."""
_FOUND = re.compile(rb"stream: ([!-~][ -~]*) FOUND")
_TCP_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:/\[\]]+)):(\d{1,5})", re.ASCII)


class ClamdError(Exception):
    """clamd gave no verdict on the message."""


class _Names:
    """One lookup at a time, in a daemon thread that can be left behind: who asks meanwhile shares it.

    The event loop has few threads for lookups, which a resolver without an answer would keep from all
    others, and the process from ending.
    """

    def __init__(self) -> None:
        self._lookup: Future[list[Any]] | None = None

    async def look_up(self, host: str, port: int) -> list[Any]:
        """The addresses, as `socket.getaddrinfo` gives them; raises OSError."""
        with suppress(socket.gaierror):  # an address needs no thread
            return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        if self._lookup is None or self._lookup.done():
            self._lookup = Future()
            threading.Thread(target=_look_up, args=(host, port, self._lookup), daemon=True).start()
        return await asyncio.shield(asyncio.wrap_future(self._lookup))


def _look_up(host: str, port: int, lookup: "Future[list[Any]]") -> None:
    try:
        lookup.set_result(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except (OSError, UnicodeError) as error:
        lookup.set_exception(error)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClamAV:
    """A hit for every message in which clamd finds a signature."""

    address: str = "unix:/run/clamav/clamd.ctl"
    """Where clamd listens: ``unix:/path``, ``host:port`` or ``[IPv6]:port``."""
    _names: _Names = field(default_factory=_Names, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.address.startswith("unix:/"):
            _tcp_address(self.address)

    @hookimpl
    async def filter_message(self, transaction: Transaction) -> Verdict | None:
        """Yes with the signature's name; raises OSError or `ClamdError` where clamd does not answer."""
        with await self._connect() as clamd:
            reply, complete = await _instream(clamd, transaction.message.content)
        if found := _FOUND.fullmatch(reply):
            signature = found[1].decode("ascii")
            return Verdict(
                reason=f"ClamAV found {signature}", matches=(Match(where="message", text=signature),)
            )
        if reply != b"stream: OK":
            raise ClamdError(f"clamd answered {reply!r}")
        if not complete:
            raise ClamdError("clamd called the message clean before it had all of it")
        return None

    async def _connect(self) -> socket.socket:
        """A connected socket, for the caller to close."""
        if self.address.startswith("unix:"):
            return await _connected(socket.AF_UNIX, self.address.removeprefix("unix:"))
        host, port = _tcp_address(self.address)
        failures: list[str] = []
        for family, _, _, _, address in await self._names.look_up(host, port):
            try:
                clamd = await _connected(family, address)
            except OSError as error:
                failures.append(str(error))
            else:
                clamd.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return clamd
        raise ConnectionError(f"no clamd at {self.address}: {'; '.join(failures)}")


def _tcp_address(text: str) -> tuple[str, int]:
    found = _TCP_ADDRESS.fullmatch(text)
    if not found or not 1 <= int(found[3]) <= 65535:
        raise ValueError(f"address {text!r}: expected unix:/path or host:port")
    return found[1] or found[2], int(found[3])


async def _connected(family: int, address: str | tuple[Any, ...]) -> socket.socket:
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.settimeout(0)  # what the event loop's sock_* functions need
        await asyncio.get_running_loop().sock_connect(connection, address)
    except BaseException:
        connection.close()
        raise
    return connection


async def _instream(clamd: socket.socket, content: bytes) -> tuple[bytes, bool]:
    """The reply to INSTREAM without its NUL, and whether the whole message could be sent.

    Clamd may answer, and close, while it is still being written to. The socket is used without a
    stream around it, because a stream forgets what it has not read when a write fails.
    """
    loop = asyncio.get_running_loop()
    try:
        for octets in _chunks(content):
            await loop.sock_sendall(clamd, octets)
        complete = not _has_answered(clamd)
        await loop.sock_sendall(clamd, _END)
    except ConnectionError:
        complete = False
    reply = bytearray()
    while not reply.endswith(b"\0"):
        received = await loop.sock_recv(clamd, _REPLY_OCTETS)
        reply += received
        if not received or len(reply) > _REPLY_OCTETS:
            raise ClamdError(f"clamd closed or did not end its answer: {bytes(reply[:200])!r}")
    return bytes(reply[:-1]), complete


def _has_answered(clamd: socket.socket) -> bool:
    """True if something is there to be read, or the other side has closed."""
    try:
        clamd.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    return True


def _chunks(content: bytes) -> Iterator[bytes | memoryview]:
    """The command and the message as clamd(8) wants them, but for `_END`: each chunk after its length."""
    yield b"zINSTREAM\0"
    view = memoryview(content)
    for start in range(0, len(content), _CHUNK_OCTETS):
        chunk = view[start : start + _CHUNK_OCTETS]
        yield len(chunk).to_bytes(4)
        yield chunk
