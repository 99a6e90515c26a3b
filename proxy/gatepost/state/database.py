"""The SQLite file of the state: opened when it is needed, and again after what went wrong with it."""

import fcntl
import json
import math
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from gatepost.maintenance_lock import MaintenanceLock
from gatepost.state.contract import Amount, Counted, Entry, StateError, Value
from gatepost.state.windows import SLICES, Slices, fitted

__all__ = ["BUSY_SECONDS", "Database"]

BUSY_SECONDS = 2.0
"""To wait for a lock that another process holds."""
_LOOK_SECONDS = 0.01
_CACHE_KIB = 8 << 10
_CHECKPOINT_PAGES = 1000
"""Pages of the write-ahead log (4 MiB) from which on it is moved into the database."""
_PAGE_BYTES = 4096
_LOG_BYTES = 16 << 20
"""The write-ahead log is cut down to this after it was longer."""
_STEP_ENTRIES = 500
"""Deleted in one transaction, in some milliseconds."""
_JUMP_SECONDS = 60.0
"""A clock that is off by more than this since the last look was set."""
_SETTLING_SECONDS = 3600.0
"""How long the clock must have run on before it is believed, and what is over is deleted."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    id INTEGER PRIMARY KEY,
    space TEXT NOT NULL,  -- the filter, as rules.yaml names it
    key TEXT NOT NULL,
    seconds INTEGER NOT NULL,  -- 0: a value; else the length of the window of a count
    value NOT NULL,  -- of a count: JSON, from the number of the slice to what was counted
    life INTEGER NOT NULL,  -- seconds from the last change to the end
    ends INTEGER NOT NULL,  -- seconds since 1970
    UNIQUE (space, key, seconds)
);
CREATE INDEX IF NOT EXISTS entries_by_space_and_end ON entries (space, ends);
CREATE TABLE IF NOT EXISTS spaces (space TEXT PRIMARY KEY, entries INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO spaces SELECT space, count(*) FROM entries WHERE NOT EXISTS (SELECT * FROM spaces) GROUP BY space;
CREATE TABLE IF NOT EXISTS looks (at INTEGER NOT NULL);
INSERT INTO looks SELECT 0 WHERE NOT EXISTS (SELECT * FROM looks);
"""
_FIND = "SELECT id, value, life, ends FROM entries WHERE space = ? AND key = ? AND seconds = ?"
_UPDATE = "UPDATE entries SET value = ?, life = ?, ends = ? WHERE space = ? AND key = ? AND seconds = ?"
_INSERT = "INSERT INTO entries (value, life, ends, space, key, seconds) VALUES (?, ?, ?, ?, ?, ?)"
_DELETE_FIRST = """
DELETE FROM entries WHERE id IN (SELECT id FROM entries WHERE space = ? AND ends <= ? ORDER BY ends LIMIT ?)
"""
_COUNT = "INSERT INTO spaces VALUES (?, ?) ON CONFLICT DO UPDATE SET entries = entries + excluded.entries"
_LARGEST_FIRST = "SELECT space, entries FROM spaces WHERE entries > 0 ORDER BY entries DESC"
_WITH_WHAT_IS_OVER = """
SELECT space FROM spaces WHERE EXISTS (SELECT 1 FROM entries WHERE entries.space = spaces.space AND ends <= ?)
"""
_LIST = "SELECT key, seconds, ends FROM entries WHERE space = ? AND ends > ? ORDER BY key, seconds"
_SPACES = "SELECT space, count(*) FROM entries WHERE ends > ? GROUP BY space ORDER BY space"
_FORGET = "DELETE FROM entries WHERE space = ? AND key = ?"

_MEANINGS = {
    sqlite3.SQLITE_FULL: "is full",
    sqlite3.SQLITE_BUSY: "is locked by another process",
    sqlite3.SQLITE_LOCKED: "is locked",
    sqlite3.SQLITE_PROTOCOL: "is locked by another process",
    sqlite3.SQLITE_READONLY: "cannot be written",
    sqlite3.SQLITE_PERM: "cannot be written",
    sqlite3.SQLITE_AUTH: "cannot be written",
    sqlite3.SQLITE_IOERR: "cannot be read or written",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened",
    sqlite3.SQLITE_NOMEM: "is out of memory",
    sqlite3.SQLITE_CORRUPT: "is damaged",
    sqlite3.SQLITE_NOTADB: "is not an SQLite database",
}
_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_CONNECTION_IS_INTACT = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})


