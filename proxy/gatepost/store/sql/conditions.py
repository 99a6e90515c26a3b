"""The terms of a query as SQL.

The same query is asked of two sources: the compact facts in the index, and the store itself for messages that
are not indexed yet.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from sqlalchemy import (
    Column,
    ColumnElement,
    FromClause,
    Select,
    and_,
    false,
    func,
    literal,
    not_,
    or_,
    select,
    union,
)
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from gatepost.model.addresses import spellings
from gatepost.printable import storable
from gatepost.store.kept import Box, State
from gatepost.store.query.messages import (
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
    Within,
    Words,
)
from gatepost.store.sql import rows
from gatepost.store.sql.dialects import FoundAt
from gatepost.store.sql.schema import kept, kept_recipients, kept_seen, transactions
from gatepost.store.text import ascii_lower, domain_ends

__all__ = [
    "STATE_HINT",
    "STORE",
    "Columns",
    "KeptSource",
    "Source",
    "all_within",
    "conditions",
    "is_address",
    "matches",
    "of_session",
    "of_terms",
    "state_of",
    "words_of",
]


Columns = ReadOnlyColumnCollection[str, Column[Any]]

STATE_HINT = "INDEXED BY kept_box"


class Source(Protocol):
    """Where messages are looked for."""

    columns: Columns
    """Among them number, box, client, created_at and size."""
    number: ColumnElement[int]
    """The column by which they are ordered and cut into pages."""

    def words(self, words: Sequence[Words]) -> ColumnElement[bool]:
        """Those with all of the words."""

    def without(self, words: Words) -> ColumnElement[bool]:
        """Those without them."""

    def has_attachment(self) -> ColumnElement[bool]:
        """Those with an attachment."""

    def rule(self, name: str) -> ColumnElement[bool]:
        """Those that the rule hit."""

    def user(self, name: str) -> ColumnElement[bool]:
        """Those that the user sent."""

    def tag(self, tag: str) -> ColumnElement[bool]:
        """Those to a forward-path with that tag."""

    def recipient(self, address: str) -> ColumnElement[bool]:
        """Those to that forward-path, in lower case."""


class KeptSource:
    """The tables of the store; terms that only an index of texts can answer match nothing."""

    columns = kept.columns
    number: ColumnElement[int] = kept.c.number

    def words(self, _words: Sequence[Words]) -> ColumnElement[bool]:
        """None."""
        return false()

    def without(self, _words: Words) -> ColumnElement[bool]:
        """None."""
        return false()

    def has_attachment(self) -> ColumnElement[bool]:
        """None."""
        return false()

    def rule(self, name: str) -> ColumnElement[bool]:
        """Those that the rule hit."""
        hit = transactions.c.evaluations.contains(rows.hit_pattern(name), autoescape=True)
        decided = and_(kept.c.rule.is_not(None), kept.c.rule == name)  # else a negated term would be unknown
        return or_(decided, self._transaction(hit))

    def user(self, name: str) -> ColumnElement[bool]:
        """Those that the user sent."""
        return self._transaction(func.lower(transactions.c.authenticated) == ascii_lower(name))

    def _transaction(self, condition: ColumnElement[bool]) -> ColumnElement[bool]:
        return select(1).where(transactions.c.id == kept.c.transaction_id, condition).correlate(kept).exists()

    def tag(self, tag: str) -> ColumnElement[bool]:
        """Those to a forward-path with that tag."""
        address = kept_recipients.c.address
        plus = FoundAt(address, literal("+"))
        after_plus = func.lower(func.substr(address, plus + 1, len(tag) + 2))
        is_tag = after_plus.startswith(f"{tag}@", autoescape=True) | (after_plus == f'{tag}"@')
        return (
            select(1).where(kept_recipients.c.kept_id == kept.c.id, plus > 0, is_tag).correlate(kept).exists()
        )

    def recipient(self, address: str) -> ColumnElement[bool]:
        """Those to that forward-path, in lower case."""
        same = func.lower(kept_recipients.c.address) == address
        return kept.c.id.in_(select(kept_recipients.c.kept_id).where(same))


STORE = KeptSource()


def conditions(query: Query, source: Source) -> Iterable[ColumnElement[bool]]:
    """Conditions that a row of the source must meet; deleted messages match only if asked for."""
    yield from of_terms(query, source)
    if Is(mark=Mark.DELETED) not in query.terms:
        yield _in_state(source, State.HELD, State.RELEASED)


def of_terms(query: Query, source: Source) -> Iterable[ColumnElement[bool]]:
    """Conditions for the terms alone; deleted messages may match."""
    if together := words_of(query):
        yield source.words(together)
    for term in query.terms:
        if isinstance(term, Words):
            if term.negated:
                yield source.without(term)
            continue
        condition = _condition(term, source)
        yield not_(condition) if term.negated else condition


def words_of(query: Query) -> list[Words]:
    """The words that a message must have."""
    return [term for term in query.terms if isinstance(term, Words) and not term.negated]


def _condition(term: Term, source: Source) -> ColumnElement[bool]:
    match term:
        case Has():
            return source.has_attachment()
        case Is(mark=mark):
            return _is(mark, source)
        case Named(fact=fact, value=value):
            return _named(fact, storable(value), source)
        case Before(moment=moment):
            return source.columns.created_at < rows.microseconds(moment)
        case After(moment=moment):
            return source.columns.created_at >= rows.microseconds(moment)
        case Later(than=kept_id):
            last = kept.alias("last").c
            return source.columns.number > select(last.number).where(last.id == kept_id).scalar_subquery()
        case Within(domains=domains):
            return all_within(
                kept_recipients.c.address, kept_recipients.c.kept_id == source.columns.id, domains
            )
        case Larger(octets=octets):
            return source.columns.size > octets
        case Smaller(octets=octets):
            return source.columns.size < octets
        case _:
            raise TypeError(f"no condition for {type(term).__name__}")


def all_within(
    address: ColumnElement[str], of_same: ColumnElement[bool], domains: Iterable[str]
) -> ColumnElement[bool]:
    """There are rows with ``of_same``, and the addresses of all of them are in these domains."""
    inside = or_(false(), *(matches(address, f"*{end}") for end in domain_ends(domains)))
    rows_of_same = select(1).select_from(address.table).where(of_same)
    return and_(
        rows_of_same.correlate_except(address.table).exists(),
        not_(rows_of_same.where(not_(inside)).correlate_except(address.table).exists()),
    )


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
    """``kept`` for its states only, and the condition for the row of that message.

    Read with `STATE_HINT` from an SQL index: the row itself is as large as its message.
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
        case Fact.RECIPIENT:
            return source.recipient(ascii_lower(value))
        case Fact.MAILBOX:
            return or_(source.tag(value.lower()), source.user(value))
        case Fact.NODE:
            ids = kept.alias("ids").c
            of_node = select(1).where(
                transactions.c.id == ids.transaction_id, matches(transactions.c.node, value)
            )
            return source.columns.number.in_(select(ids.number).where(of_node.exists()))
        case Fact.CLIENT:
            return matches(source.columns.client, value)
        case Fact.ID:
            ids = kept.alias("ids").c
            known = or_(
                ids.id == value,
                ids.transaction_id.in_(union(select(literal(value)), of_session(value))),
                ids.message_id.in_((value, f"<{value}>")),
            )
            return source.columns.number.in_(select(ids.number).where(known))


def of_session(session_id: str) -> Select[tuple[str]]:
    """The identifiers of the session's transactions that the journal has."""
    table = transactions.alias("of_session").c
    return select(table.id).where(table.session_id == session_id)


def matches(column: ColumnElement[Any], pattern: str, *, folded: bool = True) -> ColumnElement[bool]:
    """``*`` matches any characters, and the case of ASCII letters does not matter.

    Without a ``*`` the comparison is that of an SQL index: in lower case, or if not ``folded`` exact.
    """
    pattern = storable(pattern)
    if "*" not in pattern:
        return func.lower(column) == ascii_lower(pattern) if folded else column == pattern
    escaped = pattern.replace("/", "//").replace("%", "/%").replace("_", "/_").replace("*", "%")
    return column.ilike(escaped, escape="/")


def is_address(column: ColumnElement[Any], pattern: str) -> ColumnElement[bool]:
    """As `matches`, also for other spellings of the same mailbox (`gatepost.model.addresses.spellings`)."""
    if "*" in pattern:
        return matches(column, pattern)
    return func.lower(column).in_([ascii_lower(storable(one)) for one in spellings(pattern)])
