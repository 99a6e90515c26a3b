"""One open database: created, migrated, read and written in transactions."""

import logging
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from sqlalchemy import Connection, FromClause, create_engine, insert
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import QueuePool

from gatepost.config.store import StoreSettings
from gatepost.maintenance_lock import MaintenanceLock
from gatepost.store.errors import StoreError, StoreUnavailable, StoreUnusable
from gatepost.store.sql.changes import Change
from gatepost.store.sql.schema import VERSION, metadata, version
from gatepost.store.sql.versions import COPY_MARK, known_version, migrate, version_of
from gatepost.store.sqlite import driver
from gatepost.store.sqlite.groups import apply
from gatepost.store.sqlite.locks import WriteQueue

__all__ = ["COPIED_ALONE", "Database", "prepare", "require_current"]

_log = logging.getLogger(__name__)

Look = Callable[[Connection, Path, bool], None]
"""Takes a connection, the file, and whether it was just made; raises StoreError."""
_READERS = 5
_PATIENCE_SECONDS = 10
"""To wait for one of the connections."""

COPIED_ALONE = (
    "If it is a copy of another store's file, that store's content was still in the file beside it that ends "
    "in -wal: copy a store with `gatepost backup` and `gatepost restore`"
)
"""What an empty database may mean, and what to do."""


class _Contents:
    """The row of a message has all of it."""

    def rest(self, _connection: Connection, _kept_id: str) -> bytes:
        return b""

    def remove(self, connection: Connection, kept_ids: Collection[str]) -> None:
        pass

    def in_row(self, content: bytes) -> bytes:
        return content

    def put_rest(self, connection: Connection, kept_id: str, content: bytes) -> None:
        pass


class _Compiler(SQLiteCompiler):
    """Writes ``INDEXED BY`` hints, which SQLAlchemy's own compiler for SQLite leaves out without a word."""

    def get_from_hint_text(self, table: FromClause, text: str | None) -> str | None:  # noqa: ARG002
        return text


class Database:
    """The store's file and a bounded number of connections to it; for several threads."""

    def __init__(
        self, path: Path, *, connections: int, cache_kib: int, attached: Mapping[str, Path] | None = None
    ) -> None:
        self.path = path
        self._cache_kib = cache_kib
        self.contents = _Contents()
        self._maintenance = MaintenanceLock(path)
        self._attached = attached or {}
        self._checkpoints = False
        self._closed = False
        self._engine = create_engine(
            "sqlite://",
            creator=self._connect,
            poolclass=QueuePool,
            pool_size=connections,
            max_overflow=0,
            pool_timeout=_PATIENCE_SECONDS,
            hide_parameters=True,  # they are personal mail
        )
        self._engine.dialect.statement_compiler = _Compiler
        self._queue = WriteQueue(path)
        self._file: tuple[int, int] | None = None
        self._watch: sqlite3.Connection | None = None
        """Reads no rows; it only notices commits."""
        self._watch_lock = threading.Lock()

    @property
    def name(self) -> str:
        """Its file."""
        return str(self.path)

    @classmethod
    def create(cls, settings: StoreSettings, base: Path) -> Self:
        """Open to write: made if there is none, migrated if it is of an older version. Raises StoreError."""
        return cls.prepared(driver.locate(settings.url, base), prepare)

    @classmethod
    def prepared(cls, path: Path, look: Look) -> Self:
        """Open to write; ``look`` prepares the database in a transaction of its own. Raises StoreError."""
        driver.create_file(path)
        _require_own(path)
        is_new = path.stat().st_size == 0
        database = cls(path, connections=1, cache_kib=driver.WRITERS_CACHE_KIB)
        try:
            with database.write() as connection:
                look(connection, path, is_new)
        except BaseException:
            database.close()
            raise
        return database

    @classmethod
    def existing(
        cls, settings: StoreSettings, base: Path, *, attached: Mapping[str, Path] | None = None
    ) -> Self:
        """Open to read: must exist and be of today's version. Raises StoreError.

        ``attached`` are further databases by their schema names.
        """
        path = driver.locate(settings.url, base)
        if not path.is_file():
            raise StoreError(f"there is no store {path} yet; `gatepost serve` makes it")
        _require_own(path)
        database = cls(path, connections=_READERS, cache_kib=driver.READERS_CACHE_KIB, attached=attached)
        try:
            with database.read() as connection:
                require_current(connection, path)
        except BaseException:
            database.close()
            raise
        return database

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database. Raises StoreError."""
        with self._connected("BEGIN") as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that is committed at its end, or rolled back on any error. Raises StoreError."""
        self._check_file()
        with self._queue.turn(), self._connected("BEGIN IMMEDIATE") as connection:
            yield connection
            connection.commit()

    def write_group(
        self,
        group: Sequence[Change],
        interrupted: Callable[[StoreError], None],  # noqa: ARG002 - the protocol's
    ) -> None:
        """Write a group of changes in one transaction. Raises StoreError."""
        with self.write() as connection:
            apply(connection, group)

    def maintains(self) -> bool:
        """True if this process checkpoints and applies retention; tries to become the one that does."""
        if not self._checkpoints and self._maintenance.acquire():
            self.start_checkpoints()
        return self._checkpoints

    @contextmanager
    def maintenance(self) -> Iterator[Connection]:
        """As `write`; for the process that `maintains`."""
        with self.write() as connection:
            yield connection

    def now(self, connection: Connection) -> datetime:  # noqa: ARG002 - the protocol's
        """The time of this machine, on which all processes with this file are."""
        return datetime.now(UTC)

    def check_writable(self) -> None:
        """Take a turn to write without a change. Raises StoreError, also if the disk is full."""
        driver.check_room(self.path)
        with self.write():
            pass

    @contextmanager
    def _connected(self, opening: str) -> Iterator[Connection]:
        self._check_file()
        pool = self._engine.pool
        try:
            with self._engine.connect() as connection:
                try:
                    connection.exec_driver_sql(opening)
                    yield connection
                except DBAPIError as error:
                    if not driver.leaves_connection_intact(error.orig or error):
                        connection.invalidate()
                    raise
        except DBAPIError as error:
            raise driver.error_for(error.orig or error, self.path) from error
        except PoolTimeoutError as error:
            raise StoreUnavailable(f"the store {self.path} has too many readers") from error
        except sqlite3.Error as error:
            raise driver.error_for(error, self.path) from error
        finally:
            if self._engine.pool is not pool:  # SQLAlchemy leaves these to the garbage collector
                pool.dispose()

    def _check_file(self) -> None:
        """SQLite goes on writing to a file that was removed, and that mail would be lost."""
        try:
            status = self.path.stat()
        except OSError as error:
            raise StoreUnavailable(f"the store {self.path} is gone: {error.strerror}") from error
        found = (status.st_dev, status.st_ino)
        if self._file is None:
            self._file = found
        elif self._file != found:
            raise StoreUnavailable(f"the store {self.path} was replaced while in use; restart gatepost")

    def _connect(self) -> sqlite3.Connection:
        if self._closed:
            raise StoreUnavailable(f"the store {self.path} is closed")
        connection = driver.connect(self.path, cache_kib=self._cache_kib)
        if self._checkpoints:
            driver.enable_checkpoints(connection)
        for name, path in self._attached.items():
            driver.attach(connection, name, path)
        return connection

    def changes(self) -> int:
        """A number that differs after any commit, to an attached database too; takes microseconds.

        Raises StoreError.
        """
        number = 0
        with self._watch_lock:
            try:
                self._watch = self._watch or self._connect()
                for schema in ("main", *self._attached):
                    (version,) = self._watch.execute(f"PRAGMA {schema}.data_version").fetchone()
                    number = number << 32 | version
            except sqlite3.Error as error:
                raise driver.error_for(error, self.path) from error
        return number

    def reconnect(self) -> None:
        """Close all connections, those in use when they are returned; the next ones open the files again."""
        self._dispose()
        with self._watch_lock:
            if self._watch is not None:
                self._watch.close()
                self._watch = None

    def start_checkpoints(self) -> None:
        """Checkpoint from now on; for the writer of the process that holds the `MaintenanceLock`."""
        self._checkpoints = True
        self._dispose()

    def _dispose(self) -> None:
        pool = self._engine.pool
        self._engine.dispose()
        pool.dispose()  # of what was returned before the pool was replaced

    def close(self) -> None:
        """Close all connections, those in use when they are returned; there are no others from now on."""
        self._closed = True
        self.reconnect()
        self._queue.close()
        self._maintenance.release()


