"""One open database: created, migrated, read and written in transactions."""

import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from sqlalchemy import Connection, create_engine, insert, inspect, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import QueuePool

from gatepost.config.settings import StoreSettings
from gatepost.store import sqlite
from gatepost.store.errors import StoreError, StoreUnavailable
from gatepost.store.schema import VERSION, metadata, version

__all__ = ["Database"]

_READERS = 5
_PATIENCE_SECONDS = 10
"""For one of the connections."""
_MIGRATIONS = Path(__file__).parent / "migrations"


class Database:
    """The store's file and at most so many connections to it; may be used by several threads."""

    def __init__(self, path: Path, *, connections: int, attached: Mapping[str, Path] | None = None) -> None:
        self.path = path
        self._attached = attached or {}
        self._keeping = False
        self._engine = create_engine(
            "sqlite://",
            creator=self._connect,
            poolclass=QueuePool,
            pool_size=connections,
            max_overflow=0,
            pool_timeout=_PATIENCE_SECONDS,
            hide_parameters=True,  # they are people's mail
        )
        self._turns = sqlite.Turns(path)
        self._file: tuple[int, int] | None = None
        self._watch: sqlite3.Connection | None = None
        """Reads nothing; it only learns of commits."""
        self._watch_lock = threading.Lock()

    @classmethod
    def create(cls, settings: StoreSettings, base: Path) -> Self:
        """For the writer: made if there is none, migrated if it is of an older version. Raises StoreError."""
        path = sqlite.locate(settings.url, base)
        sqlite.create_file(path)
        database = cls(path, connections=1)
        try:
            with database.write() as connection:
                _prepare(connection, path)
        except BaseException:
            database.close()
            raise
        return database

    @classmethod
    def existing(
        cls, settings: StoreSettings, base: Path, *, attached: Mapping[str, Path] | None = None
    ) -> Self:
        """For readers: must be there and of today's version. Raises StoreError.

        ``attached`` are further databases, by the names that they have as schemas.
        """
        path = sqlite.locate(settings.url, base)
        if not path.is_file():
            raise StoreError(f"there is no store {path} yet; `gatepost serve` makes it")
        database = cls(path, connections=_READERS, attached=attached)
        try:
            with database.read() as connection:
                _require_current(connection, path)
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
        """A transaction that is committed at its end, or else leaves nothing behind. Raises StoreError."""
        self._check_file()
        with self._turns.one(), self._connected("BEGIN IMMEDIATE") as connection:
            yield connection
            connection.commit()

    @contextmanager
    def _connected(self, opening: str) -> Iterator[Connection]:
        self._check_file()
        try:
            with self._engine.connect() as connection:
                try:
                    connection.exec_driver_sql(opening)
                    yield connection
                except DBAPIError as error:
                    if not sqlite.leaves_connection_intact(error.orig or error):
                        connection.invalidate()
                    raise
        except DBAPIError as error:
            raise sqlite.error_for(error.orig or error, self.path) from error
        except PoolTimeoutError as error:
            raise StoreUnavailable(f"the store {self.path} has too many readers") from error
        except sqlite3.Error as error:
            raise sqlite.error_for(error, self.path) from error

    def _check_file(self) -> None:
        """SQLite goes on writing to a file that was removed; nobody would find that mail again."""
        try:
            status = self.path.stat()
        except OSError as error:
            raise StoreUnavailable(f"the store {self.path} is gone: {error.strerror}") from error
        found = (status.st_dev, status.st_ino)
        if self._file is None:
            self._file = found
        elif self._file != found:
            raise StoreUnavailable(f"the store {self.path} was replaced while in use; start gatepost anew")

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite.connect(self.path)
        if self._keeping:
            sqlite.set_keeping(connection)
        for name, path in self._attached.items():
            sqlite.attach(connection, name, path)
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
                raise sqlite.error_for(error, self.path) from error
        return number

    def reconnect(self) -> None:
        """Open the files anew; a connection that is in use, when it is given back."""
        self._engine.dispose()
        with self._watch_lock:
            if self._watch is not None:
                self._watch.close()
                self._watch = None

    def keep(self) -> None:
        """Checkpoint from now on; for the writer of the one process that is the `Keeper`."""
        self._keeping = True
        self._engine.dispose()

    def close(self) -> None:
        """Close all connections that are not in use."""
        self.reconnect()
        self._turns.close()


def _version(connection: Connection, path: Path) -> str | None:
    """The schema's version, None for an empty database. Raises StoreError for anything not ours."""
    names = inspect(connection).get_table_names()
    if not names:
        return None
    found = connection.scalar(select(version.c.version_num)) if version.name in names else None
    if found is None:
        raise StoreError(f"{path} is a database, but none of Gatepost's")
    if found > VERSION:
        raise StoreError(f"the store {path} is of version {found}, newer than this Gatepost's ({VERSION})")
    return str(found)


def _require_current(connection: Connection, path: Path) -> None:
    found = _version(connection, path)
    if found is None or found < VERSION:
        raise StoreError(f"the store {path} is of an older version; `gatepost serve` brings it up to date")


def _prepare(connection: Connection, path: Path) -> None:
    found = _version(connection, path)
    if found is None:
        metadata.create_all(connection, checkfirst=False)
        connection.execute(insert(version).values(version_num=VERSION))
    elif found < VERSION:
        migrate(connection)


def migrate(connection: Connection) -> None:
    """Bring the schema to the newest version, within the connection's transaction."""
    # alembic takes 0.2 s to import and is needed once in a version's life.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
