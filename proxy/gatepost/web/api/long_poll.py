"""Operations that wait: they end with their client, and with the session or the rights of their user."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from starlette.requests import Request

from gatepost.web.access import NO_LONGER, no_longer_allowed, still_allowed
from gatepost.web.problems import Kind, Problem

__all__ = ["long_poll"]

T = TypeVar("T")


async def long_poll(request: Request, found: Awaitable[T]) -> T:
    """What was waited for; raises Problem if the client or its rights were gone first, and StoreError."""
    waiting = asyncio.ensure_future(found)
    gone, ended = (
        asyncio.ensure_future(_gone(request)),
        asyncio.ensure_future(no_longer_allowed(request.scope)),
    )
    try:
        await asyncio.wait((waiting, gone, ended), return_when=asyncio.FIRST_COMPLETED)
        if ended.done() or not await still_allowed(request.scope):
            raise Problem(Kind.NOT_PERMITTED, NO_LONGER)
        if not waiting.done():
            raise Problem(Kind.NOTHING_CAME, "The client disconnected")
        return await waiting
    finally:
        for task in (waiting, gone, ended):
            task.cancel()
        await asyncio.gather(waiting, gone, ended, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
