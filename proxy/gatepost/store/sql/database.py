"""What the modules here need of an open database; each backend has its own."""

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol

from sqlalchemy import Connection

from gatepost.store.errors import StoreError
from gatepost.store.sql.changes import Change

__all__ = ["Contents", "Database"]


class Contents(Protocol):
    """Where the bytes of a message are that are not in its row."""

    def rest(self, connection: Connection, kept_id: str) -> bytes:
        """What follows the bytes in the row."""

    def remove(self, connection: Connection, kept_ids: Collection[str]) -> None:
        """Remove what is not in the rows of these messages."""

    def in_row(self, content: bytes) -> bytes:
        """What belongs into the row."""

    def put_rest(self, connection: Connection, kept_id: str, content: bytes) -> None:
        """Store what does not belong into the row."""


class Database(Protocol):
    """An open database with a bounded number of connections; for several threads. All raise StoreError."""

    @property
    def name(self) -> str:
        """For messages; without a password."""

    @property
    def contents(self) -> Contents:
        """Where the bytes of messages are."""

    def read(self) -> AbstractContextManager[Connection]:
        """A transaction that sees one state of the database."""

    def write(self) -> AbstractContextManager[Connection]:
        """A transaction that excludes all others of this method; committed at its end.

        It is rolled back on any error.
        """

    def now(self, connection: Connection) -> datetime:
        """The time by the clock that all processes with this store go by."""

    def write_group(self, group: Sequence[Change], interrupted: Callable[[StoreError], None]) -> None:
        """Write a group of changes in one transaction; for one thread.

        ``interrupted`` is called if that takes long because the store cannot be reached, and may succeed yet.
        """

    def maintains(self) -> bool:
        """True if this process applies retention; tries to become the one that does."""

    def maintenance(self) -> AbstractContextManager[Connection | None]:
        """As `write`, for retention; None where another process is about it just now."""

    def check_writable(self) -> None:
        """Take a turn to write, without a change: nothing is written to the disk.

        Raises StoreError if nothing could be committed now, also if the disk is full, as far as that is seen.
        """

    def changes(self) -> int:
        """A number that differs after any commit of any process; cheap."""

    def close(self) -> None:
        """Close all connections, those in use when they are returned; there are no others from now on."""
