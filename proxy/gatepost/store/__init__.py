"""The journal, quarantine and inbox, behind a contract; callers import from here and from `query` only.

A backend is a folder that fulfils `contract`; `opening` selects it by the scheme of the URL.
"""

from gatepost.store.contents import Contents, Copied, CopiedTable, Progress, Restored
from gatepost.store.contract import (
    Archive,
    Conversations,
    DeskSessions,
    Exchange,
    Mailbox,
    Statistics,
    Store,
)
from gatepost.store.conversation import Conversation, ConversationPart, SessionSummary, of_transaction
from gatepost.store.errors import (
    ConflictError,
    StoreError,
    StoreForbidden,
    StoreFull,
    StoreUnavailable,
    StoreUnusable,
)
from gatepost.store.exchange import PassedBatch, Turn
from gatepost.store.facets import Facet, Facets
from gatepost.store.finding import Found, find
from gatepost.store.kept import (
    Arrivals,
    Box,
    Claim,
    Counts,
    Kept,
    KeptMessage,
    KeptSummary,
    Listed,
    Page,
    Position,
    Removed,
    State,
)
from gatepost.store.node import RunningNode
from gatepost.store.opening import (
    back_up,
    check_store,
    compare_stores,
    copy_store,
    import_backend,
    open_archive,
    open_conversations,
    open_desk_sessions,
    open_exchange,
    open_mailbox,
    open_store,
    restore,
)
from gatepost.store.query import JournalQuery, KeptQuery, Query, QueryError, parse_query
from gatepost.store.releasing import release_once
from gatepost.store.statistics import Bucket, Counted, Newest, RuleTally, Span, Timeline, Top

__all__ = [
    "Archive",
    "Arrivals",
    "Box",
    "Bucket",
    "Claim",
    "ConflictError",
    "Contents",
    "Conversation",
    "ConversationPart",
    "Conversations",
    "Copied",
    "CopiedTable",
    "Counted",
    "Counts",
    "DeskSessions",
    "Exchange",
    "Facet",
    "Facets",
    "Found",
    "JournalQuery",
    "Kept",
    "KeptMessage",
    "KeptQuery",
    "KeptSummary",
    "Listed",
    "Mailbox",
    "Newest",
    "Page",
    "PassedBatch",
    "Position",
    "Progress",
    "Query",
    "QueryError",
    "Removed",
    "Restored",
    "RuleTally",
    "RunningNode",
    "SessionSummary",
    "Span",
    "State",
    "Statistics",
    "Store",
    "StoreError",
    "StoreForbidden",
    "StoreFull",
    "StoreUnavailable",
    "StoreUnusable",
    "Timeline",
    "Top",
    "Turn",
    "back_up",
    "check_store",
    "compare_stores",
    "copy_store",
    "find",
    "import_backend",
    "of_transaction",
    "open_archive",
    "open_conversations",
    "open_desk_sessions",
    "open_exchange",
    "open_mailbox",
    "open_store",
    "parse_query",
    "release_once",
    "restore",
]
