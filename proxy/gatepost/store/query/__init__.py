"""The query languages for stored messages and journal records, parsed into values.

Nothing here depends on a database.
"""

from gatepost.store.query.criteria import JournalQuery, KeptQuery, cursor_id
from gatepost.store.query.grammar import QueryError
from gatepost.store.query.journal import parse_journal_query
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
    Where,
    Within,
    Words,
    has_term,
    parse_query,
    toggled,
)
from gatepost.store.query.moments import past_moment

__all__ = [
    "After",
    "Before",
    "Fact",
    "Has",
    "Is",
    "JournalQuery",
    "KeptQuery",
    "Larger",
    "Later",
    "Mark",
    "Named",
    "Query",
    "QueryError",
    "Smaller",
    "Term",
    "Where",
    "Within",
    "Words",
    "cursor_id",
    "has_term",
    "parse_journal_query",
    "parse_query",
    "past_moment",
    "toggled",
]
