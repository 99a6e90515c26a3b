"""Counts over the journal that every backend makes in the same way."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from gatepost.model.verdict import Action, Result
from gatepost.store.statistics import Counted, RuleTally, Span

__all__ = ["RuleTallies", "bucket_starts", "ranked_senders"]


def bucket_starts(span: Span, now: datetime) -> list[datetime]:
    """Where the buckets start, oldest first; at full hours and days of the zone's present offset."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    last = midnight + (now - midnight) // span.width * span.width
    return [last - number * span.width for number in reversed(range(span.buckets))]


def ranked_senders(senders: Iterable[str | None], *, limit: int) -> tuple[Counted, ...]:
    """Those with most transactions, of the reverse-paths in lower case; None: there was no MAIL."""
    ranked = Counter(sender for sender in senders if sender is not None).most_common(limit)
    return tuple(Counted(name=name, transactions=count) for name, count in ranked)


@dataclass(slots=True)
class _Tally:
    seconds: list[float] = field(default_factory=list)
    actions: Counter[Action] = field(default_factory=Counter)
    hits: int = 0
    observed: int = 0
    failed: int = 0


class RuleTallies:
    """Adds evaluations up, rule by rule."""

    def __init__(self) -> None:
        self._tallies: defaultdict[str, _Tally] = defaultdict(_Tally)

    def add(self, rule: str, *, result: str, action: str | None, observed: bool, seconds: float) -> None:
        """Add one evaluation, by the values of its `Result` and its `Action`."""
        tally = self._tallies[rule]
        tally.seconds.append(seconds)
        if result == Result.PASS:
            return
        tally.hits += result == Result.HIT
        tally.failed += result != Result.HIT
        tally.observed += observed
        if action and not observed:
            tally.actions[Action(action)] += 1

    def ranked(self) -> tuple[RuleTally, ...]:
        """Most hits first."""
        ranked = sorted(self._tallies.items(), key=lambda named: (-named[1].hits, -named[1].failed, named[0]))
        return tuple(
            RuleTally(
                rule=rule,
                asked=len(tally.seconds),
                actions=tally.actions,
                hits=tally.hits,
                observed=tally.observed,
                failed=tally.failed,
                median_seconds=statistics.median(tally.seconds),
                slowest_seconds=max(tally.seconds),
            )
            for rule, tally in ranked
        )
