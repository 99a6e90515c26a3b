"""KEEP: the journal, quarantine and inbox, in one database (the only import of SQLAlchemy).

store       the gateway's side: commit, journal, withdraw; answers after COMMIT
archive     the people's side: look up, delete, mark as released
conversations  what was said in sessions
mailbox     kept messages as people read them: listed, searched, opened, marked, deleted
query       what people write to find messages, as values
conditions  the same as SQL
moments     times in the past as people write them
index       the full-text index, in a file of its own
indexer     the thread that fills it
excerpt     what it knows of a message's text
statistics  counts over the journal
journal_search  what people write to find transactions
kept        the nouns: Kept, KeptSummary, KeptMessage
errors      StoreError, StoreFull, StoreUnavailable
writer      the thread that writes in groups
retention   what is too old or too much
age         what is too old by a clock that may jump
database    opens, creates and migrates the database
sqlite      everything that is SQLite's own
schema      the tables
rows        values -> rows -> values
migrations  how an older database becomes one of today (alembic)
"""

from gatepost.store.archive import Archive, JournalQuery, KeptQuery
from gatepost.store.conversations import (
    Conversation,
    ConversationPart,
    Conversations,
    SessionSummary,
    of_transaction,
)
from gatepost.store.errors import StoreError, StoreFull, StoreUnavailable
from gatepost.store.kept import Box, Kept, KeptMessage, KeptSummary, Listed, State
from gatepost.store.mailbox import Counts, Mailbox, Page
from gatepost.store.query import Query, QueryError, parse_query
from gatepost.store.store import Store

__all__ = [
    "Archive",
    "Box",
    "Conversation",
    "ConversationPart",
    "Conversations",
    "Counts",
    "JournalQuery",
    "Kept",
    "KeptMessage",
    "KeptQuery",
    "KeptSummary",
    "Listed",
    "Mailbox",
    "Page",
    "Query",
    "QueryError",
    "SessionSummary",
    "State",
    "Store",
    "StoreError",
    "StoreFull",
    "StoreUnavailable",
    "of_transaction",
    "parse_query",
]
