"""Writes groups of changes."""

from collections.abc import Sequence

from sqlalchemy import Connection, delete

from gatepost.store.sql.changes import Change, rows_of
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

__all__ = ["apply"]

_TRANSACTION = Insert(transactions, "sqlite")
_RECIPIENT = Insert(recipients, "sqlite")
_SESSION = Insert(sessions, "sqlite")
_PART = Insert(conversation_parts, "sqlite")
_KEPT = Insert(kept, "sqlite", without=("number",))
_EDITS = Insert(kept_edits, "sqlite")
_KEPT_RECIPIENT = Insert(kept_recipients, "sqlite")


def apply(connection: Connection, group: Sequence[Change]) -> None:
    """Write a group of changes within the connection's transaction."""
    rows = rows_of(group)
    for insert, values in (
        (_TRANSACTION, rows.transactions),
        (_RECIPIENT, rows.recipients),
        (_SESSION, rows.sessions),
        (_PART, rows.parts),
    ):
        for statement, batch in insert.batches(values):
            connection.exec_driver_sql(statement, batch)
    for message in rows.messages:  # one by one: each may be large
        connection.exec_driver_sql(_KEPT.one, message.kept)
        connection.exec_driver_sql(_KEPT_RECIPIENT.one, [*message.recipients])
        if message.edits:
            connection.exec_driver_sql(_EDITS.one, message.edits)
    if rows.withdrawn:
        connection.execute(delete(kept).where(kept.c.id.in_(rows.withdrawn)))
