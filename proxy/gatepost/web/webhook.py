"""The webhook: each new message of the store is reported to a server, beside everything else.

The store is the source: no worker knows of the webhook, and what a server does can neither delay nor lose
mail. One desk looks at the store for all workers, and of the nodes with the same store one at a time, so that
each message is reported once.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import chain, repeat
from typing import Final

from gatepost.metrics import SharedCounters
from gatepost.store import Position, Reporting, StoreError
from gatepost.throttle import Throttle
from gatepost.web.api.messages import summary
from gatepost.web.desk import Desk
from gatepost.web.webhook_server import WebhookServer

__all__ = ["Webhook"]

log = logging.getLogger("gatepost")

_LOOK_SECONDS: Final = 0.1
"""Between two looks at the store, each of which takes microseconds if nothing has changed."""
_TROUBLE_SECONDS: Final = 5.0
_TURN_SECONDS: Final = 1.0
"""Between two looks at whether this desk is the one that reports."""
_MESSAGES: Final = 100
"""Read in one look."""
_QUEUE_BYTES: Final = 16 << 20
"""Of the messages that wait: more than 10,000 usual ones."""
_REQUESTS: Final = 4
"""At a time."""
_PAUSES_SECONDS: Final = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Between two attempts; the last one is repeated."""
_GIVE_UP_SECONDS: Final = 300.0
"""After its arrival a message is given up."""
_STOP_SECONDS: Final = 5.0
"""At the end, for one more attempt for each message that waits."""
_WORKERS_SECONDS: Final = 10.0
"""At the end, in addition to `Limits.shutdown_time`, for the workers to store what they have accepted."""
_NEVER: Final = datetime.max.replace(tzinfo=UTC)
_DELIVERED: Final = ("webhook_delivered",)
_GIVEN_UP: Final = ("webhook_given_up",)
_POSITION: Final = ("webhook_position",)
_BACKLOG: Final = ("webhook_backlog",)


