"""The full-text index: a file of its own beside the store, so that filling it never locks out the gateway.

It is a cache of what is in the store: a file that is missing, damaged or of another format is rebuilt, never
migrated. One process owns it and fills it; others may read it.
"""

import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import (
    Column,
    ColumnElement,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    and_,
    column,
    func,
    not_,
    select,
    table,
)

from gatepost.maintenance_lock import MaintenanceLock
from gatepost.store.errors import StoreUnavailable
from gatepost.store.excerpt import PARTS, SEEN, Excerpt, SearchedText, searched_text
from gatepost.store.facets import lines, mailboxes_of, recipients_of
from gatepost.store.folding import searched_for
from gatepost.store.query.messages import Words
from gatepost.store.sqlite import driver
from gatepost.store.text import address_tags
from gatepost.values import value

__all__ = ["INDEX", "Entry", "Index", "facts", "index_for", "shown"]

_FORMAT = 3
_SCHEMA = "search"
_CHECKPOINT_PAGES = 2000
_LOG_BYTES = 32 << 20

_metadata = MetaData(schema=_SCHEMA)

facts = Table(
    "facts",
    _metadata,
    Column("number", Integer, primary_key=True),
    Column("id", String, nullable=False),
    Column("box", String, nullable=False),
    Column("created_at", Integer, nullable=False),
    Column("client", String, nullable=False),
    Column("size", Integer, nullable=False),
    Column("authenticated", Text, nullable=False),
    Column("rules", Text, nullable=False),
    Column("tags", Text, nullable=False),
    Column("attachments", Integer, nullable=False),
    Column("searchable", Integer, nullable=False),
    Column("mailboxes", Text, nullable=False),
    Column("recipients", Text, nullable=False),
)
"""The facts of a kept message that never change, in rows so small that all are read in milliseconds.

``rules``, ``tags``, ``mailboxes`` and ``recipients`` are lines, with a line end before and after each, or
empty. ``searchable`` is 0 once the text was removed because the message was deleted. The numbers are those
of ``kept``; between the lowest and the highest none is missing. ``authenticated`` is empty for a client that
did not authenticate.
"""

shown = Table(
    "shown",
    _metadata,
    Column("number", Integer, primary_key=True),
    Column("subject", Text, nullable=False),
    Column("header_from", Text, nullable=False),
    Column("snippet", Text, nullable=False),
)
"""The columns of lists."""

_seen = table("seen", column("rowid", Integer), column("seen", Text), schema=_SCHEMA)
_fields = table("fields", column("rowid", Integer), column("fields", Text), schema=_SCHEMA)
"""Two tables, so that a word alone is not looked for in the fields that a reader does not see."""

_DEFINITION = f"""
    BEGIN IMMEDIATE;
    CREATE TABLE facts (
        number INTEGER PRIMARY KEY, id TEXT NOT NULL, box TEXT NOT NULL, created_at INTEGER NOT NULL,
        client TEXT NOT NULL, size INTEGER NOT NULL, authenticated TEXT NOT NULL, rules TEXT NOT NULL,
        tags TEXT NOT NULL, attachments INTEGER NOT NULL, searchable INTEGER NOT NULL,
        mailboxes TEXT NOT NULL, recipients TEXT NOT NULL
    );
    CREATE TABLE shown (
        number INTEGER PRIMARY KEY, subject TEXT NOT NULL, header_from TEXT NOT NULL, snippet TEXT NOT NULL
    );
    CREATE TABLE attempts (number INTEGER PRIMARY KEY, times INTEGER NOT NULL);
    CREATE VIRTUAL TABLE seen USING fts5(
        subject, sender, recipients, body, attachments, tokenize = 'trigram case_sensitive 1', columnsize = 0
    );
    CREATE VIRTUAL TABLE fields USING fts5(
        cc, bcc, reply_to, message_id, header, tokenize = 'trigram case_sensitive 1', columnsize = 0
    );
    PRAGMA user_version = {_FORMAT};
    COMMIT;
"""
_INSERT_FACTS = "INSERT INTO facts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_INSERT_SEEN = (
    "INSERT INTO seen (rowid, subject, sender, recipients, body, attachments) VALUES (?, ?, ?, ?, ?, ?)"
)
_INSERT_FIELDS = "INSERT INTO fields (rowid, cc, bcc, reply_to, message_id, header) VALUES (?, ?, ?, ?, ?, ?)"


