"""Kept messages as people read them: listed, searched by text, opened, marked and deleted."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import takewhile
from typing import Self, TypeVar

from sqlalchemy import BigInteger, Connection, delete, func, insert, literal, select

from gatepost.printable import storable
from gatepost.store.facets import Facets, most_frequent
from gatepost.store.kept import Arrivals, Box, Counts, KeptMessage, Listed, Page, Position, Removed, State
from gatepost.store.query.messages import Is, Mark, Query
from gatepost.store.sql import deletions, rows
from gatepost.store.sql.archive import SUMMARY, SqlArchive, forward_paths
from gatepost.store.sql.conditions import conditions, of_terms
from gatepost.store.sql.database import Database
from gatepost.store.sql.schema import kept, kept_seen
from gatepost.store.sql.search import Search

__all__ = ["SqlMailbox"]

_AT_ONCE = 100
"""Messages that are marked or deleted in one transaction."""
_PAUSE_SECONDS = 0.01
"""Between two of them, so that the gateway can write."""
_COUNTS_LIMIT = 100
_FACETS_LIMIT = 20
_REMEMBERED = 20
"""Messages before a position: as many may be withdrawn between two looks."""

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class _Hit:
    """A message that matches."""

    number: int
    id: str


class SqlMailbox:
    """A `gatepost.store.contract.Mailbox` in an SQL database."""

    def __init__(self, database: Database, search: Search) -> None:
        """Both are closed with the mailbox."""
        self._database = database
        self._search = search
        self._counted: dict[Query, tuple[int, int]] = {}
        """What `changes` was, and how many matched."""
        self._facets: dict[Query, tuple[int, Facets]] = {}
        """What `changes` was, and what was counted."""
        self.archive = SqlArchive(database)
        """The same store's; closed with the mailbox."""

    def close(self) -> None:
        """End the reading of texts and close the connections."""
        self._search.close()
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def page(self, query: Query, *, limit: int = 50, before: str | None = None) -> Page:
        """The newest that match, newest first; ``before`` is `Page.next` of the page before."""
        found, messages = self._reading(partial(self._page, query=query, before=_number(before), limit=limit))
        following = str(found[limit - 1].number) if len(found) > limit else None
        return Page(messages=messages, next=following)

    def arrivals(self, position: Position, *, limit: int) -> Arrivals:
        """The messages that were committed behind a position and are indexed, without deleted ones."""
        return self._reading(partial(_arrivals, search=self._search, position=position, limit=limit))

    def position_before(self, moment: datetime) -> Position:
        """The position for `arrivals` behind all messages that were received before that moment."""
        last = select(func.max(kept.c.number)).where(kept.c.created_at < rows.microseconds(moment))
        with self._database.read() as connection:
            return Position(number=connection.scalar(last) or 0)

    def count(self, query: Query) -> int:
        """How many match; in a large store this takes 0.1 s, and no time if nothing has changed."""
        changes = self.changes()
        counted = self._counted.get(query)
        if counted is None or counted[0] != changes:
            counted = (changes, self._reading(partial(_count, search=self._search, query=query)))
            if len(self._counted) >= _COUNTS_LIMIT:
                self._counted.clear()
            self._counted[query] = counted
        return counted[1]

    def counts(self) -> Counts:
        """How many messages there are in each box."""
        with self._database.read() as connection:
            here = _here(connection)
            seen = connection.scalar(select(func.count()).select_from(kept_seen)) or 0
        return Counts(
            inbox=sum(number for (box, _), number in here.items() if box == Box.INBOX),
            quarantined=here.get((Box.QUARANTINE, State.HELD), 0),
            unread=sum(here.values()) - seen,
        )

    def facets(self, query: Query) -> Facets:
        """How the messages that match and are indexed are spread over mailboxes and recipients.

        In a large store this takes 0.1 s, and no time if nothing has changed.
        """
        changes = self.changes()
        known = self._facets.get(query)
        if known is None or known[0] != changes:
            known = (changes, self._reading(partial(_facets, search=self._search, query=query)))
            if len(self._facets) >= _FACETS_LIMIT:
                self._facets.clear()
            self._facets[query] = known
        return known[1]

    def message(self, kept_id: str) -> KeptMessage | None:
        """A message with its content; None where there is none. A deleted one has no content."""
        return self.archive.kept_message(kept_id)

    def mark(self, kept_ids: Sequence[str], *, seen: bool) -> int:
        """Mark messages as seen or as unread; returns how many were not so before."""
        kept_ids = [storable(kept_id) for kept_id in kept_ids]
        changed = 0
        for start in range(0, len(kept_ids), _AT_ONCE):
            chosen = select(kept.c.number, literal(rows.microseconds(datetime.now(UTC)), BigInteger)).where(
                kept.c.id.in_(kept_ids[start : start + _AT_ONCE]), kept.c.state != State.DELETED
            )
            unseen = chosen.where(kept.c.number.not_in(select(kept_seen.c.number)))
            change = (
                insert(kept_seen).from_select(["number", "seen_at"], unseen)
                if seen
                else delete(kept_seen).where(kept_seen.c.number.in_(chosen.with_only_columns(kept.c.number)))
            )
            with self._database.write() as connection:
                changed += connection.execute(change, execution_options={"preserve_rowcount": True}).rowcount
        return changed

    def _page(
        self, connection: Connection, query: Query, before: int | None, limit: int
    ) -> tuple[list[_Hit], tuple[Listed, ...]]:
        found = _found(connection, self._search, query, before, limit + 1)
        return found, _listed(connection, self._search, [place.id for place in found[:limit]])

    def _reading(self, question: Callable[[Connection], Answer]) -> Answer:
        def ask() -> Answer:
            with self._database.read() as connection:
                return question(connection)

        return self._search.asking(ask)

    def delete(self, kept_ids: Sequence[str], *, actor: str) -> list[str]:
        """Remove the content of messages; returns the ids of those that had any, in the order asked."""
        deleted: list[str] = []
        for start in range(0, len(kept_ids), _AT_ONCE):
            deleted += self.archive.delete(kept_ids[start : start + _AT_ONCE], actor=actor)
        self._search.clean()
        return deleted

    def remove(self, kept_id: str, *, actor: str) -> Removed | None:
        """Delete one message and return it as it was; None where nothing was deleted."""
        message = self.archive.kept_message(kept_id)  # before the transaction: it may be large
        if message is None or message.state is State.DELETED:
            return None
        with self._database.write() as connection:
            now = self._database.now(connection)
            removed = deletions.remove(connection, self._database.contents, message, actor=actor, at=now)
        self._search.clean()
        return removed

    def put_back(self, removed: Removed) -> bool:
        """Undo that deletion; False where the message was changed since or is gone."""
        with self._database.write() as connection:
            number = deletions.put_back(connection, self._database.contents, removed)
        if number is not None:
            self._search.settle(number)
        return number is not None

    def delete_matching(self, query: Query, *, actor: str) -> int:
        """Delete all that match and are there now, newest first; returns how many."""
        deleted = 0
        before: int | None = None
        while found := self._reading(
            partial(_found, search=self._search, query=query, before=before, limit=_AT_ONCE)
        ):
            before = found[-1].number
            deleted += len(self.archive.delete([place.id for place in found], actor=actor))
            time.sleep(_PAUSE_SECONDS)
        self._search.clean()
        return deleted

    def changes(self) -> int:
        """A number that differs after a commit to the store or to the index; takes microseconds."""
        return self._search.asking(self._database.changes)


