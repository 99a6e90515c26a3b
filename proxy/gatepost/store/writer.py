"""The thread that writes: it takes what waits, writes it in one transaction and tells all who wait for it."""

import asyncio
import logging
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete

from gatepost.record import Record
from gatepost.store import rows, sqlite
from gatepost.store.conversations import INSERT_PART, INSERT_SESSION, ConversationPart, part_row, session_row
from gatepost.store.database import Database
from gatepost.store.errors import StoreError, StoreFull, StoreUnavailable
from gatepost.store.kept import Kept
from gatepost.store.retention import Retention
from gatepost.store.schema import kept as kept_table
from gatepost.store.schema import kept_recipients, recipients, transactions

__all__ = ["Change", "Writer"]

_GROUP_CHANGES = 500
_GROUP_OCTETS = 16 << 20
"""One transaction writes no more than this, but at least one change."""
_GATHER_SECONDS = 0.1
"""What nobody waits for is gathered, to wake the thread and the disk less often."""
_RETRY_SECONDS = 1.0
"""The journal is tried again after a failure; a try may cost the time to wait for a lock."""
_SWEEP_SECONDS = 60.0
"""Between two looks for what is too old or too much."""
_STEP_SECONDS = 0.05
"""Between two steps of taking it out."""

_log = logging.getLogger(__name__)

_INSERT_TRANSACTION = sqlite.Insert(transactions)
_INSERT_RECIPIENT = sqlite.Insert(recipients)
_INSERT_KEPT = sqlite.Insert(kept_table, without=("number",))
_INSERT_KEPT_RECIPIENT = sqlite.Insert(kept_recipients)


@dataclass(slots=True, kw_only=True, eq=False)  # frozen it would take three times as long to make
class Change:
    """What is written whole or not at all."""

    record: Record | None = None
    part: ConversationPart | None = None
    kept: Sequence[Kept] = ()
    withdrawn: Sequence[str] = ()
    """The ids of kept messages to take out."""
    done: asyncio.Future[None] | None = None
    """Resolved after COMMIT. None: nobody waits, and it is tried again until it succeeds."""

    @property
    def octets(self) -> int:
        """Roughly what it adds to a transaction."""
        return 1000 + self.said + sum(len(kept.content) for kept in self.kept)

    @property
    def said(self) -> int:
        """What of it is conversation."""
        return self.part.octets if self.part else 0


Outcome = tuple[Change, StoreError | None]


