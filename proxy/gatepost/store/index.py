"""The full-text index: a file of its own beside the store, so that filling it never locks out who takes mail.

All of it is derived from the store. A file that is missing, damaged or of another version is made anew.
One process owns it and fills it; others may read it.
"""

import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import (
    Column,
    ColumnElement,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    column,
    func,
    select,
    table,
)

from gatepost.addresses import local_readings
from gatepost.mail import Recipient
from gatepost.store import sqlite
from gatepost.store.errors import StoreUnavailable
from gatepost.store.excerpt import Excerpt
from gatepost.store.query import Where, Words
from gatepost.store.rows import storable
from gatepost.store.sqlite import Keeper

__all__ = ["INDEX", "Entry", "Index", "facts", "shown"]

_VERSION = 1
_SCHEMA = "search"
_CHECKPOINT_PAGES = 2000
_LOG_OCTETS = 32 << 20

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
)
"""What never changes of a kept message, in rows so small that all of them are read in milliseconds.

``rules`` and ``tags`` are lines, with a line end before and after each. ``searchable`` is 0 once the text was
taken out because the message was deleted. The numbers are those of ``kept``; between the lowest and the
highest none is missing. ``authenticated`` is empty for nobody.
"""

shown = Table(
    "shown",
    _metadata,
    Column("number", Integer, primary_key=True),
    Column("subject", Text, nullable=False),
    Column("header_from", Text, nullable=False),
    Column("snippet", Text, nullable=False),
)
"""What lists show of a message."""

_words = table("words", column("rowid", Integer), column("words", Text), schema=_SCHEMA)

_DEFINITION = f"""
    BEGIN IMMEDIATE;
    CREATE TABLE facts (
        number INTEGER PRIMARY KEY, id TEXT NOT NULL, box TEXT NOT NULL, created_at INTEGER NOT NULL,
        client TEXT NOT NULL, size INTEGER NOT NULL, authenticated TEXT NOT NULL, rules TEXT NOT NULL,
        tags TEXT NOT NULL, attachments INTEGER NOT NULL, searchable INTEGER NOT NULL
    );
    CREATE TABLE shown (
        number INTEGER PRIMARY KEY, subject TEXT NOT NULL, header_from TEXT NOT NULL, snippet TEXT NOT NULL
    );
    CREATE TABLE attempts (number INTEGER PRIMARY KEY, times INTEGER NOT NULL);
    CREATE VIRTUAL TABLE words USING fts5(
        subject, sender, recipients, body, attachments,
        tokenize = 'unicode61 remove_diacritics 2', columnsize = 0
    );
    PRAGMA user_version = {_VERSION};
    COMMIT;
"""
_INSERT_FACTS = "INSERT INTO facts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_COLUMNS = {Where.FROM: "sender", Where.TO: "recipients", Where.SUBJECT: "subject"}


class _IndexSource:
    """Indexed messages, for `conditions`."""

    columns = facts.columns

    def words(self, words: Sequence[Words]) -> ColumnElement[bool]:
        """Those with all of the words."""
        match = _words.c.words.op("MATCH")(" AND ".join(map(_expression, words)))
        return facts.c.number.in_(select(_words.c.rowid).where(match))

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


INDEX = _IndexSource()


def _expression(words: Words) -> str:
    """For FTS5; what is in quotation marks it takes as text."""
    text = storable(words.text).replace('"', " ")
    star = " *" if words.prefix else ""
    where = f"{_COLUMNS[words.where]} : " if words.where else ""
    return f'{where}"{text}"{star}'


def _tags(addresses: Iterable[str]) -> list[str]:
    """What stands after the first ``+`` in local parts, unquoted and without regard to case."""
    local_parts = (local_readings(Recipient(address=address).local_part)[0] for address in addresses)
    return [tag for local_part in local_parts if (tag := local_part.partition("+")[2])]


