"""The listening sockets, and the whole server: started, addressed, stopped."""

import asyncio
import logging
import os
import re
import socket
from collections.abc import Sequence
from typing import Final

from gatepost.config.settings import Limits, ListenerSettings
from gatepost.server.contract import Gateway, Tap
from gatepost.server.data import BareNewline, MemoryBudget
from gatepost.server.endpoint import ConnectionLimits, Endpoint, Tolerance
from gatepost.server.session import SmtpSession

__all__ = ["Server"]

log = logging.getLogger(__name__)

_BACKLOG: Final = 1024
_CLOSE_SECONDS: Final = 1.0
"""The last replies may take so long to leave when the server stops."""
_ADDRESS: Final = re.compile(r"(?:\[([0-9A-Fa-f:.%]+)\]|([^:\[\]\s]+)):([0-9]{1,5})")


class Server:
    """RECEIVE: SMTP on all listeners, with one budget of connections and of memory.

    ``bare_newline`` says what is done with CR or LF alone in a message, ``tolerance`` how commands may be
    spelt. ``tap`` sees all sessions live. ``sockets`` are bound already, one for each listener; without
    them the server binds its own.
    """

    def __init__(
        self,
        gateway: Gateway,
        *,
        hostname: str,
        limits: Limits,
        listeners: Sequence[ListenerSettings],
        bare_newline: BareNewline,
        tolerance: Tolerance = "strict",
        tap: Tap | None = None,
        sockets: Sequence[socket.socket] | None = None,
    ) -> None:
        self.addresses: tuple[tuple[str, int], ...] = ()
        """Host and port of each listener as bound; empty before `start`."""
        self._gateway = gateway
        self._hostname = hostname
        self._limits = limits
        self._listeners = tuple(listeners)
        self._bare_newline = bare_newline
        self._tolerance = tolerance
        self._tap = tap
        self._sockets = sockets or (None,) * len(self._listeners)
        self.connections = ConnectionLimits(limits)
        """How many there are."""
        self._endpoints: list[Endpoint] = []
        self._servers: list[asyncio.Server] = []
        self._sessions: set[SmtpSession] = set()

    async def start(self) -> None:
        """Binds all listeners; raises OSError or ValueError, and then none is bound."""
        memory = MemoryBudget(self._limits.memory)
        try:
            for settings, bound in zip(self._listeners, self._sockets, strict=True):
                place = _host_and_port(settings.address)
                endpoint = Endpoint.from_settings(
                    settings,
                    hostname=self._hostname,
                    gateway=self._gateway,
                    limits=self._limits,
                    bare_newline=self._bare_newline,
                    tolerance=self._tolerance,
                    connections=self.connections,
                    memory=memory,
                    sessions=self._sessions,
                    tap=self._tap,
                )
                self._endpoints.append(endpoint)
                self._servers.append(await self._listen(endpoint, place, bound))
        except BaseException:
            await self.stop(0)
            raise
        self.addresses = tuple(server.sockets[0].getsockname()[:2] for server in self._servers)

    async def _listen(
        self, endpoint: Endpoint, place: tuple[str, int], bound: socket.socket | None
    ) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        if bound:
            return await loop.create_server(lambda: SmtpSession(endpoint), sock=bound, backlog=_BACKLOG)
        try:
            return await loop.create_server(lambda: SmtpSession(endpoint), *place, backlog=_BACKLOG)
        except OSError as error:
            raise OSError(error.errno, f"cannot listen on {endpoint.name}: {_reason(error)}") from error

    async def stop(self, grace_seconds: float) -> None:
        """Accepts nobody any more and ends all sessions; returns when the last one has ended.

        Idle sessions end at once with ``421 4.3.2``; a transaction may go on to its reply. After
        the grace period what is left is told 421 too, and messages still with the gateway are
        cancelled.
        """
        for server in self._servers:
            server.close()
        await asyncio.sleep(0)  # connections that were accepted just now become sessions
        sessions = tuple(self._sessions)
        for session in sessions:
            session.stop()
        tasks = [session.task for session in sessions if session.task]
        if tasks:
            _, pending = await asyncio.wait(tasks, timeout=grace_seconds)
            for task in pending:
                task.cancel()
            if pending:
                log.warning("%d sessions were cut off after %g seconds", len(pending), grace_seconds)
                await asyncio.wait(pending)
            await asyncio.wait([session.closed for session in sessions], timeout=_CLOSE_SECONDS)
        for endpoint in self._endpoints:
            endpoint.close()


def _reason(error: OSError) -> str:
    """The system's own words; the event loop puts its own before them."""
    if error.errno is None or isinstance(error, socket.gaierror):
        return str(error.strerror or error)
    return os.strerror(error.errno)


def _host_and_port(address: str) -> tuple[str, int]:
    found = _ADDRESS.fullmatch(address)
    if not found or int(found[3]) > 65535:
        raise ValueError(
            f"cannot listen on {address!r}: expected host:port, for example 127.0.0.1:2525 or [::1]:25"
        )
    return found[1] or found[2], int(found[3])
