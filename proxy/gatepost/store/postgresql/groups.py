"""Writes groups of changes over a connection of its own, and finds out what became of a lost COMMIT."""

import contextlib
import logging
import time
from collections.abc import Callable, Sequence

import psycopg
from psycopg.adapt import Dumper
from psycopg.errors import Diagnostic

from gatepost.store.errors import StoreError, StoreUnavailable
from gatepost.store.postgresql.contents import INSERT_PIECE, pieces_of
from gatepost.store.postgresql.driver import (
    AWAITED_STANDBYS,
    Lock,
    Place,
    error_for,
    lock,
    waits_for_standby,
)
from gatepost.store.postgresql.schema import PIECE
from gatepost.store.sql.changes import Change, GroupRows, rows_of
from gatepost.store.sql.inserts import Insert
from gatepost.store.sql.schema import (
    conversation_parts,
    kept,
    kept_edits,
    kept_recipients,
    recipients,
    sessions,
    transactions,
)

__all__ = ["GroupWriter"]

_log = logging.getLogger(__name__)

_SETTLE_SECONDS = 20.0
"""How long to find out what became of a COMMIT that was not answered."""
_LOOK_SECONDS = 0.2
_IDLE_SECONDS = 0.5
"""A connection that was not used for so long is asked whether it is alive."""

_TRANSACTION = Insert(transactions, "postgresql")
_RECIPIENT = Insert(recipients, "postgresql")
_SESSION = Insert(sessions, "postgresql")
_PART = Insert(conversation_parts, "postgresql")
_KEPT = Insert(kept, "postgresql", without=("number",))
_EDITS = Insert(kept_edits, "postgresql")
_KEPT_RECIPIENT = Insert(kept_recipients, "postgresql")
_LOCK = lock(Lock.WRITE)
_FIND = "UPDATE kept SET id = id WHERE id = ANY(%s)"
"""Its commit follows theirs, so a synchronous standby that has this one has theirs too.

A server that is restarted while a commit waits for the standby shows that commit without it.
"""
_WITHDRAW = "DELETE FROM kept WHERE id = ANY(%s)"
_WAIT_FOR_STANDBY = "SyncRepWaitForLSN"
"""The function of PostgreSQL (seen with 15) that warns when its wait is cancelled; the text is translated."""


def _log_error(error: StoreError) -> None:
    _log.error("%s", error)


class _Untyped(Dumper):
    """A number as text whose type the column decides: so each statement is prepared once."""

    def dump(self, obj: float) -> bytes:
        return repr(obj).encode("ascii")


