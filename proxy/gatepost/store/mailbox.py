"""Kept messages as people read them: listed, searched, opened, marked and deleted.

All of it blocks, and may run beside the SMTP server in another process.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

from sqlalchemy import ColumnElement, Connection, and_, delete, func, literal, select, true
from sqlalchemy.dialects.sqlite import insert

from gatepost.config.settings import StoreSettings
from gatepost.store import rows, sqlite
from gatepost.store.archive import SUMMARY, Archive, forward_paths
from gatepost.store.conditions import STORE, Source, conditions
from gatepost.store.database import Database
from gatepost.store.errors import StoreError
from gatepost.store.index import INDEX, Index, facts, shown
from gatepost.store.indexer import Indexer
from gatepost.store.kept import Box, KeptMessage, Listed, State
from gatepost.store.query import Is, Mark, Query
from gatepost.store.schema import kept, kept_seen

__all__ = ["Counts", "Mailbox", "Page"]

_AT_ONCE = 100
"""Messages that are marked or deleted in one transaction."""
_PAUSE_SECONDS = 0.01
"""Between two of them, so that who takes mail gets its turn."""
_COUNTS_LIMIT = 100

Answer = TypeVar("Answer")


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
    """What is kept in a store; may be used by several threads.

    While it is open a thread fills the index, if no other process does. Open it after forking.
    """

    def __init__(self, database: Database, index: Index) -> None:
        self._database = database
        self._index = index
        self._indexer = Indexer(database, index)
        self._counted: dict[Query, tuple[int, int]] = {}
        """What `changes` was, and how many matched."""
        self.archive = Archive(database)
        """The journal, and what else is asked of the store."""

    @classmethod
    def open(cls, settings: StoreSettings, base: Path) -> Self:
        """Open a store that exists; raises StoreError with a text for the operator."""
        Database.existing(settings, base).close()
        index = Index(sqlite.locate(settings.url, base))
        index.open()
        try:
            return cls(Database.existing(settings, base, attached={index.SCHEMA: index.path}), index)
        except BaseException:
            index.close()
            raise

    def close(self) -> None:
        """End the indexing and close the connections."""
        self._indexer.close()
        self._index.close()
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def page(self, query: Query, *, limit: int = 50, before: str | None = None) -> Page:
        """The newest that match, newest first; ``before`` is `Page.next` of the page before."""
        found, messages = self._reading(lambda connection: _page(connection, query, _number(before), limit))
        following = str(found[limit - 1].number) if len(found) > limit else None
        return Page(messages=messages, next=following)

    def count(self, query: Query) -> int:
        """How many match; of a large store it takes a tenth of a second, and nothing if nothing changed."""
        changes = self.changes()
        counted = self._counted.get(query)
        if counted is None or counted[0] != changes:
            counted = (changes, self._reading(partial(_count, query=query)))
            if len(self._counted) >= _COUNTS_LIMIT:
                self._counted.clear()
            self._counted[query] = counted
        return counted[1]

    def counts(self) -> Counts:
        """How many there are in each box."""
        with self._database.read() as connection:
            here = _here(connection)
            seen = connection.scalar(select(func.count()).select_from(kept_seen)) or 0
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

    def _reading(self, question: Callable[[Connection], Answer]) -> Answer:
        def ask() -> Answer:
            with self._database.read() as connection:
                return question(connection)

        return self._mending(ask)

    def _mending(self, ask: Callable[[], Answer]) -> Answer:
        """Ask; if the index is damaged make it anew and ask again."""
        try:
            return ask()
        except StoreError as error:
            if not (sqlite.means_damage(error) and self._indexer.mend()):
                raise
        return ask()

    def delete(self, kept_ids: Sequence[str], *, who: str) -> list[str]:
        """Take the octets of messages away; gives the ids of those that had any."""
        deleted: list[str] = []
        for start in range(0, len(kept_ids), _AT_ONCE):
            deleted += self.archive.delete(kept_ids[start : start + _AT_ONCE], who=who)
        self._indexer.clean()
        return deleted

    def delete_matching(self, query: Query, *, who: str) -> int:
        """Delete all that match and are there now, newest first; gives how many."""
        deleted = 0
        before: int | None = None
        while found := self._reading(partial(_found, query=query, before=before, limit=_AT_ONCE)):
            before = found[-1].number
            deleted += len(self.archive.delete([place.id for place in found], who=who))
            time.sleep(_PAUSE_SECONDS)
        self._indexer.clean()
        return deleted

    def changes(self) -> int:
        """A number that differs after a change to the store, or to what can be found in it; microseconds."""
        return self._mending(self._database.changes)


@dataclass(frozen=True, slots=True)
class _Place:
    """A message that matches."""

    number: int
    id: str


def _number(before: str | None) -> int | None:
    """Of `Page.next`; before 0, where nothing is, if it is none."""
    if before is None:
        return None
    return int(before) if before.isascii() and before.isdigit() and len(before) < 19 else 0


def _page(
    connection: Connection, query: Query, before: int | None, limit: int
) -> tuple[list[_Place], tuple[Listed, ...]]:
    found = _found(connection, query, before, limit + 1)
    return found, _listed(connection, [place.id for place in found[:limit]])


def _parts(connection: Connection, query: Query) -> list[tuple[Source, ColumnElement[bool]]]:
    """Where to look, newest first: messages not indexed yet, those that are, older ones not indexed yet.

    Deleted ones are known to the store only, texts only to the index.
    """
    lowest = connection.scalar(select(func.min(facts.c.number)))
    highest = connection.scalar(select(func.max(facts.c.number)))
    if Is(mark=Mark.DELETED) in query.terms or lowest is None:
        return [] if query.reads_text else [(STORE, true())]
    if query.reads_text:
        return [(INDEX, true())]
    return [(STORE, kept.c.number > highest), (INDEX, true()), (STORE, kept.c.number < lowest)]


def _found(connection: Connection, query: Query, before: int | None, limit: int) -> list[_Place]:
    """The newest that match."""
    found: list[_Place] = []
    for source, part in _parts(connection, query):
        columns = source.columns
        statement = (
            select(columns.number, columns.id)
            .where(part, *conditions(query, source))
            .order_by(columns.number.desc())
            .limit(limit - len(found))
        )
        if before is not None:
            statement = statement.where(columns.number < before)
        found += [_Place(*row) for row in connection.execute(statement)]
        if len(found) == limit:
            break
    return found


def _here(connection: Connection) -> dict[tuple[str, str], int]:
    """How many are in each box and state, without deleted ones."""
    by_state = select(kept.c.box, kept.c.state, func.count()).group_by(kept.c.box, kept.c.state)
    found = connection.execute(by_state)
    return {(box, state): number for box, state, number in found if state != State.DELETED}


def _count(connection: Connection, query: Query) -> int:
    if not query.terms:
        return sum(_here(connection).values())
    counted = 0
    for source, part in _parts(connection, query):
        number = func.count(source.columns.number)
        counted += connection.scalar(select(number).where(part, *conditions(query, source))) or 0
    return counted


def _listed(connection: Connection, ids: Sequence[str]) -> tuple[Listed, ...]:
    unread = ~select(1).where(kept_seen.c.number == kept.c.number).exists()
    same = and_(facts.c.number == kept.c.number, facts.c.id == kept.c.id)
    statement = (
        select(
            *SUMMARY,
            unread.label("unread"),
            facts.c.attachments,
            shown.c.subject.label("shown_subject"),
            shown.c.header_from.label("shown_from"),
            shown.c.snippet,
        )
        .select_from(kept.outerjoin(facts, same).outerjoin(shown, shown.c.number == facts.c.number))
        .where(kept.c.id.in_(ids))
        .order_by(kept.c.number.desc())
    )
    found = connection.execute(statement).mappings().all()
    addresses = forward_paths(connection, ids)
    return tuple(rows.listed(row, addresses[row["id"]]) for row in found)
