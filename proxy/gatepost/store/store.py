"""The gateway's side of the store: it answers after COMMIT."""

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from gatepost.config.settings import Keep, StoreSettings
from gatepost.record import Record
from gatepost.store.archive import Archive
from gatepost.store.conversations import ConversationPart
from gatepost.store.database import Database
from gatepost.store.errors import StoreUnavailable
from gatepost.store.kept import Kept
from gatepost.store.retention import Retention
from gatepost.store.sqlite import Keeper
from gatepost.store.writer import Change, Writer

__all__ = ["Store"]

_log = logging.getLogger(__name__)


class Store:
    """The journal, quarantine and inbox, for one event loop. Open it after forking."""

    BACKLOG_LIMIT = 10_000
    """Past this `backlog` new mail is better deferred than accepted without a journal."""
    JOURNAL_LIMIT = 20_000
    """Past this `backlog` records are lost, and the log says so."""

    CONVERSATION_LIMIT = 5_000
    """Past this `backlog` parts of conversations are lost, so that mail is not."""
    CONVERSATION_OCTETS = 16 << 20
    """More of conversations does not wait to be written."""

    def __init__(self, database: Database, archive: Archive, keep: Keep) -> None:
        self._database = database
        self._keeper = Keeper(database.path)
        self._writer = Writer(database, self._keeper, Retention(keep))
        self.archive = archive
        """To look up, from worker threads: its methods block."""
        self._closed = False
        self._lost = 0
        self._unheard = 0

    @classmethod
    def open(cls, settings: StoreSettings, base: Path) -> Self:
        """Make or migrate the database and start the writer; blocks.

        Raises StoreError with a text for the operator. A relative path is relative to ``base``.
        """
        database = Database.create(settings, base)
        return cls(database, Archive.open(settings, base), settings.keep)

    @property
    def backlog(self) -> int:
        """Changes that are queued and not committed yet."""
        return self._writer.backlog

    @property
    def lost(self) -> int:
        """Records that there was no room for."""
        return self._lost

    async def commit(self, record: Record, kept: Sequence[Kept] = ()) -> None:
        """Write a record and the messages to keep; returns after COMMIT.

        A record of the same id is replaced. Raises StoreFull, StoreUnavailable or StoreError, and
        then nothing of it is stored. Who is cancelled meanwhile does not know which.
        """
        await self._written(record=record, kept=kept)

    def journal(self, record: Record) -> None:
        """Queue a record for the next group; never blocks, never raises.

        A record of the same id is replaced. While the database cannot be written it waits.
        """
        if self._closed or self._writer.backlog >= self.JOURNAL_LIMIT:
            if self._lost % 1000 == 0:
                _log.error("the store takes no more records: %d lost before %s", self._lost, record.id)
            self._lost += 1
            return
        self._writer.put(Change(record=record))

    def converse(self, part: ConversationPart) -> bool:
        """Queue what was said in a session, as `journal` does; False: it is lost, there is no room."""
        if (
            self._closed
            or self._writer.backlog >= self.CONVERSATION_LIMIT
            or self._writer.unsaid + part.octets > self.CONVERSATION_OCTETS
        ):
            if self._unheard % 1000 == 0:
                _log.warning("the store takes no more conversations: %d parts lost before", self._unheard)
            self._unheard += 1
            return False
        self._writer.put(Change(part=part))
        return True

    async def withdraw(self, kept_ids: Sequence[str]) -> None:
        """Take kept messages out again, as if they had never been kept; returns after COMMIT.

        Raises StoreError as `commit` does.
        """
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
        await done

    async def close(self) -> None:
        """Write what is queued, end the thread, close the files; SQLite empties its log with the last one."""
        if not self._closed:
            self._closed = True
            await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._writer.finish()
        self.archive.close()
        self._database.close()
        self._keeper.resign()
