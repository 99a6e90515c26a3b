"""Server-sent events: the store has changed. One look at the store for all who watch."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Protocol

from anyio import to_thread
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Message, Receive, Scope, Send

from gatepost.store import StoreError
from gatepost.web.access import no_longer_allowed

__all__ = ["Changes", "EventStream", "OwnChanges", "change_events"]


_LOOK_SECONDS = 0.2
_PAUSE_SECONDS = 0.5
"""At least between two events: pages follow 5,000 messages a minute with two updates a second."""
_OWN_PAUSE_SECONDS = 2.0
"""Between two looks at what the users of some domains see: each counts their mail."""
_WATCHERS = 100
_ALIVE_SECONDS = 15
"""A page that has received nothing for 40 s takes the connection for lost (desk.js)."""
_SEND_SECONDS = 30.0
_END_SECONDS = 2.0
"""For a browser that reads nothing, to take the end of a stream."""


class EventStream(EventSourceResponse):
    """Endless events that a browser takes for ended, not for broken off, when the desk stops.

    They end within seconds after the session of their user has ended, or the user's rights have changed.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102 - ASGI says it
        async def receive_while_allowed() -> Message:
            received = asyncio.ensure_future(receive())
            ended = asyncio.ensure_future(no_longer_allowed(scope))
            try:
                await asyncio.wait({received, ended}, return_when=asyncio.FIRST_COMPLETED)
                return received.result() if received.done() else {"type": "http.disconnect"}
            finally:
                received.cancel()
                ended.cancel()

        await super().__call__(scope, receive_while_allowed, send)
        with suppress(TimeoutError):
            async with asyncio.timeout(_END_SECONDS):
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

    def __init__(
        self, look: Callable[[], object], count: Callable[[], _Counts], held: Callable[[], int] = lambda: 0
    ) -> None:
        """Watch a store.

        Args:
            look: returns another value after each change; cheap.
            count: how many messages there are now.
            held: how many sessions are held now.
        """
        self._look = look
        self._count = count
        self._held = held
        self._watchers = 0
        self._watched = asyncio.Event()
        self._changed = asyncio.Condition()
        self._seen: object = None
        self.number = 0
        """Counts the changes that were seen."""
        self.state = "{}"
        """The counts after the last change, as JSON."""

    @property
    def full(self) -> bool:
        """True if no more pages should watch."""
        return self._watchers >= _WATCHERS

    async def follow(self, failed: Callable[[str, StoreError], None]) -> None:
        """Look at the store as long as anybody watches; for the life of the application.

        ``failed`` is told what could not be done, and why.
        """
        while True:
            await self._watched.wait()
            try:
                await asyncio.sleep(_PAUSE_SECONDS if await self._take() else _LOOK_SECONDS)
            except StoreError as error:
                failed("the desk cannot look for changes", error)
                await asyncio.sleep(5.0)

    async def _take(self) -> bool:
        seen = await to_thread.run_sync(self._look)
        if seen == self._seen:
            return False
        counts = await to_thread.run_sync(self._count)
        self._seen = seen
        self.number += 1
        self.state = _state(self.number, counts, self._held())
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


class OwnChanges:
    """Changes as a user of some domains may know of them: of those mails alone, and not at once."""

    def __init__(self, of: Changes, count: Callable[[], _Counts], newest: Callable[[], object]) -> None:
        """Watch what others watch.

        Args:
            of: changes of the whole store.
            count: how many messages the user sees.
            newest: another value after a message has come that the user sees.
        """
        self._of = of
        self._count = count
        self._newest = newest

    @property
    def full(self) -> bool:
        """True if no more pages should watch."""
        return self._of.full

    async def follow(self, failed: Callable[[str, StoreError], None]) -> None:
        """As `Changes.follow`."""
        await self._of.follow(failed)

    async def events(self) -> AsyncIterator[str]:
        """The state now, and again after each change that the user can see."""
        number, told = 0, None
        async for _ in self._of.events():
            counts = await to_thread.run_sync(self._count)
            seen = (counts, await to_thread.run_sync(self._newest))
            if seen != told:
                number, told = number + 1, seen
                yield _state(number, counts, 0)
            await asyncio.sleep(_OWN_PAUSE_SECONDS)


def _state(number: int, counts: _Counts, held: int) -> str:
    return json.dumps(
        {
            "number": number,
            "inbox": counts.inbox,
            "quarantined": counts.quarantined,
            "unread": counts.unread,
            "held": held,
        }
    )


async def change_events(changes: Changes | OwnChanges, request: Request) -> Response:
    """Server-sent events ``change`` with the counts as JSON, and ``alive`` where nothing changes.

    HEAD answers whether they can be had: a script cannot read the status of a stream.
    """
    if changes.full:
        return PlainTextResponse("Too many pages watch the store.\n", 503)
    if request.method == "HEAD":
        return Response(status_code=204)

    async def stream() -> AsyncIterator[ServerSentEvent]:
        async for state in changes.events():
            yield ServerSentEvent(event="change", data=state)

    return EventStream(
        stream(),
        ping=_ALIVE_SECONDS,
        ping_message_factory=lambda: ServerSentEvent(event="alive", data="yes"),
        send_timeout=_SEND_SECONDS,
    )
