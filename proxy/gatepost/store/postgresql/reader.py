"""The thread that reads the texts of new messages, in the order in which they were kept.

One process at a time does it, and any that has a mailbox open may; it reads a few messages at a time, so that
pages never wait long for the interpreter.
"""

import logging
import threading
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, func, insert, select, text

from gatepost.store.errors import StoreError, StoreForbidden, StoreFull, StoreUnavailable
from gatepost.store.excerpt import CONTENT_LIMIT, SEEN, searched_text
from gatepost.store.facets import lines, mailboxes_of, recipients_of
from gatepost.store.kept import State
from gatepost.store.postgresql.database import Database
from gatepost.store.postgresql.driver import Lock, lock, try_lock
from gatepost.store.postgresql.schema import PIECE, kept_texts
from gatepost.store.sql.archive import forward_paths
from gatepost.store.sql.rows import rules_hit
from gatepost.store.sql.schema import kept, kept_edits, transactions
from gatepost.store.sql.texts import excerpt_of
from gatepost.store.text import address_tags

__all__ = ["TextReader"]

_log = logging.getLogger(__name__)

_POLL_SECONDS = 0.05
_RETRY_SECONDS = 1.0
_MESSAGES = 10
_OCTETS = 1 << 20
"""Read in one transaction: so many messages, of so many bytes or only one.

Deletions of these wait for it, and all mail that is to be kept waits for a deletion."""
_LOCK = text(lock(Lock.TEXTS))
_TRY = text(try_lock(Lock.TEXTS))
_TO_READ = (
    select(
        *(
            kept.c[name]
            for name in ("number", "id", "mail_from", "rule", "subject", "header_from", "content")
        ),
        kept_edits.c.edits,
        transactions.c.authenticated,
        transactions.c.evaluations,
    )
    .select_from(
        kept.outerjoin(transactions, transactions.c.id == kept.c.transaction_id).outerjoin(kept_edits)
    )
    .where(kept.c.state != State.DELETED)
    .order_by(kept.c.number)
    .limit(_MESSAGES)
    .with_for_update(of=kept, read=True)  # a deletion waits, and deletes the text too
)


def _unread(after: int) -> Select[Any]:
    """The first messages behind a number that were not read; those before it are not looked at."""
    return _TO_READ.where(*_are_unread(after))


def _are_unread(after: int) -> tuple[ColumnElement[bool], ...]:
    read = select(kept_texts.c.number).where(kept_texts.c.number > after)
    return kept.c.number > after, kept.c.number.not_in(read)


def _last_of_batch(connection: Connection, after: int) -> int | None:
    """The last one to be read in one transaction; None if there is nothing to read. Locks nothing."""
    sizes = select(kept.c.number, kept.c.size).where(kept.c.state != State.DELETED, *_are_unread(after))
    last, octets = None, 0
    for number, size in connection.execute(sizes.order_by(kept.c.number).limit(_MESSAGES)):
        octets += min(size, CONTENT_LIMIT)
        if last is not None and octets > _OCTETS:
            break
        last = int(number)
    return last


def _is_outage(error: Exception) -> bool:
    return isinstance(error, StoreUnavailable | StoreFull) and not isinstance(error, StoreForbidden)


class TextReader:
    """Reads until it is closed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._wake = threading.Event()
        self._closing = False
        self._settled: int | None = None
        """`Database.changes` when there was nothing left to read."""
        self._read_to = 0
        """All messages up to this number are read; what is put back later is read with `read_one`."""
        self._thread = threading.Thread(target=self._run, name="store-reader", daemon=True)
        self._thread.start()

    def read_one(self, number: int) -> None:
        """Read a message that was put back, unless that was done; raises StoreError."""
        with self._database.transaction() as connection:
            connection.execute(_LOCK)
            self._read(
                connection,
                connection.execute(_unread(number - 1).where(kept.c.number == number)).mappings().all(),
            )

    def close(self) -> None:
        """End the thread; blocks."""
        self._closing = True
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        failed = False
        while not self._closing:
            try:
                if self._step():
                    continue
                failed = False
            except Exception as error:  # noqa: BLE001 - after any error, later mail must be read
                # That the store cannot be used is in the log, from those who write; texts may be late.
                if not failed and not _is_outage(error):
                    unforeseen = not isinstance(error, StoreError)
                    _log.warning("reading of texts postponed: %s", error, exc_info=unforeseen)
                failed = True
            self._wake.wait(_RETRY_SECONDS if failed else _POLL_SECONDS)
            self._wake.clear()

    def _step(self) -> bool:
        """True if there may be more to do at once."""
        changes = self._database.changes()
        if changes == self._settled:
            return False
        with self._database.transaction() as connection:
            if not connection.scalar(_TRY):
                return False
            highest = connection.scalar(select(func.max(kept.c.number))) or 0
            last = _last_of_batch(connection, self._read_to)
            if last is not None:
                batch = _unread(self._read_to).where(kept.c.number <= last)
                self._read(connection, connection.execute(batch).mappings().all())
        self._read_to = max(self._read_to, highest) if last is None else last
        if last is None:
            self._settled = changes
        return last is not None

    def _read(self, connection: Connection, found: Sequence[RowMapping]) -> None:
        addresses = forward_paths(connection, [row["id"] for row in found])
        for row in found:
            content = row["content"]
            if len(content) == PIECE:
                pieces = CONTENT_LIMIT // PIECE - 1
                content += self._database.contents.rest(connection, row["id"], pieces=pieces)
            excerpt = excerpt_of(row, content)
            recipients = addresses[row["id"]]
            searched = searched_text(excerpt, mail_from=row["mail_from"], recipients=recipients)
            connection.execute(
                insert(kept_texts).values(
                    number=row["number"],
                    authenticated=row["authenticated"],
                    rules=lines((*filter(None, (row["rule"],)), *rules_hit(row["evaluations"]))),
                    tags=lines(address_tags(recipients)),
                    attachments=excerpt.attachments,
                    shown_subject=excerpt.shown_subject,
                    shown_from=excerpt.shown_from,
                    snippet=excerpt.snippet,
                    mailboxes=lines(mailboxes_of(recipients, row["authenticated"])),
                    recipients=lines(recipients_of(recipients)),
                    seen="\n".join(searched[: len(SEEN)]),
                    fields="\n".join(searched[len(SEEN) :]),
                )
            )
