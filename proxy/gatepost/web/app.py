"""The application: its routes, its middleware, and background tasks."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from ipaddress import IPv4Network, IPv6Network

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from gatepost.metrics import SharedCounters
from gatepost.model.user import Need
from gatepost.store import Exchange, StoreError
from gatepost.traffic.feed import Receiver
from gatepost.web import api, metrics, probes
from gatepost.web.access import Guarded, user_of
from gatepost.web.accounts import Accounts
from gatepost.web.base_path import BasePath
from gatepost.web.cut_off import CutOff
from gatepost.web.desk import Desk
from gatepost.web.events import change_events
from gatepost.web.forwarded import Forwarded
from gatepost.web.live import LiveHub
from gatepost.web.other_nodes import OtherNodes, new_desk
from gatepost.web.pages import (
    conversation,
    facets,
    held,
    journal,
    lists,
    live,
    login,
    message,
    messages,
    oidc,
    overview,
    parts,
)
from gatepost.web.pages.login import own_page
from gatepost.web.probes import make_readiness
from gatepost.web.problems import as_problem
from gatepost.web.readiness import Check
from gatepost.web.rendering import STATIC, desk_of, is_fragment, render
from gatepost.web.security import Guard, Security, harden
from gatepost.web.sessions import MemorySessions, Sessions
from gatepost.web.store_trouble import StoreTrouble, trouble_of
from gatepost.web.webhook import Webhook

__all__ = ["create_app"]


_WORDS = {
    403: (
        "You may not do this",
        "Your role does not include it, or it is about other domains too.",
    ),
    404: ("Page not found", "The message may have been deleted, or the address is wrong."),
    405: ("This page does not accept such a request", "Go back and use the page itself."),
    503: ("The store is not available", "Gatepost continues to receive mail if it can. See its log."),
    500: ("Something went wrong", "See the log. Received mail is safe in the store."),
}
_SOON = {"retry-after": "5"}


def create_app(
    desk: Desk,
    *,
    address: tuple[str, int] | None = ("127.0.0.1", 8025),
    hosts: Sequence[str] = (),
    base_path: str = "",
    forwarded_from: Sequence[IPv4Network | IPv6Network] = (),
    password: str | None = None,
    accounts: Accounts | None = None,
    sessions: Sessions | None = None,
    needs_password: bool = True,
    feed: socket.socket | None = None,
    counters: SharedCounters | None = None,
    upstreams: Check | None = None,
    webhook: Webhook | None = None,
    node: str = "",
    shares_store: bool = False,
    exchange: Callable[[str], Exchange | None] = lambda _desk: None,
) -> Starlette:
    """The web desk as an ASGI application.

    Args:
        desk: what it shows.
        address: host and port of its listener; None: a Unix socket.
        hosts: further host names that it accepts.
        base_path: the path under which a proxy serves it, like ``/mail``; empty: none.
        forwarded_from: proxies whose X-Forwarded-For names the client.
        password: lets a client in that gives no account; without ``accounts`` only.
        accounts: who may log in; None: everybody who knows ``password``, and without one everybody.
        sessions: those of users who have logged in, closed at the end; None: a new `MemorySessions`.
        needs_password: raise ValueError if there is no password and other machines can connect.
        feed: source of the lines of conversations; None: no live page.
        counters: the workers' counters; None: no ``/metrics``.
        upstreams: checks that each route has a server that can be used; None: ``/readyz`` does not.
        webhook: reports new messages; None: nothing does.
        node: the name of this node.
        shares_store: True if several nodes may use the store; pages then say what is of this node alone.
        exchange: opens what desks of several nodes pass live conversations over, by the name of this desk.
    """
    sessions = sessions or MemorySessions()
    app = Starlette(
        routes=_routes(),
        middleware=[
            Middleware(Forwarded, proxies=forwarded_from),
            Middleware(BasePath, base=base_path),
            Middleware(CutOff),
            Middleware(
                Security,
                guard=Guard.of(
                    address,
                    hosts,
                    accounts or Accounts(password=password),
                    sessions=sessions,
                    needs_password=needs_password,
                    mode=desk.mode,
                ),
                trouble=_store_error,
            ),
        ],
        exception_handlers={HTTPException: _http_error, StoreError: _store_error, Exception: _error},
        lifespan=_lifespan,
    )
    app.state.desk = desk
    app.state.base_path = base_path
    app.state.feed = feed
    app.state.counters = counters
    app.state.readiness = readiness = make_readiness(desk, counters, upstreams)
    app.state.store_trouble = StoreTrouble(readiness)
    app.state.webhook = webhook
    app.state.live = live = LiveHub() if feed else None
    app.state.sessions = sessions
    app.state.node = node
    app.state.shared_node = node if shares_store else ""
    desk_name = new_desk(node)
    passing = exchange(desk_name) if live else None
    app.state.others = OtherNodes(passing, live, desk=desk_name, node=node) if live and passing else None
    return app


def _routes() -> list[BaseRoute]:
    return [
        Guarded("/events", _events, needs=Need.READ),
        *login.routes,
        *oidc.routes,
        *live.routes,
        *held.routes,
        *conversation.routes,
        *journal.routes,
        *lists.routes,
        *overview.routes,
        *messages.routes,
        *facets.routes,
        *message.routes,
        *parts.routes,
        *metrics.routes,
        *probes.routes,
        *api.routes,
        Mount("/static", _Static(directory=STATIC)),
    ]


async def _events(request: Request) -> Response:
    """``/events``."""
    return await change_events(desk_of(request).changes, request)


@contextlib.asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    desk: Desk = app.state.desk
    trouble: StoreTrouble = app.state.store_trouble
    tasks = [asyncio.create_task(desk.changes.follow(trouble.note))]
    if desk.held:
        tasks.append(asyncio.create_task(desk.held.follow()))
    if app.state.feed:
        others: OtherNodes | None = app.state.others
        receiver = Receiver(app.state.feed)
        node = app.state.node if others else ""
        tasks.append(asyncio.create_task(app.state.live.follow(receiver, node=node, others=others)))
        if others:
            tasks.append(asyncio.create_task(others.follow(trouble.note)))
    webhook: Webhook | None = app.state.webhook
    if webhook:
        tasks.append(asyncio.create_task(webhook.follow(trouble.note)))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        app.state.store_trouble.close()
        app.state.readiness.close()
        await asyncio.gather(*tasks, return_exceptions=True)
        app.state.sessions.close()
        if webhook:
            await webhook.finish()


class _Static(StaticFiles):
    """Static files; their URLs change with their content, so that browsers may cache them."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        kept = "public, max-age=31536000, immutable" if scope["query_string"] else "no-cache"
        response.headers["cache-control"] = kept
        return response


async def _http_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return _error_page(request, status, getattr(error, "headers", None))


async def _store_error(request: Request, error: Exception) -> Response:
    trouble_of(request).note(f"the web desk cannot answer {request.url.path!r}", error)
    path = request.url.path
    if user_of(request) is not None or path.startswith("/api/") or is_fragment(request):
        return _error_page(request, 503, _SOON)
    is_page = request.method == "GET" and not path.startswith("/login")
    again = f"{path}?{request.url.query}" if request.url.query else path
    again = own_page(again) if is_page else "/"
    return render(request, "unavailable.html", status=503, headers=_SOON, again=again)


async def _error(request: Request, _: Exception) -> Response:
    """An answer of Starlette's outermost layer, which bypasses `Security`."""
    response = _error_page(request, 500)
    harden(response.headers)
    return response


def _error_page(request: Request, status: int, headers: dict[str, str] | None = None) -> Response:
    title, advice = _WORDS.get(status, ("This did not work", "Go back and try again."))
    if request.url.path.startswith("/api/"):
        return as_problem(PlainTextResponse(title, status, headers))
    template = "error_fragment.html" if is_fragment(request) else "error.html"
    return render(request, template, status=status, headers=headers, title=title, advice=advice)
