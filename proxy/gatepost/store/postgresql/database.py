"""One open store on a server: prepared, read and written in transactions."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Self

import psycopg
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import QueuePool

from gatepost.config.store import StoreSettings
from gatepost.store.errors import StoreError, StoreForbidden, StoreUnavailable, StoreUnusable
from gatepost.store.node import RunningNode
from gatepost.store.postgresql import preparing, rights
from gatepost.store.postgresql.clocks import ServerClock
from gatepost.store.postgresql.contents import Pieces
from gatepost.store.postgresql.driver import (
    AWAITED_STANDBYS,
    Lock,
    LoginFailed,
    LoginRefused,
    Place,
    error_for,
    lock,
    try_lock,
    waits_for_standby,
)
from gatepost.store.postgresql.groups import GroupWriter
from gatepost.store.postgresql.namesakes import is_second_process, warn_of_namesakes
from gatepost.store.sql.changes import Change

__all__ = ["Database"]

_log = logging.getLogger(__name__)

_CONNECTIONS = 5
_PATIENCE_SECONDS = 10
"""To wait for one of the connections."""
_LOCK_WRITE = text(lock(Lock.WRITE))
_TRY_RETENTION = text(try_lock(Lock.RETENTION))
_WAIT_SHORTLY = text("SET LOCAL lock_timeout = '500ms'")
_WAIT_LESS = text("SET LOCAL lock_timeout = '2s'")
"""Then `/readyz` knows why there is no lock; it waits for three seconds."""
_AWAITED_STANDBYS = text(AWAITED_STANDBYS)
_SNAPSHOT = "SELECT pg_current_snapshot()::text"


class Database:
    """A pool of connections, and two of their own: for groups of changes, and to notice commits."""

    def __init__(
        self, settings: StoreSettings, *, counted: bool = True, node: RunningNode | None = None
    ) -> None:
        self._place = Place(settings.url, settings.read_password, counted=counted, node=node)
        self._node = node
        self.contents = Pieces()
        self._closed = False
        self._engine = create_engine(
            "postgresql+psycopg://",
            creator=self._connect,
            poolclass=QueuePool,
            pool_size=_CONNECTIONS,
            max_overflow=0,
            pool_timeout=_PATIENCE_SECONDS,
            pool_pre_ping=True,  # a server that was restarted is no error for the next reader
            use_native_hstore=False,
            hide_parameters=True,  # they are personal mail
        )
        self._groups = GroupWriter(self._place)
        self._look: preparing.Look | None = None
        """Still to be done: the server did not answer when the store was opened."""
        self._look_lock = threading.Lock()
        self._watch: psycopg.Connection | None = None
        self._watch_lock = threading.Lock()
        self._snapshot = ""
        self._changes = 0
        self._clock = ServerClock(self.name)

    @property
    def name(self) -> str:
        """Its URL without the user and the password."""
        return self._place.name

    @classmethod
    def create(cls, settings: StoreSettings, *, node: RunningNode | None = None, warns: bool = True) -> Self:
        """Open to write: made if there is none, migrated if it is of an older version. Raises StoreError.

        ``warns``: the log says what is wrong with the server; of the processes of a node the first one does.
        """

        def prepare(connection: Connection, name: str) -> None:
            is_second = node is not None and is_second_process(connection, node)
            preparing.prepare(connection, name, indexes=warns, warns=warns and not is_second)

        return cls.opened(settings, prepare, node=node)

    @classmethod
    def existing(cls, settings: StoreSettings) -> Self:
        """Open to read: must exist and be of today's version. Raises StoreError."""
        return cls.opened(settings, preparing.require_current)

    @classmethod
    def opened(
        cls,
        settings: StoreSettings,
        look: "preparing.Look",
        *,
        counted: bool = True,
        node: RunningNode | None = None,
    ) -> Self:
        """Open after a look at the database, in a transaction of its own. Raises StoreError.

        A store that is not required is open although its server does not answer; then the look comes before
        the first use, which raises StoreUnavailable until the look has succeeded. But a server that refuses
        the login until somebody changes something is an error.
        ``counted``: whether this is a use of the store that prevents a copy. ``node``: the log says so if
        another one has its name.
        """
        database = cls(settings, counted=counted, node=node)
        try:
            database._look_by(look)
        except StoreUnavailable as error:
            if settings.required or isinstance(error, LoginRefused | StoreForbidden):
                database.close()
                raise
            if isinstance(error, LoginFailed) and database._place.answers():
                _log.error("%s; the server answers: it is used as soon as it accepts the login", error)
            else:
                _log.warning("%s; it is used as soon as it answers", error)
            database._look = look
        except BaseException:
            database.close()
            raise
        return database

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database. Raises StoreError."""
        self._look_now()
        with self._connected(isolation_level="REPEATABLE READ", postgresql_readonly=True) as connection:
            yield connection

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A transaction that waits for no other; rolled back on any error. Raises StoreError."""
        self._look_now()
        with self._connected() as connection:
            yield connection
            connection.commit()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that excludes all others that change messages; rolled back on any error.

        Raises StoreError.
        """
        with self.transaction() as connection:
            connection.execute(_LOCK_WRITE)
            yield connection

    def now(self, connection: Connection) -> datetime:
        """The time of the server: the clocks of nodes may differ."""
        return self._clock.now(connection)

    def write_group(self, group: Sequence[Change], interrupted: Callable[[StoreError], None]) -> None:
        """Write a group of changes in one transaction; for one thread. Raises StoreError.

        ``interrupted`` is called if the connection is lost, before it is looked for what became of the group.
        """
        self._look_now()
        self._groups.write(group, interrupted)

    def maintains(self) -> bool:
        """All nodes do, one at a time: see `maintenance`."""
        return True

    @contextmanager
    def maintenance(self) -> Iterator[Connection | None]:
        """As `write`, for retention; None where another node is about it just now."""
        with self.transaction() as connection:
            if connection.scalar(_TRY_RETENTION):
                connection.execute(_WAIT_SHORTLY)  # records wait meanwhile
                connection.execute(_LOCK_WRITE)
                yield connection
            else:
                yield None

    def check_writable(self) -> None:
        """Take a turn to write without a change. Raises StoreError; a full disk of the server is not seen."""
        with self.transaction() as connection:
            connection.execute(_WAIT_LESS)
            preparing.require_writable(connection, self.name)
            if standbys := connection.scalar(_AWAITED_STANDBYS):
                raise waits_for_standby(self.name, standbys)
            connection.execute(_LOCK_WRITE)

    def changes(self) -> int:
        """A number that differs after any commit; one question to the server. Raises StoreError."""
        with self._watch_lock:
            try:
                if self._watch is None or self._watch.closed:
                    self._watch = self._connect(autocommit=True)
                found = self._watch.execute(_SNAPSHOT).fetchone()
            except psycopg.Error as error:
                raise error_for(error, self.name) from error
            if found and found[0] != self._snapshot:
                self._snapshot = found[0]
                self._changes += 1
            return self._changes

    def close(self) -> None:
        """Close all connections, those in use when they are returned; there are no others from now on."""
        self._groups.close()
        self._closed = True
        pool = self._engine.pool
        self._engine.dispose()
        pool.dispose()  # of what was returned before the pool was replaced
        with self._watch_lock:
            if self._watch is not None:
                self._watch.close()

    def _look_now(self) -> None:
        if self._look is not None:
            with self._look_lock:
                self._look_unless_done()

    def _look_unless_done(self) -> None:
        look = self._look
        if look is None:  # another thread has done it
            return
        try:
            self._look_by(look)
        except StoreUnusable as error:  # mended by an administrator, it can be used without a restart
            raise StoreUnavailable(str(error)) from error
        self._look = None

    def _look_by(self, look: "preparing.Look") -> None:
        with self._connected() as connection:
            look(connection, self.name)
            connection.commit()
            if self._node:
                warn_of_namesakes(connection, self.name, self._node)

    @contextmanager
    def _connected(self, **options: object) -> Iterator[Connection]:
        pool = self._engine.pool
        try:
            with self._engine.connect().execution_options(**options) as connection:
                yield connection
        except DBAPIError as error:
            reads = bool(options.get("postgresql_readonly"))
            raise self._told(error.orig or error, rights.READ if reads else rights.WRITE) from error
        except PoolTimeoutError as error:
            raise StoreUnavailable(f"the store {self.name} has too many readers") from error
        except psycopg.Error as error:
            raise error_for(error, self.name) from error
        finally:
            if self._engine.pool is not pool:  # SQLAlchemy leaves these to the garbage collector
                pool.dispose()

    def _told(self, error: BaseException, wanted: Sequence[str]) -> StoreError:
        """The error for people; if a right is missing, with the role and what grants it these rights."""
        told = error_for(error, self.name)
        late = isinstance(error, psycopg.errors.LockNotAvailable)
        if late or isinstance(told, StoreForbidden):
            with suppress(DBAPIError, PoolTimeoutError, psycopg.Error), self._engine.connect() as connection:
                if not late:
                    return StoreForbidden(f"{told}; {rights.explained(connection, wanted)}")
                if standbys := connection.scalar(_AWAITED_STANDBYS):
                    return waits_for_standby(self.name, standbys)
        return told

    def _connect(self, *, autocommit: bool = False) -> psycopg.Connection:
        if self._closed:
            raise StoreUnavailable(f"the store {self.name} is closed")
        return self._place.connect(autocommit=autocommit)
