"""The store as a user of some domains sees it: only mail of which every recipient is in these domains.

Mail that has other recipients too is not seen: releasing or deleting it would decide for them, and its header
names them. All that pages and API ask passes here, so that nothing can be found, counted or changed that the
user does not see.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from types import TracebackType
from typing import Self

from gatepost.model.record import Record
from gatepost.model.user import Role, User
from gatepost.model.verdict import Reply
from gatepost.store import (
    Archive,
    Claim,
    ConflictError,
    JournalQuery,
    KeptMessage,
    KeptQuery,
    KeptSummary,
    Mailbox,
    Query,
    Statistics,
    StoreError,
)
from gatepost.store.facets import Facets
from gatepost.store.kept import Arrivals, Counts, Page, Position, Removed
from gatepost.store.query import Is, Later, Mark, Within

__all__ = ["DomainArchive", "DomainMailbox"]


class _Shared:
    """The store is the desk's, which closes it."""

    def close(self) -> None:
        """Nothing to close."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


class DomainArchive(_Shared):
    """A `gatepost.store.Archive` of the mail to these domains."""

    def __init__(self, archive: Archive, domains: frozenset[str]) -> None:
        self._archive = archive
        self._user = User(name="", role=Role.OPERATOR, domains=domains)
        self._domains = tuple(sorted(domains))

    def check_writable(self) -> None:
        """Raise StoreError if nothing could be committed now."""
        self._archive.check_writable()

    def statistics(self) -> Statistics:
        """Raise StoreError: the counts are of all domains."""
        raise StoreError("statistics count the mail of all domains")

    def records(self, query: JournalQuery, *, limit: int, before: str | None = None) -> list[Record]:
        """As the store's, within the domains."""
        return self._archive.records(replace(query, domains=self._domains), limit=limit, before=before)

    def record(self, transaction_id: str) -> Record | None:
        """As the store's, within the domains."""
        found = self._archive.record(transaction_id)
        return found if found and self._user.owns(one.address for one in found.recipients) else None

    def kept(self, query: KeptQuery, *, limit: int, before: str | None = None) -> list[KeptSummary]:
        """As the store's, within the domains."""
        return self._archive.kept(replace(query, domains=self._domains), limit=limit, before=before)

    def kept_message(self, kept_id: str) -> KeptMessage | None:
        """As the store's, within the domains."""
        found = self._archive.kept_message(kept_id)
        return found if found and self._user.owns(found.recipients) else None

    def own(self, kept_ids: Sequence[str]) -> list[str]:
        """Those of messages within the domains."""
        return [
            kept_id
            for kept_id in kept_ids
            if any(one.id == kept_id for one in self.kept(KeptQuery(id=kept_id, state=None), limit=1))
        ]

    def delete(self, kept_ids: Sequence[str], *, actor: str) -> list[str]:
        """As the store's, within the domains."""
        return self._archive.delete(self.own(kept_ids), actor=actor)

    def claim_release(self, message: KeptSummary, *, actor: str) -> Claim:
        """As the store's, within the domains; raises ConflictError."""
        if not self._user.owns(message.recipients):
            raise ConflictError("the message has recipients in other domains")
        return self._archive.claim_release(message, actor=actor)

    def renew_release(self, claim: Claim) -> None:
        """As the store's."""
        self._archive.renew_release(claim)

    def finish_release(self, claim: Claim, *, to: Sequence[str], reply: Reply) -> bool:
        """As the store's."""
        return self._archive.finish_release(claim, to=to, reply=reply)

    def abandon_release(self, claim: Claim) -> None:
        """As the store's."""
        self._archive.abandon_release(claim)


class DomainMailbox(_Shared):
    """A `gatepost.store.Mailbox` of the mail to these domains."""

    def __init__(self, mailbox: Mailbox, domains: frozenset[str]) -> None:
        self._mailbox = mailbox
        self._within = Within(domains=tuple(sorted(domains)))
        self.archive = DomainArchive(mailbox.archive, domains)
        """The same store's."""

    def _own(self, query: Query) -> Query:
        return Query(terms=(*query.terms, self._within))

    def page(self, query: Query, *, limit: int = 50, before: str | None = None) -> Page:
        """As the store's, within the domains; `Page.next` is an id: the store's numbers count all mail."""
        terms = query.terms
        if before is not None:
            if not self.archive.own([before]):
                return Page(messages=(), next=None)
            terms += (Later(than=before, negated=True),)
        found = self._mailbox.page(self._own(Query(terms=terms)), limit=limit + 1)
        behind = [one for one in found.messages if one.id != before]  # which may be deleted
        is_last = len(behind) <= limit and found.next is None
        return Page(messages=tuple(behind[:limit]), next=None if is_last else behind[limit - 1].id)

    def arrivals(self, position: Position, *, limit: int) -> Arrivals:
        """As the store's, within the domains."""
        found = self._mailbox.arrivals(position, limit=limit)
        own = {*self.archive.own([one.id for one in found.messages])}
        return replace(found, messages=tuple(one for one in found.messages if one.id in own))

    def position_before(self, moment: datetime) -> Position:
        """As the store's."""
        return self._mailbox.position_before(moment)

    def count(self, query: Query) -> int:
        """As the store's, within the domains."""
        return self._mailbox.count(self._own(query))

    def counts(self) -> Counts:
        """As the store's, within the domains."""
        inbox, quarantined, unread = (
            self.count(Query(terms=(Is(mark=mark),))) for mark in (Mark.INBOX, Mark.QUARANTINED, Mark.UNREAD)
        )
        return Counts(inbox=inbox, quarantined=quarantined, unread=unread)

    def facets(self, query: Query) -> Facets:
        """As the store's, within the domains."""
        return self._mailbox.facets(self._own(query))

    def message(self, kept_id: str) -> KeptMessage | None:
        """As the store's, within the domains."""
        return self.archive.kept_message(kept_id)

    def mark(self, kept_ids: Sequence[str], *, seen: bool) -> int:
        """As the store's, within the domains."""
        return self._mailbox.mark(self.archive.own(kept_ids), seen=seen)

    def delete(self, kept_ids: Sequence[str], *, actor: str) -> list[str]:
        """As the store's, within the domains."""
        return self._mailbox.delete(self.archive.own(kept_ids), actor=actor)

    def remove(self, kept_id: str, *, actor: str) -> Removed | None:
        """As the store's, within the domains."""
        return self._mailbox.remove(kept_id, actor=actor) if self.archive.own([kept_id]) else None

    def put_back(self, removed: Removed) -> bool:
        """As the store's, within the domains."""
        return bool(self.archive.own([removed.message.id])) and self._mailbox.put_back(removed)

    def delete_matching(self, query: Query, *, actor: str) -> int:
        """As the store's, within the domains."""
        return self._mailbox.delete_matching(self._own(query), actor=actor)

    def changes(self) -> int:
        """As the store's."""
        return self._mailbox.changes()
