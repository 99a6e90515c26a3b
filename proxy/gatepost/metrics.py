"""COUNT: what the workers do, in plain numbers, in memory that the web desk can read.

Each worker counts for itself and publishes its counts about once a second; who reads adds them up. A worker
that takes a seat goes on from the counts that lie there, so that no sum ever goes backwards.
"""

import json
import logging
import mmap
import struct
import zlib
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from gatepost.record import Disposition, Record, end_before_rcpt
from gatepost.verdict import Evaluation, Result

__all__ = ["METRICS", "SECONDS", "Board", "Key", "Metric", "Samples", "Tally"]

log = logging.getLogger("gatepost")

Key = tuple[str, ...]
"""A metric's name and the values of its labels."""
Samples = Mapping[Key, float]

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0)
"""The upper bounds of the buckets of ``transaction_seconds``; the last bucket has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """What is counted, and how it is called."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    """With its unit."""
    labels: tuple[str, ...] = ()


METRICS: Final = (
    Metric(name="sessions", kind="counter", meaning="SMTP sessions that were opened"),
    Metric(name="sessions_open", kind="gauge", meaning="SMTP sessions that go on now"),
    Metric(
        name="messages",
        kind="counter",
        meaning="Transactions that have ended, by what became of the message; "
        "one whose recipients ended differently counts for each of these ends",
        labels=("disposition",),
    ),
    Metric(name="message_bytes", kind="counter", meaning="Octets of the messages that were received"),
    Metric(
        name="transaction_seconds",
        kind="histogram",
        meaning="From the last octet of a message to its reply, in seconds",
    ),
    Metric(
        name="rule_evaluations",
        kind="counter",
        meaning="How often a rule was asked, by its answer",
        labels=("rule", "result"),
    ),
    Metric(
        name="rule_seconds",
        kind="counter",
        meaning="Time that a rule took to answer, in seconds",
        labels=("rule",),
    ),
    Metric(
        name="upstream_connections",
        kind="counter",
        meaning="Connections to an upstream server that were opened",
        labels=("server",),
    ),
    Metric(
        name="upstream_connection_failures",
        kind="counter",
        meaning="Connections to an upstream server that could not be opened",
        labels=("server",),
    ),
    Metric(name="store_backlog", kind="gauge", meaning="Changes that wait to be committed to the store"),
    Metric(
        name="journal_records_lost", kind="counter", meaning="Journal records that the store had no room for"
    ),
    Metric(
        name="feed_lines_lost",
        kind="counter",
        meaning="Lines of conversations that the desk's live page missed",
    ),
    Metric(name="workers", kind="gauge", meaning="Processes that take mail, or still finish their mail"),
    Metric(
        name="worker_restarts",
        kind="counter",
        meaning="Workers that were started in the place of another: it had died, or SIGUSR2 asked for it",
        labels=("cause",),
    ),
)
_GAUGES: Final = frozenset(metric.name for metric in METRICS if metric.kind == "gauge")


class Tally:
    """What one worker counts; for its event loop alone.

    Measured: a message with one recipient takes 0.2 us, the answer of a rule as much.
    """

    __slots__ = ("_buckets", "_messages", "_octets", "_rule_seconds", "_rules", "_seconds")

    def __init__(self) -> None:
        self._messages = dict.fromkeys(Disposition, 0)
        self._octets = 0
        self._seconds = 0.0
        self._buckets = [0] * (len(SECONDS) + 1)
        self._rules: Counter[tuple[str, Result]] = Counter()
        self._rule_seconds: dict[str, float] = {}

    def ended(self, record: Record) -> None:
        """Count a transaction."""
        recipients = record.recipients
        if len(recipients) == 1:
            self._messages[recipients[0].disposition] += 1
        else:
            ends = {one.disposition for one in recipients} or {end_before_rcpt(record.reply)}
            for disposition in ends:
                self._messages[disposition] += 1
        if record.size:
            self._octets += record.size
        if seconds := record.seconds:  # 0: there was no message
            self._seconds += seconds
            self._buckets[bisect_left(SECONDS, seconds)] += 1

    def evaluated(self, evaluation: Evaluation) -> None:
        """Count a rule's answer."""
        rule = evaluation.rule
        self._rules[rule, evaluation.result] += 1
        self._rule_seconds[rule] = self._rule_seconds.get(rule, 0.0) + evaluation.seconds

    def samples(self) -> dict[Key, float]:
        """All of it."""
        samples: dict[Key, float] = {("messages", end): count for end, count in self._messages.items()}
        samples["message_bytes",] = self._octets
        samples["transaction_seconds", "sum"] = self._seconds
        for bound, count in zip((*SECONDS, "+Inf"), self._buckets, strict=True):
            samples["transaction_seconds", str(bound)] = count
        for (rule, result), count in self._rules.items():
            samples["rule_evaluations", rule, result] = count
        for rule, seconds in self._rule_seconds.items():
            samples["rule_seconds", rule] = seconds
        return samples


