"""Listening sockets that outlive the processes that serve them.

A listening socket's queue of connections exists as long as any process has the socket open. So the supervisor
has it open too, and the next process serves connections that arrive while there is none.
"""

import os
import socket
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

__all__ = ["Sockets", "address_of", "bind_again", "bind_desk", "bind_unix", "bind_workers", "close"]

_Option = tuple[int, int]
_REUSE: _Option = (socket.SOL_SOCKET, socket.SO_REUSEADDR)
_SHARE: _Option = (socket.SOL_SOCKET, socket.SO_REUSEPORT)
_IPV6_ALONE: _Option = (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
"""So that ``[::]:25`` and ``0.0.0.0:25`` may both be listened on."""

Sockets = tuple[socket.socket, ...]


def bind_workers(addresses: Sequence[str], count: int) -> list[Sockets]:
    """Bind one socket for each address and worker: they share the port, each has its own queue.

    None listens yet: clients are refused until a worker does. Port 0 becomes one number for all. Raises
    OSError with the address in it, and closes all sockets in this case.
    """
    with ExitStack() as opened:
        shares = [_shares(address, count, opened) for address in addresses]
        opened.pop_all()
    return list(zip(*shares, strict=True))


def bind_again(sockets: Sockets) -> Sockets:
    """Replace the sockets with new ones and close them, which resets the connections in their queues.

    Raises OSError, and then the old ones stay.
    """
    with ExitStack() as opened:
        renewed = tuple(
            opened.enter_context(_bound_to_share(one.family, one.getsockname())) for one in sockets
        )
        opened.pop_all()
    close(sockets)
    return renewed


def bind_desk(address: str) -> socket.socket:
    """The web desk's TCP socket, already listening; raises OSError with the address in it."""
    family, place = _parsed(address)
    try:
        door = _bound(family, place, _REUSE)
        door.listen()
    except OSError as error:
        raise _taken(address, error) from None
    return door


def bind_unix(path: Path) -> socket.socket:
    """A Unix socket that only this user may connect to, already listening; raises OSError with the path.

    A socket that a gateway left behind is replaced; one on which somebody listens is not.
    """
    door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket():
            _remove_unused(path)
        before = os.umask(0o177)
        try:
            door.bind(str(path))
        finally:
            os.umask(before)
        door.listen()
    except OSError as error:
        door.close()
        raise _taken(f"unix:{path}", error) from None
    return door


def _remove_unused(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        try:
            client.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()


def address_of(bound: socket.socket) -> tuple[str, int]:
    """Host and port."""
    host, port, *_ = bound.getsockname()
    return str(host), int(port)


def close(sockets: Iterable[socket.socket]) -> None:
    """Close them all."""
    for one in sockets:
        one.close()


def _shares(address: str, count: int, opened: ExitStack) -> Sockets:
    family, place = _parsed(address)
    try:
        # Because of the shared port, binding alone would not fail if another gateway listens.
        _bound(family, place, *_options(family)).close()
        shares = []
        for _ in range(count):
            shares.append(opened.enter_context(_bound_to_share(family, place)))
            place = shares[0].getsockname()
    except OSError as error:
        raise _taken(address, error) from None
    return tuple(shares)


def _bound_to_share(family: int, place: tuple[str, int]) -> socket.socket:
    return _bound(family, place, *_options(family), _SHARE)


def _options(family: int) -> tuple[_Option, ...]:
    return (_REUSE, _IPV6_ALONE) if family == socket.AF_INET6 else (_REUSE,)


def _bound(family: int, place: tuple[str, int], *options: _Option) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        for level, option in options:
            bound.setsockopt(level, option, 1)
        bound.bind(place)
    except OSError:
        bound.close()
        raise
    return bound


def _parsed(address: str) -> tuple[socket.AddressFamily, tuple[str, int]]:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    return socket.AF_INET6 if ":" in host else socket.AF_INET, (host, int(port))


def _taken(address: str, error: OSError) -> OSError:
    return OSError(error.errno, f"cannot listen on {address}: {error.strerror}")