def _require_own(path: Path) -> None:
    """Raise StoreError for a file of another program, before a byte of it or beside it is written.

    Other errors are left to those who open the file next. A file in which SQLite finds no write-ahead log is
    read without locks. If another process makes a log meanwhile, what was read may be half of a change.
    """
    log = path.with_name(f"{path.name}-wal")
    alone = not log.exists()
    try:
        if path.stat().st_size == 0:
            return
        with closing(
            sqlite3.connect(f"{path.as_uri()}?mode=ro{'&immutable=1' if alone else ''}", uri=True)
        ) as connection:
            _look_at(connection, path)
    except StoreUnusable:
        if not alone or not log.exists():
            raise
    except sqlite3.Error as error:
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_NOTADB:
            raise driver.error_for(error, path) from error
    except OSError:
        pass


def _look_at(connection: sqlite3.Connection, path: Path) -> None:
    """Raise StoreUnusable for tables that are not a store's, or those of a newer version."""

    def number() -> str | None:
        found = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return VERSION if found and str(found[0]).startswith(COPY_MARK) else found and str(found[0])

    found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    known_version([name for (name,) in found if not name.startswith("sqlite_")], number, str(path))


def require_current(connection: Connection, path: Path) -> None:
    """Raise StoreError if there is no store in the file, or none of today's version."""
    found = version_of(connection, str(path))
    if found is None:
        raise StoreError(f"the store {path} is empty; `gatepost serve` makes its tables. {COPIED_ALONE}")
    if found < VERSION:
        raise StoreError(f"the store {path} is of an older version; `gatepost serve` brings it up to date")


def prepare(connection: Connection, path: Path, is_new: bool) -> None:  # noqa: FBT001 - a `Look`
    """Make the tables, or migrate them, within the connection's transaction. Raises StoreError."""
    found = version_of(connection, str(path))
    if found is None:
        if not is_new:
            _log.warning("the store %s was empty. %s", path, COPIED_ALONE)
        metadata.create_all(connection, checkfirst=False)
        connection.execute(insert(version).values(version_num=VERSION))
    elif found < VERSION:
        _log.info("migrating the store from version %s to %s", found, VERSION)
        migrate(connection)