_HEAD: Final = struct.Struct("<III")
"""Of a half of a seat: how often was written, octets, the CRC-32 of both."""
_HALF_OCTETS: Final = 512 << 10
_SEAT_OCTETS: Final = 2 * _HALF_OCTETS
_ROOM_OCTETS: Final = _HALF_OCTETS - _HEAD.size
_COUNT: Final = struct.Struct("<Q")
_CAUSES: Final = ("died", "replaced")
_FREE, _TAKEN, _HEARD = range(3)
"""Of a seat: nobody sits there, somebody does, and has published something."""


class Board:
    """Shared memory with a seat for each worker. Make it before forking.

    A seat has two halves that are written in turn, each with its checksum: a worker that is killed while it
    writes leaves the other half. Nobody ever waits for anybody.
    """

    def __init__(self, seats: int) -> None:
        self._seats = seats
        self._taken_at = _COUNT.size * len(_CAUSES)
        self._first = -(-(self._taken_at + seats) // mmap.PAGESIZE) * mmap.PAGESIZE
        self._memory = mmap.mmap(-1, self._first + seats * _SEAT_OCTETS)

    def take(self) -> int:
        """A free seat; for the supervisor, as the next two."""
        taken = self._taken()
        seat = taken.index(_FREE)
        self._memory[self._taken_at + seat] = _TAKEN
        return seat

    def leave(self, seat: int) -> None:
        """Who sat there has ended; what it has counted stays."""
        self._memory[self._taken_at + seat] = _FREE

    def count_restart(self, cause: Literal["died", "replaced"]) -> None:
        """One worker more that takes the place of another."""
        at = _CAUSES.index(cause) * _COUNT.size
        (count,) = _COUNT.unpack_from(self._memory, at)
        _COUNT.pack_into(self._memory, at, count + 1)

    def _taken(self) -> bytes:
        return self._memory[self._taken_at : self._taken_at + self._seats]

    def counted(self, seat: int) -> dict[Key, float]:
        """What was counted on a seat so far."""
        return {key: value for key, value in self._read(seat).items() if key[0] not in _GAUGES}

    def publish(self, seat: int, samples: Samples) -> None:
        """Write the samples down; for who sits there."""
        octets = _packed(samples)
        if len(octets) > _ROOM_OCTETS:
            log.warning("too many metrics: those with labels are left out")
            octets = _packed({key: value for key, value in samples.items() if len(key) == 1})
        halves = self._halves(seat)
        written = [sequence for sequence, _ in halves]
        half = written.index(min(written))
        at = self._at(seat, half)
        body = at + _HEAD.size
        self._memory[body : body + len(octets)] = octets
        sequence = max(written) + 1
        _HEAD.pack_into(self._memory, at, sequence, len(octets), zlib.crc32(octets, sequence))
        self._memory[self._taken_at + seat] = _HEARD

    def totals(self) -> dict[Key, float]:
        """The sums over all workers that there have been; of what is now, over those that are now."""
        totals: Counter[Key] = Counter()
        taken = self._taken()
        for seat in range(self._seats):
            totals.update(self._read(seat) if taken[seat] == _HEARD else self.counted(seat))
        totals["workers",] = sum(state != _FREE for state in taken)
        for number, cause in enumerate(_CAUSES):
            (totals["worker_restarts", cause],) = _COUNT.unpack_from(self._memory, number * _COUNT.size)
        return dict(totals)

    def _read(self, seat: int) -> dict[Key, float]:
        latest, before = max(self._halves(seat)), None
        while latest != before:  # a reader that was held up may have met two writes in one look
            latest, before = max(self._halves(seat)), latest
        _, octets = latest
        return {tuple(key): value for value, *key in json.loads(octets or b"[]")}

    def _halves(self, seat: int) -> list[tuple[int, bytes]]:
        """How often each half was written, and what is in it; 0 and nothing for one that is no whole."""
        halves = []
        for half in range(2):
            at = self._at(seat, half)
            sequence, size, checksum = _HEAD.unpack_from(self._memory, at)
            octets = self._memory[at + _HEAD.size : at + _HEAD.size + min(size, _ROOM_OCTETS)]
            is_whole = zlib.crc32(octets, sequence) == checksum
            halves.append((sequence, octets) if is_whole else (0, b""))
        return halves

    def _at(self, seat: int, half: int) -> int:
        return self._first + seat * _SEAT_OCTETS + half * _HALF_OCTETS


def _packed(samples: Samples) -> bytes:
    return json.dumps([(value, *key) for key, value in samples.items()], separators=(",", ":")).encode()
