"""What an identifier names: a session, a transaction, or a message that was kept from one."""

from gatepost.model.record import Record
from gatepost.store.contract import Archive
from gatepost.store.kept import KeptSummary
from gatepost.store.query.criteria import JournalQuery, KeptQuery
from gatepost.values import value

__all__ = ["Found", "find"]

_LIMIT = 1000
"""Transactions of a session, and messages kept from them; of more the newest."""


@value
class Found:
    """What an identifier names, newest first."""

    records: tuple[Record, ...]
    """Of a session, all of its transactions; of a kept message, that of its transaction.

    Those that retention has deleted are missing.
    """
    kept: tuple[KeptSummary, ...]
    """Of a kept message, only itself; else all that was kept from these transactions, deleted ones too."""


def find(archive: Archive, some_id: str) -> Found:
    """Look an identifier up, whichever of the three it is; blocks. Raises StoreError."""
    return Found(
        records=tuple(archive.records(JournalQuery(id=some_id), limit=_LIMIT)),
        kept=tuple(archive.kept(KeptQuery(id=some_id, state=None), limit=_LIMIT)),
    )
