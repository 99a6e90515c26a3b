"""The thread that fills the index: new messages at once, older ones when there is nothing new.

It reads a few messages at a time, so that who looks at pages never waits long for the interpreter.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Sequence
from itertools import takewhile

from sqlalchemy import Connection, LargeBinary, RowMapping, Select, and_, func, null, or_, select

from gatepost.mime.words import decode_words
from gatepost.store import rows, sqlite
from gatepost.store.archive import forward_paths
from gatepost.store.conditions import STATE_HINT, state_of
from gatepost.store.database import Database
from gatepost.store.errors import StoreError
from gatepost.store.excerpt import CONTENT_LIMIT, Excerpt, read_excerpt
from gatepost.store.index import Entry, Index, facts
from gatepost.store.kept import State
from gatepost.store.schema import kept, transactions

__all__ = ["Indexer"]

_log = logging.getLogger(__name__)

_POLL_SECONDS = 0.03
"""Between two looks for new messages; one costs microseconds."""
_RETRY_SECONDS = 1.0
_MESSAGES = 10
"""Indexed in one step."""
_CLEAN_SECONDS = 5.0
"""Between two looks for messages that have gone, but where they were deleted here."""
_CLEAN_NUMBERS = 5000
_REMOVALS = 100
_TRIES = 3
"""A message that the process did not survive so often is indexed without its text."""
_MEND_SECONDS = 60.0
"""A damaged index is made anew no more often than this."""


class Indexer:
    """Follows the store and keeps the index the same."""

    def __init__(self, database: Database, index: Index) -> None:
        self._database = database
        """With the index attached."""
        self._index = index
        self._lock = threading.Lock()
        """Held by who changes the index."""
        self._wake = threading.Event()
        self._closing = False
        self._settled: int | None = None
        """`Database.changes` as there was nothing left to index."""
        self._suspects: dict[int, int] | None = None
        self._clean_due = 0.0
        self._clean_from: int | None = None
        """The number that a look has come to; None: there is none under way."""
        self._changed = True
        """Since the last look began."""
        self._mended_at = -_MEND_SECONDS
        self._thread = threading.Thread(target=self._run, name="store-indexer", daemon=True)
        self._thread.start()

    def clean(self) -> None:
        """Take deleted messages out soon."""
        self._clean_due = 0.0
        self._wake.set()

    def close(self) -> None:
        """End the thread; blocks."""
        self._closing = True
        self._wake.set()
        self._thread.join()

    def mend(self) -> bool:
        """Make a damaged index anew, unless that was done just now; False if it is not for us.

        Raises StoreError.
        """
        with self._lock:
            if not self._index.owned:
                return False
            if time.monotonic() - self._mended_at >= _MEND_SECONDS:
                self._mended_at = time.monotonic()
                _log.warning("the index %s is damaged and is made anew", self._index.path)
                self._index.make_anew()
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
            except Exception as error:  # noqa: BLE001 - whatever it is, mail that comes later is indexed too
                if not failed:
                    _log.warning("messages are not indexed for now: %s", error, exc_info=_unforeseen(error))
                failed = True
                self._try_to_mend(error)
            self._wake.wait(_RETRY_SECONDS if failed else _POLL_SECONDS)
            self._wake.clear()

    def _try_to_mend(self, error: Exception) -> None:
        with contextlib.suppress(StoreError):  # it is tried again
            if sqlite.means_damage(error):
                self.mend()

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
        if stale:
            self._index.remove(stale)
        elif found:
            self._index.attempt(row["number"] for row in found)
            self._index.put([self._entry(row, addresses[row["id"]]) for row in found])
        return bool(stale or found)

    def _next(self, connection: Connection) -> Sequence[RowMapping]:
        """What comes after the newest that is indexed, or else before the oldest."""
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
            _log.error("message %s ended the process that read it; only its subject is indexed", row["id"])
        else:
            try:
                return read_excerpt(row["content"])
            except Exception:  # noqa: BLE001 - no message keeps others from being found
                _log.exception("message %s cannot be read; only its subject is indexed", row["id"])
        return Excerpt(
            subject=rows.storable(decode_words(row["subject"])),
            header_from=rows.storable(decode_words(row["header_from"])),
            recipients="",
            body="",
            attachment_names="",
            attachments=0,
        )

    def _clean_some(self, start: int) -> int | None:
        """Take out what has gone from some numbers on; gives where to go on, None where that was all."""
        row, of_message = state_of(facts.c)
        end = start + _CLEAN_NUMBERS
        gone = row.c.state.is_(null())
        statement = (
            select(facts.c.number, gone)
            .select_from(facts.outerjoin(row, of_message))
            .with_hint(row, STATE_HINT, "sqlite")
            .where(facts.c.number.between(start, end - 1))
            .where(or_(gone, and_(row.c.state == State.DELETED, facts.c.searchable != 0)))
            .limit(_REMOVALS)
        )
        with self._database.read() as connection:
            found = connection.execute(statement).all()
            following = connection.scalar(
                select(facts.c.number).where(facts.c.number >= end).order_by(facts.c.number).limit(1)
            )
        if not found:
            return following
        self._index.remove(number for number, is_gone in found if is_gone)
        self._index.blank(number for number, is_gone in found if not is_gone)
        return start


_COPIED = ("number", "id", "box", "created_at", "client", "size", "mail_from", "authenticated")

_MESSAGE: Select[tuple[object, ...]] = select(
    *(kept.c[name] for name in _COPIED if name != "authenticated"),
    kept.c.state,
    kept.c.rule,
    kept.c.subject,
    kept.c.header_from,
    func.substr(kept.c.content, 1, CONTENT_LIMIT, type_=LargeBinary).label("content"),
    transactions.c.authenticated,
    transactions.c.evaluations,
).select_from(kept.outerjoin(transactions, transactions.c.id == kept.c.transaction_id))


def _stale(connection: Connection) -> list[int]:
    """The newest of the index that the store has no more; it may give their numbers to other messages."""
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