class GroupWriter:
    """For one thread.

    A group is one transaction, sent as a whole, so it takes one round trip. Those that keep messages wait for
    one another, at their end; those that only write records do not.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._connection: psycopg.Connection | None = None
        self._used = 0.0
        """When the connection was, by the monotonic clock."""
        self._is_on_one_disk = False
        """Whether the server has warned that a COMMIT did not wait for the standby."""
        self._doubtful: list[str] = []
        """Messages that were refused since it was not known whether they were stored: to be withdrawn."""

    def write(self, group: Sequence[Change], interrupted: Callable[[StoreError], None] = _log_error) -> None:
        """Write a group; raises StoreError, and then nothing of it is stored, or will be withdrawn.

        ``interrupted`` is called once if the connection is lost, and with it the answer to a COMMIT.
        """
        rows = rows_of(group)
        started = time.monotonic()
        in_doubt = told = False
        while True:
            connection = None
            try:
                connection = self._connected()
                if in_doubt and self._was_committed(connection, rows):
                    return
                in_doubt = False  # the lost transaction has ended, and has stored nothing
                self._send(connection, rows)
            except psycopg.Error as error:
                if connection is not None and not _rolled_back(connection):
                    in_doubt = True
                if not in_doubt:
                    raise self._told(error, connection) from error
                if not told:
                    interrupted(error_for(error, self._place.name))
                    told = True
                if time.monotonic() - started >= _SETTLE_SECONDS:
                    raise self._doubt(rows, error) from error
                time.sleep(_LOOK_SECONDS)
            else:
                return

    def close(self) -> None:
        """Withdraw what has to be, if that is possible now, and close the connection."""
        if self._doubtful:
            try:
                self.write(())
            except StoreError as error:
                named = ", ".join(self._doubtful)
                _log.error("these messages may be stored though they were refused: %s; %s", named, error)
                self._doubtful.clear()
        if self._connection is not None:
            self._connection.close()

    def _connected(self) -> psycopg.Connection:
        """A connection that was alive just now: one that broke while it was idle leaves nothing in doubt."""
        connection, self._connection = self._connection, None
        if connection is not None and time.monotonic() - self._used > _IDLE_SECONDS:
            with contextlib.suppress(psycopg.Error):
                connection.execute("SELECT 1")
        if connection is None or connection.closed:
            connection = self._place.connect(autocommit=True, any_text=False)  # rows are storable
            for kind in (int, float):
                connection.adapters.register_dumper(kind, _Untyped)
            connection.add_notice_handler(self._note)
        self._connection, self._used = connection, time.monotonic()
        return connection

    def _was_committed(self, connection: psycopg.Connection, rows: GroupRows) -> bool:
        """Look for its messages, after the end of the lost transaction; without messages it is sent again."""
        if not rows.messages:
            return False
        self._is_on_one_disk = False
        with connection.transaction():
            connection.execute(_LOCK)
            found = connection.execute(_FIND, ([message.kept[0] for message in rows.messages],))
        self._require_standby(connection)
        return found.rowcount > 0

    def _note(self, notice: Diagnostic) -> None:
        """Notice the warning that matters, by the function of the server that sends it: it has no code."""
        self._is_on_one_disk = self._is_on_one_disk or notice.source_function == _WAIT_FOR_STANDBY

    def _require_standby(self, connection: psycopg.Connection) -> None:
        """Leave a COMMIT in doubt if its wait for a standby was cancelled.

        Its answer is success all the same, and a failover would lose what was committed.
        """
        if self._is_on_one_disk:
            connection.close()
            raise psycopg.OperationalError("the wait of a COMMIT for the standby was cancelled")

    def _send(self, connection: psycopg.Connection, rows: GroupRows) -> None:
        self._is_on_one_disk = False
        withdrawn = [*rows.withdrawn, *self._doubtful]
        with connection.pipeline(), connection.cursor() as cursor:
            cursor.execute("BEGIN")
            for insert, values in (
                (_TRANSACTION, rows.transactions),
                (_RECIPIENT, rows.recipients),
                (_SESSION, rows.sessions),
                (_PART, rows.parts),
            ):
                for statement, batch in insert.batches(values):
                    cursor.execute(statement, batch)
            if rows.messages or withdrawn:
                cursor.execute(_LOCK)
            for message in rows.messages:  # one by one: each may be large
                *fields, content = message.kept
                cursor.execute(_KEPT.one, (*fields, content[:PIECE]))
                for row in (*message.recipients,):
                    cursor.execute(_KEPT_RECIPIENT.one, row)
                if message.edits:
                    cursor.execute(_EDITS.one, message.edits)
                for piece in pieces_of(fields[0], content):
                    cursor.execute(INSERT_PIECE, piece)
            if withdrawn:
                cursor.execute(_WITHDRAW, (withdrawn,))
            cursor.execute("COMMIT")
        self._require_standby(connection)
        self._doubtful.clear()

    def _told(self, error: psycopg.Error, connection: psycopg.Connection | None) -> StoreError:
        """The error for people; that of a lock says if it is held by a COMMIT that waits for a standby."""
        if connection is not None and isinstance(error, psycopg.errors.LockNotAvailable):
            with contextlib.suppress(psycopg.Error):
                if found := connection.execute(AWAITED_STANDBYS).fetchone():
                    return waits_for_standby(self._place.name, found[0])
        return error_for(error, self._place.name)

    def _doubt(self, rows: GroupRows, cause: psycopg.Error) -> StoreUnavailable:
        refused = [message.kept[0] for message in rows.messages]
        self._doubtful += refused
        if refused:
            _log.error(
                "the connection was lost at COMMIT, and it is not known whether these messages are stored;"
                " they are refused, and withdrawn when the store is back: %s",
                ", ".join(refused),
            )
        reason = error_for(cause, self._place.name)
        return StoreUnavailable(f"{reason}; it is not known whether the last COMMIT succeeded")


def _rolled_back(connection: psycopg.Connection) -> bool:
    """End its transaction; False if the connection is lost, and with it the answer to a COMMIT."""
    if not connection.closed:
        with contextlib.suppress(psycopg.Error):
            connection.rollback()
            return True
        connection.close()
    return False