class Webhook:
    """Reports new messages until the desk ends; for one event loop."""

    def __init__(
        self,
        desk: Desk,
        server: WebhookServer,
        counters: SharedCounters,
        *,
        started_at: datetime,
        shutdown_seconds: float,
        reporting: Reporting | None = None,
    ) -> None:
        """Report to a server.

        Args:
            desk: where messages are listed.
            server: gets a request for each message.
            counters: the desk's slot has the numbers and the position, so that its successor goes on there.
            started_at: messages received before that are not new; the start of the supervisor.
            shutdown_seconds: the time for the workers' open transactions at the end.
            reporting: which of the desks of all nodes reports, and how far they are; closed at the end. None:
                there are no other nodes, and the counters have the position.
        """
        self._desk = desk
        self._server = server
        self._counters = counters
        self._started_at = started_at
        self._shutdown_seconds = shutdown_seconds
        self._reporting = reporting
        self._is_ours = reporting is None
        self._ours_until = 0.0
        self._position: Position | None = None
        self._changes: int | None = None
        self._counts = {_DELIVERED: 0.0, _GIVEN_UP: 0.0, **counters.desks()}
        self._waiting: set[asyncio.Task[None]] = set()
        self._waiting_bytes = 0
        self._sending = asyncio.Semaphore(_REQUESTS)
        self._stopping = asyncio.Event()
        self._throttle = Throttle()

    async def follow(self, failed: Callable[[str, StoreError], None]) -> None:
        """Report what arrives, until this is cancelled; ``failed`` is told of a store that cannot be read."""
        self._take_over()
        while True:
            try:
                await asyncio.sleep(0 if await self._look() else _LOOK_SECONDS)
            except StoreError as error:
                failed("the webhook cannot look for new messages", error)
                await asyncio.sleep(_TROUBLE_SECONDS)

    async def finish(self) -> None:
        """Try once more to report what waits, and what the workers still store if all processes end.

        Then the desk of another node may report.
        """
        try:
            await self._finish()
        finally:
            if self._reporting:
                self._reporting.close()

    async def _finish(self) -> None:
        with suppress(StoreError):
            await self._catch_up()
        self._stopping.set()
        if self._waiting:
            await asyncio.wait(self._waiting, timeout=_STOP_SECONDS)
        for task in self._waiting:
            task.cancel()
        await asyncio.gather(*self._waiting, return_exceptions=True)

    async def _catch_up(self) -> None:
        """If all processes end, take what the workers have stored; else a successor goes on."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._shutdown_seconds + _WORKERS_SECONDS
        while self._counters.stopping and loop.time() < deadline:
            workers = self._counters.workers
            if not await self._look() and (not self._is_ours or (not workers and await self._has_all())):
                return
            await asyncio.sleep(_LOOK_SECONDS)

    async def _has_all(self) -> bool:
        """False if the text of a message is not read yet."""
        end = await self._desk.call(self._desk.mailbox.position_before, _NEVER)
        return self._position is not None and self._position.number >= end.number

    def _take_over(self) -> None:
        """What a predecessor that was killed had not reported is lost."""
        if lost := int(self._counts.get(_BACKLOG, 0)):
            self._counts[_GIVEN_UP] += lost
            log.error(
                "webhook %s: %d messages were not reported: the web desk was killed", self._server, lost
            )
        self._publish()

    async def _look(self) -> bool:
        """Queue what has arrived since the last look; True if there may be more."""
        mailbox = self._desk.mailbox
        if self._reporting and not await self._take_turn(self._reporting):
            return False
        if self._position is None:
            self._position, self._changes = await self._begin_at(), None
        changes = await self._desk.call(mailbox.changes)
        if changes == self._changes:
            return False
        arrivals = await self._desk.call(mailbox.arrivals, self._position, limit=_MESSAGES)
        moved = arrivals.position.number != self._position.number
        for message in arrivals.messages:
            self._queue(message.id, summary(message).model_dump_json().encode())
        self._position = arrivals.position
        if not moved:
            self._changes = changes
        self._publish()
        if moved and self._reporting:
            await self._desk.call(self._reporting.reach, self._position.number)
        return moved

    async def _take_turn(self, reporting: Reporting) -> bool:
        """True if this desk reports; it looks for that once a second. Raises StoreError."""
        now = asyncio.get_running_loop().time()
        if now < self._ours_until:
            return self._is_ours
        try:
            is_ours = await self._desk.call(reporting.is_ours)
        except StoreError:
            self._is_ours, self._position = False, None
            raise
        if not (self._is_ours and is_ours):
            self._position = None
        self._is_ours, self._ours_until = is_ours, now + _TURN_SECONDS
        return is_ours

    async def _begin_at(self) -> Position:
        """Where the desk before this one has come to, but what would be given up by now is left out."""
        mailbox = self._desk.mailbox
        if self._reporting is None and _POSITION in self._counts:
            return Position(number=int(self._counts[_POSITION]))
        reached = await self._desk.call(self._reporting.reached) if self._reporting else None
        if reached is None:
            return await self._desk.call(mailbox.position_before, self._started_at)
        oldest = datetime.now(UTC) - timedelta(seconds=_GIVE_UP_SECONDS)
        too_old = await self._desk.call(mailbox.position_before, oldest)
        return Position(number=max(reached, too_old.number))

    def _queue(self, message_id: str, body: bytes) -> None:
        if self._waiting_bytes + len(body) > _QUEUE_BYTES:
            self._give_up(message_id, "too many messages wait")
            return
        self._waiting_bytes += len(body)
        task = asyncio.create_task(self._report(message_id, body))
        self._waiting.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._waiting.remove(task)
        self._publish()

    async def _report(self, message_id: str, body: bytes) -> None:
        """Try until the server accepts it or the time is over."""
        why = "not accepted in time"
        try:
            async with asyncio.timeout(_GIVE_UP_SECONDS):
                for pause in chain(_PAUSES_SECONDS, repeat(_PAUSES_SECONDS[-1])):
                    async with self._sending:
                        is_last = self._stopping.is_set()
                        why = await self._server.post(message_id, body)
                    if not why or is_last:
                        break
                    self._log_attempt(message_id, why)
                    with suppress(TimeoutError):
                        async with asyncio.timeout(pause):
                            await self._stopping.wait()
        except TimeoutError:
            pass
        finally:
            self._waiting_bytes -= len(body)
            if why:
                self._give_up(message_id, why)
            else:
                self._counts[_DELIVERED] += 1

    def _log_attempt(self, message_id: str, why: str) -> None:
        if (left_out := self._throttle.admit(("attempt", why))) is not None:
            text = "webhook %s: %s; message %s is sent again%s"
            log.warning(text, self._server, why, message_id, _more(left_out))

    def _give_up(self, message_id: str, why: str) -> None:
        self._counts[_GIVEN_UP] += 1
        if (left_out := self._throttle.admit(("given up", why))) is not None:
            text = "webhook %s: message %s was not reported: %s%s"
            log.error(text, self._server, message_id, why, _more(left_out))

    def _publish(self) -> None:
        samples = {**self._counts, _BACKLOG: float(len(self._waiting))}
        if self._position:
            samples[_POSITION] = self._position.number
        self._counters.publish_desks(samples)


def _more(left_out: int) -> str:
    return f" ({left_out} more like this)" if left_out else ""
