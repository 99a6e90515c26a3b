"""The listening sockets, and the whole server: started, addressed, stopped."""

import asyncio
import logging
import os
import re
import socket
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from gatepost.config.limits import Limits
from gatepost.config.listen import ListenerSettings
from gatepost.server.clients import ConnectionLimits
from gatepost.server.contract import Gateway
from gatepost.server.data import BareNewline, MemoryBudget
from gatepost.server.endpoint import Endpoint, Tolerance
from gatepost.server.session import SmtpSession
from gatepost.server.wire import Wire
from gatepost.traffic.watching import Tap

if TYPE_CHECKING:
    from gatepost.state.connections import ConnectionCounts

__all__ = ["Server"]

log = logging.getLogger(__name__)

_BACKLOG: Final = 1024
_CLOSE_SECONDS: Final = 1.0
"""How long the last replies may take to leave when the server stops."""
_ADDRESS: Final = re.compile(r"(?:\[([0-9A-Fa-f:.%]+)\]|([^:\[\]\s]+)):([0-9]{1,5})")


class Server:
    """SMTP on all listeners, with one budget of connections and of memory.

    ``bare_newline`` says what is done with CR or LF alone in a message, ``tolerance`` how commands may be
    spelt. Clients that do not wait for the greeting are refused unless ``accepts_early_talkers``, or
    everything is tolerated. ``tap`` is called with each event of the sessions. ``counts`` are those of
    clients on all nodes; None: this process counts its own. ``sockets`` are bound already, one for each
    listener; without them the server binds its own.
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
        accepts_early_talkers: bool = False,
        tap: Tap | None = None,
        counts: "ConnectionCounts | None" = None,
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
        self._accepts_early_talkers = accepts_early_talkers or tolerance == "everything"
        self._tap = tap
        self._sockets = sockets or (None,) * len(self._listeners)
        self.connections = ConnectionLimits(limits, counts)
        """How many there are."""
        self._memory = MemoryBudget(limits.memory)
        self._endpoints: list[Endpoint] = []
        """One for each listener, for new sessions."""
        self._servers: list[asyncio.Server] = []
        self._sessions: set[SmtpSession] = set()

    async def start(self) -> None:
        """Bind all listeners; raises OSError or ValueError, and then none is bound."""
        try:
            for number, (settings, bound) in enumerate(zip(self._listeners, self._sockets, strict=True)):
                place = _host_and_port(settings.address)
                self._endpoints.append(self._endpoint(settings))
                self._servers.append(await self._listen(number, place, bound))
        except BaseException:
            await self.stop(0)
            raise
        self.addresses = tuple(server.sockets[0].getsockname()[:2] for server in self._servers)

    def endpoints_for(self, listeners: Sequence[ListenerSettings]) -> list[Endpoint]:
        """What sessions need under new settings of the same addresses, with all files read again.

        Raises OSError or ValueError that name the file.
        """
        return [self._endpoint(settings) for settings in listeners]

    def use(self, endpoints: Sequence[Endpoint]) -> None:
        """Use these for new sessions; those that are open keep theirs."""
        self._endpoints[:] = endpoints

    def _endpoint(self, settings: ListenerSettings) -> Endpoint:
        return Endpoint.from_settings(
            settings,
            hostname=self._hostname,
            gateway=self._gateway,
            limits=self._limits,
            bare_newline=self._bare_newline,
            tolerance=self._tolerance,
            accepts_early_talkers=self._accepts_early_talkers,
            connections=self.connections,
            memory=self._memory,
            tap=self._tap,
        )

    async def _listen(
        self, number: int, place: tuple[str, int], bound: socket.socket | None
    ) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        begin = partial(SmtpSession.begin, open_sessions=self._sessions)
        endpoints = self._endpoints

        def wire() -> Wire:
            return Wire(endpoints[number], begin)

        if bound:
            return await loop.create_server(wire, sock=bound, backlog=_BACKLOG)
        try:
            return await loop.create_server(wire, *place, backlog=_BACKLOG)
        except OSError as error:
            name = endpoints[number].name
            raise OSError(error.errno, f"cannot listen on {name}: {_reason(error)}") from error

    @property
    def is_ending_sessions(self) -> bool:
        """True while there are sessions whose connections are closed: they may still be recorded."""
        return any(session.wire.is_closed for session in tuple(self._sessions))

    async def stop(self, grace_seconds: float) -> None:
        """Accept no more connections and end all sessions; returns when the last one has ended.

        Idle sessions end at once with ``421 4.3.2``; a transaction may go on to its reply. After
        the grace period the rest is answered 421 too, and messages still with the gateway are
        cancelled.
        """
        for server in self._servers:
            server.close()
        await asyncio.sleep(0)  # connections that were accepted just now become sessions
        sessions = tuple(self._sessions)
        for session in sessions:
            session.stop()
        tasks = [session.task for session in sessions]
        if tasks:
            _, pending = await asyncio.wait(tasks, timeout=grace_seconds)
            for task in pending:
                task.cancel()
            if pending:
                log.warning("%d sessions were cut off after %g seconds", len(pending), grace_seconds)
                await asyncio.wait(pending)
            await asyncio.wait([session.wire.closed for session in sessions], timeout=_CLOSE_SECONDS)
        for endpoint in self._endpoints:
            endpoint.close()


def _reason(error: OSError) -> str:
    """The system's own words, without those that the event loop puts before them."""
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
