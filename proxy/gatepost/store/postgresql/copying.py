"""A store on a server as the source or the target of a copy."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import psycopg
from sqlalchemy import ColumnElement, Connection, Row, func, select, text
from sqlalchemy.exc import DBAPIError

from gatepost.config.store import StoreSettings
from gatepost.store.errors import StoreUnavailable
from gatepost.store.postgresql import preparing, rights
from gatepost.store.postgresql.contents import INSERT_PIECE
from gatepost.store.postgresql.database import Database
from gatepost.store.postgresql.driver import OTHERS, Lock, error_for, session_lock
from gatepost.store.postgresql.schema import PIECE, kept_pieces
from gatepost.store.sql.copying import begin
from gatepost.store.sql.inserts import Insert
from gatepost.store.sql.schema import kept

__all__ = ["ServerSource", "ServerTarget", "open_source", "open_target"]

_KEPT = Insert(kept, "postgresql").one
_READ = "SELECT octets FROM kept_pieces WHERE kept_id = %s ORDER BY piece"
_PATIENCE_SECONDS = 10.0
"""How long the connections of a process that has just ended may be there yet."""
_OTHERS = text(OTHERS)
_EXCLUDE = text(session_lock(Lock.SCHEMA))
_ENDLESS = text("SET LOCAL idle_in_transaction_session_timeout = 0")


class _ServerSide:
    """What source and target have in common."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def name(self) -> str:
        """Its URL without the user."""
        return self._database.name

    def size_of_content(self) -> ColumnElement[int]:
        """Of the row's bytes and its pieces."""
        rest = select(func.sum(func.octet_length(kept_pieces.c.octets))).where(
            kept_pieces.c.kept_id == kept.c.id
        )
        size: ColumnElement[int] = func.octet_length(kept.c.content) + func.coalesce(
            rest.correlate(kept).scalar_subquery(), 0
        )
        return size

    def content(self, connection: Connection, number: int, kept_id: str, size: int) -> Iterator[bytes]:
        """What is in the row, then the pieces."""
        try:
            yield connection.scalar(select(kept.c.content).where(kept.c.number == number)) or b""
            if size > PIECE:
                with _server_of(connection).cursor(binary=True) as cursor:
                    for (octets,) in cursor.stream(_READ, (kept_id,)):
                        yield octets
        except (DBAPIError, psycopg.Error) as error:  # here, where it is known whose it is
            raise error_for(getattr(error, "orig", error), self.name) from error

    def close(self) -> None:
        """Close the connections."""
        self._database.close()


def _server_of(connection: Connection) -> psycopg.Connection:
    return cast("psycopg.Connection", connection.connection.driver_connection)


class ServerSource(_ServerSide):
    """A `gatepost.store.sql.copying.Source`."""

    def __init__(self, settings: StoreSettings) -> None:
        """Raises StoreError if it is in use or not of today's version."""
        super().__init__(Database.opened(settings, _require_usable, counted=False))
        self.identity = settings.url
        """Its URL."""

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """One transaction; a gateway that starts meanwhile fails."""
        with self._database.transaction() as connection:  # before the snapshot: nobody writes any more
            connection.execute(_EXCLUDE)
            _require_no_others(connection, self.name)
            with self._database.read() as reading:
                reading.execute(_ENDLESS)
                connection.commit()
                yield reading

    def require_unchanged(self) -> None:
        """Raise StoreUnavailable if other processes of Gatepost are connected."""
        with self._database.transaction() as connection:
            _require_no_others(connection, self.name)


class ServerTarget(_ServerSide):
    """A `gatepost.store.sql.copying.Target`."""

    def read(self) -> AbstractContextManager[Connection]:
        """See `gatepost.store.sql.copying.Target`."""
        return self._database.read()

    def write(self) -> AbstractContextManager[Connection]:
        """See `gatepost.store.sql.copying.Target`."""
        return self._database.write()

    def put(self, connection: Connection, messages: Iterator[tuple[Row[Any], int, Iterator[bytes]]]) -> None:
        """Insert rows with the beginning of the content, and the rest in pieces.

        Not in libpq's pipeline mode, in which what is sent piles up in memory.
        """
        with _server_of(connection).cursor() as cursor:
            for row, _, pieces in messages:
                rest = _in_pieces(pieces)
                cursor.execute(_KEPT, (*row[:-1], next(rest, b"")))
                for number, piece in enumerate(rest, 1):
                    cursor.execute(INSERT_PIECE, (row.id, number, piece))

    def set_next_number(self, connection: Connection) -> None:
        """Set the sequence behind the highest number; the statistics of the planner are made, too."""
        highest = connection.scalar(select(func.max(kept.c.number)))
        sequence = text("SELECT setval(pg_get_serial_sequence('kept', 'number'), :number, :used)")
        connection.execute(sequence, {"number": highest or 1, "used": highest is not None})
        connection.execute(text("ANALYZE"))


def _in_pieces(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of `PIECE`, but for the last one."""
    waiting = bytearray()
    for piece in pieces:
        waiting += piece
        while len(waiting) >= PIECE:
            yield bytes(waiting[:PIECE])
            del waiting[:PIECE]
    if waiting:
        yield bytes(waiting)


def open_source(settings: StoreSettings, _base: Path) -> ServerSource:
    """To be copied; raises StoreError."""
    return ServerSource(settings)


def open_target(settings: StoreSettings, _base: Path, mark: str | None) -> ServerTarget:
    """Make the tables, or go on with them; None: a complete store, to be compared. Raises StoreError."""
    if mark is None:
        return ServerTarget(Database.opened(settings, preparing.require_current, counted=False))
    return ServerTarget(Database.opened(settings, partial(_begin, mark), counted=False))


def _begin(mark: str, connection: Connection, name: str) -> None:
    preparing.require_writable(connection, name)
    _require_no_others(connection, name)
    rights.require_version(connection, name, rights.WRITE)
    begin(connection, name, mark, partial(preparing.prepare, connection, name))
    rights.require(connection, name, rights.WRITE, sequence_right="UPDATE")


def _require_usable(connection: Connection, name: str) -> None:
    preparing.require_current(connection, name)
    _require_no_others(connection, name)


def _require_no_others(connection: Connection, name: str) -> None:
    """Raise StoreUnavailable if others have the store open."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while connection.scalar(_OTHERS):
        if time.monotonic() >= until:
            raise StoreUnavailable(f"the store {name} is in use: stop gatepost on all nodes first")
        time.sleep(0.2)
