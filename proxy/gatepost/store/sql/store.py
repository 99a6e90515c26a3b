"""The gateway's side of the store: what is queued, what there is no room for, what waits for COMMIT."""

import asyncio
import logging
from collections.abc import Sequence

from gatepost.config.store import Keep
from gatepost.model.record import Record
from gatepost.store.conversation import ConversationPart
from gatepost.store.errors import StoreUnavailable
from gatepost.store.kept import Kept
from gatepost.store.sql.archive import SqlArchive
from gatepost.store.sql.changes import Change, record_bytes
from gatepost.store.sql.database import Database
from gatepost.store.sql.retention import Retention
from gatepost.store.sql.unwritten import Unwritten
from gatepost.store.sql.writer import Writer

__all__ = ["SqlStore"]

_log = logging.getLogger(__name__)


class SqlStore:
    """A `gatepost.store.contract.Store` in an SQL database."""

    BACKLOG_LIMIT = 10_000
    """From this `backlog` on new mail is better deferred than accepted without a journal."""
    JOURNAL_LIMIT = 20_000
    """From this `backlog` on records are lost, and the log says so."""
    BACKLOG_BYTES = 32 << 20
    """As `BACKLOG_LIMIT`, for records of many recipients."""
    JOURNAL_BYTES = 64 << 20
    """Bytes of records that may wait to be written; more are lost, as from `JOURNAL_LIMIT` on."""
    CONVERSATION_LIMIT = 5_000
    """From this `backlog` on parts of conversations are lost, so that mail is not."""
    ANSWER_SECONDS = 60.0
    """So long after a change was queued its caller is told that there is no answer."""
    CONVERSATION_BYTES = 16 << 20
    """Bytes of conversations that may wait to be written; more are lost."""

    def __init__(
        self,
        database: Database,
        archive: SqlArchive,
        keep: Keep,
        unwritten: Unwritten,
        *,
        required: bool = True,
    ) -> None:
        """Start the writer; the database, the archive and the numbers are closed with the store.

        ``required``: whether new mail is deferred once many records wait.
        """
        self._required = required
        self._database = database
        self._unwritten = unwritten
        self._writer = Writer(database, Retention(keep, clock=database.now), self._unwritten)
        self.archive = archive
        """To look up, from worker threads: its methods block."""
        self._closed = False
        self._lost = 0
        self._parts_lost = 0

    @property
    def backlog(self) -> int:
        """Changes that are queued and not committed yet."""
        return self._writer.backlog

    @property
    def overloaded(self) -> bool:
        """True: new mail is better deferred than accepted without a journal."""
        return self._required and (
            self._writer.backlog >= self.BACKLOG_LIMIT or self._writer.record_bytes >= self.BACKLOG_BYTES
        )

    @property
    def lost(self) -> int:
        """Records that are not in the journal, and never will be."""
        return self._lost + self._unwritten.lost + self._writer.lost

    async def commit(self, record: Record, kept: Sequence[Kept] = ()) -> None:
        """Write a record and the messages to keep; returns after COMMIT."""
        await self._written(record=record, kept=kept)

    def journal(self, record: Record) -> None:
        """Queue a record for the next group; never blocks, never raises."""
        octets = record_bytes(record)
        if (
            self._closed
            or self._writer.backlog >= self.JOURNAL_LIMIT
            or self._writer.record_bytes + octets > self.JOURNAL_BYTES
        ):
            if self._lost % 1000 == 0:
                _log.error("the store takes no more records: %d lost before %s", self._lost, record.id)
            self._lost += 1
            return
        self._writer.put(Change(record=record, record_bytes=octets))

    def converse(self, part: ConversationPart) -> bool:
        """Queue a part of a conversation; False: there is no room, it is lost."""
        if (
            self._closed
            or self._writer.backlog >= self.CONVERSATION_LIMIT
            or self._writer.conversation_bytes + part.octets > self.CONVERSATION_BYTES
        ):
            if self._parts_lost % 1000 == 0:
                _log.warning("the store takes no more conversations: %d parts lost before", self._parts_lost)
            self._parts_lost += 1
            return False
        self._writer.put(Change(part=part))
        return True

    async def withdraw(self, kept_ids: Sequence[str]) -> None:
        """Remove messages as if they had never been kept; returns after COMMIT."""
        if kept_ids:
            await self._written(withdrawn=kept_ids)

    async def _written(
        self, *, record: Record | None = None, kept: Sequence[Kept] = (), withdrawn: Sequence[str] = ()
    ) -> None:
        if self._closed or not self._writer.alive:
            raise StoreUnavailable("the store is closed")
        if self._writer.backlog >= self.JOURNAL_LIMIT:
            raise StoreUnavailable("the store cannot keep up")
        done = asyncio.get_running_loop().create_future()
        self._writer.put(Change(record=record, kept=kept, withdrawn=withdrawn, done=done))
        try:
            async with asyncio.timeout(self.ANSWER_SECONDS):
                await done
        except TimeoutError:
            if kept:  # it may be stored yet: what is refused is not kept
                self._writer.put(Change(withdrawn=[message.id for message in kept]))
            raise StoreUnavailable(f"the store did not answer in {self.ANSWER_SECONDS:g} seconds") from None

    async def close(self) -> None:
        """Write what is queued, end the thread, close the connections."""
        if not self._closed:
            self._closed = True
            await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._writer.finish()
        if left := self._unwritten.left:  # the thread has failed
            _log.error("the store is closed; records lost: %d", left)
            self._lost += left
        self._unwritten.close()
        self.archive.close()
        self._database.close()