class _IndexSource:
    """Indexed messages, for `conditions`."""

    columns = facts.columns
    number: ColumnElement[int] = facts.c.number

    def words(self, words: Sequence[Words]) -> ColumnElement[bool]:
        """Those with all of the words."""
        return and_(*map(_listed, _matches(words)))

    def without(self, words: Words) -> ColumnElement[bool]:
        """Those without them."""
        return not_(and_(*map(_listed, _matches([words]))))

    def has_attachment(self) -> ColumnElement[bool]:
        """Those with an attachment."""
        return facts.c.attachments > 0

    def rule(self, name: str) -> ColumnElement[bool]:
        """Those that the rule hit."""
        return func.instr(facts.c.rules, f"\n{name}\n") > 0

    def user(self, name: str) -> ColumnElement[bool]:
        """Those that the user sent."""
        return func.lower(facts.c.authenticated) == func.lower(name)

    def tag(self, tag: str) -> ColumnElement[bool]:
        """Those to a forward-path with that tag."""
        return func.instr(facts.c.tags, f"\n{tag}\n") > 0

    def recipient(self, address: str) -> ColumnElement[bool]:
        """Those to that forward-path, in lower case."""
        return func.instr(facts.c.recipients, f"\n{address}\n") > 0


INDEX = _IndexSource()


class _TextSource(_IndexSource):
    """The same in the order of a full-text table: the newest are found without looking for all others."""

    def __init__(self, words: Sequence[Words]) -> None:
        self.number = _matches(words)[0].rowid

    def words(self, words: Sequence[Words]) -> ColumnElement[bool]:
        """Those with all of the words."""
        first, *others = _matches(words)
        return and_(first.rowid == facts.c.number, first.condition, *map(_listed, others))


def index_for(words: Sequence[Words]) -> _IndexSource:
    """Where the newest indexed messages with all of the words, or with others of a query, are looked for."""
    return _TextSource(words) if words else INDEX


class _Match(NamedTuple):
    """What is looked for in one full-text table."""

    rowid: ColumnElement[int]
    """The number of the message."""
    condition: ColumnElement[bool]


def _matches(words: Sequence[Words]) -> list[_Match]:
    seen = [_expression(one) for one in words if one.where is None or PARTS[one.where] in SEEN]
    fields = [_expression(one) for one in words if one.where and PARTS[one.where] not in SEEN]
    tables = ((_seen.c.rowid, _seen.c.seen, seen), (_fields.c.rowid, _fields.c.fields, fields))
    return [
        _Match(rowid, text.op("MATCH")(" AND ".join(expressions)))
        for rowid, text, expressions in tables
        if expressions
    ]


def _listed(match: _Match) -> ColumnElement[bool]:
    """All that match are found before the first of them is returned."""
    return facts.c.number.in_(select(match.rowid).where(match.condition))


def _expression(words: Words) -> str:
    """An FTS5 query; the folded text has no quotation marks."""
    where = f"{PARTS[words.where]} : " if words.where else ""
    return f'{where}"{searched_for(words)}"'


@value
class Entry:
    """One message for the index."""

    number: int
    id: str
    box: str
    created_at: int
    client: str
    size: int
    authenticated: str | None
    mail_from: str
    recipients: Sequence[str]
    rules: Sequence[str]
    excerpt: Excerpt | None
    """None: the message was deleted."""


