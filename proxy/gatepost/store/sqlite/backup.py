"""A store as one file: copied while it is written, and put back."""

import fcntl
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path

from gatepost.maintenance_lock import MaintenanceLock
from gatepost.store.contents import Contents, Restored
from gatepost.store.errors import StoreError, StoreUnavailable
from gatepost.store.kept import State
from gatepost.store.sql.versions import known_version
from gatepost.store.sqlite import driver
from gatepost.store.sqlite.database import COPIED_ALONE
from gatepost.store.sqlite.index import Index

__all__ = ["back_up", "require_unused", "restore"]

_LOCKED_FROM, _LOCKED_BYTES = 0x40000002, 510
"""The bytes of which each open connection to a database with a write-ahead log holds a shared lock.

https://www.sqlite.org/fileformat2.html#the_lock_byte_page
"""


def back_up(store: Path, file: Path, *, replace: bool) -> Contents:
    """See `gatepost.store.contract.Backend.back_up`.

    The copy is one transaction that reads (SQLite's online backup in one step): it sees all that is committed
    and delays no writer. What is written meanwhile stays in the write-ahead log until it ends.
    """
    if not store.is_file():
        raise StoreError(f"there is no store {store} yet; `gatepost serve` makes it")
    _require_other(store, file)
    if not replace and file.exists():
        raise _taken(file)
    with _copy(store, file, near=file) as (copy, contents):
        if replace:
            copy.replace(file)
        else:
            _name_new(copy, file)
        _sync(file.parent)
    return contents


def restore(store: Path, file: Path, *, replace: bool) -> Restored:
    """See `gatepost.store.contract.Backend.restore`. The index is removed: the web desk rebuilds it."""
    if not file.is_file():
        raise StoreError(f"there is no file {file} to restore")
    _require_other(store, file)
    with _exclusively(store) as exists:
        if exists and not replace:
            raise StoreError(
                f"there is a store {store}; --replace sets it aside and takes the backup instead"
            )
        with _copy(file, file, near=store) as (copy, contents):
            _give_to_owner(copy, of=store if exists else store.parent)
            index = Index(store).path
            for leftover in (index, _beside(index, "-wal"), _beside(index, "-shm")):
                leftover.unlink(missing_ok=True)
            aside = _set_aside(store)
            if exists:
                copy.replace(store)
            else:
                _name_new(copy, store)
            _sync(store.parent)
    return Restored(contents=contents, replaced=aside if exists else None)


def require_unused(store: Path) -> None:
    """Raise StoreUnavailable if a process has the store open; not known of a file that cannot be written."""
    if os.access(store, os.W_OK):
        with _exclusively(store):
            pass


def _require_other(store: Path, file: Path) -> None:
    """Raise StoreError if the file is the store or may be one of the files beside it."""
    near = file.parent.resolve() == store.parent.resolve() and file.name.startswith(f"{store.name}-")
    if near or (file.exists() and store.exists() and file.samefile(store)):
        raise StoreError(f"{file} belongs to the store itself, expected another file")


def _taken(file: Path) -> StoreError:
    return StoreError(f"there is a file {file} already; --replace replaces it")


@contextmanager
def _copy(source: Path, named: Path, *, near: Path) -> Iterator[tuple[Path, Contents]]:
    """A checked copy of a database, under a name of its own beside ``near``; removed after the block.

    Raises StoreError that names ``named``.
    """
    try:
        handle, name = tempfile.mkstemp(prefix=f".{near.name}.", suffix=".partial", dir=near.parent)
        os.close(handle)
    except OSError as error:
        raise StoreUnavailable(f"{near} cannot be made: {error.strerror}") from error
    copy = Path(name)
    try:
        try:
            yield copy, _fill(source, copy, named)
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorname", type(error).__name__)
            raise StoreError(f"{source} cannot be copied to {near}: {error} ({code})") from error
        except OSError as error:
            raise StoreUnavailable(f"{near} cannot be made: {error.strerror}") from error
    finally:
        for ending in ("", "-journal", "-wal", "-shm"):
            _beside(copy, ending).unlink(missing_ok=True)


def _fill(source: Path, copy: Path, named: Path) -> Contents:
    with closing(sqlite3.connect(copy, isolation_level=None)) as target:
        with closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True)) as reader:
            reader.execute(f"PRAGMA busy_timeout = {int(driver.BUSY_SECONDS * 1000)}").close()
            reader.backup(target)
        target.execute("PRAGMA journal_mode = DELETE").close()  # one file, which may be on a read-only disk
        counts = _checked(target, named)
    with copy.open("rb") as written:
        os.fsync(written.fileno())
        return Contents(records=counts[0], messages=counts[1], size=os.fstat(written.fileno()).st_size)


def _checked(database: sqlite3.Connection, named: Path) -> tuple[int, int]:
    """The number of records and of messages; raises StoreError if this is not an intact store."""

    def number(query: str, *values: object) -> int:
        (found,) = database.execute(query, values).fetchone()
        return int(found)

    def version() -> str | None:
        found = database.execute("SELECT version_num FROM alembic_version").fetchone()
        return str(found[0]) if found else None

    (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise StoreError(f"{named} is damaged: {found}")
    tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    if known_version(tables, version, str(named)) is None:
        raise StoreError(f"{named} is empty. {COPIED_ALONE}")
    messages = "SELECT count(*) FROM kept WHERE state != ?"
    return number("SELECT count(*) FROM transactions"), number(messages, State.DELETED)


@contextmanager
def _exclusively(store: Path) -> Iterator[bool]:
    """Keep others from opening the store for the block; yields whether there is one. Raises StoreError.

    A gateway holds the maintenance lock also while it opens its connections again.
    """
    in_use = StoreUnavailable(f"the store {store} is in use: stop gatepost first")
    try:
        if MaintenanceLock(store).is_held():
            raise in_use
        file = os.open(store, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        yield False
        return
    except OSError as error:
        raise StoreUnavailable(f"the store {store} cannot be opened: {error.strerror}") from error
    try:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, _LOCKED_BYTES, _LOCKED_FROM)
        except (BlockingIOError, PermissionError):
            raise in_use from None
        yield True
    finally:
        os.close(file)


def _set_aside(store: Path) -> Path:
    """Give the store another name, together with its write-ahead log; its own name stays until replaced."""
    aside = _beside(store, f".replaced-{datetime.now().astimezone():%Y%m%d-%H%M%S}")
    if store.exists():
        os.link(store, aside)
    log = _beside(store, "-wal")
    if log.exists():  # SQLite would apply it to the new file
        log.rename(_beside(aside, "-wal"))
    _beside(store, "-shm").unlink(missing_ok=True)
    return aside


def _name_new(copy: Path, name: Path) -> None:
    """Give the copy its name; raises StoreError if there is a file of that name."""
    try:
        os.link(copy, name)
    except FileExistsError:
        raise _taken(name) from None


def _give_to_owner(copy: Path, *, of: Path) -> None:
    """Let root restore for the gateway's user."""
    if os.geteuid() == 0:
        owner = of.stat()
        os.chown(copy, owner.st_uid, owner.st_gid)


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def _sync(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
