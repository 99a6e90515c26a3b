"""The tables that only this backend has."""

from collections.abc import Sequence

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    func,
    literal_column,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY

from gatepost.store.sql.schema import NUMBER, STRING, TEXT, kept

__all__ = [
    "PIECE",
    "USER_KEY",
    "desk_sessions",
    "kept_pieces",
    "kept_texts",
    "lines_of",
    "live_batches",
    "live_watchers",
    "own_metadata",
    "positions",
    "user_key",
]

PIECE = 512 << 10
"""Bytes of a message in its row, and in each further piece."""

USER_KEY = 64
"""Characters of a user's name that an index has."""

own_metadata = MetaData()

kept_pieces = Table(
    "kept_pieces",
    own_metadata,
    Column("kept_id", STRING, ForeignKey(kept.c.id, ondelete="CASCADE"), primary_key=True),
    Column("piece", Integer, primary_key=True),
    Column("octets", LargeBinary, nullable=False),
)
"""The content of a message behind its first piece: so neither side holds all of it for one row."""

kept_texts = Table(
    "kept_texts",
    own_metadata,
    Column("number", NUMBER, ForeignKey(kept.c.number, ondelete="CASCADE"), primary_key=True),
    Column("authenticated", TEXT),
    Column("rules", TEXT, nullable=False),
    Column("tags", TEXT, nullable=False),
    Column("attachments", Integer, nullable=False),
    Column("shown_subject", TEXT, nullable=False),
    Column("shown_from", TEXT, nullable=False),
    Column("snippet", TEXT, nullable=False),
    Column("mailboxes", TEXT, nullable=False),
    Column("recipients", TEXT, nullable=False),
    Column("seen", TEXT, nullable=False),
    Column("fields", TEXT, nullable=False),
)
"""What was read of a kept message that is not deleted.

It outlives the journal's record of the transaction, so it has what that says of the message: the user and the
rules. ``rules``, ``tags``, ``mailboxes`` and ``recipients`` are lines, with a line end before and after each.
``seen`` and ``fields`` are the texts of `gatepost.store.excerpt.SearchedText`, each a line: those that a
reader sees, and the others.
"""


def user_key(user: ColumnElement[str]) -> ColumnElement[str]:
    """The beginning of a user's name in lower case: an index takes no text of any length."""
    return func.left(func.lower(user), text(f"{USER_KEY}"), type_=TEXT)


def lines_of(column: ColumnElement[str]) -> ColumnElement[Sequence[str]]:
    """The lines as an array, which an index has."""
    return func.string_to_array(column, literal_column("chr(10)"), type_=ARRAY(TEXT))


Index("kept_texts_tags", lines_of(kept_texts.c.tags), postgresql_using="gin")
Index("kept_texts_rules", lines_of(kept_texts.c.rules), postgresql_using="gin")
Index("kept_texts_user", user_key(kept_texts.c.authenticated))

live_watchers = Table(
    "live_watchers",
    own_metadata,
    Column("desk", STRING, primary_key=True),
    Column("ends_at", DateTime(timezone=True), nullable=False),
    prefixes=["UNLOGGED"],
)
"""The desks on which somebody watches live conversations; each says so again before ``ends_at``."""

live_batches = Table(
    "live_batches",
    own_metadata,
    Column("desk", STRING, primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("node", STRING, nullable=False),
    Column("before", BigInteger, nullable=False),
    Column("lines", Integer, nullable=False),
    Column("octets", LargeBinary, nullable=False),
    Column("written_at", DateTime(timezone=True), nullable=False),
    prefixes=["UNLOGGED"],
)
"""Lines of the last seconds for them; see `gatepost.store.exchange.PassedBatch`."""

desk_sessions = Table(
    "desk_sessions",
    own_metadata,
    Column("key", LargeBinary, primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
    Column("used_at", DateTime(timezone=True), nullable=False),
    Column("ends_at", DateTime(timezone=True)),
    Column("owner", LargeBinary),
)
"""Log-ins to the web desk; see `gatepost.store.contract.DeskSessions`.

``owner`` is NULL in rows of nodes of version 0013.
"""

positions = Table(
    "positions",
    own_metadata,
    Column("name", STRING, primary_key=True),
    Column("number", BigInteger, nullable=False),
)
"""How far the desks of all nodes have come with what one of them does.

See `gatepost.store.contract.Reporting`."""
