"""Look up the addresses of servers, even if the system's resolver does not answer."""

import asyncio
import ipaddress
import os
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

__all__ = ["Resolver", "is_address"]

Address = tuple[socket.AddressFamily, Any]
Lookup = asyncio.Future[Sequence[Address]]


class Resolver:
    """At most one lookup of each name at a time, in its own daemon thread; concurrent callers share it.

    The event loop's own lookups share a few threads that cannot be cancelled: two names without an answer
    would block all others, and the end of the process.
    """

    def __init__(self) -> None:
        self._lookups: dict[tuple[str, int], Lookup] = {}

    async def connect(self, host: str, port: int) -> socket.socket:
        """Connect to the first reachable address of the host; raises OSError."""
        error = OSError(f"{host} has no address")
        for family, address in await self._addresses(host, port):
            connected = socket.socket(family, socket.SOCK_STREAM)
            try:
                await _connect(connected, address)
            except BaseException as failed:
                connected.close()
                if not isinstance(failed, OSError):
                    raise
                error = failed
            else:
                return connected
        raise error

    async def _addresses(self, host: str, port: int) -> Sequence[Address]:
        lookup = self._lookups.get((host, port))
        if lookup is None:
            lookup = self._lookups[host, port] = asyncio.get_running_loop().create_future()
            lookup.add_done_callback(lambda done: self._forget(host, port, done))
            thread = threading.Thread(target=_look_up, args=(host, port, lookup), daemon=True)
            thread.name = "gatepost-names"
            thread.start()
        return await asyncio.shield(lookup)

    def _forget(self, host: str, port: int, done: Lookup) -> None:
        del self._lookups[host, port]
        done.exception()  # the caller may have stopped waiting


def is_address(host: str) -> bool:
    """True if the host is an IP address, so that no lookup is needed."""
    with suppress(ValueError):
        return bool(ipaddress.ip_address(host))
    return False


async def _connect(connection: socket.socket, address: Any) -> None:
    """Not by the loop's `sock_connect`, since that of uvloop waits for one of its lookup threads.

    Raises OSError.
    """
    loop = asyncio.get_running_loop()
    connection.settimeout(0)
    with suppress(BlockingIOError):
        connection.connect(address)
    writable = loop.create_future()
    loop.add_writer(connection, _end, writable)
    try:
        await writable
    finally:
        loop.remove_writer(connection)
    if code := connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise OSError(code, os.strerror(code))


def _end(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


def _look_up(host: str, port: int, lookup: Lookup) -> None:
    error: Exception | None = None
    found: list[Address] = []
    try:
        found = [(info[0], info[4]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError) as failed:
        error = failed

    def tell() -> None:
        if error:
            lookup.set_exception(error)
        else:
            lookup.set_result(found)

    with suppress(RuntimeError):  # the loop has ended, nothing waits for the result
        lookup.get_loop().call_soon_threadsafe(tell)
