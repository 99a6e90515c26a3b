"""Answers a request that is cut off because the desk stops."""

import asyncio

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gatepost.web.problems import Kind, Problem
from gatepost.web.security import harden

__all__ = ["CutOff"]

_SOON = {"retry-after": "5"}


class CutOff:
    """A layer around an application whose requests are cancelled when the desk stops."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 503 if nothing was answered yet; a response that has begun stays incomplete."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_begun = False

        async def noting(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except asyncio.CancelledError:
            if has_begun:
                return
            problem = Problem(
                Kind.STOPPING, "Ask again: this node restarts, or another one answers", headers=_SOON
            )
            response = problem.response()
            if not scope["path"].startswith("/api/"):
                response = PlainTextResponse(f"{problem.kind.title}. {problem}\n", 503, _SOON)
            harden(response.headers)
            await response(scope, receive, send)
