"""Counts over the journal: each is made anew from all records."""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime

from gatepost.model.record import Disposition, Record, end_before_rcpt
from gatepost.store.memory.data import Data
from gatepost.store.memory.journal import rules_hit
from gatepost.store.statistics import Bucket, Counted, Newest, Span, Timeline, Top
from gatepost.store.tallies import RuleTallies, bucket_starts, ranked_senders
from gatepost.store.text import ascii_lower

__all__ = ["MemoryStatistics"]

_SENDERS = 10


class MemoryStatistics:
    """A `gatepost.store.contract.Statistics` in memory."""

    def __init__(self, data: Data) -> None:
        self._data = data

    def timeline(self, span: Span, now: datetime) -> Timeline:
        """What became of mail, in buckets that end with the one of ``now``, aligned to its time zone."""
        starts = bucket_starts(span, now)
        counts: list[Counter[Disposition]] = [Counter() for _ in starts]
        for record in self._since(starts[0]):
            number = (record.received_at - starts[0]) // span.width
            if number < len(counts):
                counts[number].update(_dispositions(record))
        buckets = (Bucket(start=start, recipients=count) for start, count in zip(starts, counts, strict=True))
        return Timeline(buckets=tuple(buckets), width=span.width)

    def top(
        self, of: Top, since: datetime, until: datetime | None = None, *, limit: int = 10
    ) -> tuple[Counted, ...]:
        """Those with most transactions since then and before ``until``; of as many, in order of the name."""
        counted: Counter[str] = Counter()
        for record in self._since(since):
            if until is None or record.received_at < until:
                counted.update(_names(of, record))
        ranked = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
        return tuple(Counted(name=name, transactions=count) for name, count in ranked[:limit])

    def newest(self, since: datetime) -> Newest:
        """What the records since then say."""
        records = sorted(self._since(since), key=lambda record: record.received_at, reverse=True)
        rules = RuleTallies()
        for record in records:
            for one in record.evaluations:
                rules.add(
                    one.rule,
                    result=one.result,
                    action=one.action,
                    observed=one.observed,
                    seconds=one.seconds,
                )
        senders = (None if record.mail_from is None else ascii_lower(record.mail_from) for record in records)
        return Newest(
            records=len(records),
            complete=True,
            senders=ranked_senders(senders, limit=_SENDERS),
            rules=rules.ranked(),
        )

    def _since(self, since: datetime) -> Iterator[Record]:
        records = self._data.snapshot().records.values()
        return (record for record in records if record.received_at >= since)


def _names(of: Top, record: Record) -> set[str]:
    """Those that a record counts for."""
    match of:
        case Top.SENDERS:
            return set() if record.mail_from is None else {ascii_lower(record.mail_from)}
        case Top.RECIPIENTS:
            return {ascii_lower(recipient.address) for recipient in record.recipients}
        case Top.CLIENTS:
            return {record.client}
        case Top.RULES:
            return rules_hit(record)
        case Top.USERS:
            return set() if record.authenticated is None else {record.authenticated}


def _dispositions(record: Record) -> list[Disposition]:
    ends = [recipient.disposition for recipient in record.recipients]
    return ends or [end_before_rcpt(record.reply)]