class Database:
    """The values and counts of all filters; for one thread at a time. Its methods raise `StateError`.

    A file that was deleted or replaced is noticed. One that is damaged is moved away, and a new one begins
    empty: nobody could mend it, and what is in it is worth less than mail that waits.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        max_entries: int,
        keeps_changes: bool = True,
        clock: Callable[[], float] = time.time,
        steady_clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open nothing yet.

        Args:
            path: the file; None: in memory.
            max_entries: above this number some are deleted: of the filter that has most, those that end
                first. So a filter that has no more than an equal share of this number loses none.
            keeps_changes: False: makes no file and withdraws each change; for a trial.
            clock: seconds since 1970; what is written outlives restarts.
            steady_clock: seconds that nobody sets.
        """
        self._path = path
        self._max_entries = max_entries
        self._keeps_changes = keeps_changes
        self._now = clock
        self._steady = steady_clock
        self._maintenance = MaintenanceLock(path) if path and keeps_changes else None
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._offset = clock() - steady_clock()
        self._settled_at = steady_clock() + _SETTLING_SECONDS
        self._inserted: Counter[str] = Counter()
        """Entries of each space in the open transaction."""

    def get(self, space: str, key: str) -> Value | None:
        """The value, unless its time is over."""
        with self._errors() as connection:
            row = connection.execute(_FIND, (space, key, 0)).fetchone()
            now = self._now()
            if row is None or row[3] <= now:
                return None
            number, value, life, ends = row
            if ends > now + life + 1 and self._keeps_changes and self._is_settled():  # the clock was ahead
                connection.execute("UPDATE entries SET ends = ? WHERE id = ?", (_end(now, life), number))
            return value  # type: ignore[no-any-return]  # of a column

    def set(self, space: str, key: str, value: Value, seconds: float) -> None:
        """Replace the value; within `changes`."""
        with self._errors() as connection:
            self._write(connection, (space, key, 0), value, seconds)

    def add(self, space: str, amounts: Sequence[Amount]) -> tuple[Counted, ...]:
        """Add all amounts, or none if one of them has no room; within `changes`."""
        now = self._now()
        new: dict[tuple[str, int], tuple[Slices, float]] = {}
        results = []
        with self._errors() as connection:
            for one in amounts:
                place = (one.key, math.ceil(one.seconds))
                if place in new:
                    before = new[place][0]
                else:
                    row = connection.execute(_FIND, (space, *place)).fetchone()
                    before = _slices(row[1]) if row else {}
                slices, counted = fitted(before, one, now)
                new[place] = (slices, one.seconds * (SLICES + 1) / SLICES)
                results.append(counted)
            if not any(counted.wait_seconds for counted in results):
                for (key, seconds), (slices, life) in new.items():
                    self._write(connection, (space, key, seconds), json.dumps(slices), life)
        return tuple(results)

    def entries(self, space: str) -> Iterator[Entry]:
        """What a filter remembers, in the order of the keys, without what is over."""
        with self._errors() as connection:
            for key, seconds, ends in connection.execute(_LIST, (space, self._now())):
                yield Entry(key=key, window_seconds=seconds, ends=ends)

    def spaces(self) -> dict[str, int]:
        """The filters that remember something, with the number of their entries."""
        with self._errors() as connection:
            return dict(connection.execute(_SPACES, (self._now(),)))

    def forget(self, space: str, keys: Iterable[str]) -> None:
        """Delete the values and counts of these keys."""
        with self.changes(), self._errors() as connection:
            for key in keys:
                deleted = connection.execute(_FORGET, (space, key)).rowcount
                connection.execute(_COUNT, (space, -deleted))

    def _write(
        self, connection: sqlite3.Connection, place: tuple[str, str, int], value: Value, life: float
    ) -> None:
        row = (value, math.ceil(life), _end(self._now(), life), *place)
        if not connection.execute(_UPDATE, row).rowcount:
            connection.execute(_INSERT, row)
            self._inserted[place[0]] += 1

    @contextmanager
    def changes(self) -> Iterator[None]:
        """A transaction: everything in it is written, or nothing if it raises."""
        with self._errors() as connection:
            self._inserted.clear()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                if self._inserted:
                    self._count(connection)
                connection.execute("COMMIT" if self._keeps_changes else "ROLLBACK")
            finally:
                if connection is self._connection and connection.in_transaction:
                    with suppress(sqlite3.Error):
                        connection.execute("ROLLBACK")

    def _count(self, connection: sqlite3.Connection) -> None:
        """Count the new entries, and delete as many as are too many."""
        connection.executemany(_COUNT, self._inserted.items())
        entries = connection.execute(_LARGEST_FIRST).fetchall()
        too_many = sum(number for _, number in entries) - self._max_entries
        if too_many > 0:
            space, number = entries[0]
            more_than_its_share = number - self._max_entries // len(entries)
            at_once = max(_STEP_ENTRIES, 2 * self._inserted.total())
            self._delete_first(connection, space, math.inf, min(too_many, more_than_its_share, at_once))

    def _delete_first(self, connection: sqlite3.Connection, space: str, until: float, most: int) -> int:
        deleted = connection.execute(_DELETE_FIRST, (space, until, most)).rowcount
        connection.execute(_COUNT, (space, -deleted))
        return deleted

    def maintain(self) -> bool:
        """Delete some of what is over, if this process does that for all; False if nothing is left to do.

        Nothing is deleted for some time after the start and after the clock was set: it may be wrong, and
        would be right again later. Until then what is over is only not found.
        """
        is_settled, now = self._is_settled(), self._now()
        if not (self._path and self._connection and self._maintains()):
            return False
        with self._errors() as connection:
            if is_settled and (over := connection.execute(_WITH_WHAT_IS_OVER, (now,)).fetchone()):
                with self.changes():
                    self._delete_first(connection, over[0], now, _STEP_ENTRIES)
                return True
            log = self._path.with_name(f"{self._path.name}-wal")
            if _size(log) > _CHECKPOINT_PAGES * _PAGE_BYTES:  # others have written it
                with self.changes():
                    connection.execute("UPDATE looks SET at = ?", (int(now),))
        return False

    def _is_settled(self) -> bool:
        """True if the clock has run on for so long that it is believed."""
        now, steady = self._now(), self._steady()
        if abs(now - steady - self._offset) > _JUMP_SECONDS:
            self._settled_at = steady + _SETTLING_SECONDS
        self._offset = now - steady
        return steady >= self._settled_at

    def _maintains(self) -> bool:
        """True if this process deletes and checkpoints for all; one does, until it ends."""
        if not (self._maintenance and self._connection and self._maintenance.acquire()):
            return False
        self._connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        return True

    def close(self) -> None:
        """Close it; the next use opens it again."""
        self._let_go()
        if self._maintenance:
            self._maintenance.release()

    def _let_go(self) -> None:
        if self._connection:
            with suppress(sqlite3.Error):
                self._connection.close()
        self._connection = None

    @contextmanager
    def _errors(self) -> Iterator[sqlite3.Connection]:
        """The connection; what goes wrong with it is a `StateError`."""
        try:
            yield self._open()
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
            if code not in _CONNECTION_IS_INTACT:
                self._let_go()
            advice = self._begin_anew() if code in _DAMAGE else ""
            meaning = _MEANINGS.get(code, f"refused a statement: {error}")
            name = getattr(error, "sqlite_errorname", type(error).__name__)
            raise StateError(f"the state {self._path or ''} {meaning} ({name}){advice}") from error
        except OSError as error:
            if isinstance(error, StateError):
                raise
            raise StateError(f"the state {self._path} cannot be opened: {error.strerror}") from error

    def _open(self) -> sqlite3.Connection:
        """The connection to the file that is there now."""
        connection = self._connection
        if connection and (self._path is None or self._file == _identity(self._path)):
            return connection
        self._let_go()
        path = self._path
        if path and not self._keeps_changes and not path.exists():
            path = None
        if path is None:
            self._connection = connection = sqlite3.connect(
                ":memory:", isolation_level=None, check_same_thread=False
            )
            connection.executescript(_SCHEMA)
        else:
            with _turn(path):
                with suppress(FileExistsError):
                    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
                self._file = _identity(path)
                self._connection = connection = _connected(path)
            self._maintains()
        return connection

    def _begin_anew(self) -> str:
        """Move the damaged file away, unless another process has done so; returns what was done, as text."""
        if self._path is None or not self._keeps_changes:
            return ""
        moved = self._path.with_name(f"{self._path.name}-damaged")
        with _turn(self._path):
            if _identity(self._path) == self._file:
                for ending in ("-wal", "-shm"):
                    self._path.with_name(f"{self._path.name}{ending}").unlink(missing_ok=True)
                self._path.rename(moved)
        return f": it was renamed to {moved}, and a new one begins empty"


def _slices(text: str) -> Slices:
    return {int(number): count for number, count in json.loads(text).items()}


def _end(now: float, life: float) -> int:
    """Whole seconds, which SQLite stores in half the bytes."""
    return math.ceil(now + life)


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file it is; None: there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _connected(path: Path) -> sqlite3.Connection:
    """A connection to a file with our tables, which are made where needed."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")  # only the process that maintains it does
        connection.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def _turn(path: Path) -> Iterator[None]:
    """One process at a time opens, makes or moves the file; raises OSError."""
    file = os.open(path.with_name(f"{path.name}-lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise StateError(f"the state {path} is locked by another process") from None
                time.sleep(_LOOK_SECONDS)
            else:
                break
        yield
    finally:
        os.close(file)
