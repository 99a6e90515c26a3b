"""The people's side of the store: look up what was journalled and kept, delete, mark as released.

All of it blocks, and may run beside `gatepost serve`, in the same or in another process.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    Select,
    delete,
    literal,
    or_,
    select,
    tuple_,
    union,
    update,
)

from gatepost.config.settings import StoreSettings
from gatepost.record import Disposition, Record
from gatepost.store import rows
from gatepost.store.conditions import is_address, matches
from gatepost.store.database import Database
from gatepost.store.kept import Box, KeptMessage, KeptSummary, State
from gatepost.store.schema import kept, kept_recipients, kept_seen, recipients, transactions
from gatepost.store.statistics import Statistics
from gatepost.verdict import Reply

__all__ = ["SUMMARY", "Archive", "JournalQuery", "KeptQuery", "forward_paths"]

SUMMARY = [column for column in kept.columns if column.name not in ("number", "prepended", "content")]
"""The columns of a `KeptSummary`."""
_MESSAGE = [column for column in kept.columns if column.name != "number"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalQuery:
    """Which records; what is None does not matter.

    ``*`` in an address, a client or a Message-ID stands for any characters. The case of ASCII letters
    does not matter, but in a client and a Message-ID without ``*``. An address without ``*`` is also
    found where it was written with A-labels or U-labels, with quotes or without.
    """

    id: str | None = None
    """The transaction's, or that of a message that was kept from it."""
    client: str | None = None
    mail_from: str | None = None
    """Empty: the null reverse-path."""
    recipient: str | None = None
    address: str | None = None
    """The reverse-path or a forward-path."""
    session_id: str | None = None
    message_id: str | None = None
    rule: str | None = None
    """It decided for a recipient, or hit and was only observed. Without ``*``."""
    disposition: Disposition | None = None
    """Of at least one recipient."""
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptQuery:
    """Which kept messages; what is None does not matter. Patterns are those of `JournalQuery`."""

    box: Box | None = None
    state: State | None = State.HELD
    transaction_id: str | None = None
    mail_from: str | None = None
    recipient: str | None = None
    subject: str | None = None
    """A pattern for the whole field as it was sent, not decoded."""
    message_id: str | None = None
    rule: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class Archive:
    """What was journalled and kept; may be used by several threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(cls, settings: StoreSettings, base: Path) -> Self:
        """Open a store that exists; raises StoreError with a text for the operator."""
        return cls(Database.existing(settings, base))

    def close(self) -> None:
        """Close the connections."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def statistics(self) -> Statistics:
        """Counts over the same journal; they remember what they have counted."""
        return Statistics(self._database)

    def records(self, query: JournalQuery, *, limit: int, before: str | None = None) -> list[Record]:
        """The newest that match, newest first; ``before`` is the last one of the page before."""
        place = tuple_(transactions.c.received_at, transactions.c.id)
        statement = (
            select(transactions)
            .where(*_journal_conditions(query))
            .order_by(transactions.c.received_at.desc(), transactions.c.id.desc())
            .limit(limit)
        )
        with self._database.read() as connection:
            if before is not None:
                last = connection.execute(select(*place.clauses).where(transactions.c.id == before)).first()
                if last is None:  # retention took it out, and all older ones before it
                    return []
                statement = statement.where(place < tuple_(*last))
            return _records(connection, statement)

    def record(self, transaction_id: str) -> Record | None:
        """One record, None where there is none."""
        with self._database.read() as connection:
            found = _records(connection, select(transactions).where(transactions.c.id == transaction_id))
        return found[0] if found else None

    def kept(self, query: KeptQuery, *, limit: int, before: str | None = None) -> list[KeptSummary]:
        """The newest that match, newest first; ``before`` is the last one of the page before."""
        statement = (
            select(*SUMMARY).where(*_kept_conditions(query)).order_by(kept.c.number.desc()).limit(limit)
        )
        if before is not None:
            last = kept.alias()
            number = select(last.c.number).where(last.c.id == before).scalar_subquery()
            statement = statement.where(kept.c.number < number)
        with self._database.read() as connection:
            found = connection.execute(statement).mappings().all()
            addresses = forward_paths(connection, [row["id"] for row in found])
        return [rows.kept_summary(row, addresses[row["id"]]) for row in found]

    def kept_message(self, kept_id: str) -> KeptMessage | None:
        """A kept message with its octets; None where there is none. A deleted one has no octets."""
        with self._database.read() as connection:
            row = connection.execute(select(*_MESSAGE).where(kept.c.id == kept_id)).mappings().first()
            addresses = forward_paths(connection, [kept_id])
        return rows.kept_message(row, addresses[kept_id]) if row else None

    def delete(self, kept_ids: Sequence[str], *, who: str) -> list[str]:
        """Take the octets of kept messages away; gives the ids of those that had any."""
        change = (
            update(kept)
            .where(kept.c.id.in_(kept_ids), kept.c.state != State.DELETED)
            .values(prepended=b"", content=b"", **_change(State.DELETED, who))
            .returning(kept.c.id, kept.c.number)
        )
        with self._database.write() as connection:
            deleted = {kept_id: number for kept_id, number in connection.execute(change)}  # noqa: C416 - rows
            connection.execute(delete(kept_seen).where(kept_seen.c.number.in_(deleted.values())))
        return [kept_id for kept_id in dict.fromkeys(kept_ids) if kept_id in deleted]

    def mark_released(self, kept_id: str, *, who: str, to: Sequence[str], reply: Reply) -> bool:
        """Note that a kept message was sent on; False where it is not there any more."""
        note = rows.storable(f"{', '.join(to)}: {reply}")
        change = (
            update(kept)
            .where(kept.c.id == kept_id, kept.c.state != State.DELETED)
            .values(note=note, **_change(State.RELEASED, who))
        )
        with self._database.write() as connection:
            return connection.execute(change).rowcount == 1


