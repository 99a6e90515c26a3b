"""The page about the API, and the document that it is made from."""

import json

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from gatepost.web.api import about, conversations, journal, messages, quarantine, wait
from gatepost.web.api.about import VERSION
from gatepost.web.api.openapi import make_document
from gatepost.web.api.operation import make_routes
from gatepost.web.problems import Kind, Problem
from gatepost.web.rendering import render

__all__ = ["OPERATIONS", "document", "routes"]

OPERATIONS = (
    *messages.operations,
    *wait.operations,
    *conversations.operations,
    *journal.operations,
    *quarantine.operations,
    *about.operations,
)
"""All of them, in the order in which they are shown."""
_V1 = "/v1"

document = make_document(OPERATIONS, version=VERSION, prefix=f"/api{_V1}")
_DOCUMENT = json.dumps(document, indent=1, ensure_ascii=False).encode()


async def _page(request: Request) -> Response:
    origin = f"{request.url.scheme}://{request.url.netloc}"
    return render(request, "api.html", document=document, kinds=tuple(Kind), origin=origin)


async def _openapi(_: Request) -> Response:
    return Response(_DOCUMENT, media_type="application/json")


async def _slash(_: Request) -> Response:
    return RedirectResponse("/api/", 307)


async def _nothing(request: Request) -> Response:
    return Problem(
        Kind.NOT_FOUND, f"There is no operation at {request.url.path[:200]}; /api/ lists them all"
    ).response()


routes: list[BaseRoute] = [
    Route("/api", _slash),
    Mount(
        "/api",
        routes=[
            Route("/", _page),
            Route("/openapi.json", _openapi),
            *make_routes(OPERATIONS, _V1),
            Route("/{rest:path}", _nothing, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
        ],
    ),
]
