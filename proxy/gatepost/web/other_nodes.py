"""Live conversations of all nodes: each desk passes its lines to those on which somebody watches.

While nobody watches anywhere it is one question to the store in a second. Whatever cannot be passed on in
time is dropped and counted: those who watch are told how many lines they do not see.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from anyio import CapacityLimiter, to_thread

from gatepost.model.mail import new_id
from gatepost.store import Exchange, PassedBatch, StoreError, Turn
from gatepost.traffic.events import Event
from gatepost.traffic.feed import packed, unpacked
from gatepost.web.live import LiveHub

__all__ = ["OtherNodes", "new_desk"]

log = logging.getLogger(__name__)

_IDLE_SECONDS: Final = 1.0
"""Between two turns while nobody watches: so long it takes at most until lines of other nodes come."""
_TURN_SECONDS: Final = 0.2
"""Between two turns while somebody watches."""
_BATCH_OCTETS: Final = 64 << 10
_LINE_OCTETS: Final = 100
"""What a line takes beside its bytes."""
_WAITING_BATCHES: Final = 64
"""For the next turns; more lines are dropped."""
_BATCHES_AT_ONCE: Final = 4
_DESKS: Final = 1000
"""Desks of which the last batch is remembered."""


def new_desk(node: str) -> str:
    """A name for a desk's process that no other has."""
    return f"{node} {new_id()}"


class OtherNodes:
    """Passes lines between this desk's `LiveHub` and those of other nodes; for one event loop."""

    def __init__(self, exchange: Exchange, hub: LiveHub, *, desk: str, node: str) -> None:
        self._exchange = exchange
        self._hub = hub
        self._desk = desk
        self._node = node
        self._others_watch = False
        self._lines = 0
        """Of this node while others watched, passed on or dropped."""
        self._number = 0
        self._waiting: deque[PassedBatch] = deque()
        self._seen: dict[str, tuple[int, int]] = {}
        """By desk: the number of its last batch, and how many lines it had then."""
        self._failing = False
        self._limiter = CapacityLimiter(1)

    def tap(self, events: Sequence[Event]) -> None:
        """Pass events of this node on, if somebody watches on another one."""
        if not self._others_watch:
            return
        part: list[Event] = []
        size = 0
        for event in events:
            part.append(event)
            size += len(event.data) + _LINE_OCTETS
            if size >= _BATCH_OCTETS:
                self._put(part)
                part, size = [], 0
        if part:
            self._put(part)

    def miss(self, count: int) -> None:
        """Count lines of this node that were lost before they came here."""
        if self._others_watch:
            self._lines += count

    def _put(self, events: Sequence[Event]) -> None:
        before, self._lines = self._lines, self._lines + len(events)
        if len(self._waiting) >= _WAITING_BATCHES:
            return
        batch = PassedBatch(
            desk=self._desk,
            node=self._node,
            number=self._number,
            before=before,
            lines=len(events),
            octets=packed(events),
        )
        self._number += 1
        self._waiting.append(batch)

    async def follow(self, failed: Callable[[str, StoreError], None]) -> None:
        """Take turns until it is cancelled; ``failed`` is told of one that could not be taken, and why."""
        try:
            while True:
                await self._take_turn(failed)
                is_busy = (self._hub.is_watched or self._others_watch) and not self._failing
                if is_busy:
                    await asyncio.sleep(_TURN_SECONDS)
                else:
                    await self._hub.wait_for_watcher(_IDLE_SECONDS)
                    if self._failing:
                        await asyncio.sleep(_IDLE_SECONDS)
        finally:
            self._exchange.close()

    async def _take_turn(self, failed: Callable[[str, StoreError], None]) -> None:
        watches = self._hub.is_watched
        if not watches:
            self._seen.clear()  # what came meanwhile was not lost
        sent = [self._waiting.popleft() for _ in range(min(_BATCHES_AT_ONCE, len(self._waiting)))]
        seen = {desk: number for desk, (number, _) in self._seen.items()}
        try:
            turn = await to_thread.run_sync(
                lambda: self._exchange.turn(watches=watches, sent=sent, seen=seen),
                limiter=self._limiter,
                abandon_on_cancel=True,
            )
        except StoreError as error:
            failed("live conversations of other nodes are not shown", error)
            self._failing = True
            self._others_watch = False
            self._waiting.clear()
            return
        self._failing = False
        self._show(turn)
        self._others_watch = turn.others_watch
        if not turn.others_watch:
            self._waiting.clear()

    def _show(self, turn: Turn) -> None:
        for batch in turn.batches:
            _, lines_before = self._seen.pop(batch.desk, (0, batch.before))
            self._seen[batch.desk] = batch.number, batch.before + batch.lines
            if batch.before > lines_before:
                self._hub.miss(batch.before - lines_before)
            try:
                dropped, events = unpacked(batch.octets)
            except ValueError as error:
                log.warning("lines of node %s cannot be read: %s", batch.node, error)
                continue
            self._hub.put(events, node=batch.node)
            if dropped:
                self._hub.miss(dropped)
        while len(self._seen) > _DESKS:
            del self._seen[next(iter(self._seen))]
