"""The gateway's side of the store: what is queued and what there is no room for."""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence

from gatepost.model.record import Record
from gatepost.store.conversation import ConversationPart
from gatepost.store.errors import StoreUnavailable
from gatepost.store.kept import Kept
from gatepost.store.memory.archive import MemoryArchive
from gatepost.store.memory.data import Data

__all__ = ["MemoryStore"]

_log = logging.getLogger(__name__)


class MemoryStore:
    """A `gatepost.store.contract.Store` in memory.

    What is queued is written when the event loop runs next.
    """

    BACKLOG_LIMIT = 10_000
    JOURNAL_LIMIT = 20_000
    CONVERSATION_LIMIT = 5_000
    CONVERSATION_BYTES = 16 << 20

    def __init__(self, data: Data) -> None:
        self._data = data
        self._queue: deque[Record | ConversationPart] = deque()
        self._closed = False
        self._lost = 0
        self.archive = MemoryArchive(data)
        """To look up."""

    @property
    def backlog(self) -> int:
        """Changes that are queued and not written yet."""
        return len(self._queue)

    @property
    def overloaded(self) -> bool:
        """True: new mail is better deferred than accepted without a journal."""
        return self.backlog >= self.BACKLOG_LIMIT

    @property
    def lost(self) -> int:
        """Records that there was no room for."""
        return self._lost

    async def commit(self, record: Record, kept: Sequence[Kept] = ()) -> None:
        """Write a record and the messages to keep."""
        await self._turn()
        self._data.add(record, kept)

    def journal(self, record: Record) -> None:
        """Queue a record; never blocks, never raises."""
        if self._closed or self.backlog >= self.JOURNAL_LIMIT:
            _log.error("the store takes no more records: %d lost before %s", self._lost, record.id)
            self._lost += 1
        else:
            self._put(record)

    def converse(self, part: ConversationPart) -> bool:
        """Queue a part of a conversation; False: there is no room, it is lost."""
        waiting = sum(one.octets for one in self._queue if isinstance(one, ConversationPart))
        if (
            self._closed
            or self.backlog >= self.CONVERSATION_LIMIT
            or waiting + part.octets > self.CONVERSATION_BYTES
        ):
            _log.warning("the store takes no more conversations: a part of %s is lost", part.session.id)
            return False
        self._put(part)
        return True

    async def withdraw(self, kept_ids: Sequence[str]) -> None:
        """Remove messages as if they had never been kept."""
        if kept_ids:
            await self._turn()
            self._data.withdraw(kept_ids)

    async def close(self) -> None:
        """Write what is queued, and take nothing more."""
        self._closed = True
        self._write_queued()

    def _put(self, change: Record | ConversationPart) -> None:
        self._queue.append(change)
        asyncio.get_running_loop().call_soon(self._write_queued)

    async def _turn(self) -> None:
        """Let other tasks run, as a store on a disk does; write what is queued. Raises StoreUnavailable."""
        if self._closed:
            raise StoreUnavailable("the store is closed")
        if self.backlog >= self.JOURNAL_LIMIT:
            raise StoreUnavailable("the store cannot keep up")
        await asyncio.sleep(0)
        self._write_queued()

    def _write_queued(self) -> None:
        while self._queue:
            change = self._queue.popleft()
            if isinstance(change, ConversationPart):
                self._data.add_part(change)
            else:
                self._data.add(change)
