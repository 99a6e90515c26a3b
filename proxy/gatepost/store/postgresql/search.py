"""Search in the folded texts of messages, which a thread reads while the mailbox is open."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from sqlalchemy import ColumnElement, Connection, and_, case, false, func, not_, or_, select, true

from gatepost.store.excerpt import PARTS, SEEN, SearchedText
from gatepost.store.folding import searched_for
from gatepost.store.kept import State
from gatepost.store.postgresql.database import Database
from gatepost.store.postgresql.reader import TextReader
from gatepost.store.postgresql.schema import kept_texts
from gatepost.store.query.messages import Is, Mark, Query, Words
from gatepost.store.sql.conditions import KeptSource, Source
from gatepost.store.sql.schema import kept
from gatepost.store.sql.search import Facts
from gatepost.store.text import ascii_lower

__all__ = ["TextSearch"]

Answer = TypeVar("Answer")

_texts = kept_texts.c


class _TextSource(KeptSource):
    """The tables of the store, with the texts that were read."""

    def words(self, words: Sequence[Words]) -> ColumnElement[bool]:
        """Those with all of the words."""
        return kept.c.number.in_(select(_texts.number).where(*map(_has, words)))

    def without(self, words: Words) -> ColumnElement[bool]:
        """Those without them: not ``NOT IN``, which would find all that have them first."""
        return ~select(1).where(_texts.number == kept.c.number, _has(words)).correlate(kept).exists()

    def has_attachment(self) -> ColumnElement[bool]:
        """Those with an attachment."""
        return kept.c.number.in_(select(_texts.number).where(_texts.attachments > 0))

    def rule(self, name: str) -> ColumnElement[bool]:
        """Those that the rule hit."""
        return _read_or(_has_line(_texts.rules, name), super().rule(name))

    def user(self, name: str) -> ColumnElement[bool]:
        """Those that the user sent."""
        return _read_or(func.lower(_texts.authenticated) == ascii_lower(name), super().user(name))

    def tag(self, tag: str) -> ColumnElement[bool]:
        """Those to a forward-path with that tag."""
        return _read_or(_has_line(_texts.tags, tag), super().tag(tag))


_IS_READ = select(1).where(_texts.number == kept.c.number).correlate(kept).exists()


def _read_or(condition: ColumnElement[bool], before: ColumnElement[bool]) -> ColumnElement[bool]:
    """Messages of whose texts the condition holds, or that were not read and the other one holds."""
    return or_(kept.c.number.in_(select(_texts.number).where(condition)), and_(not_(_IS_READ), before))


def _has_line(column: ColumnElement[str], line: str) -> ColumnElement[bool]:
    return func.strpos(column, f"\n{line}\n") > 0


def _has(words: Words) -> ColumnElement[bool]:
    """The column is indexed, its line is not; a folded text has no character that LIKE takes for another."""
    wanted = searched_for(words)
    if not wanted:
        return func.false()
    part = PARTS[words.where] if words.where else None
    is_seen = part is None or part in SEEN
    column = _texts.seen if is_seen else _texts.fields
    found = column.like(f"%{wanted}%")
    if part is None:
        return found
    names = SearchedText._fields[: len(SEEN)] if is_seen else SearchedText._fields[len(SEEN) :]
    line = func.split_part(column, "\n", names.index(part) + 1)
    # Else the planner takes the two for independent, expects next to no messages, and looks through all.
    return and_(found, case((line.like(f"%{wanted}%"), true()), else_=false()))


_SOURCE = _TextSource()


class TextSearch:
    """A `gatepost.store.sql.search.Search`. Opened after forking."""

    listed = kept.outerjoin(kept_texts)
    shown = (_texts.attachments, _texts.shown_subject, _texts.shown_from, _texts.snippet)
    is_read = or_(kept.c.state == State.DELETED, _IS_READ)
    facts = Facts(kept.join(kept_texts), kept_texts.columns, _SOURCE, true())

    def __init__(self, database: Database) -> None:
        self._reader = TextReader(database)

    def parts(self, _connection: Connection, query: Query) -> Sequence[tuple[Source, ColumnElement[bool]]]:
        """All messages, or those whose text was read, where that makes a difference."""
        if not query.reads_text:
            return [(_SOURCE, true())]
        return [] if Is(mark=Mark.DELETED) in query.terms else [(_SOURCE, _IS_READ)]

    def asking(self, ask: Callable[[], Answer]) -> Answer:
        """Ask."""
        return ask()

    def clean(self) -> None:
        """What was read of a message is deleted with it."""

    def settle(self, number: int) -> None:
        """Read what was put back."""
        self._reader.read_one(number)

    def close(self) -> None:
        """End the thread; blocks."""
        self._reader.close()
