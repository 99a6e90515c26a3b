"""The application: its routes, its middleware, and what runs beside the requests."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from gatepost.feed import Receiver
from gatepost.metrics import Board
from gatepost.store import StoreError
from gatepost.web import api, metrics
from gatepost.web.desk import Desk
from gatepost.web.events import change_events
from gatepost.web.live import LiveHub
from gatepost.web.pages import conversation, journal, live, login, message, messages, overview, parts
from gatepost.web.problems import as_problem
from gatepost.web.rendering import STATIC, is_fragment, render, templates
from gatepost.web.security import Guard, Security, harden

__all__ = ["create_app"]

log = logging.getLogger(__name__)

_WORDS = {
    404: ("There is no such page", "The message may have been deleted, or the address is mistyped."),
    405: ("This page takes no such request", "Go back and try it from the page itself."),
    503: ("The store does not answer", "Gatepost goes on receiving if it can; look at its log."),
    500: ("Something went wrong", "The log says what. What was received is safe in the store."),
}


def create_app(
    desk: Desk,
    *,
    address: tuple[str, int] = ("127.0.0.1", 8025),
    hosts: Sequence[str] = (),
    password: str | None = None,
    feed: socket.socket | None = None,
    board: Board | None = None,
) -> Starlette:
    """The web desk as an ASGI application.

    Args:
        desk: what it shows.
        address: host and port of its listener.
        hosts: further names that it answers to.
        password: asked for where there is one; needed where the address is not of loopback, else ValueError.
        feed: where lines of conversations come from; None: the live page says so.
        board: what the workers have counted; None: there is no ``/metrics``.
    """
    app = Starlette(
        routes=_routes(),
        middleware=[Middleware(Security, guard=Guard.of(address, hosts, password))],
        exception_handlers={HTTPException: _http_error, StoreError: _store_error, Exception: _error},
        lifespan=_lifespan,
    )
    app.state.desk = desk
    app.state.feed = feed
    app.state.board = board
    app.state.live = LiveHub() if feed else None
    app.state.templates = templates()
    return app


def _routes() -> list[BaseRoute]:
    return [
        Route("/events", change_events),
        *login.routes,
        *live.routes,
        *conversation.routes,
        *journal.routes,
        *overview.routes,
        *messages.routes,
        *message.routes,
        *parts.routes,
        *metrics.routes,
        *api.routes,
        Mount("/static", _Static(directory=STATIC)),
    ]


@contextlib.asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    desk: Desk = app.state.desk
    tasks = [asyncio.create_task(desk.changes.follow())]
    if app.state.feed:
        tasks.append(asyncio.create_task(app.state.live.follow(Receiver(app.state.feed))))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Static(StaticFiles):
    """Files whose URLs change with their content, so that a browser may keep them."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        kept = "public, max-age=31536000, immutable" if scope["query_string"] else "no-cache"
        response.headers["cache-control"] = kept
        return response


async def _http_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return _error_page(request, status, getattr(error, "headers", None))


async def _store_error(request: Request, error: Exception) -> Response:
    log.error("the desk cannot answer %s: %s", request.url.path, error)
    return _error_page(request, 503)


async def _error(request: Request, _: Exception) -> Response:
    """For Starlette's outermost layer, which answers without passing `Security`."""
    response = _error_page(request, 500)
    harden(response.headers)
    return response


def _error_page(request: Request, status: int, headers: dict[str, str] | None = None) -> Response:
    title, advice = _WORDS.get(status, ("This did not work", "Go back and try again."))
    if request.url.path.startswith("/api/"):
        return as_problem(PlainTextResponse(title, status, headers))
    template = "error_fragment.html" if is_fragment(request) else "error.html"
    return render(request, template, status=status, headers=headers, title=title, advice=advice)
