"""A store in a file as the source or the target of a copy."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, create_engine, func
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from gatepost.config.store import StoreSettings
from gatepost.store.errors import StoreError, StoreUnavailable
from gatepost.store.sql.copying import begin
from gatepost.store.sql.inserts import Insert
from gatepost.store.sql.schema import kept
from gatepost.store.sqlite import driver
from gatepost.store.sqlite.backup import require_unused
from gatepost.store.sqlite.database import Database, prepare, require_current

__all__ = ["FileSource", "FileTarget", "open_source", "open_target"]

_PIECE = 512 << 10
_KEPT = Insert(kept, "sqlite").one


def _file_of(connection: Connection) -> sqlite3.Connection:
    found: sqlite3.Connection = connection.connection.driver_connection  # type: ignore[assignment]
    return found


class _FileSide:
    """What source and target have in common."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def name(self) -> str:
        """Its file."""
        return str(self._path)

    def size_of_content(self) -> ColumnElement[int]:
        """Of the row's blob; SQLite does not read it for this."""
        return func.length(kept.c.content)

    def content(self, connection: Connection, number: int, _kept_id: str, _size: int) -> Iterator[bytes]:
        """The blob, piece by piece."""
        try:
            with _file_of(connection).blobopen("kept", "content", number, readonly=True) as blob:
                while piece := blob.read(_PIECE):
                    yield piece
        except sqlite3.Error as error:  # here, where it is known whose it is
            raise driver.error_for(error, self._path) from error


class FileSource(_FileSide):
    """A `gatepost.store.sql.copying.Source`; the file is opened to read only."""

    def __init__(self, path: Path) -> None:
        """Raises StoreError if it is in use, damaged, or not of today's version."""
        if not path.is_file():
            raise StoreError(f"there is no store {path}")
        super().__init__(path.resolve())
        require_unused(self._path)
        self._engine = create_engine(
            "sqlite://", creator=self._connect, poolclass=StaticPool, hide_parameters=True
        )
        self._seen = 0

    @property
    def identity(self) -> str:
        """Its file."""
        return f"sqlite:///{self._path}"

    def _connect(self) -> sqlite3.Connection:
        # To read a write-ahead log SQLite makes files beside it. Without a log nobody has the store open, and
        # in a folder that cannot be written nobody can.
        has_log = self._path.with_name(f"{self._path.name}-wal").exists()
        alone = "" if has_log or os.access(self._path.parent, os.W_OK) else "&immutable=1"
        connection = sqlite3.connect(
            f"{self._path.as_uri()}?mode=ro{alone}", uri=True, isolation_level=None, check_same_thread=False
        )
        connection.execute(f"PRAGMA busy_timeout = {int(driver.BUSY_SECONDS * 1000)}").close()
        return connection

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """One transaction; raises StoreError also if the file is damaged."""
        try:
            with self._engine.connect() as connection:
                connection.exec_driver_sql("BEGIN")
                self._seen = self._version(connection)
                require_current(connection, self._path)
                (found,) = connection.exec_driver_sql("PRAGMA quick_check(1)").scalars()
                if found != "ok":
                    raise StoreError(f"{self._path} is damaged: {found}")
                yield connection
        except DBAPIError as error:
            raise driver.error_for(error.orig or error, self._path) from error
        except sqlite3.Error as error:
            raise driver.error_for(error, self._path) from error

    def _version(self, connection: Connection) -> int:
        found: int = connection.exec_driver_sql("PRAGMA data_version").scalar_one()
        return found

    def require_unchanged(self) -> None:
        """End the snapshot; raise StoreUnavailable after a commit since its beginning."""
        with self._engine.connect() as connection:
            connection.exec_driver_sql("ROLLBACK")
            if self._version(connection) != self._seen:
                raise StoreUnavailable(
                    f"the store {self._path} was changed while it was copied;"
                    " stop gatepost and run this again, which copies the changes"
                )

    def close(self) -> None:
        """Close the connection."""
        self._engine.dispose()


class FileTarget(_FileSide):
    """A `gatepost.store.sql.copying.Target`."""

    def __init__(self, path: Path, database: Database) -> None:
        super().__init__(path)
        self._database = database

    def read(self) -> AbstractContextManager[Connection]:
        """See `gatepost.store.sql.copying.Target`."""
        return self._database.read()

    def write(self) -> AbstractContextManager[Connection]:
        """See `gatepost.store.sql.copying.Target`."""
        return self._database.write()

    def put(self, connection: Connection, messages: Iterator[tuple[Row[Any], int, Iterator[bytes]]]) -> None:
        """Insert rows with their content, one message at a time.

        SQLite writes no blob in pieces to a table that has an index on an expression.
        """
        for row, _, pieces in messages:
            connection.exec_driver_sql(_KEPT, (*row[:-1], b"".join(pieces)))

    def set_next_number(self, connection: Connection) -> None:
        """Nothing to do: SQLite takes the highest number that is there."""

    def close(self) -> None:
        """Close the file; if root made it, it is given to the owner of its folder."""
        self._database.close()
        path = self._path
        if os.geteuid() == 0:
            owner = path.parent.stat()
            for file in (path, *path.parent.glob(f"{path.name}-*")):
                os.chown(file, owner.st_uid, owner.st_gid)


def open_source(settings: StoreSettings, base: Path) -> FileSource:
    """To be copied; raises StoreError."""
    return FileSource(driver.locate(settings.url, base))


def open_target(settings: StoreSettings, base: Path, mark: str | None) -> FileTarget:
    """Make the file, or go on with it; None: a complete store, to be compared. Raises StoreError."""
    path = driver.locate(settings.url, base)
    if mark is None:
        return FileTarget(path, Database.existing(settings, base))
    if path.exists():
        require_unused(path)
    database = Database.prepared(path, partial(_begin, mark))
    database.maintains()  # it checkpoints, or the write-ahead log would grow to the size of the store
    return FileTarget(path, database)


def _begin(mark: str, connection: Connection, path: Path, is_new: bool) -> None:  # noqa: FBT001 - a `Look`
    begin(connection, str(path), mark, partial(prepare, connection, path, is_new))
