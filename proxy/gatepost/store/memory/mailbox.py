"""Kept messages as people read them: listed, searched by text, opened, marked and deleted."""

from collections.abc import Sequence
from datetime import datetime
from typing import Self

from gatepost.mime.words import decode_words
from gatepost.printable import storable
from gatepost.store.facets import Facets, mailboxes_of, most_frequent, recipients_of
from gatepost.store.kept import Arrivals, Box, Counts, KeptMessage, Listed, Page, Position, Removed, State
from gatepost.store.memory.archive import MemoryArchive
from gatepost.store.memory.data import Data, Entry, summary_fields
from gatepost.store.memory.search import search
from gatepost.store.query.messages import Is, Mark, Query

__all__ = ["MemoryMailbox"]


class MemoryMailbox:
    """A `gatepost.store.contract.Mailbox` in memory."""

    def __init__(self, data: Data) -> None:
        self._data = data
        self.archive = MemoryArchive(data)
        """The same store's."""

    def close(self) -> None:
        """Nothing is open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def page(self, query: Query, *, limit: int = 50, before: str | None = None) -> Page:
        """The newest that match, newest first; ``before`` is `Page.next` of the page before."""
        found = search(self._data.snapshot(), query)
        if before is not None:
            found = [entry for entry in found if entry.number < _number(before)]
        following = str(found[limit - 1].number) if len(found) > limit else None
        return Page(messages=tuple(map(_listed, found[:limit])), next=following)

    def arrivals(self, position: Position, *, limit: int) -> Arrivals:
        """The messages that were committed behind a position, without deleted ones; at most so many."""
        entries = self._data.snapshot().kept.values()
        behind = [entry for entry in entries if entry.number > position.number][:limit]
        here = [entry for entry in behind if entry.message.state is not State.DELETED]
        return Arrivals(
            messages=tuple(map(_listed, here)),
            position=Position(number=behind[-1].number) if behind else position,
        )

    def position_before(self, moment: datetime) -> Position:
        """The position for `arrivals` behind all messages that were received before that moment."""
        entries = self._data.snapshot().kept.values()
        numbers = (entry.number for entry in entries if entry.message.created_at < moment)
        return Position(number=max(numbers, default=0))

    def count(self, query: Query) -> int:
        """How many match."""
        return len(search(self._data.snapshot(), query))

    def counts(self) -> Counts:
        """How many messages there are in each box."""
        here = search(self._data.snapshot(), Query())
        return Counts(
            inbox=sum(entry.message.box is Box.INBOX for entry in here),
            quarantined=sum(
                entry.message.box is Box.QUARANTINE and entry.message.state is State.HELD for entry in here
            ),
            unread=sum(not entry.seen for entry in here),
        )

    def facets(self, query: Query) -> Facets:
        """How the messages that match are spread over mailboxes and recipients."""
        snapshot = self._data.snapshot()
        found = [] if Is(mark=Mark.DELETED) in query.terms else search(snapshot, query)
        users = {record.id: record.authenticated for record in snapshot.records.values()}
        messages = [entry.message for entry in found]
        return Facets(
            messages=len(found),
            unread=sum(not entry.seen for entry in found),
            attachments=sum(entry.excerpt is not None and entry.excerpt.attachments > 0 for entry in found),
            mailboxes=most_frequent(
                value
                for message in messages
                for value in mailboxes_of(message.recipients, users.get(message.transaction_id))
            ),
            recipients=most_frequent(
                value for message in messages for value in recipients_of(message.recipients)
            ),
        )

    def message(self, kept_id: str) -> KeptMessage | None:
        """A message with its content; None where there is none. A deleted one has no content."""
        return self.archive.kept_message(kept_id)

    def mark(self, kept_ids: Sequence[str], *, seen: bool) -> int:
        """Mark messages as seen or as unread; returns how many were not so before."""
        return self._data.mark(kept_ids, seen=seen)

    def delete(self, kept_ids: Sequence[str], *, actor: str) -> list[str]:
        """Remove the content of messages; returns the ids of those that had any, in the order asked."""
        return self._data.delete(kept_ids, actor=actor)

    def remove(self, kept_id: str, *, actor: str) -> Removed | None:
        """Delete one message and return it as it was; None where nothing was deleted."""
        removed = self._data.remove([kept_id], actor=actor)
        return removed[0] if removed else None

    def put_back(self, removed: Removed) -> bool:
        """Undo that deletion; False where the message was changed since or is gone."""
        return self._data.put_back(removed)

    def delete_matching(self, query: Query, *, actor: str) -> int:
        """Delete all that match and are there now; returns how many."""
        found = search(self._data.snapshot(), query)
        return len(self._data.delete([entry.message.id for entry in found], actor=actor))

    def changes(self) -> int:
        """A number that differs after each change."""
        return self._data.changes


def _number(before: str) -> int:
    """The number that `Page.next` names; 0, before which there is nothing, for any other text."""
    return int(before) if before.isascii() and before.isdigit() and len(before) < 19 else 0


def _listed(entry: Entry) -> Listed:
    excerpt = entry.excerpt
    return Listed(
        **summary_fields(entry.message),
        unread=not entry.seen,
        shown_subject=excerpt.shown_subject if excerpt else storable(decode_words(entry.message.subject)),
        shown_from=excerpt.shown_from if excerpt else storable(decode_words(entry.message.header_from)),
        attachments=excerpt.attachments if excerpt else 0,
        snippet=excerpt.snippet if excerpt else "",
    )
