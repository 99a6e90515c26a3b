"""The open connections to one milter, one for each session."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from gatepost_milter.connection import Connection
from gatepost_milter.conversation import Conversation
from gatepost_milter.macros import Macros

__all__ = ["Conversations"]

_IDLE_SECONDS = 30.0
"""Between two messages of a session; later another connection is made."""
_SILENT_SECONDS = 600.0
"""Within a transaction."""


class _Waiting(NamedTuple):
    talk: Conversation
    end: asyncio.TimerHandle
    """Ends it, if its session lasts and nothing more comes."""


class Conversations:
    """A session that comes again gets the conversation that knows it, if there still is one.

    A connection serves one session, as with Postfix: after a message that it has accepted, libmilter ignores
    QUIT_NC.
    """

    def __init__(self, address: str, values: Macros, limit: int) -> None:
        self._address = address
        self._values = values
        self._limit = limit
        self._room = asyncio.Semaphore(limit)
        self._busy = 0
        self._waiting: OrderedDict[str, _Waiting] = OrderedDict()
        """By session, the longest unused first."""

    @asynccontextmanager
    async def of(self, session_id: str, *, fresh: bool = False) -> AsyncIterator[tuple[Conversation, bool]]:
        """The conversation for a session, and whether its connection is new; closed if anything fails."""
        async with self._room:
            talk = None if fresh else self._take(session_id)
            is_new = talk is None
            self._busy += 1
            try:
                if talk is None:
                    self._make_room()
                    talk = Conversation(await Connection.open(self._address), self._values)
                try:
                    yield talk, is_new
                except BaseException:
                    talk.connection.abort()
                    raise
            finally:
                self._busy -= 1
            seconds = _SILENT_SECONDS if talk.in_transaction else _IDLE_SECONDS
            end = asyncio.get_running_loop().call_later(seconds, self.end, session_id)
            self._waiting[session_id] = _Waiting(talk, end)

    def _take(self, session_id: str) -> Conversation | None:
        if own := self._waiting.pop(session_id, None):
            own.end.cancel()
            if not own.talk.connection.is_closed or own.talk.is_over:
                return own.talk
            own.talk.connection.abort()
        return None

    def _make_room(self) -> None:
        while self._waiting and len(self._waiting) + self._busy > self._limit:
            self.end(next(iter(self._waiting)))

    def end(self, session_id: str) -> None:
        """End the conversation that waits for more of a session, if there is one."""
        if ended := self._waiting.pop(session_id, None):
            ended.end.cancel()
            ended.talk.end()

    def close(self) -> None:
        """End all sessions."""
        while self._waiting:
            self.end(next(iter(self._waiting)))