def _number(before: str | None) -> int | None:
    """The number that `Page.next` names; 0, before which there is nothing, for any other text."""
    if before is None:
        return None
    return int(before) if before.isascii() and before.isdigit() and len(before) < 19 else 0


def _found(
    connection: Connection, search: Search, query: Query, before: int | None, limit: int
) -> list[_Hit]:
    """The newest that match."""
    found: list[_Hit] = []
    for source, part in search.parts(connection, query):
        statement = (
            select(source.number, source.columns.id)
            .where(part, *conditions(query, source))
            .order_by(source.number.desc())
            .limit(limit - len(found))
        )
        if before is not None:
            statement = statement.where(source.number < before)
        found += [_Hit(*row) for row in connection.execute(statement)]
        if len(found) == limit:
            break
    return found


def _arrivals(connection: Connection, search: Search, position: Position, limit: int) -> Arrivals:
    """The numbers are in the order of the commits; later texts may have been read before earlier ones."""
    number, before = _still_before(connection, position)
    behind = (
        select(kept.c.number, kept.c.id, kept.c.state, search.is_read.label("is_read"))
        .where(kept.c.number > number)
        .order_by(kept.c.number)
        .limit(limit)
    )
    found = [*takewhile(lambda row: row.is_read, connection.execute(behind))]
    here = [row.id for row in found if row.state != State.DELETED]
    before += tuple((row.number, row.id) for row in found)
    if before:
        position = Position(number=before[-1][0], before=before[-_REMEMBERED:])
    return Arrivals(messages=_listed(connection, search, here)[::-1], position=position)


