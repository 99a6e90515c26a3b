"""The terms of a query as SQL.

One and the same query is asked of two sources: of the index's compact copy of what is known of a message,
and of the store itself for messages that are not indexed yet.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from sqlalchemy import Column, ColumnElement, FromClause, and_, false, func, not_, or_, select
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from gatepost.addresses import spellings
from gatepost.store import rows
from gatepost.store.kept import Box, State
from gatepost.store.query import (
    After,
    Before,
    Fact,
    Has,
    Is,
    Larger,
    Later,
    Mark,
    Named,
    Query,
    Smaller,
    Term,
    Words,
)
from gatepost.store.schema import kept, kept_recipients, kept_seen, transactions

__all__ = ["STATE_HINT", "STORE", "Source", "conditions", "is_address", "matches", "state_of"]


Columns = ReadOnlyColumnCollection[str, Column[Any]]

STATE_HINT = "INDEXED BY kept_box"


class Source(Protocol):
    """Where messages are looked for."""

    columns: Columns
    """Among them number, box, client, created_at and size."""

    def words(self, words: Sequence[Words]) -> ColumnElement[bool]:
        """Those with all of the words."""

    def has_attachment(self) -> ColumnElement[bool]:
        """Those with an attachment."""

    def rule(self, name: str) -> ColumnElement[bool]:
        """Those that the rule hit."""

    def user(self, name: str) -> ColumnElement[bool]:
        """Those that the user sent."""

    def tag(self, tag: str) -> ColumnElement[bool]:
        """Those to a forward-path with that tag."""


class _Store:
    """The tables of the store; what only the index knows is true of none."""

    columns = kept.columns

    def words(self, _words: Sequence[Words]) -> ColumnElement[bool]:
        return false()

    def has_attachment(self) -> ColumnElement[bool]:
        return false()

    def rule(self, name: str) -> ColumnElement[bool]:
        hit = transactions.c.evaluations.contains(rows.hit_pattern(name), autoescape=True)
        return or_(kept.c.rule == name, self._transaction(hit))

    def user(self, name: str) -> ColumnElement[bool]:
        return self._transaction(func.lower(transactions.c.authenticated) == func.lower(name))

    def _transaction(self, condition: ColumnElement[bool]) -> ColumnElement[bool]:
        return select(1).where(transactions.c.id == kept.c.transaction_id, condition).correlate(kept).exists()

    def tag(self, tag: str) -> ColumnElement[bool]:
        address = kept_recipients.c.address
        plus = func.instr(address, "+")
        after_plus = func.lower(func.substr(address, plus + 1, len(tag) + 2))
        is_tag = after_plus.startswith(f"{tag}@", autoescape=True) | (after_plus == f'{tag}"@')
        return (
            select(1).where(kept_recipients.c.kept_id == kept.c.id, plus > 0, is_tag).correlate(kept).exists()
        )


STORE = _Store()


def conditions(query: Query, source: Source) -> Iterable[ColumnElement[bool]]:
    """What must hold of a row of the source; deleted messages match only where they are asked for."""
    if together := [term for term in query.terms if isinstance(term, Words) and not term.negated]:
        yield source.words(together)
    for term in query.terms:
        if term in together:
            continue
        condition = _condition(term, source)
        yield not_(condition) if term.negated else condition
    if Is(mark=Mark.DELETED) not in query.terms:
        yield _in_state(source, State.HELD, State.RELEASED)


def _condition(term: Term, source: Source) -> ColumnElement[bool]:
    match term:
        case Words():
            return source.words([term])
        case Has():
            return source.has_attachment()
        case Is(mark=mark):
            return _is(mark, source)
        case Named(fact=fact, value=value):
            return _named(fact, rows.storable(value), source)
        case Before(moment=moment):
            return source.columns.created_at < rows.microseconds(moment)
        case After(moment=moment):
            return source.columns.created_at >= rows.microseconds(moment)
        case Later(than=kept_id):
            last = kept.alias("last").c
            return source.columns.number > select(last.number).where(last.id == kept_id).scalar_subquery()
        case Larger(octets=octets):
            return source.columns.size > octets
        case Smaller(octets=octets):
            return source.columns.size < octets
        case _:
            raise TypeError(f"no condition for {type(term).__name__}")


def _is(mark: Mark, source: Source) -> ColumnElement[bool]:
    match mark:
        case Mark.READ:
            return _seen(source)
        case Mark.UNREAD:
            return not_(_seen(source))
        case Mark.INBOX:
            return source.columns.box == Box.INBOX
        case Mark.QUARANTINED:
            return (source.columns.box == Box.QUARANTINE) & _in_state(source, State.HELD)
        case Mark.RELEASED:
            return _in_state(source, State.RELEASED)
        case Mark.DELETED:
            return _in_state(source, State.DELETED)


def _seen(source: Source) -> ColumnElement[bool]:
    return select(1).where(kept_seen.c.number == source.columns.number).exists()


def _in_state(source: Source, *states: State) -> ColumnElement[bool]:
    row, of_message = state_of(source.columns)
    return (
        select(1)
        .select_from(row)
        .with_hint(row, STATE_HINT, "sqlite")
        .where(of_message, row.c.state.in_(states))
        .exists()
    )


def state_of(columns: Columns) -> tuple[FromClause, ColumnElement[bool]]:
    """``kept`` for its states only, and which row is that message's.

    To be read with `STATE_HINT`, from the index: a row itself is as large as its message.
    """
    row = kept.alias("state")
    return row, and_(row.c.box == columns.box, row.c.number == columns.number)


def _named(fact: Fact, value: str, source: Source) -> ColumnElement[bool]:
    match fact:
        case Fact.RULE:
            return source.rule(value)
        case Fact.USER:
            return source.user(value)
        case Fact.TAG:
            return source.tag(value.lower())
        case Fact.MAILBOX:
            return or_(source.tag(value.lower()), source.user(value))
        case Fact.CLIENT:
            return matches(source.columns.client, value)
        case Fact.ID:
            ids = kept.alias("ids").c
            known = or_(
                ids.id == value, ids.transaction_id == value, ids.message_id.in_((value, f"<{value}>"))
            )
            return source.columns.number.in_(select(ids.number).where(known))


def matches(column: ColumnElement[Any], pattern: str, *, folded: bool = True) -> ColumnElement[bool]:
    """``*`` stands for any characters, and the case of ASCII letters does not matter.

    Without a ``*`` it is as an index has it: of the lower case, or if not ``folded`` as the column stands.
    """
    pattern = rows.storable(pattern)
    if "*" not in pattern:
        return func.lower(column) == func.lower(pattern) if folded else column == pattern
    escaped = pattern.replace("/", "//").replace("%", "/%").replace("_", "/_").replace("*", "%")
    return column.ilike(escaped, escape="/")


def is_address(column: ColumnElement[Any], pattern: str) -> ColumnElement[bool]:
    """As `matches`, also for other spellings of the same mailbox (`gatepost.addresses.spellings`)."""
    if "*" in pattern:
        return matches(column, pattern)
    return func.lower(column).in_([func.lower(rows.storable(one)) for one in spellings(pattern)])
