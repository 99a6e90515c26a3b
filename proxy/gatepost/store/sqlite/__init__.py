"""The backend that stores everything in an SQLite file.

Nothing outside of this folder imports sqlite3.
"""

from pathlib import Path

from gatepost.config.store import StoreSettings
from gatepost.store.contents import Contents, Restored
from gatepost.store.contract import Archive, Conversations, DeskSessions, Exchange, Mailbox, Reporting, Store
from gatepost.store.node import RunningNode
from gatepost.store.sql.archive import SqlArchive
from gatepost.store.sql.conversations import SqlConversations
from gatepost.store.sql.mailbox import SqlMailbox
from gatepost.store.sql.store import SqlStore
from gatepost.store.sql.unwritten import Unwritten
from gatepost.store.sqlite import backup, driver
from gatepost.store.sqlite.database import Database
from gatepost.store.sqlite.search import open_search

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


def check(settings: StoreSettings, *, asks: bool) -> None:  # noqa: ARG001 - the contract's name
    """See `gatepost.store.contract.Backend`."""
    driver.locate(settings.url, Path())


def open_store(settings: StoreSettings, base: Path, *, node: RunningNode | None = None) -> Store:  # noqa: ARG001 - the contract's name
    """See `gatepost.store.contract.Backend`."""
    database = Database.create(settings, base)
    archive = SqlArchive(Database.existing(settings, base))
    return SqlStore(
        database, archive, settings.keep, Unwritten.open(database.path), required=settings.required
    )


def open_archive(settings: StoreSettings, base: Path) -> Archive:
    """See `gatepost.store.contract.Backend`."""
    return SqlArchive(Database.existing(settings, base))


def open_mailbox(settings: StoreSettings, base: Path) -> Mailbox:
    """See `gatepost.store.contract.Backend`."""
    return SqlMailbox(*open_search(settings, base))


def open_conversations(settings: StoreSettings, base: Path) -> Conversations:
    """See `gatepost.store.contract.Backend`."""
    return SqlConversations(Database.existing(settings, base))


def open_exchange(_settings: StoreSettings, *, desk: str) -> Exchange | None:  # noqa: ARG001 - the contract's name
    """None: a file is of one node."""
    return None


def open_reporting(_settings: StoreSettings) -> Reporting | None:
    """None: a file is of one node."""
    return None


def open_desk_sessions(
    _settings: StoreSettings,
    *,
    unused_seconds: float,  # noqa: ARG001 - the contract's name
) -> DeskSessions | None:
    """None: a file is of one node."""
    return None


def back_up(settings: StoreSettings, base: Path, file: Path, *, replace: bool) -> Contents:
    """See `gatepost.store.contract.Backend`."""
    return backup.back_up(driver.locate(settings.url, base), file, replace=replace)


def restore(settings: StoreSettings, base: Path, file: Path, *, replace: bool) -> Restored:
    """See `gatepost.store.contract.Backend`."""
    return backup.restore(driver.locate(settings.url, base), file, replace=replace)
