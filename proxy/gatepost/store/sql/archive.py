"""The journal and the kept messages by their fields; messages are deleted and released here."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any, Self, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    Select,
    and_,
    false,
    literal,
    not_,
    or_,
    select,
    tuple_,
    union,
    update,
)

from gatepost.model.record import Disposition, Record
from gatepost.model.verdict import Reply
from gatepost.printable import storable
from gatepost.store.kept import Claim, KeptMessage, KeptSummary, State
from gatepost.store.query.criteria import JournalQuery, KeptQuery, cursor_id
from gatepost.store.sql import deletions, releases, rows
from gatepost.store.sql.conditions import all_within, is_address, matches, of_session
from gatepost.store.sql.database import Database
from gatepost.store.sql.dialects import LastRefusal
from gatepost.store.sql.schema import (
    kept,
    kept_edits,
    kept_recipients,
    recipients,
    transaction_rules,
    transactions,
)
from gatepost.store.sql.statistics import SqlStatistics
from gatepost.store.sql.triggers import is_noted

__all__ = ["MESSAGE", "SUMMARY", "SqlArchive", "forward_paths"]

SUMMARY = [column for column in kept.columns if column.name not in ("number", "prepended", "content")]
"""The columns of a `KeptSummary`."""
MESSAGE = select(
    *[column for column in kept.columns if column.name != "number"], kept_edits.c.edits
).select_from(kept.outerjoin(kept_edits))
"""The columns of a `KeptMessage`."""
_Criteria = TypeVar("_Criteria", JournalQuery, KeptQuery)


class SqlArchive:
    """A `gatepost.store.contract.Archive` in an SQL database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def close(self) -> None:
        """Close the connections."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def check_writable(self) -> None:
        """Raise StoreError if nothing could be committed now, or the disk is full."""
        self._database.check_writable()

    def statistics(self) -> SqlStatistics:
        """Counts over the journal, which remember what they have counted."""
        return SqlStatistics(self._database)

    def records(self, query: JournalQuery, *, limit: int, before: str | None = None) -> list[Record]:
        """The newest that match, newest first; ``before`` is the id of the last one of the page before."""
        place = tuple_(transactions.c.received_at, transactions.c.id)
        statement = select(transactions).where(*_journal_conditions(query)).limit(limit)
        if query.rule is not None and is_noted(query.rule):
            noted = transaction_rules.c
            place = tuple_(noted.received_at, noted.transaction_id)
            statement = statement.where(noted.transaction_id == transactions.c.id, noted.rule == query.rule)
        statement = statement.order_by(*(one.desc() for one in place.clauses))
        with self._database.read() as connection:
            if before is not None:
                before = storable(before)
                of_last = select(transactions.c.received_at, transactions.c.id)
                last = connection.execute(of_last.where(transactions.c.id == before)).first()
                older = place < tuple_(*last) if last else transactions.c.id < cursor_id(before)
                statement = statement.where(older)
            return _records(connection, statement)

    def record(self, transaction_id: str) -> Record | None:
        """One record; None where there is none."""
        of_id = select(transactions).where(transactions.c.id == storable(transaction_id))
        with self._database.read() as connection:
            found = _records(connection, of_id)
        return found[0] if found else None

    def kept(self, query: KeptQuery, *, limit: int, before: str | None = None) -> list[KeptSummary]:
        """The newest that match, newest first; ``before`` is the id of the last one of the page before."""
        statement = (
            select(*SUMMARY).where(*_kept_conditions(query)).order_by(kept.c.number.desc()).limit(limit)
        )
        with self._database.read() as connection:
            if before is not None:
                before = storable(before)
                number = connection.scalar(select(kept.c.number).where(kept.c.id == before))
                older = kept.c.number < number if number else kept.c.id < cursor_id(before)
                statement = statement.where(older)
            found = connection.execute(statement).mappings().all()
            addresses = forward_paths(connection, [row["id"] for row in found])
        return [rows.kept_summary(row, addresses[row["id"]]) for row in found]

    def kept_message(self, kept_id: str) -> KeptMessage | None:
        """A message with its content; None where there is none. A deleted one has no content."""
        kept_id = storable(kept_id)
        with self._database.read() as connection:
            row = connection.execute(MESSAGE.where(kept.c.id == kept_id)).mappings().first()
            addresses = forward_paths(connection, [kept_id])
            rest = self._database.contents.rest(connection, kept_id)
        return rows.kept_message(row, addresses[kept_id], rest) if row else None

    def delete(self, kept_ids: Sequence[str], *, actor: str) -> list[str]:
        """Remove the content of messages; returns the ids of those that had any, in the order asked."""
        kept_ids = [storable(kept_id) for kept_id in kept_ids]
        with self._database.write() as connection:
            now = self._database.now(connection)
            deleted = deletions.delete_content(
                connection, self._database.contents, kept_ids, actor=actor, at=now
            )
        return [kept_id for kept_id in dict.fromkeys(kept_ids) if kept_id in deleted]

    def claim_release(self, message: KeptSummary, *, actor: str) -> Claim:
        """Reserve a message for one release; raises ConflictError."""
        with self._database.write() as connection:
            return releases.claim(connection, message, actor=actor, now=self._database.now(connection))

    def renew_release(self, claim: Claim) -> None:
        """Let the claim expire later, as if it were made now."""
        with self._database.write() as connection:
            releases.renew(connection, claim, now=self._database.now(connection))

    def finish_release(self, claim: Claim, *, to: Sequence[str], reply: Reply) -> bool:
        """Note that the message was sent, and end the claim; False where it is gone or deleted."""
        note = storable(f"{', '.join(to)}: {reply}")
        change = (
            update(kept)
            .where(kept.c.id == claim.kept_id, kept.c.state != State.DELETED)
            .values(note=note, **_change(State.RELEASED, claim.actor))
        )
        with self._database.write() as connection:
            releases.end(connection, claim)
            return connection.execute(change).rowcount == 1

    def abandon_release(self, claim: Claim) -> None:
        """End the claim: the message was not sent."""
        with self._database.write() as connection:
            releases.end(connection, claim)


def _change(state: State, actor: str) -> dict[str, Any]:
    return {
        "state": state,
        "changed_by": storable(actor),
        "changed_at": rows.microseconds(datetime.now(UTC)),
    }


def _between(
    column: ColumnElement[int], since: datetime | None, until: datetime | None
) -> Iterable[ColumnElement[bool]]:
    if since is not None:
        yield column >= rows.microseconds(since)
    if until is not None:
        yield column < rows.microseconds(until)


def _storable_query(query: _Criteria) -> _Criteria:
    """With its texts as they would be stored: a database takes no lone surrogate, not even to look for it."""
    values = {one.name: getattr(query, one.name) for one in fields(query)}
    texts: dict[str, Any] = {name: storable(one) for name, one in values.items() if isinstance(one, str)}
    return replace(query, **texts)


def _journal_conditions(query: JournalQuery) -> Iterable[ColumnElement[bool]]:
    query = _storable_query(query)
    table = transactions.c
    yield from _between(table.received_at, query.since, query.until)
    if query.id is not None:
        of_kept = select(kept.c.transaction_id).where(kept.c.id == query.id)
        yield table.id.in_(union(select(literal(query.id)), of_kept, of_session(query.id)))
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
    if query.user is not None:
        yield or_(matches(table.authenticated, query.user), matches(table.failed_user, query.user))
    if query.node is not None:
        yield matches(table.node, query.node)
    if query.domains is not None:
        yield all_within(recipients.c.address, of_recipient == table.id, query.domains)
    ends = select(of_recipient).where(of_recipient == table.id)
    if query.disposition is not None:
        ended_early = and_(not_(ends.exists()), _is_reply_of(query.disposition))
        yield or_(ends.where(recipients.c.disposition == query.disposition).exists(), ended_early)
    if query.rule is not None:
        decided = ends.where(recipients.c.rule == query.rule).exists()
        refused_early = and_(not_(ends.exists()), _is_refused_by(query.rule))
        hit = table.evaluations.contains(rows.hit_pattern(query.rule), autoescape=True)
        yield or_(decided, hit, refused_early)


def _is_reply_of(disposition: Disposition) -> ColumnElement[bool]:
    """As `gatepost.model.record.end_before_rcpt`: what the reply says if there are no recipients."""
    reply = transactions.c.reply
    match disposition:
        case Disposition.ABANDONED:
            return reply == ""
        case Disposition.DEFERRED:
            return reply.startswith("4")
        case Disposition.REFUSED:
            return and_(reply != "", not_(reply.startswith("4")))
        case _:
            return false()


def _is_refused_by(rule: str) -> ColumnElement[bool]:
    """As `Record.early_end`: that rule was the last one to be asked, and its answer refused."""
    return and_(LastRefusal(transactions.c.evaluations, rule), transactions.c.reply != "")


def _kept_conditions(query: KeptQuery) -> Iterable[ColumnElement[bool]]:
    query = _storable_query(query)
    table = kept.c
    yield from _between(table.created_at, query.since, query.until)
    if query.id is not None:
        of_transaction = table.transaction_id.in_(union(select(literal(query.id)), of_session(query.id)))
        yield or_(table.id == query.id, of_transaction)
    for column, value in (
        (table.box, query.box),
        (table.state, query.state),
        (table.transaction_id, query.transaction_id),
        (table.rule, query.rule),
    ):
        if value is not None:
            yield column == value
    if query.domains is not None:
        yield all_within(kept_recipients.c.address, kept_recipients.c.kept_id == table.id, query.domains)
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
