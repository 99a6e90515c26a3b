"""What is too old or too much, taken out in small steps."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, delete, select

from proxy.config.settings import Keep
from proxy.store.kept import Box, State
from proxy.store.rows import microseconds
from proxy.store.schema import kept, sessions, transactions

__all__ = ["Retention"]

_RECORDS = 250
_MESSAGES = 25
"""Taken out in one step: a few milliseconds of work."""


class Retention:
    """Applies `Keep` to one database. `sweep` finds what has to go, each `step` takes out some of it."""

    def __init__(self, keep: Keep) -> None:
        self._keep = keep
        self._oldest_record = 0
        self._oldest_message = 0
        self._oldest_session = 0
        self._first_kept: dict[tuple[Box, bool], int] = {}

    @property
    def slack(self) -> int:
        """So many messages more than may stay do no harm until the next sweep."""
        return max(10, self._keep.messages // 10)

    def sweep(self, connection: Connection) -> None:
        """Find the bounds; reads the index over what may stay, 25 ms for a million records."""
        oldest = microseconds(datetime.now(UTC) - timedelta(days=self._keep.days))
        newest_first = select(transactions.c.received_at).order_by(transactions.c.received_at.desc())
        excess = connection.scalar(newest_first.offset(self._keep.journal - 1).limit(1))
        self._oldest_record = max(oldest, excess or 0)
        self._oldest_message = oldest
        newest_first = select(sessions.c.started_at).order_by(sessions.c.started_at.desc())
        excess = connection.scalar(newest_first.offset(self._keep.journal - 1).limit(1))
        self._oldest_session = max(oldest, excess or 0)
        for box in Box:
            for deleted in (False, True):
                numbers = (
                    select(kept.c.number)
                    .where(kept.c.box == box, (kept.c.state == State.DELETED) == deleted)
                    .order_by(kept.c.number.desc())
                )
                first = connection.scalar(numbers.offset(self._keep.messages - 1).limit(1))
                self._first_kept[box, deleted] = first or 0

    def step(self, connection: Connection) -> bool:
        """Take out some; True if there may be more."""
        old = (
            select(transactions.c.id)
            .where(transactions.c.received_at < self._oldest_record)
            .order_by(transactions.c.received_at)
            .limit(_RECORDS)
        )
        removed = connection.execute(delete(transactions).where(transactions.c.id.in_(old))).rowcount
        more = removed == _RECORDS
        old = (
            select(sessions.c.id)
            .where(sessions.c.started_at < self._oldest_session)
            .order_by(sessions.c.started_at)
            .limit(_RECORDS)
        )
        more |= connection.execute(delete(sessions).where(sessions.c.id.in_(old))).rowcount == _RECORDS
        old = select(kept.c.number).where(kept.c.created_at < self._oldest_message).limit(_MESSAGES)
        more |= connection.execute(delete(kept).where(kept.c.number.in_(old))).rowcount == _MESSAGES
        for (box, deleted), first in self._first_kept.items():
            excess = (
                select(kept.c.number)
                .where(kept.c.box == box, kept.c.number < first, (kept.c.state == State.DELETED) == deleted)
                .order_by(kept.c.number)
                .limit(_MESSAGES)
            )
            more |= connection.execute(delete(kept).where(kept.c.number.in_(excess))).rowcount == _MESSAGES
        return more