def _still_before(connection: Connection, position: Position) -> tuple[int, tuple[tuple[int, str], ...]]:
    """The number behind which to look, and what is before it.

    If the last messages were removed, new ones get their numbers.
    """
    highest = connection.scalar(select(func.max(kept.c.number))) or 0
    if not position.before:
        return min(position.number, highest), ()
    numbers = select(kept.c.number, kept.c.id).where(kept.c.number.in_([n for n, _ in position.before]))
    there = {(row.number, row.id) for row in connection.execute(numbers)}
    before = position.before
    while before and before[-1] not in there:
        before = before[:-1]
    return min(before[-1][0] if before else position.before[0][0] - 1, highest), before


def _here(connection: Connection) -> dict[tuple[str, str], int]:
    """How many are in each box and state, without deleted ones."""
    by_state = select(kept.c.box, kept.c.state, func.count()).group_by(kept.c.box, kept.c.state)
    found = connection.execute(by_state)
    return {(box, state): number for box, state, number in found if state != State.DELETED}


def _count(connection: Connection, search: Search, query: Query) -> int:
    if not query.terms:
        return sum(_here(connection).values())
    counted = 0
    for source, part in search.parts(connection, query):
        number = func.count(source.number)
        counted += connection.scalar(select(number).where(part, *conditions(query, source))) or 0
    return counted


def _facets(connection: Connection, search: Search, query: Query) -> Facets:
    """Read as one text for each kind: a row for each message would take as long again."""
    if Is(mark=Mark.DELETED) in query.terms:
        return Facets(messages=0, unread=0, attachments=0, mailboxes=(), recipients=())
    facts, seen = search.facts, kept_seen.alias("seen")
    statement = (
        select(
            func.count(),
            func.count(seen.c.number),
            func.count().filter(facts.columns.attachments > 0),
            func.aggregate_strings(facts.columns.mailboxes, ""),
            func.aggregate_strings(facts.columns.recipients, ""),
        )
        .select_from(facts.table.outerjoin(seen, seen.c.number == facts.columns.number))
        .where(facts.condition, *of_terms(query, facts.source))
    )
    messages, read, attachments, mailboxes, recipients = connection.execute(statement).one()
    return Facets(
        messages=messages,
        unread=messages - read,
        attachments=attachments,
        mailboxes=most_frequent(filter(None, (mailboxes or "").split("\n"))),
        recipients=most_frequent(filter(None, (recipients or "").split("\n"))),
    )


def _listed(connection: Connection, search: Search, ids: Sequence[str]) -> tuple[Listed, ...]:
    unread = ~select(1).where(kept_seen.c.number == kept.c.number).exists()
    statement = (
        select(*SUMMARY, unread.label("unread"), *search.shown)
        .select_from(search.listed)
        .where(kept.c.id.in_(ids))
        .order_by(kept.c.number.desc())
    )
    found = connection.execute(statement).mappings().all()
    addresses = forward_paths(connection, ids)
    return tuple(rows.listed(row, addresses[row["id"]]) for row in found)
