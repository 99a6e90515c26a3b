"""The state in an SQLite file: one thread carries out what waits, many operations in one transaction."""

import asyncio
import contextlib
import logging
import queue
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatepost.state.contract import Amount, Counted, StateError, Value
from gatepost.values import value

if TYPE_CHECKING:
    from gatepost.state.database import Database

__all__ = ["SqliteState"]

_WAITING_LIMIT = 10_000
"""Operations; above this number one more is refused."""
_GROUP = 1000
"""Operations in one transaction."""
_MAINTENANCE_SECONDS = 10.0
_STEP_SECONDS = 0.05
"""Between two steps of deleting what is over."""

log = logging.getLogger(__name__)


@value
class _Operation:
    """What the thread does, and the future that waits for the result."""

    call: Callable[["Database"], Any]
    writes: bool
    result: asyncio.Future[Any]


_Queue = queue.SimpleQueue[_Operation | None]
"""None ends the thread."""


class SqliteState:
    """A `Backend`; the thread begins with the first operation."""

    def __init__(
        self,
        path: Path | None,
        *,
        max_entries: int,
        keeps_changes: bool = True,
        clock: Callable[[], float] = time.time,
        steady_clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open nothing yet; the arguments are those of `Database`."""

        def make_database() -> "Database":
            from gatepost.state.database import Database  # noqa: PLC0415 - few filters remember anything

            return Database(
                path,
                max_entries=max_entries,
                keeps_changes=keeps_changes,
                clock=clock,
                steady_clock=steady_clock,
            )

        self._make_database = make_database
        self.now = clock
        self._queue: _Queue = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        weakref.finalize(self, self._queue.put, None).atexit = False

    async def get(self, space: str, key: str) -> Value | None:
        """The value, unless its time is over."""
        found: Value | None = await self._result(lambda database: database.get(space, key))
        return found

    async def set(self, space: str, key: str, value: Value, seconds: float) -> None:
        """Replace the value."""
        await self._result(lambda database: database.set(space, key, value, seconds), writes=True)

    async def add(self, space: str, amounts: tuple[Amount, ...]) -> tuple[Counted, ...]:
        """Add all amounts, or none if one of them has no room."""
        counted: tuple[Counted, ...]
        counted = await self._result(lambda database: database.add(space, amounts), writes=True)
        return counted

    async def close(self) -> None:
        """Finish what was asked, and close the file."""
        if self._thread:
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join)
            self._thread = None

    async def _result(self, call: Callable[["Database"], Any], *, writes: bool = False) -> Any:
        if self._queue.qsize() >= _WAITING_LIMIT:
            raise StateError(f"the state is too slow: {_WAITING_LIMIT} operations wait")
        result = asyncio.get_running_loop().create_future()
        self._queue.put(_Operation(call=call, writes=writes, result=result))
        if self._thread is None:
            self._thread = threading.Thread(
                target=_serve, args=(self._queue, self._make_database), name="gatepost-state", daemon=True
            )
            self._thread.start()
        return await result


def _serve(waiting: _Queue, make_database: Callable[[], "Database"]) -> None:
    """The thread; it has no reference to the backend, and ends with it."""
    database = make_database()
    due = time.monotonic() + _MAINTENANCE_SECONDS
    is_over = False
    while not is_over:
        group, is_over = _group(waiting, max(0.0, due - time.monotonic()))
        _carry_out([one for one in group if not one.writes], database, contextlib.nullcontext())
        _carry_out([one for one in group if one.writes], database, database.changes())
        if time.monotonic() >= due:
            due = time.monotonic() + (_STEP_SECONDS if _is_more_to_delete(database) else _MAINTENANCE_SECONDS)
    database.close()


def _group(waiting: _Queue, seconds: float) -> tuple[list[_Operation], bool]:
    """What waits, and whether that is all there will be."""
    group: list[_Operation] = []
    with contextlib.suppress(queue.Empty):
        while len(group) < _GROUP:
            one = waiting.get_nowait() if group else waiting.get(timeout=seconds)
            if one is None:
                return group, True
            if not one.result.done():  # nothing waits any more for one that is: its rule was late
                group.append(one)
    return group, False


def _carry_out(
    group: Sequence[_Operation], database: "Database", transaction: contextlib.AbstractContextManager[None]
) -> None:
    """Carry out all of them, or none; and answer."""
    if not group:
        return
    error: StateError | None = None
    results: list[Any] = []
    try:
        with transaction:
            results += [one.call(database) for one in group]
    except StateError as raised:
        error = raised
    except Exception as raised:  # noqa: BLE001 - an unforeseen error must not end the thread
        error = StateError(f"the state has failed: {type(raised).__name__}: {raised}")
    answers = zip(group, results if error is None else [None] * len(group), strict=True)
    of_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = {}
    for one, result in answers:
        of_loop.setdefault(one.result.get_loop(), []).append((one.result, result))
    for loop, answered in of_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(_answer, answered, error)


def _answer(answers: Sequence[tuple[asyncio.Future[Any], Any]], error: StateError | None) -> None:
    for future, result in answers:
        if future.done():
            continue
        if error:
            future.set_exception(StateError(*error.args))
        else:
            future.set_result(result)


def _is_more_to_delete(database: "Database") -> bool:
    try:
        return database.maintain()
    except StateError as error:
        log.warning("what is over is deleted later: %s", error)
    return False
