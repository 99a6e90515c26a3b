"""Counters of the workers, in shared memory that the web desk can read.

Each worker counts separately and publishes its counts about once a second; the reader adds them up. A worker
that takes over a slot continues from the counts in it, so that no sum ever decreases.
"""

import json
import logging
import mmap
import struct
import threading
import time
import zlib
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from gatepost.model.record import Disposition, Record, end_before_rcpt
from gatepost.model.verdict import Evaluation, Result

__all__ = ["METRICS", "SECONDS", "Key", "Metric", "Samples", "SharedCounters", "Tally"]

log = logging.getLogger("gatepost")

Key = tuple[str, ...]
"""A metric's name and the values of its labels."""
Samples = Mapping[Key, float]

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0)
"""The upper bounds of the buckets of ``transaction_seconds``; the last bucket has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A metric: its name, type and help text."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    """With its unit."""
    labels: tuple[str, ...] = ()
    is_newest: bool = False
    """Over all workers it is the largest value, not the sum: a time that each of them finds by itself."""


METRICS: Final = (
    Metric(
        name="node_info",
        kind="gauge",
        meaning="Always 1; the label is the name of this node, by which others can be joined",
        labels=("node",),
    ),
    Metric(name="sessions", kind="counter", meaning="SMTP sessions opened"),
    Metric(name="sessions_open", kind="gauge", meaning="SMTP sessions open now"),
    Metric(
        name="sessions_refused",
        kind="counter",
        meaning="Connections that were refused because they were over a limit",
        labels=("limit",),
    ),
    Metric(
        name="messages",
        kind="counter",
        meaning="Completed transactions by disposition; a transaction whose recipients have different "
        "dispositions counts once for each",
        labels=("disposition",),
    ),
    Metric(name="message_bytes", kind="counter", meaning="Bytes of the messages received"),
    Metric(
        name="transaction_seconds",
        kind="histogram",
        meaning="Time from the last byte of a message to its reply, in seconds",
    ),
    Metric(name="auth_failures", kind="counter", meaning="AUTH commands with wrong credentials"),
    Metric(
        name="rule_evaluations",
        kind="counter",
        meaning="Evaluations of a rule, by result",
        labels=("rule", "result"),
    ),
    Metric(
        name="rule_seconds",
        kind="counter",
        meaning="Time of an evaluation of a rule, in seconds",
        labels=("rule",),
    ),
    Metric(
        name="rules_out_of_service",
        kind="gauge",
        meaning="Workers that do not ask a rule now, because its filter has no connection to its service; "
        "defers is all if every message is deferred meanwhile, else other",
        labels=("rule", "defers"),
    ),
    Metric(
        name="filter",
        kind="counter",
        meaning="What filters count themselves",
        labels=("rule", "what"),
    ),
    Metric(
        name="filter_data_made_seconds",
        kind="gauge",
        meaning="When the data was made that a filter depends on, for example the signatures of a virus "
        "scanner, in seconds since 1970; the newest that a worker has found within the last hour",
        labels=("rule", "source"),
        is_newest=True,
    ),
    Metric(
        name="connections_out_of_service",
        kind="gauge",
        meaning="Workers that cannot count the connections of clients on all nodes now, because the server "
        "of the state does not answer; defers is all if every connection is refused meanwhile, else none",
        labels=("defers",),
    ),
    Metric(
        name="upstream_connections",
        kind="counter",
        meaning="Connections opened to an upstream server",
        labels=("server",),
    ),
    Metric(
        name="upstream_connection_failures",
        kind="counter",
        meaning="Failed attempts to connect to an upstream server",
        labels=("server",),
    ),
    Metric(name="store_backlog", kind="gauge", meaning="Changes waiting to be committed to the store"),
    Metric(
        name="journal_records_lost",
        kind="counter",
        meaning="Journal records lost: the store's queue was full, a record could not be written, or a "
        "process was killed before it wrote them",
    ),
    Metric(
        name="feed_lines_lost",
        kind="counter",
        meaning="Lines of conversations dropped before the live page of the web desk",
    ),
    Metric(
        name="certificate_not_before_seconds",
        kind="gauge",
        meaning="When the certificates in a file of the settings become valid, in seconds since 1970",
        labels=("file",),
    ),
    Metric(
        name="certificate_not_after_seconds",
        kind="gauge",
        meaning="When the first certificate in a file of the settings expires, in seconds since 1970",
        labels=("file",),
    ),
    Metric(name="webhook_delivered", kind="counter", meaning="Messages that the webhook's server accepted"),
    Metric(name="webhook_given_up", kind="counter", meaning="Messages that were not reported to the webhook"),
    Metric(name="webhook_backlog", kind="gauge", meaning="Messages waiting to be reported to the webhook"),
    Metric(name="workers", kind="gauge", meaning="Worker processes, including those that are finishing"),
    Metric(
        name="worker_restarts",
        kind="counter",
        meaning="Workers started to replace another one, after its death or SIGUSR2",
        labels=("cause",),
    ),
)
_GAUGES: Final = frozenset(metric.name for metric in METRICS if metric.kind == "gauge")
_NEWEST: Final = frozenset(metric.name for metric in METRICS if metric.is_newest)
_WHAT_LIMIT: Final = 50
"""Words that the filter of a rule may count; see `gatepost.place.Place.count`."""
_SOURCES_LIMIT: Final = 100
"""Sources of data, of all rules; see `gatepost.place.Place.data_made`."""
_DATA_SECONDS: Final = 3600.0
"""How long a time is shown after it was stated: its rule may be gone, or its server."""


class Tally:
    """The counters of one worker; only for its event loop, but for `filter_counted` and `data_made`.

    Measured: a message with one recipient takes 0.2 us, the answer of a rule as much.
    """

    __slots__ = (
        "_auth_failures",
        "_buckets",
        "_clock",
        "_data",
        "_filters",
        "_lock",
        "_messages",
        "_octets",
        "_rule_seconds",
        "_rules",
        "_seconds",
    )

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._data: dict[tuple[str, str], tuple[float, float]] = {}
        """When it was made, and until when that is shown."""
        self._messages = dict.fromkeys(Disposition, 0)
        self._octets = 0
        self._auth_failures = 0
        self._seconds = 0.0
        self._buckets = [0] * (len(SECONDS) + 1)
        self._rules: Counter[tuple[str, Result]] = Counter()
        self._rule_seconds: dict[str, float] = {}
        self._filters: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

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

    def auth_failed(self) -> None:
        """Count wrong credentials."""
        self._auth_failures += 1

    def evaluated(self, evaluation: Evaluation) -> None:
        """Count a rule's answer."""
        rule = evaluation.rule
        self._rules[rule, evaluation.result] += 1
        self._rule_seconds[rule] = self._rule_seconds.get(rule, 0.0) + evaluation.seconds

    def filter_counted(self, rule: str, what: str) -> None:
        """Count what a filter counts; for any thread."""
        with self._lock:
            key = (rule, what)
            if key not in self._filters and sum(one == rule for one, _ in self._filters) >= _WHAT_LIMIT:
                key = (rule, "other")
            self._filters[key] += 1

    def data_made(self, rule: str, source: str, seconds: float) -> None:
        """State when the data of a filter was made; for any thread."""
        with self._lock:
            if (rule, source) in self._data or len(self._data) < _SOURCES_LIMIT:
                self._data[rule, source] = seconds, self._clock() + _DATA_SECONDS

    def samples(self) -> dict[Key, float]:
        """All current values."""
        samples: dict[Key, float] = {("messages", end): count for end, count in self._messages.items()}
        samples["message_bytes",] = self._octets
        samples["auth_failures",] = self._auth_failures
        samples["transaction_seconds", "sum"] = self._seconds
        for bound, count in zip((*SECONDS, "+Inf"), self._buckets, strict=True):
            samples["transaction_seconds", str(bound)] = count
        with self._lock:
            for (rule, what), count in self._filters.items():
                samples["filter", rule, what] = count
            now = self._clock()
            self._data = {key: made for key, made in self._data.items() if now < made[1]}
            for (rule, source), (seconds, _) in self._data.items():
                samples["filter_data_made_seconds", rule, source] = seconds
        for (rule, result), count in self._rules.items():
            samples["rule_evaluations", rule, result] = count
        for rule, seconds in self._rule_seconds.items():
            samples["rule_seconds", rule] = seconds
        return samples


