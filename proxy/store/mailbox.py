"""Kept messages as people read them: listed, searched, opened, marked and deleted.

All of it blocks, and may run beside the SMTP server in another process.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from sqlalchemy import Connection, delete, func, literal, null, select
from sqlalchemy.dialects.sqlite import insert

from proxy.config.settings import StoreSettings
from proxy.store import rows, sqlite
from proxy.store.archive import SUMMARY, Archive, forward_paths
from proxy.store.conditions import STORE, conditions
from proxy.store.database import Database
from proxy.store.kept import Box, KeptMessage, Listed, State
from proxy.store.query import Query
from proxy.store.schema import kept, kept_seen

__all__ = ["Counts", "Mailbox", "Page"]

_AT_ONCE = 100
"""Messages that are marked or deleted in one transaction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some of the messages that match, newest first."""

    messages: tuple[Listed, ...]
    next: str | None
    """Where the next page begins, for ``before``; None: there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many messages there are, without deleted ones."""

    inbox: int
    quarantined: int
    """Held in quarantine, not released."""
    unread: int
    """In the inbox and in quarantine, released ones too."""


class Mailbox:
    """What is kept in a store; may be used by several threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._commits = sqlite.Commits(database.path)
        self.archive = Archive(database)
        """The journal, and what else is asked of the store."""

    @classmethod
    def open(cls, settings: StoreSettings, base: Path) -> Self:
        """Open a store that exists; raises StoreError with a text for the operator."""
        return cls(Database.existing(settings, base))

    def close(self) -> None:
        """Close the connections."""
        self._commits.close()
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def page(self, query: Query, *, limit: int = 50, before: str | None = None) -> Page:
        """The newest that match, newest first; ``before`` is `Page.next` of the page before."""
        bound = _number(before)
        with self._database.read() as connection:
            numbers = self._numbers(connection, query, bound, limit + 1)
            messages = _listed(connection, numbers[:limit])
        more = len(numbers) > limit
        return Page(messages=messages, next=str(numbers[limit - 1]) if more else None)

    def count(self, query: Query) -> int:
        """How many match."""
        with self._database.read() as connection:
            return (
                connection.scalar(select(func.count()).select_from(kept).where(*conditions(query, STORE)))
                or 0
            )

    def counts(self) -> Counts:
        """How many there are in each box."""
        by_state = select(kept.c.box, kept.c.state, func.count()).group_by(kept.c.box, kept.c.state)
        with self._database.read() as connection:
            found = {(box, state): number for box, state, number in connection.execute(by_state)}
            seen = connection.scalar(select(func.count()).select_from(kept_seen)) or 0
        here = {key: number for key, number in found.items() if key[1] != State.DELETED}
        return Counts(
            inbox=sum(number for (box, _), number in here.items() if box == Box.INBOX),
            quarantined=here.get((Box.QUARANTINE, State.HELD), 0),
            unread=sum(here.values()) - seen,
        )

    def message(self, kept_id: str) -> KeptMessage | None:
        """A message with its octets; None where there is none. A deleted one has no octets."""
        return self.archive.kept_message(kept_id)

    def mark(self, kept_ids: Sequence[str], *, seen: bool) -> int:
        """Mark as seen or as unread; gives how many were not so before."""
        changed = 0
        for start in range(0, len(kept_ids), _AT_ONCE):
            chosen = select(kept.c.number, literal(rows.microseconds(datetime.now(UTC)))).where(
                kept.c.id.in_(kept_ids[start : start + _AT_ONCE]), kept.c.state != State.DELETED
            )
            change = (
                insert(kept_seen).from_select(["number", "seen_at"], chosen).on_conflict_do_nothing()
                if seen
                else delete(kept_seen).where(kept_seen.c.number.in_(chosen.with_only_columns(kept.c.number)))
            )
            with self._database.write() as connection:
                changed += connection.execute(change).rowcount
        return changed

    def delete(self, kept_ids: Sequence[str], *, who: str) -> list[str]:
        """Take the octets of messages away; gives the ids of those that had any."""
        deleted: list[str] = []
        for start in range(0, len(kept_ids), _AT_ONCE):
            deleted += self.archive.delete(kept_ids[start : start + _AT_ONCE], who=who)
        return deleted

    def delete_matching(self, query: Query, *, who: str) -> int:
        """Delete all that match and are there now, newest first; gives how many."""
        deleted = 0
        bound: int | None = None
        while True:
            with self._database.read() as connection:
                numbers = self._numbers(connection, query, bound, _AT_ONCE)
                ids = connection.scalars(select(kept.c.id).where(kept.c.number.in_(numbers))).all()
            if not numbers:
                return deleted
            deleted += len(self.archive.delete(ids, who=who))
            bound = numbers[-1]

    def changes(self) -> int:
        """A number that differs after any change to the store."""
        return self._commits.count()

    def _numbers(self, connection: Connection, query: Query, before: int | None, limit: int) -> list[int]:
        """The newest that match."""
        statement = (
            select(kept.c.number).where(*conditions(query, STORE)).order_by(kept.c.number.desc()).limit(limit)
        )
        if before is not None:
            statement = statement.where(kept.c.number < before)
        return list(connection.scalars(statement))


def _number(before: str | None) -> int | None:
    """Of `Page.next`; before 0, where nothing is, if it is none."""
    if before is None:
        return None
    return int(before) if before.isascii() and before.isdigit() and len(before) < 19 else 0


def _listed(connection: Connection, numbers: Sequence[int]) -> tuple[Listed, ...]:
    unread = ~select(1).where(kept_seen.c.number == kept.c.number).exists()
    statement = (
        select(*SUMMARY, unread.label("unread"), null().label("shown_subject"))
        .where(kept.c.number.in_(numbers))
        .order_by(kept.c.number.desc())
    )
    found = connection.execute(statement).mappings().all()
    addresses = forward_paths(connection, [row["id"] for row in found])
    return tuple(rows.listed(row, addresses[row["id"]]) for row in found)
