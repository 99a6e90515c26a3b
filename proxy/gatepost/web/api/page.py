"""The page about the API, and its OpenAPI document."""

import json
from functools import cache
from typing import Any

from starlette.endpoints import HTTPEndpoint
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount

from gatepost.model.user import Need
from gatepost.web.access import Guarded
from gatepost.web.api import (
    about,
    conversations,
    forward,
    holds,
    imports,
    journal,
    learn,
    lists,
    messages,
    quarantine,
    wait,
)
from gatepost.web.api.about import VERSION
from gatepost.web.api.openapi import make_document
from gatepost.web.api.operation import make_routes
from gatepost.web.problems import Kind, Problem
from gatepost.web.rendering import render

__all__ = ["OPERATIONS", "document", "routes"]

OPERATIONS = (
    *messages.operations,
    *imports.operations,
    *forward.operations,
    *learn.operations,
    *wait.operations,
    *conversations.operations,
    *journal.operations,
    *quarantine.operations,
    *lists.operations,
    *holds.operations,
    *about.operations,
)
"""All operations, in the order in which they are shown."""
_NEEDS = {one.name: one.needs for one in OPERATIONS}
_V1 = "/v1"


@cache
def document() -> dict[str, Any]:
    """The OpenAPI document; made when it is first asked for, since it takes 0.3 s and 3 MB."""
    return make_document(OPERATIONS, version=VERSION, prefix=f"/api{_V1}")


async def _page(request: Request) -> Response:
    origin = f"{request.url.scheme}://{request.url.netloc}{request.app.state.base_path}"
    return render(request, "api.html", document=document(), kinds=tuple(Kind), origin=origin, needs=_NEEDS)


async def _openapi(request: Request) -> Response:
    here = {**document(), "servers": [{"url": request.app.state.base_path or "/"}]}
    return Response(json.dumps(here, indent=1, ensure_ascii=False), media_type="application/json")


async def _slash(_: Request) -> Response:
    return RedirectResponse("/api/", 307)


class _Nothing(HTTPEndpoint):
    """404 for any method."""

    async def dispatch(self) -> None:
        request = Request(self.scope, self.receive)
        said = f"There is no operation at {request.url.path[:200]}; /api/ lists them all"
        await Problem(Kind.NOT_FOUND, said).response()(self.scope, self.receive, self.send)


routes: list[BaseRoute] = [
    Guarded("/api", _slash, needs=Need.LOGIN),
    Mount(
        "/api",
        routes=[
            Guarded("/", _page, needs=Need.LOGIN),
            Guarded("/openapi.json", _openapi, needs=Need.LOGIN),
            *make_routes(OPERATIONS, _V1),
            Guarded("/{rest:path}", _Nothing, needs=Need.LOGIN),
        ],
    ),
]
