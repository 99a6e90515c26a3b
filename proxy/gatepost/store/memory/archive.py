"""The journal and the kept messages by their fields; messages are deleted and released here."""

from collections.abc import Sequence
from datetime import datetime
from itertools import islice
from typing import Self

from gatepost.model.record import Record
from gatepost.model.verdict import Reply
from gatepost.store.kept import Claim, KeptMessage, KeptSummary
from gatepost.store.memory.data import Data, summary_fields
from gatepost.store.memory.journal import is_kept, is_recorded
from gatepost.store.memory.statistics import MemoryStatistics
from gatepost.store.query.criteria import JournalQuery, KeptQuery, cursor_id

__all__ = ["MemoryArchive"]


class MemoryArchive:
    """A `gatepost.store.contract.Archive` in memory."""

    def __init__(self, data: Data) -> None:
        self._data = data

    def close(self) -> None:
        """Nothing is open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def check_writable(self) -> None:
        """It always is."""

    def statistics(self) -> MemoryStatistics:
        """Counts over the journal."""
        return MemoryStatistics(self._data)

    def records(self, query: JournalQuery, *, limit: int, before: str | None = None) -> list[Record]:
        """The newest that match, newest first; ``before`` is the id of the last one of the page before."""
        snapshot = self._data.snapshot()
        newest = sorted(snapshot.records.values(), key=_place, reverse=True)
        if before is not None:
            last = snapshot.records.get(before)
            newest = [
                record
                for record in newest
                if (_place(record) < _place(last) if last else record.id < cursor_id(before))
            ]
        kept = snapshot.kept.get(query.id or "")
        of_kept = kept.message.transaction_id if kept else None
        found = (record for record in newest if is_recorded(record, query, of_kept=of_kept))
        return list(islice(found, limit))

    def record(self, transaction_id: str) -> Record | None:
        """One record; None where there is none."""
        return self._data.snapshot().records.get(transaction_id)

    def kept(self, query: KeptQuery, *, limit: int, before: str | None = None) -> list[KeptSummary]:
        """The newest that match, newest first; ``before`` is the id of the last one of the page before."""
        snapshot = self._data.snapshot()
        entries = snapshot.kept
        newest = [*reversed(entries.values())]
        if before is not None:
            last = entries.get(before)
            newest = [
                entry
                for entry in newest
                if (entry.number < last.number if last else entry.message.id < cursor_id(before))
            ]
        sessions = {record.id: record.session_id for record in snapshot.records.values()}
        found = (
            message
            for message in (entry.message for entry in newest)
            if is_kept(message, query, session_id=sessions.get(message.transaction_id))
        )
        return [KeptSummary(**summary_fields(message)) for message in islice(found, limit)]

    def kept_message(self, kept_id: str) -> KeptMessage | None:
        """A message with its content; None where there is none. A deleted one has no content."""
        entry = self._data.snapshot().kept.get(kept_id)
        return entry.message if entry else None

    def delete(self, kept_ids: Sequence[str], *, actor: str) -> list[str]:
        """Remove the content of messages; returns the ids of those that had any, in the order asked."""
        return self._data.delete(kept_ids, actor=actor)

    def claim_release(self, message: KeptSummary, *, actor: str) -> Claim:
        """Reserve a message for one release; raises ConflictError."""
        return self._data.claim(message, actor=actor)

    def renew_release(self, claim: Claim) -> None:
        """Let the claim expire later, as if it were made now."""
        self._data.renew(claim)

    def finish_release(self, claim: Claim, *, to: Sequence[str], reply: Reply) -> bool:
        """Note that the message was sent, and end the claim; False where it is gone or deleted."""
        return self._data.released(claim, to=to, reply=reply)

    def abandon_release(self, claim: Claim) -> None:
        """End the claim: the message was not sent."""
        self._data.end(claim)


def _place(record: Record) -> tuple[datetime, str]:
    return record.received_at, record.id
