"""Server-sent events: the store has changed. One look at the store for all who watch."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from anyio import to_thread
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from gatepost.store import StoreError

__all__ = ["Changes", "EventStream", "change_events"]

log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.2
_PAUSE_SECONDS = 0.5
"""At least between two events: pages follow 5,000 messages a minute with two updates a second."""
_WATCHERS = 100
_SEND_SECONDS = 30.0


class EventStream(EventSourceResponse):
    """Endless events that a browser takes for ended, not for broken off, when the desk stops."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102 - ASGI says it
        await super().__call__(scope, receive, send)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class _Counts(Protocol):
    @property
    def inbox(self) -> int: ...
    @property
    def quarantined(self) -> int: ...
    @property
    def unread(self) -> int: ...


class Changes:
    """Tells who watches that the store has changed, with the new counts."""

    def __init__(self, look: Callable[[], int], count: Callable[[], _Counts]) -> None:
        """Watch a store.

        Args:
            look: gives another number after each change; cheap.
            count: how many messages there are now.
        """
        self._look = look
        self._count = count
        self._watchers = 0
        self._watched = asyncio.Event()
        self._changed = asyncio.Condition()
        self._seen: int | None = None
        self.number = 0
        """Counts the changes that were seen."""
        self.state = "{}"
        """The counts after the last change, as JSON."""

    @property
    def full(self) -> bool:
        """True if no more pages should watch."""
        return self._watchers >= _WATCHERS

    async def follow(self) -> None:
        """Look at the store as long as anybody watches; for the life of the application."""
        while True:
            await self._watched.wait()
            try:
                await asyncio.sleep(_PAUSE_SECONDS if await self._take() else _LOOK_SECONDS)
            except StoreError as error:
                log.warning("the desk cannot look for changes: %s", error)
                await asyncio.sleep(5.0)

    async def _take(self) -> bool:
        seen = await to_thread.run_sync(self._look)
        if seen == self._seen:
            return False
        counts = await to_thread.run_sync(self._count)
        self._seen = seen
        self.number += 1
        self.state = json.dumps(
            {
                "number": self.number,
                "inbox": counts.inbox,
                "quarantined": counts.quarantined,
                "unread": counts.unread,
            }
        )
        async with self._changed:
            self._changed.notify_all()
        return True

    async def events(self) -> AsyncIterator[str]:
        """The state now, and again after each change."""
        told = 0

        def is_news() -> bool:
            return self.number > told

        self._watchers += 1
        self._watched.set()
        try:
            while True:
                async with self._changed:
                    await self._changed.wait_for(is_news)
                told = self.number
                yield self.state
        finally:
            self._watchers -= 1
            if not self._watchers:
                self._watched.clear()


async def change_events(request: Request) -> Response:
    """Server-sent events ``change`` with the counts as JSON."""
    changes: Changes = request.app.state.desk.changes
    if changes.full:
        return PlainTextResponse("Too many pages watch the store.\n", 503)

    async def stream() -> AsyncIterator[ServerSentEvent]:
        async for state in changes.events():
            yield ServerSentEvent(event="change", data=state)

    return EventStream(stream(), send_timeout=_SEND_SECONDS)
