"""Counts over the journal, as values: time lines, clients, senders, rules."""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum

from gatepost.model.record import Disposition
from gatepost.model.verdict import Action
from gatepost.values import value

__all__ = ["Bucket", "Counted", "Newest", "RuleTally", "Span", "Timeline", "Top"]


class Span(StrEnum):
    """How far to look back, in buckets that make a readable chart."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"

    @property
    def width(self) -> timedelta:
        """The time span of one bucket."""
        return _SHAPES[self][0]

    @property
    def buckets(self) -> int:
        """How many buckets the span has."""
        return _SHAPES[self][1]


_SHAPES = {
    Span.HOUR: (timedelta(minutes=1), 60),
    Span.DAY: (timedelta(minutes=30), 48),
    Span.WEEK: (timedelta(hours=4), 42),
    Span.MONTH: (timedelta(days=1), 30),
}


@value
class Bucket:
    """The transactions from ``start`` on, for the width of a bucket."""

    start: datetime
    """In the time zone of the question."""
    recipients: Mapping[Disposition, int] | None
    """Recipients by disposition; a transaction that ended before RCPT counts as one.
    None: not counted yet, ask again."""


@value
class Timeline:
    """The buckets of a span, oldest first."""

    buckets: tuple[Bucket, ...]
    width: timedelta

    @property
    def totals(self) -> Mapping[Disposition, int]:
        """Sums over the buckets that are counted."""
        totals: Counter[Disposition] = Counter()
        for bucket in self.buckets:
            totals.update(bucket.recipients or {})
        return totals

    @property
    def complete(self) -> bool:
        """False: some buckets are not counted yet."""
        return all(bucket.recipients is not None for bucket in self.buckets)


class Top(StrEnum):
    """Of what those with most transactions are counted."""

    SENDERS = "senders"
    """Reverse-paths in lower case; the empty one is the null reverse-path."""
    RECIPIENTS = "recipients"
    """Forward-paths in lower case, whatever became of the message."""
    CLIENTS = "clients"
    """Client addresses."""
    RULES = "rules"
    """Rules that hit, also where they only observed."""
    USERS = "users"
    """Names that AUTH established."""


@value
class Counted:
    """One of a `Top`, and the transactions in which it occurs."""

    name: str
    transactions: int


@value
class RuleTally:
    """How often a rule was asked, its actions, and its time."""

    rule: str
    asked: int
    actions: Mapping[Action, int]
    """Hits and failures by their action, without those that were only observed."""
    hits: int
    """Including those that were only observed."""
    observed: int
    """Hits and failures that were only observed."""
    failed: int
    """Errors and timeouts."""
    median_seconds: float
    slowest_seconds: float


@value
class Newest:
    """Counts over the newest records of a span."""

    records: int
    complete: bool
    """False: the span has more records than were read."""
    senders: tuple[Counted, ...]
    """Most transactions first; the empty name is the null reverse-path."""
    rules: tuple[RuleTally, ...]
    """Most hits first."""
