"""Everything that is SQLite's own: where the file is, how it is opened, what its errors mean."""

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from sqlalchemy import Table
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from gatepost.store.errors import StoreError, StoreFull, StoreUnavailable

__all__ = [
    "BUSY_SECONDS",
    "Insert",
    "Keeper",
    "Turns",
    "attach",
    "connect",
    "create_file",
    "error_for",
    "leaves_connection_intact",
    "locate",
    "means_damage",
    "set_keeping",
]

BUSY_SECONDS = 2.0
"""To wait for a lock that another process holds."""
_LOOK_SECONDS = 0.0003
"""Between two looks whether it is one's turn to write; most turns take some milliseconds."""
_CHECKPOINT_PAGES = 4000
"""The keeper moves the write-ahead log into the database when it has so many pages (16 MiB)."""
_LOG_OCTETS = 64 << 20
"""What the write-ahead log is cut down to after a large message."""
_CACHE_KIB = 16 << 10
_ROWS_AT_ONCE = (256, 64, 16, 4, 1)
"""Rows in one statement; SQLite takes 32,766 values in one."""

_UNAVAILABLE = {
    sqlite3.SQLITE_BUSY: "is locked by another process",
    sqlite3.SQLITE_LOCKED: "is locked",
    sqlite3.SQLITE_PROTOCOL: "is locked by another process",
    sqlite3.SQLITE_READONLY: "cannot be written",
    sqlite3.SQLITE_PERM: "cannot be written",
    sqlite3.SQLITE_AUTH: "cannot be written",
    sqlite3.SQLITE_IOERR: "cannot be read or written",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened",
    sqlite3.SQLITE_NOMEM: "found no memory",
    sqlite3.SQLITE_INTERRUPT: "was interrupted",
    sqlite3.SQLITE_CORRUPT: "is damaged",
    sqlite3.SQLITE_NOTADB: "is no SQLite database",
}
# Else the driver looks for an adapter for None, in vain, each time that one is bound: 0.4 us.
sqlite3.register_adapter(type(None), lambda none: none)

_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CANTOPEN})


def locate(url: str, base: Path) -> Path:
    """The database's file; a relative path is relative to ``base``. Raises StoreError."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise StoreError("store.url is no database URL, expected like sqlite:///gatepost.db") from error
    if parsed.get_backend_name() != "sqlite":
        raise StoreError(f"store.url: expected sqlite:///FILE, {parsed.get_backend_name()} is not supported")
    if not parsed.database or parsed.database == ":memory:" or parsed.query:
        raise StoreError("store.url: expected sqlite:///FILE, a file that outlives the process")
    return base.absolute() / parsed.database


def create_file(path: Path) -> None:
    """An empty file that only its owner can read, unless there is one. Raises StoreError."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        pass
    except OSError as error:
        raise StoreUnavailable(f"the store {path} cannot be made: {error.strerror}") from error


def connect(path: Path) -> sqlite3.Connection:
    """A connection that never checkpoints, never makes the file and leaves BEGIN to the caller.

    Raises sqlite3.Error.
    """
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode=rw",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        _use_log(connection)
        for pragma in (
            "wal_autocheckpoint = 0",
            "synchronous = FULL",
            "foreign_keys = ON",
            f"journal_size_limit = {_LOG_OCTETS}",
            f"cache_size = -{_CACHE_KIB}",
        ):
            connection.execute(f"PRAGMA {pragma}").close()
    except BaseException:
        connection.close()
        raise
    return connection


def attach(connection: sqlite3.Connection, name: str, path: Path) -> None:
    """Add another database as the schema ``name``. Raises sqlite3.Error, and then closes the connection."""
    try:
        connection.execute(f"ATTACH DATABASE ? AS {name}", (f"{path.as_uri()}?mode=rw",)).close()
        connection.execute(f"PRAGMA {name}.cache_size = -{_CACHE_KIB}").close()
    except BaseException:
        connection.close()
        raise


def _use_log(connection: sqlite3.Connection) -> None:
    """Switch to the write-ahead log; where several open a new file at once, SQLite lets some fail."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").close()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                raise
            time.sleep(0.01)
        else:
            return


def set_keeping(connection: sqlite3.Connection) -> None:
    """Let this connection checkpoint after its own commits; for the keeper's writer only.

    SQLite before 3.51.3 can damage a write-ahead log that one connection resets while another
    checkpoints. With one checkpointer, and that one only after its own commit, the log always
    holds something to move, and is not reset meanwhile.
    """
    connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}").close()


def error_for(error: BaseException, path: Path) -> StoreError:
    """What the driver's error means."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    if code == sqlite3.SQLITE_FULL:
        return StoreFull(f"the store {path} is full ({name})")
    if meaning := _UNAVAILABLE.get(code):
        return StoreUnavailable(f"the store {path} {meaning} ({name})")
    return StoreError(f"the store {path} refused a statement: {error} ({name})")


