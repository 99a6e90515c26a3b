"""The thread that fills the index: new messages at once, older ones when there is nothing new.

It reads a few messages at a time, so that pages never wait long for the interpreter.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from itertools import takewhile

from sqlalchemy import Connection, LargeBinary, RowMapping, Select, and_, func, null, or_, select

from gatepost.store.errors import StoreError
from gatepost.store.excerpt import CONTENT_LIMIT, Excerpt
from gatepost.store.kept import State
from gatepost.store.sql import rows
from gatepost.store.sql.archive import forward_paths
from gatepost.store.sql.conditions import STATE_HINT, state_of
from gatepost.store.sql.schema import kept, kept_edits, transactions
from gatepost.store.sql.texts import excerpt_of, subject_only
from gatepost.store.sqlite import driver
from gatepost.store.sqlite.database import Database
from gatepost.store.sqlite.index import Entry, Index, facts

__all__ = ["Indexer"]

_log = logging.getLogger(__name__)

_POLL_SECONDS = 0.03
"""Between two searches for new messages; each takes microseconds."""
_RETRY_SECONDS = 1.0
_MESSAGES = 10
"""Indexed in one step."""
_CLEAN_SECONDS = 5.0
"""Between two searches for messages that other processes have deleted."""
_CLEAN_NUMBERS = 5000
_REMOVALS = 100
_TRIES = 3
"""A message that crashed the indexer so often is indexed without its text."""
_REPAIR_SECONDS = 60.0
"""Between two rebuilds of a damaged index, at least."""


class Indexer:
    """Brings the index up to date with the store, again and again."""

    def __init__(self, database: Database, index: Index) -> None:
        self._database = database
        """With the index attached."""
        self._index = index
        self._lock = threading.Lock()
        """Held while the index is changed."""
        self._wake = threading.Event()
        self._closing = False
        self._settled: int | None = None
        """`Database.changes` when there was nothing left to index."""
        self._suspects: dict[int, int] | None = None
        self._clean_due = 0.0
        self._clean_from: int | None = None
        """The number that the search for deleted messages has reached; None: none is under way."""
        self._changed = True
        """The store has changed since the last search began."""
        self._repaired_at = -_REPAIR_SECONDS
        self._thread = threading.Thread(target=self._run, name="store-indexer", daemon=True)
        self._thread.start()

    def clean(self) -> None:
        """Remove deleted messages soon."""
        self._clean_due = 0.0
        self._wake.set()

    def settle(self, number: int) -> None:
        """Index what was put back, from a number on, before this returns; raises StoreError.

        Where another process has the index, it does so soon.
        """
        with self._lock:
            if self._index.owned:
                self._clean_some(number)

    def close(self) -> None:
        """End the thread; blocks."""
        self._closing = True
        self._wake.set()
        self._thread.join()

    def repair(self) -> bool:
        """Rebuild a damaged index, unless that was done just now; False if another process owns it.

        Raises StoreError.
        """
        with self._lock:
            if not self._index.owned:
                return False
            if time.monotonic() - self._repaired_at >= _REPAIR_SECONDS:
                self._repaired_at = time.monotonic()
                _log.warning("the index %s is damaged and is rebuilt", self._index.path)
                self._index.rebuild()
                self._database.reconnect()
                self._settled = self._suspects = None
            return True

    def _run(self) -> None:
        failed = False
        while not self._closing:
            try:
                if self._step():
                    continue
                failed = False
            except Exception as error:  # noqa: BLE001 - after any error, later mail must be indexed
                if not failed:
                    _log.warning("indexing postponed: %s", error, exc_info=_unforeseen(error))
                failed = True
                self._try_to_repair(error)
            self._wake.wait(_RETRY_SECONDS if failed else _POLL_SECONDS)
            self._wake.clear()

    def _try_to_repair(self, error: Exception) -> None:
        with contextlib.suppress(StoreError):  # the next step tries again
            if driver.means_damage(error):
                self.repair()

    def _step(self) -> bool:
        """True if there may be more to do at once."""
        with self._lock:
            if not self._index.owned:
                return False
            changes = self._database.changes()
            if changes != self._settled:
                if self._index_some():
                    return True
                self._settled = changes
                self._changed = True
            if self._clean_from is None and self._changed and time.monotonic() >= self._clean_due:
                self._clean_from = 0
                self._changed = False
            if self._clean_from is None:
                return False
            self._clean_from = self._clean_some(self._clean_from)
            if self._clean_from is None:
                self._clean_due = time.monotonic() + _CLEAN_SECONDS
            return True

    def _index_some(self) -> bool:
        if self._suspects is None:
            self._suspects = self._index.attempts()
        with self._database.read() as connection:
            stale = _stale(connection)
            found = [] if stale else self._next(connection)
            addresses = forward_paths(connection, [row["id"] for row in found])
        self._index.remove(stale)
        self._put(found, addresses)
        return bool(stale or found)

    def _put(self, found: Sequence[RowMapping], addresses: Mapping[str, Sequence[str]]) -> None:
        if found:
            self._index.attempt(row["number"] for row in found)
            self._index.put([self._entry(row, addresses[row["id"]]) for row in found])

    def _next(self, connection: Connection) -> Sequence[RowMapping]:
        """The messages after the newest that is indexed, or else before the oldest."""
        lowest = connection.scalar(select(func.min(facts.c.number)))
        highest = connection.scalar(select(func.max(facts.c.number)))
        statement = _MESSAGE.limit(_MESSAGES)
        found: Sequence[RowMapping] = []
        if highest is not None:
            newer = statement.where(kept.c.number > highest).order_by(kept.c.number)
            found = connection.execute(newer).mappings().all()
        if not found:
            older = statement.order_by(kept.c.number.desc())
            if lowest is not None:
                older = older.where(kept.c.number < lowest)
            found = connection.execute(older).mappings().all()
        suspects = self._suspects or {}
        if found and found[0]["number"] in suspects:
            return found[:1]
        return list(takewhile(lambda row: row["number"] not in suspects, found))

    def _entry(self, row: RowMapping, recipients: Sequence[str]) -> Entry:
        return Entry(
            **{name: row[name] for name in _COPIED},
            recipients=recipients,
            rules=[*filter(None, (row["rule"],)), *rows.rules_hit(row["evaluations"])],
            excerpt=None if row["state"] == State.DELETED else self._excerpt(row),
        )

    def _excerpt(self, row: RowMapping) -> Excerpt:
        if (self._suspects or {}).get(row["number"], 0) >= _TRIES:
            _log.error("message %s crashed the indexer; only its subject is indexed", row["id"])
            return subject_only(row)
        return excerpt_of(row, row["content"])

    def _clean_some(self, start: int) -> int | None:
        """Remove what was deleted and index what was put back, from a number on.

        Returns the number to go on from, None at the end.
        """
        row, of_message = state_of(facts.c)
        end = start + _CLEAN_NUMBERS
        deleted = and_(row.c.state == State.DELETED, facts.c.searchable != 0)
        put_back = and_(row.c.state != State.DELETED, facts.c.searchable == 0)
        statement = (
            select(facts.c.number, row.c.state)
            .select_from(facts.outerjoin(row, of_message))
            .with_hint(row, STATE_HINT, "sqlite")
            .where(facts.c.number.between(start, end - 1))
            .where(or_(row.c.state.is_(null()), deleted, put_back))
            .order_by(facts.c.number)
            .limit(_REMOVALS)
        )
        with self._database.read() as connection:
            changed = connection.execute(statement).all()
            present = [number for number, state in changed if state not in (None, State.DELETED)]
            found = connection.execute(_MESSAGE.where(kept.c.number.in_(present))).mappings().all()
            addresses = forward_paths(connection, [row["id"] for row in found])
            following = connection.scalar(
                select(facts.c.number).where(facts.c.number >= end).order_by(facts.c.number).limit(1)
            )
        if not changed:
            return following
        self._index.remove(number for number, state in changed if state is None)
        self._index.remove_text(number for number, state in changed if state == State.DELETED)
        self._put(found, addresses)
        return start


_COPIED = ("number", "id", "box", "created_at", "client", "size", "mail_from", "authenticated")

_MESSAGE: Select[tuple[object, ...]] = select(
    *(kept.c[name] for name in _COPIED if name != "authenticated"),
    kept.c.state,
    kept.c.rule,
    kept.c.subject,
    kept.c.header_from,
    # In SQLite, a part of an empty value is NULL.
    func.coalesce(func.substr(kept.c.content, 1, CONTENT_LIMIT, type_=LargeBinary), b"").label("content"),
    kept_edits.c.edits,
    transactions.c.authenticated,
    transactions.c.evaluations,
).select_from(
    kept.outerjoin(transactions, transactions.c.id == kept.c.transaction_id).outerjoin(
        kept_edits, kept_edits.c.kept_id == kept.c.id
    )
)


def _stale(connection: Connection) -> list[int]:
    """The newest of the index that the store does not have any more; it may use their numbers again."""
    newest = select(facts.c.number, facts.c.id).order_by(facts.c.number.desc()).limit(_REMOVALS).subquery()
    statement = (
        select(newest.c.number, kept.c.id)
        .select_from(newest.outerjoin(kept, and_(kept.c.number == newest.c.number, kept.c.id == newest.c.id)))
        .order_by(newest.c.number.desc())
    )
    found = connection.execute(statement)
    return [number for number, _ in takewhile(lambda row: row[1] is None, found)]


def _unforeseen(error: Exception) -> bool:
    return not isinstance(error, StoreError)