class Writer:
    """Owns the thread, and with it the only connection on the path of a message."""

    def __init__(self, database: Database, keeper: sqlite.Keeper, retention: Retention) -> None:
        self._database = database
        self._keeper = keeper
        self._retention = retention
        self._waited_for: queue.SimpleQueue[Change | None] = queue.SimpleQueue()
        """None wakes the thread."""
        self._journal: deque[Change] = deque()
        self._journal_due = math.inf
        self._sweep_due = 0.0
        self._step_due = math.inf
        self._kept_since_sweep = 0
        self._put = 0
        self._settled = 0
        self._said_put = 0
        self._said_settled = 0
        self._closing = False
        self._is_keeper = False
        self._claim()
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
    def unsaid(self) -> int:
        """Octets of conversations that are not committed yet."""
        return self._said_put - self._said_settled

    def put(self, change: Change) -> None:
        """Queue a change; never blocks. For one thread."""
        self._put += 1
        self._said_put += change.said
        if change.done:
            self._waited_for.put(change)
            return
        self._journal.append(change)
        if self._journal_due == math.inf:
            self._journal_due = time.monotonic() + _GATHER_SECONDS
            self._waited_for.put(None)

    def finish(self) -> None:
        """Write what is queued, then end the thread; blocks."""
        self._closing = True
        self._waited_for.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._closing:
                self._write(self._next_group(self._wait()))
                self._keep_house()
            self._drain()
            self._retention.report(at_once=True)
        except BaseException:  # noqa: BLE001 - the last word of a thread that must not end in silence
            _log.critical("the store's writer has failed; restart gatepost", exc_info=True)
        finally:
            self._refuse_rest()

    def _wait(self) -> Change | None:
        """Until somebody waits for a change, or it is time for the journal or for housekeeping."""
        due = min(self._journal_due, self._sweep_due, self._step_due)
        try:
            return self._waited_for.get(timeout=max(0.0, due - time.monotonic()))
        except queue.Empty:
            return None

    def _next_group(self, first: Change | None) -> list[Change]:
        """What somebody waits for and, if it is due, the journal, up to the limits of one transaction."""
        group = [first] if first else []
        octets = first.octets if first else 0
        while len(group) < _GROUP_CHANGES and octets < _GROUP_OCTETS:
            try:
                change = self._waited_for.get_nowait()
            except queue.Empty:
                break
            if change:
                group.append(change)
                octets += change.octets
        if self._closing or time.monotonic() >= self._journal_due:
            self._journal_due = math.inf
            while self._journal and len(group) < _GROUP_CHANGES:
                group.append(self._journal.popleft())
            if self._journal:
                self._journal_due = 0.0
        return group

    def _write(self, group: list[Change]) -> bool:
        """Write a group and tell who waits; False if some of it failed."""
        if not group:
            return True
        try:
            outcomes = self._outcomes(group)
        except BaseException:
            _tell([(change, StoreUnavailable("the store's writer has failed")) for change in group])
            raise
        failed = [(change, error) for change, error in outcomes if error]
        self._kept_since_sweep += sum(len(change.kept) for change in group)
        if self._kept_since_sweep > self._retention.slack:
            self._sweep_due = 0.0
        again = self._take_back(failed)
        self._settled += len(group) - len(again)
        self._said_settled += _said(group) - _said(again)
        _tell(outcomes)
        return not failed

    def _take_back(self, failed: Sequence[tuple[Change, StoreError]]) -> Sequence[Change]:
        """The journal is tried again later, but for what no try will store; gives what of it."""
        if not failed:
            return ()
        passing = (StoreFull, StoreUnavailable)
        again = [change for change, error in failed if change.done is None and isinstance(error, passing)]
        self._journal.extendleft(reversed(again))
        if again:
            self._journal_due = time.monotonic() + _RETRY_SECONDS
        reported = failed[0][1]
        _log.error(
            "%s; changes that failed: %d, records kept for a later try: %d", reported, len(failed), len(again)
        )
        for change, error in failed:
            if not isinstance(error, passing):
                _log.error("not stored: transaction %s", change.record and change.record.id, exc_info=error)
        return again

    def _outcomes(self, group: list[Change]) -> list[Outcome]:
        """All in one transaction; where that fails in smaller ones, so that none fails with its neighbour."""
        outcomes: list[Outcome] = []
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
                outcomes += [(change, error) for change in part]
            else:
                parts.extend(_split(part))
        return outcomes

    def _attempt(self, group: list[Change]) -> StoreError | None:
        try:
            with self._database.write() as connection:
                _apply(connection, group)
        except StoreError as error:
            return error
        except Exception as cause:  # noqa: BLE001 - a change that nobody foresaw must not end the thread
            unforeseen = StoreError(
                f"the store {self._database.path} could not write: {type(cause).__name__}"
            )
            unforeseen.__cause__ = cause
            return unforeseen
        return None

    def _drain(self) -> None:
        """Write all that is queued; what fails now is lost."""
        while self.backlog:
            if not self._write(self._next_group(None)) and self._journal:
                _log.error("the store is closed; records lost: %d", len(self._journal))
                self._settled += len(self._journal)
                self._said_settled += _said(self._journal)
                self._journal.clear()

    def _keep_house(self) -> None:
        """Retention, for a few milliseconds at a time; by the keeper only."""
        now = time.monotonic()
        try:
            if now >= self._step_due:
                self._step_due = math.inf
                with self._database.write() as connection:
                    more = self._retention.step(connection)
                pressed = self._kept_since_sweep > self._retention.slack  # as fast as messages come
                pause = 0.0 if pressed else _STEP_SECONDS
                self._step_due = time.monotonic() + pause if more else math.inf
                self._retention.report()
            elif now >= self._sweep_due:
                self._sweep_due = now + _SWEEP_SECONDS
                self._kept_since_sweep = 0
                self._sweep()
        except StoreError as error:
            _log.warning("old mail stays for now: %s", error)

    def _sweep(self) -> None:
        self._claim()
        if self._is_keeper:
            with self._database.read() as connection:
                self._retention.sweep(connection)
            self._step_due = 0.0

    def _claim(self) -> None:
        if not self._is_keeper and self._keeper.claim():
            self._is_keeper = True
            self._database.keep()

    def _refuse_rest(self) -> None:
        """Whoever still waits is told so."""
        rest: list[Outcome] = []
        while not self._waited_for.empty():
            change = self._waited_for.get_nowait()
            if change:
                rest.append((change, StoreUnavailable("the store is closed")))
        _tell(rest)


def _said(changes: Iterable[Change]) -> int:
    return sum(change.said for change in changes)


def _may_wait(part: list[Change], error: StoreError) -> bool:
    return isinstance(error, StoreFull) and not any(change.done for change in part)


def _split(part: list[Change]) -> tuple[list[Change], list[Change]]:
    """What somebody waits for and the rest, or else halves."""
    waited_for = [change for change in part if change.done]
    if 0 < len(waited_for) < len(part):
        return waited_for, [change for change in part if not change.done]
    middle = len(part) // 2
    return part[:middle], part[middle:]


def _apply(connection: Connection, group: Iterable[Change]) -> None:
    records = [change.record for change in group if change.record]
    messages = [(kept, change.record) for change in group if change.record for kept in change.kept]
    withdrawn = [kept_id for change in group for kept_id in change.withdrawn]
    transaction_rows = [rows.transaction_row(record) for record in records]
    recipient_rows = [row for record in records for row in rows.recipient_rows(record)]
    parts = [change.part for change in group if change.part]
    session_rows = {part.session.id: session_row(part.session) for part in parts}
    for insert, values in (
        (_INSERT_TRANSACTION, transaction_rows),
        (_INSERT_RECIPIENT, recipient_rows),
        (INSERT_SESSION, [*session_rows.values()]),
        (INSERT_PART, [part_row(part) for part in parts if part.lines]),
    ):
        for statement, batch in insert.batches(values):
            connection.exec_driver_sql(statement, batch)
    for kept, record in messages:  # one by one: each may be large
        connection.exec_driver_sql(_INSERT_KEPT.one, rows.kept_row(kept, record))
        connection.exec_driver_sql(_INSERT_KEPT_RECIPIENT.one, [*rows.kept_recipient_rows(kept)])
    if withdrawn:
        connection.execute(delete(kept_table).where(kept_table.c.id.in_(withdrawn)))


def _tell(outcomes: Sequence[Outcome]) -> None:
    """Resolve the futures with one call into the event loop."""
    waiting = [(change.done, error) for change, error in outcomes if change.done]
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