def _change(state: State, who: str) -> dict[str, Any]:
    return {
        "state": state,
        "changed_by": rows.storable(who),
        "changed_at": rows.microseconds(datetime.now(UTC)),
    }


def _between(
    column: ColumnElement[int], since: datetime | None, until: datetime | None
) -> Iterable[ColumnElement[bool]]:
    if since is not None:
        yield column >= rows.microseconds(since)
    if until is not None:
        yield column < rows.microseconds(until)


def _journal_conditions(query: JournalQuery) -> Iterable[ColumnElement[bool]]:
    table = transactions.c
    yield from _between(table.received_at, query.since, query.until)
    if query.id is not None:
        of_kept = select(kept.c.transaction_id).where(kept.c.id == query.id)
        yield table.id.in_(union(select(literal(query.id)), of_kept))
    if query.mail_from is not None:
        yield is_address(table.mail_from, query.mail_from)
    if query.client is not None:
        yield matches(table.client, query.client, folded=False)
    if query.message_id is not None:
        indexed = transactions.alias().c  # so that it is looked for in the index alone
        found = matches(indexed.message_id, query.message_id, folded=False)
        yield table.id.in_(select(indexed.id).where(found))
    of_recipient = recipients.c.transaction_id
    if query.recipient is not None:
        yield table.id.in_(select(of_recipient).where(is_address(recipients.c.address, query.recipient)))
    if query.address is not None:
        other = transactions.alias()
        sent = select(other.c.id).where(is_address(other.c.mail_from, query.address))
        received = select(of_recipient).where(is_address(recipients.c.address, query.address))
        yield table.id.in_(sent.union(received))
    if query.session_id is not None:
        yield table.session_id == query.session_id
    if query.disposition is not None:
        same = of_recipient == table.id
        yield select(of_recipient).where(same, recipients.c.disposition == query.disposition).exists()
    if query.rule is not None:
        decided = (
            select(of_recipient).where(of_recipient == table.id, recipients.c.rule == query.rule).exists()
        )
        yield or_(decided, table.evaluations.contains(rows.hit_pattern(query.rule), autoescape=True))


def _kept_conditions(query: KeptQuery) -> Iterable[ColumnElement[bool]]:
    table = kept.c
    yield from _between(table.created_at, query.since, query.until)
    for column, value in (
        (table.box, query.box),
        (table.state, query.state),
        (table.transaction_id, query.transaction_id),
        (table.rule, query.rule),
    ):
        if value is not None:
            yield column == value
    if query.mail_from is not None:
        yield is_address(table.mail_from, query.mail_from)
    if query.subject is not None:
        yield matches(table.subject, query.subject)
    if query.message_id is not None:
        yield matches(table.message_id, query.message_id, folded=False)
    if query.recipient is not None:
        of_kept = select(kept_recipients.c.kept_id)
        yield table.id.in_(of_kept.where(is_address(kept_recipients.c.address, query.recipient)))


def _records(connection: Connection, statement: Select[Any]) -> list[Record]:
    found = connection.execute(statement).mappings().all()
    ids = [row["id"] for row in found]
    ends = select(recipients).where(recipients.c.transaction_id.in_(ids)).order_by(recipients.c.position)
    ends_of: defaultdict[str, list[RowMapping]] = defaultdict(list)
    for end in connection.execute(ends).mappings():
        ends_of[end["transaction_id"]].append(end)
    return [rows.record(row, ends_of[row["id"]]) for row in found]


def forward_paths(connection: Connection, kept_ids: Sequence[str]) -> Mapping[str, list[str]]:
    """The forward-paths of each kept message, in their order."""
    table = kept_recipients.c
    statement = (
        select(table.kept_id, table.address).where(table.kept_id.in_(kept_ids)).order_by(table.position)
    )
    addresses: defaultdict[str, list[str]] = defaultdict(list)
    for kept_id, address in connection.execute(statement):
        addresses[kept_id].append(address)
    return addresses
