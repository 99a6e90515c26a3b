"""Delete the content of kept messages, and put one back that was just deleted."""

from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime

from sqlalchemy import Connection, delete, exists, insert, select, update

from gatepost.printable import storable
from gatepost.store.edits import edits_to_json
from gatepost.store.kept import KeptMessage, Removed, State
from gatepost.store.sql import releases, rows
from gatepost.store.sql.database import Contents
from gatepost.store.sql.schema import kept, kept_edits, kept_seen

__all__ = ["delete_content", "put_back", "remove"]


def delete_content(
    connection: Connection, contents: Contents, kept_ids: Collection[str], *, actor: str, at: datetime
) -> Collection[str]:
    """Remove the content, the edits and the marks of messages; returns the ids of those that had any.

    Those that are being released stay.
    """
    change = (
        update(kept)
        .where(
            kept.c.id.in_(kept_ids), kept.c.state != State.DELETED, kept.c.id.not_in(releases.claimed_ids(at))
        )
        .values(
            prepended=b"",
            content=b"",
            state=State.DELETED,
            changed_by=storable(actor),
            changed_at=rows.microseconds(at),
        )
        .returning(kept.c.id, kept.c.number)
    )
    deleted = {kept_id: number for kept_id, number in connection.execute(change)}  # noqa: C416 - rows
    contents.remove(connection, deleted)
    connection.execute(delete(kept_edits).where(kept_edits.c.kept_id.in_(deleted)))
    connection.execute(delete(kept_seen).where(kept_seen.c.number.in_(deleted.values())))
    return deleted.keys()


def remove(
    connection: Connection, contents: Contents, message: KeptMessage, *, actor: str, at: datetime
) -> Removed | None:
    """Delete a message; None if that was done since it was read. Its state and marks are read again."""
    here = kept.c.id == message.id
    change = select(kept.c.state, kept.c.changed_by, kept.c.changed_at, kept.c.note)
    last = connection.execute(change.where(here)).one_or_none()
    seen = connection.scalar(select(exists().where(here, kept.c.number == kept_seen.c.number)))
    if last is None or not delete_content(connection, contents, [message.id], actor=actor, at=at):
        return None
    message = replace(
        message,
        state=State(last.state),
        changed_by=last.changed_by,
        changed_at=None if last.changed_at is None else rows.moment(last.changed_at),
        note=last.note,
    )
    return Removed(message=message, seen=bool(seen), deleted_at=at)


def put_back(connection: Connection, contents: Contents, removed: Removed) -> int | None:
    """Undo a deletion; returns the number of the message, None where that was not its last change."""
    message = removed.message
    change = (
        update(kept)
        .where(
            kept.c.id == message.id,
            kept.c.state == State.DELETED,
            kept.c.changed_at == rows.microseconds(removed.deleted_at),
        )
        .values(
            prepended=message.prepended,
            content=contents.in_row(message.content),
            state=message.state,
            changed_by=message.changed_by,
            changed_at=None if message.changed_at is None else rows.microseconds(message.changed_at),
        )
        .returning(kept.c.number)
    )
    number = connection.scalar(change)
    if number is None:
        return None
    contents.put_rest(connection, message.id, message.content)
    if message.edits:
        connection.execute(insert(kept_edits).values(kept_id=message.id, edits=edits_to_json(message.edits)))
    if removed.seen:
        seen_at = rows.microseconds(datetime.now(UTC))
        connection.execute(insert(kept_seen).values(number=number, seen_at=seen_at))
    return int(number)
