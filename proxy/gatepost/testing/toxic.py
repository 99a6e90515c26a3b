"""A bad network: a proxy that delays, slices, throttles, closes late or resets.

It passes bytes on and knows nothing about SMTP, so it can be in front of a gateway or behind it:

    with FakeUpstream() as upstream, ToxicProxy(upstream, back=Toxic(latency=0.1)) as line:
        with running_gateway({}, upstream=line) as gateway:
            ...
"""

import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

from gatepost.testing.gateway import Upstream

__all__ = ["Toxic", "ToxicProxy"]

_NO_LINGER = struct.pack("ii", 1, 0)
_JOIN_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Toxic:
    """The faults of one direction; without arguments: none."""

    latency: float = 0.0
    """Seconds before data are passed on."""
    bandwidth: int | None = None
    """Bytes a second."""
    slices: int | None = None
    """Bytes that are passed on at a time, each time in a new segment."""
    late_close: float = 0.0
    """Seconds before the end of the data is passed on."""
    reset_after: int | None = None
    """Bytes after which both ends get a TCP reset; counted on each connection from the time this is set."""


_HEALTHY = Toxic()


class ToxicProxy:
    """Passes connections on to a server, in its own threads.

    ``there`` and ``back`` may be changed while it runs, also for open connections.
    """

    def __init__(self, server: Upstream, *, there: Toxic = _HEALTHY, back: Toxic = _HEALTHY) -> None:
        """``server`` has a ``host`` and a ``port``: a gateway or an upstream server."""
        self._server = server
        self.there = there
        """From the client to the server."""
        self.back = back
        """From the server to the client."""
        self.host = "127.0.0.1"
        """Its IP address."""
        self.port = 0
        """The port that it listens on, once it does."""
        self._listener: socket.socket | None = None
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        self._listener = socket.create_server((self.host, 0))
        self.port = self._listener.getsockname()[1]
        self._run(self._accept, self._listener)
        return self

    def __exit__(self, *_: object) -> None:
        """Close all connections."""
        if self._listener:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # wakes up accept()
            self._threads[0].join(_JOIN_SECONDS)
            self._listener.close()
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(_JOIN_SECONDS)
        for one in self._sockets:
            one.close()

    @property
    def url(self) -> str:
        """The URL for ``relay: to``."""
        return f"smtp://{self.host}:{self.port}"

    def _run(self, function: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection((self._server.host, self._server.port))
            except OSError:
                client.close()
                continue
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets += (client, server)
            self._run(self._pass_on, client, server, "there")
            self._run(self._pass_on, server, client, "back")

    def _pass_on(self, source: socket.socket, target: socket.socket, direction: str) -> None:
        passed, before = 0, None
        with suppress(OSError):
            while octets := source.recv(1 << 16):
                toxic: Toxic = getattr(self, direction)
                passed, before = passed if toxic is before else 0, toxic
                time.sleep(toxic.latency)
                if toxic.reset_after is not None and passed + len(octets) >= toxic.reset_after:
                    target.sendall(octets[: toxic.reset_after - passed])
                    self._reset(source, target)
                    return
                for begin in range(0, len(octets), toxic.slices or len(octets)):
                    piece = octets[begin : begin + (toxic.slices or len(octets))]
                    target.sendall(piece)
                    if toxic.bandwidth:
                        time.sleep(len(piece) / toxic.bandwidth)
                passed += len(octets)
        toxic = getattr(self, direction)
        time.sleep(toxic.late_close)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def _reset(self, *ends: socket.socket) -> None:
        for one in ends:
            with suppress(OSError):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
                one.shutdown(socket.SHUT_RD)  # wakes up the other direction
            one.close()
