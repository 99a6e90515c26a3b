"""The backend that stores everything in a PostgreSQL database, which several machines may share.

Nothing outside of this folder imports psycopg.
"""

from pathlib import Path

from gatepost.config.store import StoreSettings
from gatepost.store.contents import Contents, Restored
from gatepost.store.contract import Archive, Conversations, DeskSessions, Exchange, Mailbox, Reporting, Store
from gatepost.store.errors import StoreError, StoreForbidden, StoreUnavailable
from gatepost.store.node import RunningNode
from gatepost.store.postgresql import preparing
from gatepost.store.postgresql.database import Database
from gatepost.store.postgresql.desk_sessions import PostgresqlDeskSessions
from gatepost.store.postgresql.driver import Place
from gatepost.store.postgresql.exchange import DeskExchange
from gatepost.store.postgresql.reporting import DeskReporting
from gatepost.store.postgresql.search import TextSearch
from gatepost.store.sql.archive import SqlArchive
from gatepost.store.sql.conversations import SqlConversations
from gatepost.store.sql.mailbox import SqlMailbox
from gatepost.store.sql.store import SqlStore
from gatepost.store.sql.unwritten import Unwritten

__all__ = [
    "back_up",
    "check",
    "open_archive",
    "open_conversations",
    "open_desk_sessions",
    "open_exchange",
    "open_mailbox",
    "open_reporting",
    "open_store",
    "restore",
]

_NO_BACKUP = (
    "a store on a PostgreSQL server is backed up and restored with the server's own means,"
    " like pg_dump and pg_restore"
)


def check(settings: StoreSettings, *, asks: bool) -> None:
    """See `gatepost.store.contract.Backend`."""
    Place(settings.url, settings.read_password)
    if asks:
        required = settings.model_copy(update={"required": True})
        try:
            Database.opened(required, preparing.examine_for_start, counted=False).close()
        except StoreForbidden:
            raise
        except StoreUnavailable:
            pass  # it may be back when the gateway starts


def open_store(settings: StoreSettings, _base: Path, *, node: RunningNode | None = None) -> Store:
    """See `gatepost.store.contract.Backend`."""
    database = Database.create(settings, node=node, warns=node is not None)  # not at each release
    return SqlStore(
        database, SqlArchive(database), settings.keep, Unwritten.in_memory(), required=settings.required
    )


def open_archive(settings: StoreSettings, _base: Path) -> Archive:
    """See `gatepost.store.contract.Backend`."""
    return SqlArchive(Database.existing(settings))


def open_mailbox(settings: StoreSettings, _base: Path) -> Mailbox:
    """See `gatepost.store.contract.Backend`."""
    database = Database.existing(settings)
    return SqlMailbox(database, TextSearch(database))


def open_conversations(settings: StoreSettings, _base: Path) -> Conversations:
    """See `gatepost.store.contract.Backend`."""
    return SqlConversations(Database.existing(settings))


def open_exchange(settings: StoreSettings, *, desk: str) -> Exchange | None:
    """See `gatepost.store.contract.Backend`."""
    return DeskExchange(settings, desk=desk)


def open_reporting(settings: StoreSettings) -> Reporting | None:
    """See `gatepost.store.contract.Backend`."""
    return DeskReporting(settings)


def open_desk_sessions(settings: StoreSettings, *, unused_seconds: float) -> DeskSessions | None:
    """See `gatepost.store.contract.Backend`."""
    return PostgresqlDeskSessions(settings, unused_seconds=unused_seconds)


def back_up(_settings: StoreSettings, _base: Path, _file: Path, *, replace: bool) -> Contents:  # noqa: ARG001 - the contract's name
    """Raise StoreError: the server's own means do it, for all nodes at once."""
    raise StoreError(_NO_BACKUP)


def restore(_settings: StoreSettings, _base: Path, _file: Path, *, replace: bool) -> Restored:  # noqa: ARG001 - as above
    """Raise StoreError, as `back_up`."""
    raise StoreError(_NO_BACKUP)
