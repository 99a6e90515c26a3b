"""The desk's own process: one event loop with uvicorn in it, until it is told to stop."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import uvicorn
import uvloop
from starlette.applications import Starlette

from gatepost.config.settings import StoreSettings, WebSettings
from gatepost.metrics import Board
from gatepost.web.app import create_app
from gatepost.web.desk import Desk, Mode, Release

__all__ = ["run"]

_GRACE_SECONDS = 2
"""Answers under way may take at the end; pages that listen for events are cut off."""
_CONNECTIONS = 500
_BACKLOG = 128
_REQUEST_HEAD_OCTETS = 32 << 10


def run(
    web: WebSettings,
    store: StoreSettings,
    base: Path,
    *,
    listener: socket.socket,
    feed: socket.socket | None,
    lifeline: int | None,
    mode: Mode,
    release: Release | None,
    smtp: Sequence[str] = (),
    board: Board | None = None,
) -> None:
    """Serve the web desk until SIGTERM, SIGINT, or the end of file on the lifeline.

    Args:
        web: the settings of the desk.
        store: the settings of the store; it must be there already.
        base: the folder that relative paths are relative to.
        listener: a bound TCP socket that listens.
        feed: where lines of conversations come from (`gatepost.feed`); None: there is no live page.
        lifeline: a file descriptor that is at its end when the process that started this one is gone.
        mode: whose desk it is.
        release: sends a kept message on; None: nothing can be sent from here.
        smtp: where the SMTP server listens, as ``host:port``, for those who look for it.
        board: what the workers have counted; None: there is no ``/metrics``.

    Raises:
        StoreError: the store cannot be opened.
        OSError: the password file cannot be read.
        ValueError: it is empty.
    """
    password = web.password
    with Desk.open(store, base, mode=mode, release=release, smtp=tuple(smtp)) as desk:
        app = create_app(
            desk, address=_address(listener), hosts=web.hosts, password=password, feed=feed, board=board
        )
        uvloop.run(_serve(app, listener, lifeline))


def _address(listener: socket.socket) -> tuple[str, int]:
    host, port, *_ = listener.getsockname()
    return str(host), int(port)


class _Server(uvicorn.Server):
    """Without uvicorn's own signal handlers, which raise the signal again when all is done."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _serve(app: Starlette, listener: socket.socket, lifeline: int | None) -> None:
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # that it has started is said elsewhere
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
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    server = _Server(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.handle_exit, number, None)

    def look_at_lifeline() -> None:
        if lifeline is not None and not os.read(lifeline, 1):
            loop.remove_reader(lifeline)
            server.handle_exit(signal.SIGTERM, None)

    if lifeline is not None:
        loop.add_reader(lifeline, look_at_lifeline)
    await server.serve(sockets=[listener])