_HEAD: Final = struct.Struct("<III")
"""Header of a half of a slot: number of writes, length in bytes, CRC-32 of both."""
_HALF_OCTETS: Final = 512 << 10
_SLOT_OCTETS: Final = 2 * _HALF_OCTETS
_ROOM_OCTETS: Final = _HALF_OCTETS - _HEAD.size
_COUNT: Final = struct.Struct("<Q")
_CAUSES: Final = ("died", "replaced")
_FREE, _TAKEN, _PUBLISHED = range(3)
"""State of a slot: free, in use, in use with published counts."""


class SharedCounters:
    """Shared memory with a slot for each worker, one for the supervisor, and one for the web desk.

    Create it before forking.

    A slot has two halves that are written alternately, each with its checksum: a worker that is killed during
    a write leaves the other half intact. There are no locks.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._taken_at = _COUNT.size * len(_CAUSES)
        self._supervisor, self._desk = slots, slots + 1
        self._stopping_at = self._taken_at + slots + 2
        self._first = -(-(self._stopping_at + 1) // mmap.PAGESIZE) * mmap.PAGESIZE
        self._memory = mmap.mmap(-1, self._first + (slots + 2) * _SLOT_OCTETS)

    @property
    def workers(self) -> int:
        """How many workers there are, with those that are finishing."""
        return sum(state != _FREE for state in self._taken())

    @property
    def stopping(self) -> bool:
        """True if all processes are to end."""
        return self._memory[self._stopping_at] != 0

    def stop(self) -> None:
        """Note that all processes are to end; for the supervisor."""
        self._memory[self._stopping_at] = 1

    def take(self) -> int:
        """Take a free slot; for the supervisor, as the next two."""
        taken = self._taken()
        slot = taken.index(_FREE)
        self._memory[self._taken_at + slot] = _TAKEN
        return slot

    def leave(self, slot: int) -> None:
        """Free the slot of a worker that has ended; its counts stay."""
        self._memory[self._taken_at + slot] = _FREE

    def count_restart(self, cause: Literal["died", "replaced"]) -> None:
        """Count a worker that replaces another."""
        at = _CAUSES.index(cause) * _COUNT.size
        (count,) = _COUNT.unpack_from(self._memory, at)
        _COUNT.pack_into(self._memory, at, count + 1)

    def _taken(self) -> bytes:
        return self._memory[self._taken_at : self._taken_at + self._slots]

    def counted(self, slot: int) -> dict[Key, float]:
        """The counts in a slot so far."""
        return {key: value for key, value in self._read(slot).items() if key[0] not in _GAUGES}

    def publish(self, slot: int, samples: Samples) -> None:
        """Write the samples; for the worker of the slot."""
        octets = _packed(samples)
        if len(octets) > _ROOM_OCTETS:
            log.warning("too many metrics: those with labels are left out")
            octets = _packed({key: value for key, value in samples.items() if len(key) == 1})
        halves = self._halves(slot)
        written = [sequence for sequence, _ in halves]
        half = written.index(min(written))
        at = self._at(slot, half)
        body = at + _HEAD.size
        self._memory[body : body + len(octets)] = octets
        sequence = max(written) + 1
        _HEAD.pack_into(self._memory, at, sequence, len(octets), zlib.crc32(octets, sequence))
        self._memory[self._taken_at + slot] = _PUBLISHED

    def publish_supervisors(self, samples: Samples) -> None:
        """Write the samples of the supervisor, in place of its previous ones."""
        self.publish(self._supervisor, samples)

    def publish_desks(self, samples: Samples) -> None:
        """Write the samples of the web desk, in place of its previous ones."""
        self.publish(self._desk, samples)

    def desks(self) -> dict[Key, float]:
        """The samples of the web desk, which are those of its predecessor until it writes its own."""
        return self._read(self._desk)

    def totals(self) -> dict[Key, float]:
        """The sums: of counters over all workers ever, of current values over the workers that run now.

        Of a `Metric.is_newest` it is the largest value.
        """
        totals: dict[Key, float] = {}
        found = [
            self._read(slot) if state == _PUBLISHED else self.counted(slot)
            for slot, state in enumerate(self._taken())
        ]
        for samples in (*found, self._read(self._supervisor), self.desks()):
            for key, value in samples.items():
                before = totals.get(key, 0)
                totals[key] = max(before, value) if key[0] in _NEWEST else before + value
        totals["workers",] = self.workers
        for number, cause in enumerate(_CAUSES):
            (totals["worker_restarts", cause],) = _COUNT.unpack_from(self._memory, number * _COUNT.size)
        return totals

    def _read(self, slot: int) -> dict[Key, float]:
        latest, before = max(self._halves(slot)), None
        while latest != before:  # a delayed reader may have seen two writes during one read
            latest, before = max(self._halves(slot)), latest
        _, octets = latest
        return {tuple(key): value for value, *key in json.loads(octets or b"[]")}

    def _halves(self, slot: int) -> list[tuple[int, bytes]]:
        """Number of writes and content of each half; 0 and empty for one that is incomplete."""
        halves = []
        for half in range(2):
            at = self._at(slot, half)
            sequence, size, checksum = _HEAD.unpack_from(self._memory, at)
            octets = self._memory[at + _HEAD.size : at + _HEAD.size + min(size, _ROOM_OCTETS)]
            is_whole = zlib.crc32(octets, sequence) == checksum
            halves.append((sequence, octets) if is_whole else (0, b""))
        return halves

    def _at(self, slot: int, half: int) -> int:
        return self._first + slot * _SLOT_OCTETS + half * _HALF_OCTETS


def _packed(samples: Samples) -> bytes:
    return json.dumps([(value, *key) for key, value in samples.items()], separators=(",", ":")).encode()
