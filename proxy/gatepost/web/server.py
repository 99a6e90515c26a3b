"""The process of the web desk: one event loop with uvicorn."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from pathlib import Path

import uvicorn
import uvloop
from starlette.applications import Starlette

from gatepost.config.rules import hold_limit_seconds
from gatepost.config.store import StoreSettings
from gatepost.config.web import WebSettings
from gatepost.holding import Channel, HeldSessions
from gatepost.metrics import SharedCounters
from gatepost.model.mail import Stage
from gatepost.model.record import Disposition
from gatepost.store import open_desk_sessions, open_exchange, open_reporting
from gatepost.web.accounts import Accounts
from gatepost.web.actions import Actions
from gatepost.web.app import create_app
from gatepost.web.desk import Desk, Mode
from gatepost.web.readiness import Check
from gatepost.web.sessions import UNUSED_SECONDS, Sessions
from gatepost.web.webhook import Webhook
from gatepost.web.webhook_server import WebhookServer

__all__ = ["run"]

log = logging.getLogger(__name__)

_GRACE_SECONDS = 2
"""Time for responses in progress at the end; what takes longer is cut off, but for `Desk.acting`."""
_SEND_SECONDS = 0.5
"""Then, for a browser to read the answer to an action."""
_CONNECTIONS = 500
_BACKLOG = 128
_REQUEST_HEAD_OCTETS = 32 << 10


def run(
    web: WebSettings,
    store: StoreSettings,
    base: Path,
    *,
    accounts: Accounts,
    listener: socket.socket,
    feed: socket.socket | None,
    holds: Channel | None = None,
    hold_at: Sequence[Stage] = (),
    lifeline: int | None,
    mode: Mode,
    node: str = "",
    expected: frozenset[Disposition] = frozenset(Disposition),
    actions: Actions,
    smtp: Sequence[str] = (),
    counters: SharedCounters | None = None,
    upstreams: Check | None = None,
    reload: Callable[[], None] | None = None,
    tls: Callable[[], ssl.SSLContext] | None = None,
    started_at: datetime,
    shutdown_seconds: float,
) -> None:
    """Serve the web desk until SIGTERM, SIGINT, or the end of file on the lifeline.

    SIGTERM may be blocked, so that one that arrives now is not lost; it is unblocked when it can be handled.

    Args:
        web: the settings of the desk.
        store: the settings of the store, which must exist.
        base: the folder for relative paths.
        accounts: who may log in.
        listener: a listening TCP or Unix socket.
        feed: source of the lines of conversations (`gatepost.traffic.feed`); None: no live page.
        holds: the workers' end of it asks about sessions that are held; None: none is held.
        hold_at: the stages at which every session is held from the start.
        lifeline: a file descriptor that is at end of file when the parent process has ended.
        mode: gateway or complaints.
        node: the name of this node.
        expected: the dispositions that pages offer to choose from although none was seen yet.
        actions: what the desk does beside reading and deleting.
        smtp: the address of the SMTP server, ``host:port``, to show.
        counters: the workers' counters; None: no ``/metrics``.
        upstreams: checks that each route has a server that can be used; None: ``/readyz`` does not.
        reload: called at SIGHUP; None: SIGHUP is ignored.
        tls: reads the certificate, also at SIGHUP; raises OSError or ValueError. None: plain HTTP.
        started_at: messages received before that are not new.
        shutdown_seconds: the time for the workers' open transactions at the end.

    Raises:
        OSError: a file of the certificate cannot be read.
        StoreError: the store cannot be opened.
        ValueError: nobody needs to log in although the settings require it, or the certificate is invalid.
    """
    held = HeldSessions(holds, arms=mode == "complaints") if holds else None
    if held:
        for stage in hold_at:
            held.arm(stage, count=None, deadline_seconds=hold_limit_seconds(None), actor="--hold")
    with Desk.open(
        store,
        base,
        mode=mode,
        expected=expected,
        actions=actions,
        smtp=tuple(smtp),
        held=held,
    ) as desk:
        webhook = None
        if web.webhook and counters:
            webhook = Webhook(
                desk,
                WebhookServer(web.webhook),
                counters,
                started_at=started_at,
                shutdown_seconds=shutdown_seconds,
                reporting=open_reporting(store),
            )
        app = create_app(
            desk,
            address=_address(listener),
            hosts=web.host_names,
            base_path=web.base_path,
            forwarded_from=web.forwarded_from,
            accounts=accounts,
            sessions=_shared_sessions(store),
            needs_password=web.needs_password,
            feed=feed,
            counters=counters,
            upstreams=upstreams,
            webhook=webhook,
            node=node,
            shares_store=not store.url.startswith("sqlite"),
            exchange=lambda name: open_exchange(store, desk=name),
        )
        certificate = _Certificate(tls) if tls else None
        uvloop.run(_serve(app, listener, lifeline, reload, certificate, desk.acting))


def _shared_sessions(store: StoreSettings) -> Sessions | None:
    """Those of all nodes; None if no other node can have this store."""
    stored = open_desk_sessions(store, unused_seconds=UNUSED_SECONDS)
    if stored is None:
        return None
    from gatepost.web.shared_sessions import SharedSessions  # noqa: PLC0415 - it needs cryptography

    return SharedSessions(stored)


def _address(listener: socket.socket) -> tuple[str, int] | None:
    if listener.family == socket.AF_UNIX:
        return None
    host, port, *_ = listener.getsockname()
    return str(host), int(port)


class _Certificate:
    """The certificate of new connections; those that are open keep theirs."""

    def __init__(self, read: Callable[[], ssl.SSLContext]) -> None:
        self._read = read
        self._newest = self.context = read()
        self.context.sni_callback = self._choose

    def renew(self) -> None:
        """Read it again; an invalid one changes nothing."""
        try:
            self._newest = self._read()
        except (OSError, ValueError) as error:
            log.error("the web desk keeps its certificate: %s", error)  # noqa: TRY400 - its text says it all

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        """Called by OpenSSL in each handshake, whether or not the client names a server."""
        connection.context = self._newest


def _both(reload: Callable[[], None], certificate: _Certificate | None) -> None:
    reload()
    if certificate:
        certificate.renew()


class _Server(uvicorn.Server):
    """Without uvicorn's signal handlers, which raise the signal again at the end."""

    def __init__(self, config: uvicorn.Config, acting: AbstractSet[asyncio.Task[object]]) -> None:
        super().__init__(config)
        self._acting = acting

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End: a message that is being released is sent to its end, and its user gets the answer."""
        ending = asyncio.create_task(self._cut_off())
        try:
            await super().shutdown(sockets)
        finally:
            ending.cancel()

    async def _cut_off(self) -> None:
        await asyncio.sleep(_GRACE_SECONDS)
        for task in self.server_state.tasks - self._acting:
            task.cancel()
        if self._acting:
            await asyncio.wait({*self._acting})  # the supervisor kills a desk that does not end
        await asyncio.sleep(_SEND_SECONDS)
        for connection in [*self.server_state.connections]:
            connection.transport.abort()


async def _serve(
    app: Starlette,
    listener: socket.socket,
    lifeline: int | None,
    reload: Callable[[], None] | None,
    certificate: _Certificate | None,
    acting: AbstractSet[asyncio.Task[object]],
) -> None:
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # the start is logged elsewhere
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        backlog=_BACKLOG,
        h11_max_incomplete_event_size=_REQUEST_HEAD_OCTETS,
    )
    config.load()
    config.ssl = certificate.context if certificate else None
    server = _Server(config, acting)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.handle_exit, number, None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    if reload:
        loop.add_signal_handler(signal.SIGHUP, _both, reload, certificate)

    def look_at_lifeline() -> None:
        if lifeline is not None and not os.read(lifeline, 1):
            loop.remove_reader(lifeline)
            server.handle_exit(signal.SIGTERM, None)

    if lifeline is not None:
        loop.add_reader(lifeline, look_at_lifeline)
    await server.serve(sockets=[listener])
