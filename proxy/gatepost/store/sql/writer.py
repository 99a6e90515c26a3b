"""The thread that writes: it takes the queued changes, commits them as a group and answers their callers."""

import asyncio
import logging
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence

from gatepost.store.errors import StoreError, StoreFull, StoreUnavailable
from gatepost.store.sql.changes import Change
from gatepost.store.sql.database import Database
from gatepost.store.sql.retention import Retention
from gatepost.store.sql.unwritten import QUEUED, SETTLED, Unwritten

__all__ = ["Writer"]

_GROUP_CHANGES = 500
_GROUP_BYTES = 16 << 20
"""One transaction writes no more than this, but at least one change."""
_GATHER_SECONDS = 0.1
"""Changes without a waiting caller are collected so long, to wake the thread and the disk less often."""
_RETRY_SECONDS = 1.0
"""The journal is written again so long after a failure; a try may take as long as waiting for a lock."""
_LONG_SECONDS = 10.0
"""A write that took longer is logged, as is the end of an outage: a COMMIT may have waited for a standby."""
_FULL_SECONDS = 60.0
"""A store that was full has room again if nothing failed for so long."""
_SWEEP_SECONDS = 60.0
"""Between two searches for what retention has to delete; less if the age limit is short."""
_SHORT_SWEEP_SECONDS = 1.0
_STEP_SECONDS = 0.05
"""Between two steps of deleting it."""

_log = logging.getLogger(__name__)

_WriteResult = tuple[Change, StoreError | None]