def means_damage(error: BaseException) -> bool:
    """True if the error comes of a file that is gone, cut or overwritten."""
    cause: BaseException | None = error
    while cause is not None:
        code = getattr(cause, "sqlite_errorcode", None)
        if code is not None:
            return code & 0xFF in _DAMAGE
        cause = getattr(cause, "orig", None) or cause.__cause__
    return False


def leaves_connection_intact(error: BaseException) -> bool:
    """True for a lock that was not had and for a full disk; after the rest one connects anew."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    return code in (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CONSTRAINT,
    )


class Insert:
    """SQL for the driver that inserts rows by the columns' order; one of the same primary key is replaced."""

    def __init__(self, table: Table, *, without: tuple[str, ...] = ()) -> None:
        self.one = _insert_or_replace(table, without)
        """For one row."""
        self._head, values, rest = self.one.partition("VALUES ")
        self._row, closing, self._tail = rest.partition(")")
        self._row += closing
        self._head += values
        self._many = {size: self._sql(size) for size in _ROWS_AT_ONCE}

    def _sql(self, rows: int) -> str:
        return f"{self._head}{', '.join([self._row] * rows)}{self._tail}"

    def batches(self, rows: Sequence[Sequence[object]]) -> Iterator[tuple[str, tuple[object, ...]]]:
        """Statements with their values, each for as many rows as may be.

        The driver lets go of the interpreter's lock once a statement, and every time the event loop's
        thread may have to wait for it: row by row costs a relayed message a tenth more CPU.
        """
        start = 0
        for size in _ROWS_AT_ONCE:
            while len(rows) - start >= size:
                yield self._many[size], tuple(chain.from_iterable(rows[start : start + size]))
                start += size


def _insert_or_replace(table: Table, without: tuple[str, ...]) -> str:
    names = [column.name for column in table.columns if column.name not in without]
    statement = sqlite.insert(table).values(dict.fromkeys(names))
    keys = [column.name for column in table.primary_key]
    if not set(keys) & set(without):
        rest = {name: statement.excluded[name] for name in names if name not in keys}
        statement = statement.on_conflict_do_update(index_elements=keys, set_=rest)
    return str(statement.compile(dialect=sqlite.dialect(), column_keys=names))


class Keeper:
    """The one process that checkpoints and clears out: who holds a lock on a file beside the database."""

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(f"{path.name}-keeper")
        self._file: int | None = None

    def claim(self) -> bool:
        """True if this is the keeper now; never waits, never raises."""
        if self._file is not None:
            return True
        try:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            return False
        self._file = file
        return True

    def resign(self) -> None:
        """Let another process have it."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


class Turns:
    """Processes and threads that write to one database, one after the other, in the order in which they ask.

    SQLite's own lock goes to whoever asks at the right moment, and the others sleep ever longer: with
    two busy writers one of them waits for seconds. Who waits here holds the place at the head of the
    queue, so that nobody who has just written can come before.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files: tuple[int, int] | None = None
        self._one_thread = threading.Lock()

    @contextmanager
    def one(self) -> Iterator[None]:
        """A turn, within `BUSY_SECONDS`; raises StoreUnavailable. Who dies in it has ended it."""
        deadline = time.monotonic() + BUSY_SECONDS
        if not self._one_thread.acquire(timeout=BUSY_SECONDS):
            raise self._busy()
        try:
            queue, turn = self._files or self._open()
            with self._locked(turn, deadline, queue=queue):
                yield
        finally:
            self._one_thread.release()

    @contextmanager
    def _locked(self, turn: int, deadline: float, *, queue: int) -> Iterator[None]:
        try:
            try:
                if not (_lock(queue, deadline) and _lock(turn, deadline)):
                    raise self._busy()
            finally:
                fcntl.flock(queue, fcntl.LOCK_UN)
        except OSError as error:
            raise self._unlockable(error) from error
        try:
            yield
        finally:
            fcntl.flock(turn, fcntl.LOCK_UN)

    def _open(self) -> tuple[int, int]:
        opened: list[int] = []
        try:
            for name in ("queue", "turn"):
                path = self._path.with_name(f"{self._path.name}-{name}")
                opened.append(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            for file in opened:
                os.close(file)
            raise self._unlockable(error) from error
        queue, turn = self._files = opened[0], opened[1]
        return queue, turn

    def _busy(self) -> StoreUnavailable:
        return StoreUnavailable(f"the store {self._path} is locked by another process")

    def _unlockable(self, error: OSError) -> StoreUnavailable:
        return StoreUnavailable(f"the store {self._path} cannot be locked: {error.strerror}")

    def close(self) -> None:
        """To be asked when nobody writes any more."""
        for file in self._files or ():
            os.close(file)
        self._files = None


def _lock(file: int, deadline: float) -> bool:
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # a lock that waits has no deadline
            if time.monotonic() >= deadline:
                return False
            time.sleep(_LOOK_SECONDS)
        else:
            return True
