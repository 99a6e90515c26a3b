"""A change to the store: a record with its messages, a part of a conversation, or messages to remove.

And the rows that a group of changes has, whatever the database.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from gatepost.model.record import Record
from gatepost.store.conversation import ConversationPart
from gatepost.store.kept import Kept
from gatepost.store.sql import rows
from gatepost.store.sql.parts import part_row, session_row
from gatepost.store.sql.rows import Row
from gatepost.values import value

__all__ = ["Change", "GroupRows", "KeptRows", "record_bytes", "rows_of"]

_RECORD_BYTES = 2048
"""What a record takes without its recipients: with a usual subject and the results of some rules."""
_RECIPIENT_BYTES = 256
"""What each recipient takes beside its texts."""


@dataclass(slots=True, kw_only=True, eq=False)  # frozen it would take three times as long to make
class Change:
    """What is written as a whole or not at all."""

    record: Record | None = None
    part: ConversationPart | None = None
    kept: Sequence[Kept] = ()
    withdrawn: Sequence[str] = ()
    """The ids of kept messages to remove."""
    record_bytes: int = 0
    """Of a record that may wait in memory for long: see `record_bytes`."""
    done: asyncio.Future[None] | None = None
    """Resolved after COMMIT. None: no caller waits, and the change is tried again until it succeeds."""

    @property
    def size(self) -> int:
        """Bytes that it adds to a transaction, roughly."""
        return 1000 + self.conversation_bytes + sum(len(kept.content) for kept in self.kept)

    @property
    def conversation_bytes(self) -> int:
        """Those of its part of a conversation."""
        return self.part.octets if self.part else 0


def record_bytes(record: Record) -> int:
    """Bytes of memory that a record takes, roughly; every message pays for this, so it is short."""
    size = _RECORD_BYTES
    for one in record.recipients:
        size += _RECIPIENT_BYTES + len(one.address) + len(one.reason) + len(one.reply)
    return size


@value
class KeptRows:
    """A message to keep."""

    kept: Row
    """Its last column is the content."""
    recipients: Sequence[Row]
    edits: Row | None


@value
class GroupRows:
    """What a group of changes writes; of several rows with one key the last."""

    transactions: Sequence[Row]
    recipients: Sequence[Row]
    sessions: Sequence[Row]
    parts: Sequence[Row]
    messages: Sequence[KeptRows]
    withdrawn: Sequence[str]
    """The ids of messages to remove."""


def rows_of(group: Sequence[Change]) -> GroupRows:
    """The rows of a group of changes."""
    records = {change.record.id: change.record for change in group if change.record}
    parts = [change.part for change in group if change.part]
    written = {(part.session.id, part.number): part for part in parts if part.lines}
    return GroupRows(
        transactions=[rows.transaction_row(record) for record in records.values()],
        recipients=[row for record in records.values() for row in rows.recipient_rows(record)],
        sessions=[*{part.session.id: session_row(part.session) for part in parts}.values()],
        parts=[part_row(part) for part in written.values()],
        messages=[
            KeptRows(
                kept=rows.kept_row(kept, change.record),
                recipients=[*rows.kept_recipient_rows(kept)],
                edits=rows.kept_edits_row(kept) if kept.edits else None,
            )
            for change in group
            if change.record
            for kept in change.kept
        ],
        withdrawn=[kept_id for change in group for kept_id in change.withdrawn],
    )