class Writer:
    """The thread, and with it the only connection on the path of a message."""

    def __init__(
        self,
        database: Database,
        retention: Retention,
        unwritten: Unwritten,
    ) -> None:
        self.lost = 0
        """Records that could not be written."""
        self._unwritten = unwritten
        self._database = database
        self._retention = retention
        self._queue: queue.SimpleQueue[Change | None] = queue.SimpleQueue()
        """None wakes the thread."""
        self._journal: deque[Change] = deque()
        self._journal_due = math.inf
        self._sweep_due = 0.0
        self._step_due = math.inf
        self._kept_since_sweep = 0
        self._put = 0
        self._settled = 0
        self._conversation_bytes_put = 0
        self._conversation_bytes_settled = 0
        self._record_bytes_put = 0
        self._record_bytes_settled = 0
        self._closing = False
        self._failing_since: float | None = None
        """The first of the failures that go on; by the monotonic clock."""
        self._failed_at = 0.0
        self._too_large: Change | None = None
        """The smallest change that did not fit into a store that is full."""
        self._retention_failed = False
        """Whether the log says so: not of an outage of which it says that nothing can be written."""
        self._database.maintains()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """False once the thread has ended."""
        return self._thread.is_alive()

    @property
    def backlog(self) -> int:
        """Changes that are not committed yet."""
        return self._put - self._settled

    @property
    def conversation_bytes(self) -> int:
        """Bytes of conversations that are not committed yet."""
        return self._conversation_bytes_put - self._conversation_bytes_settled

    @property
    def record_bytes(self) -> int:
        """Bytes of records without a waiting caller that are not committed yet, roughly."""
        return self._record_bytes_put - self._record_bytes_settled

    def put(self, change: Change) -> None:
        """Queue a change; never blocks. Called by one thread only."""
        self._put += 1
        self._conversation_bytes_put += change.conversation_bytes
        self._record_bytes_put += change.record_bytes
        if change.done:
            self._queue.put(change)
            return
        self._journal.append(change)
        if change.record:
            self._unwritten.numbers[QUEUED] += 1
        if self._journal_due == math.inf:
            self._journal_due = time.monotonic() + _GATHER_SECONDS
            self._queue.put(None)

    def finish(self) -> None:
        """Write what is queued, then end the thread; blocks."""
        self._closing = True
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._closing:
                self._write(self._next_group(self._wait()))
                self._maintain()
            self._drain()
            self._retention.report(at_once=True)
        except BaseException:  # noqa: BLE001 - a thread must not end without a line in the log
            _log.critical("the store's writer has failed; restart gatepost", exc_info=True)
        finally:
            self._refuse_queued()

    def _wait(self) -> Change | None:
        """The next change with a waiting caller; None when the journal or maintenance is due."""
        due = min(self._journal_due, self._sweep_due, self._step_due)
        try:
            return self._queue.get(timeout=max(0.0, due - time.monotonic()))
        except queue.Empty:
            return None

    def _next_group(self, first: Change | None) -> list[Change]:
        """The changes with waiting callers and, if due, the journal, up to the limits of a transaction."""
        group = [first] if first else []
        size = first.size if first else 0
        while len(group) < _GROUP_CHANGES and size < _GROUP_BYTES:
            try:
                change = self._queue.get_nowait()
            except queue.Empty:
                break
            if change:
                group.append(change)
                size += change.size
        if self._closing or time.monotonic() >= self._journal_due:
            self._journal_due = math.inf
            while self._journal and len(group) < _GROUP_CHANGES:
                group.append(self._journal.popleft())
            if self._journal:
                self._journal_due = 0.0
        return group

    def _write(self, group: list[Change]) -> bool:
        """Write a group and answer its callers; False if some of it failed."""
        if not group:
            return True
        began = time.monotonic()
        try:
            results = self._results(group)
        except BaseException:
            _tell([(change, StoreUnavailable("the store's writer has failed")) for change in group])
            raise
        failed = [(change, error) for change, error in results if error]
        seconds = time.monotonic() - (began if self._failing_since is None else self._failing_since)
        was_long = self._failing_since is None and seconds >= _LONG_SECONDS
        if not failed and (was_long or self._has_recovered(group)):
            _log.warning("the store %s is written again, after %.1f seconds", self._database.name, seconds)
            self._failing_since = None
        self._kept_since_sweep += sum(len(change.kept) for change in group)
        if self._kept_since_sweep > self._retention.slack:
            self._sweep_due = 0.0
        again = self._requeue(failed)
        self._settled += len(group) - len(again)
        self._unwritten.numbers[SETTLED] += _records(group) - _records(again)
        self._conversation_bytes_settled += _conversation_bytes(group) - _conversation_bytes(again)
        self._record_bytes_settled += _record_bytes(group) - _record_bytes(again)
        _tell(results)
        return not failed

    def _requeue(self, failed: Sequence[tuple[Change, StoreError]]) -> Sequence[Change]:
        """Queue changes again that have no waiting caller and may be stored later; returns them."""
        if not failed:
            return ()
        temporary = (StoreFull, StoreUnavailable)
        again = [change for change, error in failed if change.done is None and isinstance(error, temporary)]
        self._journal.extendleft(reversed(again))
        if again:
            self._journal_due = time.monotonic() + _RETRY_SECONDS
        self._begin_to_fail(failed[0][1])
        self._failed_at = time.monotonic()
        large = [change for change, error in failed if isinstance(error, StoreFull)]
        self._too_large = min(large, key=lambda change: (bool(change.kept), change.size), default=None)
        for change, error in failed:
            if not isinstance(error, temporary):
                _log.error("not stored: transaction %s", change.record and change.record.id, exc_info=error)
                self.lost += _records([change])
        return again

    def _begin_to_fail(self, error: StoreError) -> None:
        """Log that nothing can be written: once, and not each second while a server is down."""
        if self._failing_since is None:
            self._failing_since = time.monotonic()
            _log.error("cannot write: %s", error)

    def _has_recovered(self, written: Sequence[Change]) -> bool:
        """True if that ends the failures. A full store may have room for records, and none for messages."""
        if self._failing_since is None:
            return False
        missed = self._too_large
        if missed is None or time.monotonic() - self._failed_at >= _FULL_SECONDS:
            return True
        fits = sum(change.size for change in written) >= missed.size
        return fits and (not missed.kept or any(change.kept for change in written))

    def _results(self, group: list[Change]) -> list[_WriteResult]:
        """All in one transaction; if it fails in smaller ones: a change fails only for its own reasons."""
        results: list[_WriteResult] = []
        parts = deque([group])
        error: StoreError | None = None
        while parts:
            part = parts.popleft()
            if not isinstance(error, StoreUnavailable):  # waiting for the lock once is enough
                error = self._attempt(part)
            if (
                error is None
                or isinstance(error, StoreUnavailable)
                or len(part) == 1
                or _may_wait(part, error)
            ):
                results += [(change, error) for change in part]
            else:
                parts.extend(_split(part))
        return results

    def _attempt(self, group: list[Change]) -> StoreError | None:
        try:
            self._database.write_group(group, self._begin_to_fail)
        except StoreError as error:
            return error
        except Exception as cause:  # noqa: BLE001 - an unforeseen error must not end the thread
            unforeseen = StoreError(
                f"the store {self._database.name} could not write: {type(cause).__name__}"
            )
            unforeseen.__cause__ = cause
            return unforeseen
        return None

    def _drain(self) -> None:
        """Write all that is queued; what fails now is lost."""
        while self.backlog:
            if not self._write(self._next_group(None)) and self._journal:
                self._lose_queued()

    def _lose_queued(self) -> None:
        lost = _records(self._journal)
        _log.error("the store is closed; records lost: %d", lost)
        self.lost += lost
        self._unwritten.numbers[SETTLED] += lost
        self._settled += len(self._journal)
        self._conversation_bytes_settled += _conversation_bytes(self._journal)
        self._record_bytes_settled += _record_bytes(self._journal)
        self._journal.clear()

    def _maintain(self) -> None:
        """Retention, for a few milliseconds at a time; only in the process that has the maintenance lock."""
        now = time.monotonic()
        try:
            if now >= self._step_due:
                self._step_due = math.inf
                with self._database.maintenance() as connection:
                    more = connection is not None and self._retention.step(connection)
                pressed = self._kept_since_sweep > self._retention.slack  # as fast as messages come
                pause = 0.0 if pressed else _STEP_SECONDS
                self._step_due = time.monotonic() + pause if more else math.inf
                self._retention.report()
                self._retention_goes_on()
            elif now >= self._sweep_due:
                tenth = max(self._retention.age.total_seconds() / 10, _SHORT_SWEEP_SECONDS)
                self._sweep_due = now + min(_SWEEP_SECONDS, tenth)
                self._kept_since_sweep = 0
                self._sweep()
                self._retention_goes_on()
        except StoreError as error:
            if not self._retention_failed and self._failing_since is None:
                _log.warning("retention postponed: %s", error)
                self._retention_failed = True

    def _retention_goes_on(self) -> None:
        if self._retention_failed:
            _log.warning("retention goes on")
            self._retention_failed = False

    def _sweep(self) -> None:
        if self._database.maintains():
            with self._database.read() as connection:
                self._retention.sweep(connection)
            self._step_due = 0.0

    def _refuse_queued(self) -> None:
        """Answer the callers that still wait."""
        rest: list[_WriteResult] = []
        while not self._queue.empty():
            change = self._queue.get_nowait()
            if change:
                rest.append((change, StoreUnavailable("the store is closed")))
        _tell(rest)


