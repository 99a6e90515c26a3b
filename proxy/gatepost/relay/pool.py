"""Idle connections to upstream servers, and which servers are down."""

import asyncio
import logging
import ssl
from collections import Counter, deque
from collections.abc import Sequence

from gatepost.config.limits import Limits
from gatepost.config.relay import UpstreamServer
from gatepost.model.mail import Session
from gatepost.model.verdict import Reply
from gatepost.relay.connection import COMMAND_SECONDS, ClientRefusedError, Connection, UpstreamLostError
from gatepost.relay.opening import Patience, open_connection, tls_context

__all__ = ["Pool"]

log = logging.getLogger(__name__)

_DOWN_SECONDS = 30.0
"""How long a server that could not be reached is tried last."""
_WITHOUT_CHUNKS_SECONDS = 3600.0
"""How long a server gets DATA that announces CHUNKING and fails at BDAT."""
_IDLE_LIMIT = 64
"""Idle connections to one server."""
_BOUND_IDLE_SECONDS = 5.0
"""How long a connection waits that belongs to one client, which may be gone."""
_CLOSE_SECONDS = 3.0
"""How long `close` waits for the replies to QUIT."""


class Pool:
    """Lends connections and takes them back."""

    def __init__(self, *, hostname: str, limits: Limits) -> None:
        self._hostname = hostname
        self._limits = limits
        self._open: set[Connection] = set()
        """All connections, in use or idle."""
        self._idle: dict[tuple[UpstreamServer, Session | None], deque[tuple[Connection, float]]] = {}
        """With the time at which each is closed; the last one was used most recently.

        Those of the same server and client (`client_of_connection`) are together.
        """
        self._sweep_timer: asyncio.Handle | None = None
        self._sweep_at = 0.0
        """On the event loop's clock, while there is a timer."""
        self._down_until: dict[UpstreamServer, float] = {}
        self._extensions: dict[UpstreamServer, frozenset[str]] = {}
        self._tls_contexts: dict[UpstreamServer, ssl.SSLContext] = {}
        self._not_told: set[UpstreamServer] = set()
        self._without_chunks_until: dict[UpstreamServer, float] = {}
        self._closed = False
        self.opened: Counter[UpstreamServer] = Counter()
        """Number of connections to each server since the start."""
        self.failed: Counter[UpstreamServer] = Counter()
        """Number of failed attempts to connect to each server."""

    def extensions(self, server: UpstreamServer) -> frozenset[str]:
        """The extensions in the server's last EHLO reply; empty before the first one."""
        return self._extensions.get(server, frozenset())

    def in_order(self, servers: Sequence[UpstreamServer]) -> Sequence[UpstreamServer]:
        """The servers in their order, but those that are known to be down last."""
        if not self._down_until:
            return servers
        now = asyncio.get_running_loop().time()
        return sorted(servers, key=lambda server: self._down_until.get(server, 0.0) > now)

    def waiting(self, server: UpstreamServer, client: Session | None) -> Connection | None:
        """An idle connection for this client; upstream may have closed it without notice."""
        idle = self._idle.get((server, client))
        while idle:
            connection, _ = idle.pop()
            if not connection.is_lost:
                return connection
        return None

    async def fresh(
        self, server: UpstreamServer, deadline: float, client: Session | None = None
    ) -> Connection:
        """Open a new connection for this client before the deadline; raises UpstreamLostError.

        The greeting must arrive within `Limits.connect_time`. Each command after it has its own time limit,
        at most half of `Limits.upstream_time`, so that time is left for the next server.
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
                client=client,
            )
        except ClientRefusedError:
            raise
        except UpstreamLostError as error:
            self.is_down(server, error)
            self.failed[server] += 1
            self._tls_contexts.pop(server, None)  # its files may have been renewed
            raise
        if self._down_until.pop(server, None) is not None:
            log.warning("upstream %s can be used again", server)
        self._extensions[server] = frozenset(connection.extensions)
        if server.send_client in ("xforward", "xclient") and not (
            connection.was_told or server.send_client.upper() in connection.extensions
        ):
            self._is_not_told(server, "it does not announce that to this gateway")
        self._open.add(connection)
        self.opened[server] += 1
        connection.gone.add_done_callback(lambda _: self._open.discard(connection))
        return connection

    def check_replies(self, server: UpstreamServer, replies: Sequence[Reply]) -> None:
        """Log it if XFORWARD was refused; as without XFORWARD, the mail is sent all the same."""
        for reply in replies:
            if not reply.positive:
                self._is_not_told(server, f"it replied {reply}")

    def _is_not_told(self, server: UpstreamServer, why: str) -> None:
        """Log, once for each server, that its setting ``send_client`` has no effect."""
        if server not in self._not_told:
            self._not_told.add(server)
            log.warning(
                "upstream %s is not told of the client (send_client: %s): %s", server, server.send_client, why
            )

    def is_down(self, server: UpstreamServer, why: UpstreamLostError) -> None:
        """Try the server last for a while, if there are others."""
        now = asyncio.get_running_loop().time()
        if self._down_until.get(server, 0.0) <= now:  # log once, not for each message of a long outage
            log.warning("upstream %s cannot be used: %s", server, why)
        self._down_until[server] = now + _DOWN_SECONDS

    def failed_at_chunks(self, server: UpstreamServer, why: UpstreamLostError) -> None:
        """Send the server no chunks for a while: a connection failed when it got the first one."""
        self._without_chunks_until[server] = asyncio.get_running_loop().time() + _WITHOUT_CHUNKS_SECONDS
        log.warning(
            "upstream %s announces CHUNKING, but fails at BDAT; it gets DATA for an hour: %s", server, why
        )

    def fails_at_chunks(self, server: UpstreamServer) -> bool:
        """True within an hour after `failed_at_chunks`."""
        until = self._without_chunks_until.get(server)
        return until is not None and asyncio.get_running_loop().time() < until

    def give_back(self, server: UpstreamServer, connection: Connection) -> None:
        """Keep the connection for the next transaction if no reply is outstanding; else close it."""
        if connection.is_lost:
            return
        key = server, connection.client
        idle = self._idle.setdefault(key, deque())
        if len(idle) >= _IDLE_LIMIT:
            self._idle[key] = idle = deque(entry for entry in idle if not entry[0].is_lost)
        if self._closed or not connection.is_quiet or len(idle) >= _IDLE_LIMIT:
            connection.quit()
            return
        seconds = self._limits.idle_time
        if connection.client is not None:
            seconds = min(seconds, _BOUND_IDLE_SECONDS)
        until = connection.now() + seconds
        idle.append((connection, until))
        if self._sweep_timer is None or until < self._sweep_at:
            self._sweep_next(until)

    def _sweep_next(self, at: float) -> None:
        """Sweep at this time, and not before."""
        if self._sweep_timer:
            self._sweep_timer.cancel()
        self._sweep_at = at  # uvloop returns a handle without when() if it is less than 0.5 ms ahead
        self._sweep_timer = asyncio.get_running_loop().call_at(at, self._sweep)

    def _sweep(self) -> None:
        """Close connections that were idle too long, and schedule the next sweep."""
        self._sweep_timer = None
        now = asyncio.get_running_loop().time()
        for key, idle in tuple(self._idle.items()):
            while idle and (idle[0][1] <= now or idle[0][0].is_lost):
                idle.popleft()[0].quit()
            if not idle:
                del self._idle[key]
        if self._idle:
            self._sweep_next(min(idle[0][1] for idle in self._idle.values()))

    def _tls_context(self, server: UpstreamServer) -> ssl.SSLContext:
        if server not in self._tls_contexts:
            self._tls_contexts[server] = tls_context(server)
        return self._tls_contexts[server]

    def read_authorities_again(self) -> None:
        """Make a new TLS context for the next connection to each server."""
        self._tls_contexts.clear()

    async def close(self) -> None:
        """Send QUIT on all idle connections, then abort the rest."""
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