@dataclass(frozen=True, slots=True, kw_only=True)
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
    """What the file is called where it is attached to a connection to the store."""

    def __init__(self, store: Path) -> None:
        self.path = store.with_name(f"{store.name}-search")
        self._keeper = Keeper(self.path)
        self._writer: sqlite3.Connection | None = None

    @property
    def owned(self) -> bool:
        """True if this process fills it; asks anew each time."""
        return self._keeper.claim()

    def open(self) -> None:
        """See that there is one; makes it anew where it is not fit. Raises StoreError."""
        deadline = time.monotonic() + sqlite.BUSY_SECONDS
        while not self._is_fit():
            if self.owned:
                self.make_anew()
            elif time.monotonic() > deadline:
                raise StoreUnavailable(f"the index {self.path} is in use by another version of Gatepost")
            else:
                time.sleep(0.01)

    def close(self) -> None:
        """Let go of it."""
        self._drop_writer()
        self._keeper.resign()

    def make_anew(self) -> None:
        """Start with an empty file; for the owner. Raises StoreError."""
        self._drop_writer()
        try:
            for ending in ("", "-wal", "-shm"):
                self.path.with_name(self.path.name + ending).unlink(missing_ok=True)
            sqlite.create_file(self.path)
            with closing(sqlite.connect(self.path)) as connection:
                connection.executescript(_DEFINITION)
        except OSError as error:
            raise StoreUnavailable(f"the index {self.path} cannot be made: {error.strerror}") from error
        except sqlite3.Error as error:
            raise sqlite.error_for(error, self.path) from error

    def _is_fit(self) -> bool:
        if not self.path.is_file():
            return False
        try:
            with closing(sqlite.connect(self.path)) as connection:
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                connection.execute("SELECT rowid FROM words LIMIT 1").fetchone()
        except sqlite3.Error:
            return False
        return bool(version == _VERSION)

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        """A transaction. Raises StoreError."""
        try:
            if self._writer is None:
                self._writer = self._connect()
            self._writer.execute("BEGIN IMMEDIATE")
            with self._writer:  # commits, or else takes it back
                yield self._writer
        except sqlite3.Error as error:
            raise sqlite.error_for(error, self.path) from error

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite.connect(self.path)
        for pragma in (
            "synchronous = NORMAL",  # what a power cut takes is indexed again
            f"wal_autocheckpoint = {_CHECKPOINT_PAGES}",
            f"journal_size_limit = {_LOG_OCTETS}",
        ):
            connection.execute(f"PRAGMA {pragma}").close()
        return connection

    def _drop_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def attempts(self) -> dict[int, int]:
        """Messages that were begun and not finished, as the process ended: how often each."""
        with self._write() as connection:
            return dict(connection.execute("SELECT number, times FROM attempts"))

    def attempt(self, numbers: Iterable[int]) -> None:
        """Write down that these are begun."""
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
            connection.executemany(
                "INSERT INTO words (rowid, subject, sender, recipients, body, attachments)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                [_texts(entry, text) for entry, text in texts],
            )

    def remove(self, numbers: Iterable[int]) -> None:
        """Take messages out that the store has no more."""
        with self._write() as connection:
            _remove(connection, numbers)

    def blank(self, numbers: Iterable[int]) -> None:
        """Take the text of messages out that were deleted."""
        rows = [(number,) for number in numbers]
        with self._write() as connection:
            for statement in (
                "DELETE FROM words WHERE rowid = ?",
                "DELETE FROM shown WHERE number = ?",
                "UPDATE facts SET searchable = 0, attachments = 0 WHERE number = ?",
            ):
                connection.executemany(statement, rows)


def _remove(connection: sqlite3.Connection, numbers: Iterable[int]) -> None:
    rows = [(number,) for number in numbers]
    for statement in (
        "DELETE FROM words WHERE rowid = ?",
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
        _lines(entry.rules),
        _lines(_tags(entry.recipients)),
        entry.excerpt.attachments if entry.excerpt else 0,
        entry.excerpt is not None,
    )


def _lines(values: Iterable[str]) -> str:
    return "".join(f"\n{value}" for value in dict.fromkeys(values)) + "\n"


def _texts(entry: Entry, text: Excerpt) -> tuple[object, ...]:
    return (
        entry.number,
        text.subject,
        f"{text.header_from}\n{entry.mail_from}",
        "\n".join((text.recipients, *entry.recipients)),
        text.body,
        text.attachment_names,
    )
