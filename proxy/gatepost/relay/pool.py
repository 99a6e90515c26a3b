"""Connections to upstream that wait for their next transaction, and which servers are down."""

import asyncio
import logging
import ssl
from collections import Counter, deque
from collections.abc import Sequence

from gatepost.config.settings import Limits, UpstreamServer
from gatepost.relay.connection import COMMAND_SECONDS, Connection, UpstreamLostError
from gatepost.relay.names import Names
from gatepost.relay.opening import Patience, open_connection, tls_context

__all__ = ["Pool"]

log = logging.getLogger(__name__)

_DOWN_SECONDS = 30.0
"""So long a server that could not be reached is asked last."""
_IDLE_LIMIT = 64
"""Connections that wait, for one server."""
_CLOSE_SECONDS = 3.0
"""At the end, for servers to say goodbye."""


class Pool:
    """Gives connections and takes them back."""

    def __init__(self, *, hostname: str, limits: Limits) -> None:
        self._hostname = hostname
        self._limits = limits
        self._names = Names()
        self._open: set[Connection] = set()
        """All of them, in use or not."""
        self._idle: dict[UpstreamServer, deque[tuple[Connection, float]]] = {}
        """With the time at which they have waited long enough; the last one has waited least."""
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._down_until: dict[UpstreamServer, float] = {}
        self._extensions: dict[UpstreamServer, frozenset[str]] = {}
        self._tls_contexts: dict[UpstreamServer, ssl.SSLContext] = {}
        self._closed = False
        self.opened: Counter[UpstreamServer] = Counter()
        """Connections to each server so far."""
        self.failed: Counter[UpstreamServer] = Counter()
        """And those that could not be opened."""

    def extensions(self, server: UpstreamServer) -> frozenset[str]:
        """What the server offered when it was last greeted; nothing if it never was."""
        return self._extensions.get(server, frozenset())

    def in_order(self, servers: Sequence[UpstreamServer]) -> Sequence[UpstreamServer]:
        """The servers as listed, those that are known to be down last."""
        if not self._down_until:
            return servers
        now = asyncio.get_running_loop().time()
        return sorted(servers, key=lambda server: self._down_until.get(server, 0.0) > now)

    def waiting(self, server: UpstreamServer) -> Connection | None:
        """A connection that is open already; it may still turn out to be dead."""
        idle = self._idle.get(server)
        while idle:
            connection, _ = idle.pop()
            if not connection.is_lost:
                return connection
        return None

    async def fresh(self, server: UpstreamServer, deadline: float) -> Connection:
        """A new connection before the deadline; raises UpstreamLostError.

        The server's greeting must be there in `Limits.connect_time`; each command after it has its own time,
        at most half of `Limits.upstream_time`, so that something is left for the next server.
        """
        patience = Patience(
            connect=self._limits.connect_time,
            command=min(COMMAND_SECONDS, self._limits.upstream_time / 2),
            deadline=deadline,
        )
        try:
            connection = await open_connection(
                server,
                hostname=self._hostname,
                patience=patience,
                context_of=self._tls_context,
                names=self._names,
            )
        except UpstreamLostError as error:
            self.is_down(server, error)
            self.failed[server] += 1
            self._tls_contexts.pop(server, None)  # its files may have been renewed
            raise
        if self._down_until.pop(server, None) is not None:
            log.warning("upstream %s can be used again", server)
        self._extensions[server] = frozenset(connection.extensions)
        self._open.add(connection)
        self.opened[server] += 1
        connection.gone.add_done_callback(lambda _: self._open.discard(connection))
        return connection

    def is_down(self, server: UpstreamServer, why: UpstreamLostError) -> None:
        """Ask the server last for a while, where there are others."""
        now = asyncio.get_running_loop().time()
        if self._down_until.get(server, 0.0) <= now:  # not for each message of a long outage
            log.warning("upstream %s cannot be used: %s", server, why)
        self._down_until[server] = now + _DOWN_SECONDS

    def give_back(self, server: UpstreamServer, connection: Connection) -> None:
        """Keep it for the next transaction, if it is clean."""
        if connection.is_lost:
            return
        idle = self._idle.setdefault(server, deque())
        if len(idle) >= _IDLE_LIMIT:
            self._idle[server] = idle = deque(entry for entry in idle if not entry[0].is_lost)
        if self._closed or not connection.is_quiet or len(idle) >= _IDLE_LIMIT:
            connection.quit()
            return
        until = connection.now() + self._limits.idle_time
        idle.append((connection, until))
        if self._sweep_timer is None:
            self._sweep_timer = asyncio.get_running_loop().call_at(until, self._sweep)

    def _sweep(self) -> None:
        """End what has waited long enough, and look again when the next one has."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for idle in self._idle.values():
            while idle and (idle[0][1] <= now or idle[0][0].is_lost):
                idle.popleft()[0].quit()
        soonest = min((idle[0][1] for idle in self._idle.values() if idle), default=None)
        self._sweep_timer = None if soonest is None else loop.call_at(soonest, self._sweep)

    def _tls_context(self, server: UpstreamServer) -> ssl.SSLContext:
        if server not in self._tls_contexts:
            self._tls_contexts[server] = tls_context(server)
        return self._tls_contexts[server]

    async def close(self) -> None:
        """Say goodbye on all that wait, then end what is left."""
        self._closed = True
        if self._sweep_timer:
            self._sweep_timer.cancel()
        saying_goodbye = []
        for idle in self._idle.values():
            for connection, _ in idle:
                connection.quit()
                saying_goodbye.append(connection.gone)
        self._idle.clear()
        if saying_goodbye:
            await asyncio.wait(saying_goodbye, timeout=_CLOSE_SECONDS)
        for connection in tuple(self._open):
            connection.abort("closed")