class Index:
    """The file, and for its owner the one connection that writes; for one thread."""

    SCHEMA = _SCHEMA
    """The schema name of the file where it is attached to a connection to the store."""

    def __init__(self, store: Path) -> None:
        self.path = store.with_name(f"{store.name}-search")
        self._ownership = MaintenanceLock(self.path)
        self._writer: sqlite3.Connection | None = None

    @property
    def owned(self) -> bool:
        """True if this process fills it; tries to become the owner."""
        return self._ownership.acquire()

    def open(self) -> None:
        """Rebuild the file if it is not usable. Raises StoreError."""
        deadline = time.monotonic() + driver.BUSY_SECONDS
        while not self._is_usable():
            if self.owned:
                self.rebuild()
            elif time.monotonic() > deadline:
                raise StoreUnavailable(f"the index {self.path} is in use by another version of Gatepost")
            else:
                time.sleep(0.01)

    def close(self) -> None:
        """Close the file and give up its ownership."""
        self._drop_writer()
        self._ownership.release()

    def rebuild(self) -> None:
        """Start with an empty file; for the owner. Raises StoreError."""
        self._drop_writer()
        try:
            for ending in ("", "-wal", "-shm"):
                self.path.with_name(self.path.name + ending).unlink(missing_ok=True)
            driver.create_file(self.path)
            with closing(driver.connect(self.path)) as connection:
                connection.executescript(_DEFINITION)
        except OSError as error:
            raise StoreUnavailable(f"the index {self.path} cannot be made: {error.strerror}") from error
        except sqlite3.Error as error:
            raise driver.error_for(error, self.path) from error

    def _is_usable(self) -> bool:
        if not self.path.is_file():
            return False
        try:
            with closing(driver.connect(self.path)) as connection:
                (found,) = connection.execute("PRAGMA user_version").fetchone()
                connection.execute("SELECT rowid FROM seen LIMIT 1").fetchone()
        except sqlite3.Error:
            return False
        return bool(found == _FORMAT)

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        """A transaction. Raises StoreError."""
        try:
            if self._writer is None:
                self._writer = self._connect()
            self._writer.execute("BEGIN IMMEDIATE")
            with self._writer:  # commits, or rolls back
                yield self._writer
        except sqlite3.Error as error:
            raise driver.error_for(error, self.path) from error

    def _connect(self) -> sqlite3.Connection:
        connection = driver.connect(self.path)
        for pragma in (
            "synchronous = NORMAL",  # what is lost in a power cut is indexed again
            f"wal_autocheckpoint = {_CHECKPOINT_PAGES}",
            f"journal_size_limit = {_LOG_BYTES}",
        ):
            connection.execute(f"PRAGMA {pragma}").close()
        return connection

    def _drop_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def attempts(self) -> dict[int, int]:
        """Messages that were begun and not finished when the process ended: how often each."""
        with self._write() as connection:
            return dict(connection.execute("SELECT number, times FROM attempts"))

    def attempt(self, numbers: Iterable[int]) -> None:
        """Note that these are begun."""
        rows = [(number,) for number in numbers]
        with self._write() as connection:
            connection.executemany(
                "INSERT INTO attempts VALUES (?, 1) ON CONFLICT DO UPDATE SET times = times + 1", rows
            )

    def put(self, entries: Sequence[Entry]) -> None:
        """Add messages, or replace them."""
        numbers = [entry.number for entry in entries]
        with self._write() as connection:
            _remove(connection, numbers)
            connection.executemany(_INSERT_FACTS, map(_facts, entries))
            texts = [(entry, entry.excerpt) for entry in entries if entry.excerpt]
            connection.executemany(
                "INSERT INTO shown VALUES (?, ?, ?, ?)",
                [(entry.number, text.shown_subject, text.shown_from, text.snippet) for entry, text in texts],
            )
            searched = [(entry.number, _searched(entry, text)) for entry, text in texts]
            connection.executemany(_INSERT_SEEN, [(number, *text[: len(SEEN)]) for number, text in searched])
            connection.executemany(
                _INSERT_FIELDS, [(number, *text[len(SEEN) :]) for number, text in searched]
            )

    def remove(self, numbers: Iterable[int]) -> None:
        """Remove messages that the store does not have any more."""
        with self._write() as connection:
            _remove(connection, numbers)

    def remove_text(self, numbers: Iterable[int]) -> None:
        """Remove the text of messages that were deleted."""
        rows = [(number,) for number in numbers]
        with self._write() as connection:
            for statement in (
                "DELETE FROM seen WHERE rowid = ?",
                "DELETE FROM fields WHERE rowid = ?",
                "DELETE FROM shown WHERE number = ?",
                "UPDATE facts SET searchable = 0, attachments = 0 WHERE number = ?",
            ):
                connection.executemany(statement, rows)


def _remove(connection: sqlite3.Connection, numbers: Iterable[int]) -> None:
    rows = [(number,) for number in numbers]
    for statement in (
        "DELETE FROM seen WHERE rowid = ?",
        "DELETE FROM fields WHERE rowid = ?",
        "DELETE FROM shown WHERE number = ?",
        "DELETE FROM facts WHERE number = ?",
        "DELETE FROM attempts WHERE number = ?",
    ):
        connection.executemany(statement, rows)


def _facts(entry: Entry) -> tuple[object, ...]:
    return (
        entry.number,
        entry.id,
        entry.box,
        entry.created_at,
        entry.client,
        entry.size,
        entry.authenticated or "",
        lines(entry.rules),
        lines(address_tags(entry.recipients)),
        entry.excerpt.attachments if entry.excerpt else 0,
        entry.excerpt is not None,
        lines(mailboxes_of(entry.recipients, entry.authenticated)),
        lines(recipients_of(entry.recipients)),
    )


def _searched(entry: Entry, excerpt: Excerpt) -> SearchedText:
    return searched_text(excerpt, mail_from=entry.mail_from, recipients=entry.recipients)
