"""Search in the full-text index beside the store, which a thread fills while the mailbox is open."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from sqlalchemy import ColumnElement, Connection, and_, func, select, true

from gatepost.config.store import StoreSettings
from gatepost.store.errors import StoreError
from gatepost.store.query.messages import Is, Mark, Query
from gatepost.store.sql.conditions import STORE, Source, words_of
from gatepost.store.sql.schema import kept
from gatepost.store.sql.search import Facts
from gatepost.store.sqlite import driver
from gatepost.store.sqlite.database import Database
from gatepost.store.sqlite.index import INDEX, Index, facts, index_for, shown
from gatepost.store.sqlite.indexer import Indexer

__all__ = ["IndexSearch", "open_search"]

Answer = TypeVar("Answer")

_SAME = and_(facts.c.number == kept.c.number, facts.c.id == kept.c.id)


class IndexSearch:
    """A `gatepost.store.sql.search.Search`. Opened after forking."""

    listed = kept.outerjoin(facts, _SAME).outerjoin(shown, shown.c.number == facts.c.number)
    shown = (
        facts.c.attachments,
        shown.c.subject.label("shown_subject"),
        shown.c.header_from.label("shown_from"),
        shown.c.snippet,
    )
    is_read = select(1).where(_SAME).correlate(kept).exists()
    facts = Facts(facts, facts.columns, INDEX, facts.c.searchable != 0)

    def __init__(self, database: Database, index: Index) -> None:
        self._index = index
        self._indexer = Indexer(database, index)

    def parts(self, connection: Connection, query: Query) -> Sequence[tuple[Source, ColumnElement[bool]]]:
        """Messages not indexed yet, indexed ones, older ones not indexed yet.

        Only the store has deleted messages, only the index has texts.
        """
        lowest = connection.scalar(select(func.min(facts.c.number)))
        highest = connection.scalar(select(func.max(facts.c.number)))
        if Is(mark=Mark.DELETED) in query.terms or lowest is None:
            return [] if query.reads_text else [(STORE, true())]
        if query.reads_text:
            return [(index_for(words_of(query)), true())]
        return [(STORE, kept.c.number > highest), (INDEX, true()), (STORE, kept.c.number < lowest)]

    def asking(self, ask: Callable[[], Answer]) -> Answer:
        """Ask; if the index is damaged rebuild it and ask again."""
        try:
            return ask()
        except StoreError as error:
            if not (driver.means_damage(error) and self._indexer.repair()):
                raise
        return ask()

    def clean(self) -> None:
        """Remove deleted messages soon."""
        self._indexer.clean()

    def settle(self, number: int) -> None:
        """Index what was put back, from a number on; another process that has the index does so soon."""
        self.asking(partial(self._indexer.settle, number))

    def close(self) -> None:
        """End the indexing."""
        self._indexer.close()
        self._index.close()


def open_search(settings: StoreSettings, base: Path) -> tuple[Database, IndexSearch]:
    """Open a store that exists, and its index; raises StoreError with a text for the operator."""
    Database.existing(settings, base).close()
    index = Index(driver.locate(settings.url, base))
    index.open()
    try:
        database = Database.existing(settings, base, attached={index.SCHEMA: index.path})
    except BaseException:
        index.close()
        raise
    return database, IndexSearch(database, index)
