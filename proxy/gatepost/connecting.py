"""Connect to a server, by its name even if the system's resolver does not answer."""

import asyncio
import os
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

__all__ = ["connect"]

_Address = tuple[int, Any]
"""Family and address of a socket."""
_Lookup = asyncio.Future[Sequence[_Address]]

_REMEMBERED_SECONDS = 5.0
"""For which the addresses of a name are used again: a lookup takes some times as long as a connection."""
_REMEMBERED = 1_000
"""Names at most."""

_lookups: dict[tuple[asyncio.AbstractEventLoop, str, int], _Lookup] = {}
"""Those that have no answer yet."""
_known: dict[tuple[str, int], tuple[float, Sequence[_Address]]] = {}
"""The addresses of names, and until when they are used, by the monotonic clock."""


async def connect(host: str, port: int) -> socket.socket:
    """Connect to the first address of a host that can be reached, over TCP.

    Returns a socket that does not block, for the caller to close; `asyncio.open_connection` takes it as its
    ``sock``. Raises OSError, or UnicodeError for what cannot be a name. Time is limited by the caller.

    A name without an answer holds nothing else up: each is looked up once at a time, in a thread of its own
    that nobody waits for. The event loop's own lookups share a few threads, so that some dead names would
    block all others, and with uvloop also `sock_connect` to an IP address. An address is connected without
    a lookup, and on this machine without a wait. A name's addresses are used for some seconds, or until one
    cannot be connected.
    """
    if addresses := _without_lookup(host, port):
        return await _first_of(addresses, host)
    until, addresses = _known.get((host, port), (0.0, ()))
    if time.monotonic() < until:
        try:
            return await _first_of(addresses, host)
        except BaseException as error:
            _known.pop((host, port), None)  # it may have moved
            if not isinstance(error, OSError):
                raise
    return await _first_of(await _looked_up(host, port), host)


async def _first_of(addresses: Sequence[_Address], host: str) -> socket.socket:
    """Raises OSError."""
    errors: list[OSError] = []
    for family, address in addresses:
        try:
            return await _connected(family, address)
        except OSError as error:  # also of a machine without IPv6
            errors.append(error)
    texts = dict.fromkeys(map(str, errors))
    if len(texts) == 1:
        raise errors[0]
    raise OSError("; ".join(texts) or f"{host} has no address")


async def _connected(family: int, address: Any) -> socket.socket:
    """Raises OSError."""
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        await _connect(connection, address)
    except BaseException:
        connection.close()
        raise
    return connection


async def _connect(connection: socket.socket, address: Any) -> None:
    """Raises OSError."""
    connection.settimeout(0)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with suppress(BlockingIOError):
        try:
            connection.connect(address)
        except BlockingIOError:  # also if this machine's other end has answered, which the second call tells
            connection.connect(address)
        return
    loop = asyncio.get_running_loop()
    writable = loop.create_future()
    loop.add_writer(connection, _end, writable)
    try:
        await writable
    finally:
        loop.remove_writer(connection)
    if code := connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise OSError(code, os.strerror(code))


def _end(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _without_lookup(host: str, port: int) -> Sequence[_Address]:
    """Empty if the host is a name."""
    with suppress(socket.gaierror, UnicodeError):
        return _found(host, port, socket.AI_NUMERICHOST)
    return ()


def _found(host: str, port: int, flags: int = 0) -> Sequence[_Address]:
    """Raises OSError and UnicodeError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    return [(family, address) for family, _, _, _, address in found]


async def _looked_up(host: str, port: int) -> Sequence[_Address]:
    key = asyncio.get_running_loop(), host, port
    lookup = _lookups.get(key)
    if lookup is None:
        lookup = _lookups[key] = key[0].create_future()
        lookup.add_done_callback(_seen)
        threading.Thread(target=_look_up, args=(key, lookup), daemon=True, name="gatepost-names").start()
    return await asyncio.shield(lookup)


def _seen(lookup: _Lookup) -> None:
    lookup.exception()  # the caller may have stopped waiting


def _look_up(key: tuple[asyncio.AbstractEventLoop, str, int], lookup: _Lookup) -> None:
    loop, host, port = key
    error: Exception | None = None
    found: Sequence[_Address] = ()
    try:
        found = _found(host, port)
    except (OSError, UnicodeError) as failed:
        error = failed

    def tell() -> None:
        _lookups.pop(key, None)
        if error:
            lookup.set_exception(error)
        else:
            if len(_known) >= _REMEMBERED:
                _known.clear()
            _known[host, port] = time.monotonic() + _REMEMBERED_SECONDS, found
            lookup.set_result(found)

    try:
        loop.call_soon_threadsafe(tell)
    except RuntimeError:  # the loop has ended, nothing waits for the result
        _lookups.pop(key, None)
