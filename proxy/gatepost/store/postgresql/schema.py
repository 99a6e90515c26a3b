"""The tables that only this backend has."""

from sqlalchemy import Column, ForeignKey, Integer, LargeBinary, MetaData, Table

from gatepost.store.sql.schema import NUMBER, STRING, TEXT, kept

__all__ = ["PIECE", "kept_pieces", "kept_texts", "own_metadata"]

PIECE = 512 << 10
"""Bytes of a message in its row, and in each further piece."""

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
