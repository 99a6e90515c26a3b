"""Which backend a store has, by the scheme of its URL; a backend is imported when it is first opened."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from gatepost.config.store import StoreSettings
from gatepost.store.contents import Contents, Copied, Progress, Restored
from gatepost.store.contract import (
    Archive,
    Backend,
    Conversations,
    DeskSessions,
    Exchange,
    Mailbox,
    Reporting,
    Store,
)
from gatepost.store.errors import StoreError
from gatepost.store.node import RunningNode

__all__ = [
    "back_up",
    "check_store",
    "compare_stores",
    "copy_store",
    "import_backend",
    "open_archive",
    "open_conversations",
    "open_desk_sessions",
    "open_exchange",
    "open_mailbox",
    "open_reporting",
    "open_store",
    "restore",
]

_BACKENDS = {
    "postgresql": "gatepost.store.postgresql",
    "postgres": "gatepost.store.postgresql",
    "sqlite": "gatepost.store.sqlite",
}
"""The modules that are a `Backend`, by the scheme of the URL."""


def import_backend(settings: StoreSettings) -> None:
    """Import the modules of a store's backend, so that processes that are forked later share them.

    Raises StoreError with a text for the operator.
    """
    _backend(settings)


def check_store(settings: StoreSettings, *, asks: bool = False) -> None:
    """Raise StoreError for settings of no use; no file is opened, and nothing is written.

    ``asks``: ask a server whether its database can be used; one that does not answer is no error.
    """
    _backend(settings).check(settings, asks=asks)


def open_store(settings: StoreSettings, base: Path, *, node: RunningNode | None = None) -> Store:
    """Open a store to write, from an event loop's thread; blocks. It is made or migrated where needed.

    Raises StoreError with a text for the operator. A relative place is relative to ``base``. If another node
    with the name of ``node`` has it open, the log says so.
    """
    return _backend(settings).open_store(settings, base, node=node)


def open_archive(settings: StoreSettings, base: Path) -> Archive:
    """Open a store that exists, to look up; raises StoreError with a text for the operator."""
    return _backend(settings).open_archive(settings, base)


def open_mailbox(settings: StoreSettings, base: Path) -> Mailbox:
    """Open a store that exists, to read messages; raises StoreError with a text for the operator."""
    return _backend(settings).open_mailbox(settings, base)


def open_conversations(settings: StoreSettings, base: Path) -> Conversations:
    """Open a store that exists, to read conversations; raises StoreError with a text for the operator."""
    return _backend(settings).open_conversations(settings, base)


def open_exchange(settings: StoreSettings, *, desk: str) -> Exchange | None:
    """Where desks of several nodes pass lines to each other, or None; raises StoreError."""
    return _backend(settings).open_exchange(settings, desk=desk)


def open_reporting(settings: StoreSettings) -> Reporting | None:
    """Which of several desks reports to the webhook, or None; raises StoreError."""
    return _backend(settings).open_reporting(settings)


def open_desk_sessions(settings: StoreSettings, *, unused_seconds: float) -> DeskSessions | None:
    """Where desks of several nodes store who has logged in, or None; raises StoreError.

    A session ends after ``unused_seconds`` without use.
    """
    return _backend(settings).open_desk_sessions(settings, unused_seconds=unused_seconds)


def back_up(settings: StoreSettings, base: Path, file: Path, *, replace: bool = False) -> Contents:
    """Copy a store to one new file, while others write it; raises StoreError with a text for the operator.

    See `gatepost.store.contract.Backend.back_up`.
    """
    return _backend(settings).back_up(settings, base, file, replace=replace)


def restore(settings: StoreSettings, base: Path, file: Path, *, replace: bool = False) -> Restored:
    """Make the store from a backup; raises StoreError with a text for the operator.

    See `gatepost.store.contract.Backend.restore`.
    """
    return _backend(settings).restore(settings, base, file, replace=replace)


def copy_store(
    source: StoreSettings, target: StoreSettings, base: Path, report: Callable[[Progress], None]
) -> Copied:
    """Copy a store into one of another kind, and compare all of it; raises StoreError.

    An interrupted copy is completed by the next call; nothing else opens it before. Nothing is written to the
    source, which nobody may have open, nor to a target that has content of its own.
    """
    here, there = _copying(source), _copying(target)
    done: Copied = import_module("gatepost.store.sql.copying").copy(
        here.open_source(source, base), lambda mark: there.open_target(target, base, mark), report
    )
    return done


def compare_stores(
    source: StoreSettings, target: StoreSettings, base: Path, report: Callable[[Progress], None]
) -> Copied:
    """Compare two stores of different kinds; raises StoreError at the first difference."""
    here, there = _copying(source), _copying(target)
    done: Copied = import_module("gatepost.store.sql.copying").compare(
        here.open_source(source, base), there.open_target(target, base, None), report
    )
    return done


def _copying(settings: StoreSettings) -> Any:
    """The module of a backend that opens a store to be copied."""
    return import_module(f"{_module(settings)}.copying")


def _backend(settings: StoreSettings) -> Backend:
    return cast("Backend", import_module(_module(settings)))


def _module(settings: StoreSettings) -> str:
    scheme, separator, _ = settings.url.partition(":")
    if not separator or scheme not in _BACKENDS:  # the rest of it may hold a password
        raise StoreError(
            "store.url is not the URL of a store, expected sqlite:///FILE or postgresql://HOST/DATABASE"
        )
    return _BACKENDS[scheme]
