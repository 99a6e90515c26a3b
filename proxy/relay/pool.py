"""Connections to upstream that wait for their next transaction, and which servers are down."""

import asyncio
from collections.abc import Iterable
from functools import partial

from proxy.config.settings import Limits, UpstreamServer
from proxy.relay.connection import Connection, UpstreamLostError
from proxy.relay.opening import open_connection

__all__ = ["Pool"]

_DOWN_SECONDS = 30.0
"""A server that could not be reached is asked last for so long."""
_IDLE_LIMIT = 64
"""Connections that wait, for one server."""


class Pool:
    """Gives connections and takes them back."""

    def __init__(self, *, hostname: str, limits: Limits) -> None:
        self._hostname = hostname
        self._limits = limits
        self._idle: dict[UpstreamServer, list[tuple[Connection, asyncio.TimerHandle]]] = {}
        self._down_until: dict[UpstreamServer, float] = {}
        self._extensions: dict[UpstreamServer, frozenset[str]] = {}
        self._closed = False

    def extensions(self, server: UpstreamServer) -> frozenset[str]:
        """What the server offered when it was last greeted; nothing if it never was."""
        return self._extensions.get(server, frozenset())

    def in_order(self, servers: Iterable[UpstreamServer]) -> list[UpstreamServer]:
        """The servers as listed, those that are known to be down last."""
        now = asyncio.get_running_loop().time()
        return sorted(servers, key=lambda server: self._down_until.get(server, 0.0) > now)

    def waiting(self, server: UpstreamServer) -> Connection | None:
        """A connection that is open already; the caller must be ready to find it dead."""
        idle = self._idle.get(server, [])
        while idle:
            connection, timer = idle.pop()
            timer.cancel()
            if not connection.is_lost:
                return connection
        return None

    async def fresh(self, server: UpstreamServer) -> Connection:
        """A new connection; raises UpstreamLostError."""
        loop = asyncio.get_running_loop()
        try:
            connection = await open_connection(
                server, hostname=self._hostname, seconds=self._limits.connect_time
            )
        except UpstreamLostError:
            self._down_until[server] = loop.time() + _DOWN_SECONDS
            self._extensions.pop(server, None)
            raise
        self._down_until.pop(server, None)
        self._extensions[server] = frozenset(connection.extensions)
        return connection

    def give_back(self, server: UpstreamServer, connection: Connection) -> None:
        """Keep it for the next transaction, if it is clean."""
        idle = self._idle.setdefault(server, [])
        if self._closed or not connection.is_quiet or len(idle) >= _IDLE_LIMIT:
            connection.quit()
            return
        if connection.is_lost:
            return
        loop = asyncio.get_running_loop()
        entry = (
            connection,
            loop.call_later(self._limits.idle_time, partial(self._expire, server, connection)),
        )
        idle.append(entry)

    def _expire(self, server: UpstreamServer, connection: Connection) -> None:
        self._idle[server] = [entry for entry in self._idle.get(server, ()) if entry[0] is not connection]
        connection.quit()

    async def close(self) -> None:
        """Say goodbye on all that wait."""
        self._closed = True
        for idle in self._idle.values():
            for connection, timer in idle:
                timer.cancel()
                connection.quit()
        self._idle.clear()
        await asyncio.sleep(0)
