"""Connections of SQLite's: where the file is, how it is opened, what the driver's errors mean."""

import errno
import os
import sqlite3
import tempfile
import time
from pathlib import Path

from gatepost.config.fields import store_file
from gatepost.store.errors import StoreError, StoreFull, StoreUnavailable

__all__ = [
    "BUSY_SECONDS",
    "READERS_CACHE_KIB",
    "WRITERS_CACHE_KIB",
    "attach",
    "check_room",
    "connect",
    "create_file",
    "enable_checkpoints",
    "error_for",
    "leaves_connection_intact",
    "locate",
    "means_damage",
]

BUSY_SECONDS = 2.0
"""To wait for a lock that another process holds."""
_ROOM_BYTES = 64 << 10
_CHECKPOINT_PAGES = 4000
"""Pages of the write-ahead log (16 MiB) from which on it is moved into the database."""
_LOG_BYTES = 64 << 20
"""The write-ahead log is cut down to this after a large message."""
READERS_CACHE_KIB = 16 << 10
"""What a connection that searches may keep of the database in memory."""
WRITERS_CACHE_KIB = 512
"""What one that writes may keep. It writes mostly at the ends of the tables. With 16 MiB a worker grew by
6 MB in 10,000 messages, and each record was spared one or two reads from the system's cache. Between 256 KiB
and 1 MiB no time of a record differs, with another sender, recipient and client in each of 60,000."""

_UNAVAILABLE = {
    sqlite3.SQLITE_BUSY: "is locked by another process",
    sqlite3.SQLITE_LOCKED: "is locked",
    sqlite3.SQLITE_PROTOCOL: "is locked by another process",
    sqlite3.SQLITE_READONLY: "cannot be written",
    sqlite3.SQLITE_PERM: "cannot be written",
    sqlite3.SQLITE_AUTH: "cannot be written",
    sqlite3.SQLITE_IOERR: "cannot be read or written",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened",
    sqlite3.SQLITE_NOMEM: "is out of memory",
    sqlite3.SQLITE_INTERRUPT: "was interrupted",
    sqlite3.SQLITE_CORRUPT: "is damaged",
    sqlite3.SQLITE_NOTADB: "is not an SQLite database",
}
# Otherwise the driver looks for an adapter each time that None is bound, and finds none: 0.4 us.
sqlite3.register_adapter(type(None), lambda none: none)

_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CANTOPEN})


def locate(url: str, base: Path) -> Path:
    """The database's file; a relative path is relative to ``base``. Raises StoreError."""
    try:
        return base.absolute() / store_file(url)
    except ValueError as error:
        raise StoreError(f"store.url: {error}") from None


def create_file(path: Path) -> None:
    """Make an empty file that only its owner can read, unless there is a file. Raises StoreError."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        pass
    except OSError as error:
        raise StoreUnavailable(f"the store {path} cannot be made: {error.strerror}") from error


def check_room(path: Path) -> None:
    """Write a file without a name beside the database; raises StoreError if that cannot be done."""
    try:
        with tempfile.TemporaryFile(dir=path.parent) as file:
            file.write(bytes(_ROOM_BYTES))
            file.flush()
    except OSError as error:
        kind = StoreFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else StoreUnavailable
        raise kind(f"the folder of the store {path} cannot be written: {error.strerror}") from error


def connect(path: Path, *, cache_kib: int = READERS_CACHE_KIB) -> sqlite3.Connection:
    """Open a connection that never checkpoints, never makes the file and leaves BEGIN to the caller.

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
            f"journal_size_limit = {_LOG_BYTES}",
            f"cache_size = -{cache_kib}",
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
        connection.execute(f"PRAGMA {name}.cache_size = -{READERS_CACHE_KIB}").close()
    except BaseException:
        connection.close()
        raise


def _use_log(connection: sqlite3.Connection) -> None:
    """Switch to the write-ahead log; if several open a new file at once, SQLite fails for some of them."""
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


def enable_checkpoints(connection: sqlite3.Connection) -> None:
    """Let this connection checkpoint after its own commits; only with the `MaintenanceLock`.

    SQLite before 3.51.3 can damage a write-ahead log that one connection resets while another
    checkpoints. With one checkpointer, and that one only after its own commit, the log always
    holds something to move, and is not reset meanwhile.
    """
    connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}").close()


def error_for(error: BaseException, path: Path) -> StoreError:
    """The `StoreError` for an error of the driver."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    if code == sqlite3.SQLITE_FULL:
        return StoreFull(f"the store {path} is full ({name})")
    if meaning := _UNAVAILABLE.get(code):
        return StoreUnavailable(f"the store {path} {meaning} ({name})")
    return StoreError(f"the store {path} refused a statement: {error} ({name})")


def means_damage(error: BaseException) -> bool:
    """True if the cause is a file that is gone, cut or overwritten."""
    cause: BaseException | None = error
    while cause is not None:
        code = getattr(cause, "sqlite_errorcode", None)
        if code is not None:
            return code & 0xFF in _DAMAGE
        cause = getattr(cause, "orig", None) or cause.__cause__
    return False


def leaves_connection_intact(error: BaseException) -> bool:
    """True for a lock that was not acquired and a full disk; other errors need a new connection."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    return code in (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CONSTRAINT,
    )
