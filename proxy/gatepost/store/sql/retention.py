"""Retention: what is too old or too much is deleted, in small steps."""

import logging
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, func, select

from gatepost.config.store import Keep
from gatepost.store.age import AgeBound
from gatepost.store.kept import Box, State
from gatepost.store.sql.rows import microseconds
from gatepost.store.sql.schema import kept, sessions, transactions

__all__ = ["Retention"]

_RECORDS = 250
_MESSAGES = 25
"""Deleted in one step: a few milliseconds of work."""
_REPORT_SECONDS = 60.0
"""Deletions within that time are one line in the log."""
_JUMP = timedelta(hours=1)
"""A larger difference between the clocks is a jump, not a correction."""
_SILENCE = timedelta(days=1)
"""If the newest record is older than this at the start, the clock may be wrong."""
_MICROSECOND = timedelta(microseconds=1)

_log = logging.getLogger(__name__)


class Retention:
    """Applies `Keep` to one database.

    `sweep` finds what has to be deleted, each `step` deletes some of it, `report` writes to the log.
    """

    def __init__(
        self,
        keep: Keep,
        *,
        clock: Callable[[Connection], datetime],
        running: Callable[[], float] = time.monotonic,
    ) -> None:
        """Of the two clocks ``clock`` may be wrong and may jump; ``running`` counts seconds and does not.

        ``clock`` is that of `gatepost.store.sql.database.Database.now`.
        """
        self._keep = keep
        self._clock = clock
        self._running = running
        self._age = AgeBound(keep.settling)
        hours = keep.settling / timedelta(hours=1)
        self._later = (
            f"they are deleted when Gatepost has run for {hours:g} hours by this clock"
            if hours
            else "they are deleted now"
        )
        self._last: tuple[datetime, float] | None = None
        self._too_old = 0
        self._oldest_record = 0
        self._oldest_session = 0
        self._first_kept: dict[tuple[Box, bool], int] = {}
        self._in_step: Counter[str] = Counter()
        self._unreported: Counter[str] = Counter()
        self._messages_by_number = False
        self._report_due = 0.0

    @property
    def age(self) -> timedelta:
        """Older than this is too old."""
        return timedelta(days=self._keep.days)

    @property
    def slack(self) -> int:
        """Messages over the limit that are acceptable until the next sweep."""
        return max(10, self._keep.messages // 10)

    def sweep(self, connection: Connection) -> None:
        """Find the bounds; reads the index of all that stays, 25 ms for a million records."""
        now, running = self._clock(connection), self._running()
        too_old_by_clock = microseconds(now - self.age)
        self._warn_of_jump(connection, now, running, too_old_by_clock)
        self._last = now, running
        self._too_old = self._age.look(too_old_by_clock, running)
        newest_first = select(transactions.c.received_at).order_by(transactions.c.received_at.desc())
        excess = connection.scalar(newest_first.offset(self._keep.journal - 1).limit(1))
        self._oldest_record = excess or 0
        newest_first = select(sessions.c.started_at).order_by(sessions.c.started_at.desc())
        excess = connection.scalar(newest_first.offset(self._keep.journal - 1).limit(1))
        self._oldest_session = excess or 0
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
        """Delete some; True if there may be more."""
        self._in_step.clear()
        more = False
        for why, bound in (("age", self._too_old), ("number", self._oldest_record)):
            if bound:
                old = (
                    select(transactions.c.id)
                    .where(transactions.c.received_at < bound)
                    .order_by(transactions.c.received_at)
                    .limit(_RECORDS)
                )
                removed = connection.execute(delete(transactions).where(transactions.c.id.in_(old))).rowcount
                more |= self._counted(removed, f"records of the journal by {why}") == _RECORDS
        if bound := max(self._too_old, self._oldest_session):
            old = (
                select(sessions.c.id)
                .where(sessions.c.started_at < bound)
                .order_by(sessions.c.started_at)
                .limit(_RECORDS)
            )
            more |= connection.execute(delete(sessions).where(sessions.c.id.in_(old))).rowcount == _RECORDS
        if self._too_old:
            old_messages = select(kept.c.number, kept.c.box, kept.c.state).where(
                kept.c.created_at < self._too_old
            )
            found = connection.execute(old_messages.limit(_MESSAGES)).all()
            connection.execute(delete(kept).where(kept.c.number.in_([number for number, _, _ in found])))
            for _, box, state in found:
                self._counted(1, f"{_messages_of(box, deleted=state == State.DELETED)} by age")
            more |= len(found) == _MESSAGES
        for (box, deleted), first in self._first_kept.items():
            excess = (
                select(kept.c.number)
                .where(kept.c.box == box, kept.c.number < first, (kept.c.state == State.DELETED) == deleted)
                .order_by(kept.c.number)
                .limit(_MESSAGES)
            )
            removed = connection.execute(delete(kept).where(kept.c.number.in_(excess))).rowcount
            more |= self._counted(removed, f"{_messages_of(box, deleted=deleted)} by number") == _MESSAGES
            self._messages_by_number |= removed > 0 and not deleted
        return more

    def report(self, *, at_once: bool = False) -> None:
        """After the COMMIT of a step: log in one line what was deleted within a minute.

        It is a warning if messages were deleted that were not old, only too many.
        """
        now = self._running()
        if not self._unreported:
            self._report_due = now + _REPORT_SECONDS
        self._unreported.update(self._in_step)
        self._in_step.clear()
        if not self._unreported or (now < self._report_due and not at_once):
            return
        level = logging.WARNING if self._messages_by_number else logging.INFO
        deleted = ", ".join(f"{count} {what}" for what, count in self._unreported.items())
        _log.log(level, "deleted from the store, see store.keep: %s", deleted)
        self._unreported.clear()
        self._messages_by_number = False

    def _counted(self, count: int, what: str) -> int:
        if count:
            self._in_step[what] += count
        return count

    def _warn_of_jump(self, connection: Connection, now: datetime, running: float, too_old: int) -> None:
        """Log that the clock disagrees with the elapsed time, or with the newest record at the start."""
        if self._last is None:
            newest = _newest(connection)
            ahead = newest and (microseconds(now) - newest) * _MICROSECOND
            if ahead and ahead > _SILENCE and (lost := _older(connection, too_old)):
                _log.warning(
                    "the newest record in the store is %s old by the clock, and by it %s are too old: %s",
                    *(_shown(ahead), lost, self._later),
                )
            return
        ahead = now - self._last[0] - timedelta(seconds=running - self._last[1])
        if ahead > _JUMP:
            lost = _older(connection, too_old)
            _log.warning(
                "the clock has jumped ahead by %s%s",
                *(_shown(ahead), f", and by it {lost} are too old: {self._later}" if lost else ""),
            )
        elif ahead < -_JUMP:
            _log.warning("the clock has jumped back by %s", _shown(-ahead))


def _newest(connection: Connection) -> int | None:
    """The time of the newest record or message, in microseconds since 1970; None where there is none."""
    stamps = (
        connection.scalar(select(func.max(transactions.c.received_at))),
        connection.scalar(select(func.max(kept.c.created_at))),
    )
    return max((stamp for stamp in stamps if stamp is not None), default=None)


def _older(connection: Connection, bound: int) -> str:
    """How many messages and records are older; empty where there are none."""
    messages = connection.scalar(select(func.count()).select_from(kept).where(kept.c.created_at < bound))
    records = connection.scalar(
        select(func.count()).select_from(transactions).where(transactions.c.received_at < bound)
    )
    return f"{messages} messages and {records} records of the journal" if messages or records else ""


def _messages_of(box: str, *, deleted: bool) -> str:
    where = "the inbox" if box == Box.INBOX else "quarantine"
    return f"{'deleted ' if deleted else ''}messages of {where}"


def _shown(time_span: timedelta) -> str:
    hours = time_span / timedelta(hours=1)
    return f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} hours"
