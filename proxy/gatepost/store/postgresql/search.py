"""Search in the folded texts of messages, which a thread reads while the mailbox is open."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from sqlalchemy import ColumnElement, Connection, and_, case, false, func, literal, not_, or_, select, true
from sqlalchemy.dialects.postgresql import ARRAY

from gatepost.store.excerpt import PARTS, SEEN, SearchedText
from gatepost.store.folding import searched_for
from gatepost.store.kept import State
from gatepost.store.postgresql.database import Database
from gatepost.store.postgresql.reader import TextReader
from gatepost.store.postgresql.schema import USER_KEY, kept_texts, lines_of, user_key
from gatepost.store.query.messages import Fact, Is, Mark, Named, Query, Words
from gatepost.store.sql.conditions import STORE, KeptSource, Source
from gatepost.store.sql.schema import TEXT, kept
from gatepost.store.sql.search import Facts
from gatepost.store.text import ascii_lower

__all__ = ["TextSearch"]

Answer = TypeVar("Answer")

_texts = kept_texts.c
_READ = _texts.number == kept.c.number
_IS_READ = select(1).where(_READ).correlate(kept).exists()


class _TextSource(KeptSource):
    """The messages whose texts were read; with the condition `_READ`."""

    def words(self, words: Sequence[Words]) -> ColumnElement[bool]:
        """Those with all of the words."""
        return and_(*map(_has, words))

    def without(self, words: Words) -> ColumnElement[bool]:
        """Those without them."""
        return not_(_has(words))

    def has_attachment(self) -> ColumnElement[bool]:
        """Those with an attachment."""
        return _texts.attachments > 0

    def rule(self, name: str) -> ColumnElement[bool]:
        """Those that the rule hit."""
        return _has_line(_texts.rules, name)

    def user(self, name: str) -> ColumnElement[bool]:
        """Those that the user sent."""
        wanted = ascii_lower(name)
        return and_(
            _texts.authenticated.is_not(None),
            user_key(_texts.authenticated) == wanted[:USER_KEY],
            func.lower(_texts.authenticated) == wanted,
        )

    def tag(self, tag: str) -> ColumnElement[bool]:
        """Those to a forward-path with that tag."""
        return _has_line(_texts.tags, tag)


def _has_line(column: ColumnElement[str], line: str) -> ColumnElement[bool]:
    return lines_of(column).contains(literal([line], ARRAY(TEXT)))


def _has(words: Words) -> ColumnElement[bool]:
    """The column is indexed, its line is not; a folded text has no character that LIKE takes for another."""
    wanted = searched_for(words)
    if not wanted:
        return false()
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
_OF_TEXTS = {Fact.RULE, Fact.USER, Fact.TAG, Fact.MAILBOX}
"""What is read together with a text, where it is found sooner."""


class TextSearch:
    """A `gatepost.store.sql.search.Search`. Opened after forking."""

    listed = kept.outerjoin(kept_texts)
    shown = (_texts.attachments, _texts.shown_subject, _texts.shown_from, _texts.snippet)
    is_read = or_(kept.c.state == State.DELETED, _IS_READ)
    facts = Facts(kept.join(kept_texts), kept_texts.columns, _SOURCE, true())

    def __init__(self, database: Database) -> None:
        self._reader = TextReader(database)

    def parts(self, connection: Connection, query: Query) -> Sequence[tuple[Source, ColumnElement[bool]]]:
        """Those not read yet, and those that were read; or all, where that makes no difference.

        Texts are read in the order of the numbers, and what is put back is read at once.
        """
        of_texts = any(isinstance(term, Named) and term.fact in _OF_TEXTS for term in query.terms)
        if Is(mark=Mark.DELETED) in query.terms or not (query.reads_text or of_texts):
            return [] if query.reads_text else [(STORE, true())]
        if query.reads_text:
            return [(_SOURCE, _READ)]
        highest = connection.scalar(select(func.max(_texts.number))) or 0
        return [(STORE, kept.c.number > highest), (_SOURCE, _READ)]

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