def _records(changes: Iterable[Change]) -> int:
    """How many of them are records without a waiting caller."""
    return sum(change.record is not None and change.done is None for change in changes)


def _conversation_bytes(changes: Iterable[Change]) -> int:
    return sum(change.conversation_bytes for change in changes)


def _record_bytes(changes: Iterable[Change]) -> int:
    return sum(change.record_bytes for change in changes)


def _may_wait(part: list[Change], error: StoreError) -> bool:
    return isinstance(error, StoreFull) and not any(change.done for change in part)


def _split(part: list[Change]) -> tuple[list[Change], list[Change]]:
    """The changes with waiting callers and the rest, or else halves."""
    with_callers = [change for change in part if change.done]
    if 0 < len(with_callers) < len(part):
        return with_callers, [change for change in part if not change.done]
    middle = len(part) // 2
    return part[:middle], part[middle:]


def _tell(results: Sequence[_WriteResult]) -> None:
    """Resolve the futures with one call into the event loop."""
    waiting = [(change.done, error) for change, error in results if change.done]
    if not waiting:
        return
    try:
        waiting[0][0].get_loop().call_soon_threadsafe(_resolve, waiting)
    except RuntimeError:
        _log.warning("the event loop ended before the store answered %d changes", len(waiting))


def _resolve(waiting: Iterable[tuple[asyncio.Future[None], StoreError | None]]) -> None:
    for future, error in waiting:
        if future.done():
            continue
        if error:
            future.set_exception(type(error)(*error.args))
        else:
            future.set_result(None)
