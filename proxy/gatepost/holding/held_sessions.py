"""The desk's side: the sessions that are held, the breakpoints, and the answers."""

import asyncio
import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from gatepost.config.conditions import Condition
from gatepost.config.rules import HOLD_SECONDS
from gatepost.holding.channel import Channel, Link
from gatepost.holding.held import Answer, Held
from gatepost.model.mail import Message, Stage, new_id
from gatepost.model.verdict import OnError
from gatepost.values import value

__all__ = ["Breakpoint", "HeldSession", "HeldSessions", "NotHeldError", "TooManyError"]

log = logging.getLogger(__name__)

_HELD_LIMIT: Final = 32
"""Sessions at a time; each takes up to a MiB of its message here, and its whole message in its worker."""
_BREAKPOINTS_LIMIT: Final = 32
_ENDED: Final = 32
"""Sessions that were held last, of which is remembered how that ended."""
_OFFER_SECONDS: Final = 5.0


class NotHeldError(Exception):
    """The session is not held; the text says how that ended, empty if it is not known."""


class TooManyError(Exception):
    """No more breakpoints can be armed; the text says how many there are."""


@dataclass(slots=True, kw_only=True)
class Breakpoint:
    """Holds the next sessions that reach a stage and match; armed by a person or a test."""

    id: str
    stage: Stage
    when: Mapping[str, Any] | None
    """The condition as written; None: every session."""
    condition: Condition | None
    remaining: int | None
    """How many sessions it still holds; None: all."""
    deadline_seconds: float
    on_error: OnError
    armed_by: str

    @property
    def name(self) -> str:
        """What journal and pages call it."""
        return f"breakpoint {self.id}"

    def matches(self, held: Held) -> bool:
        """True if it holds this session."""
        condition = self.condition
        if held.stage is not self.stage or condition is None:
            return held.stage is self.stage
        message = Message(content=held.content) if self.stage is Stage.MESSAGE else None
        accepted = held.envelope.recipients if held.envelope else ()
        recipients = (held.recipient,) if held.recipient else accepted
        if not condition.per_recipient:
            return condition.holds(held.session, held.envelope, None, message)
        return any(condition.holds(held.session, held.envelope, one, message) for one in recipients)


@value
class HeldSession:
    """A session that waits for an answer."""

    held: Held
    by: str
    """What holds it: the name of a rule or of a breakpoint."""
    breakpoint: str | None
    """The id of a breakpoint that matches; None: only a rule holds it."""
    reason: str
    """The reason of the rule's verdict; empty for a breakpoint."""
    deadline: datetime
    """Aware, UTC; then `on_error` answers."""
    on_error: OnError


@dataclass(slots=True, kw_only=True)
class _Open:
    """A session that is held, and the connection to its worker."""

    session: HeldSession
    link: Link
    answering: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One answer at a time."""
    taken: asyncio.Future[str] | None = None
    """What the worker says of the answer that was sent: why it cannot be carried out, or nothing."""
    how: str = "its worker has ended"
    """How it ended."""


class HeldSessions:
    """All sessions that are held now; for one event loop, in memory only."""

    def __init__(self, channel: Channel, *, arms: bool) -> None:
        """Clear the breakpoints of an earlier desk; ``arms`` says whether this one may arm any."""
        self.arms = arms
        self.number = 0
        """Another one after each change."""
        self._channel = channel
        self._held: dict[str, _Open] = {}
        self._breakpoints: dict[str, Breakpoint] = {}
        self._ended: deque[tuple[str, str]] = deque(maxlen=_ENDED)
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self._show_armed()

    # Sessions

    @property
    def count(self) -> int:
        """How many sessions are held."""
        return len(self._held)

    def sessions(self) -> list[HeldSession]:
        """Those that are held, the longest first."""
        return [one.session for one in self._held.values()]

    def session(self, hold_id: str) -> HeldSession:
        """One that is held; raises NotHeldError."""
        return self._get(hold_id).session

    def _get(self, hold_id: str) -> _Open:
        found = self._held.get(hold_id)
        if found is None:
            raise NotHeldError(dict(self._ended).get(hold_id, ""))
        return found

    async def wait(self, breakpoint_id: str | None, seconds: float) -> list[HeldSession]:
        """Those that are held, of this breakpoint if one is named; waits so long for the first one."""
        found: list[HeldSession] = []
        try:
            async with asyncio.timeout(seconds), self._changed:
                while not found:
                    found = [one for one in self.sessions() if breakpoint_id in (None, one.breakpoint)]
                    if not found:
                        await self._changed.wait()
        except TimeoutError:
            pass
        return found

    async def answer(self, hold_id: str, answer: Answer) -> None:
        """Let a session go on, and wait until its worker has taken the answer.

        Raises NotHeldError, and ValueError if it cannot be carried out: then the session is still held.
        """
        one = self._get(hold_id)
        if fault := answer.fault(one.session.held.stage):
            raise ValueError(fault)
        async with one.answering:
            self._get(hold_id)  # it may have ended meanwhile
            one.taken = asyncio.get_running_loop().create_future()
            one.how = f"answered by {answer.actor}"
            try:
                await one.link.send(answer.to_json(), answer.content or b"")
            except OSError:
                raise NotHeldError("its worker has ended") from None
            fault = await one.taken
        if fault:
            raise ValueError(fault)

    async def follow(self) -> None:
        """Take sessions from the workers; for the life of the application."""
        try:
            while True:
                link = await self._channel.accept()
                task = asyncio.create_task(self._serve(link))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        finally:
            for task in self._tasks:
                task.cancel()

    async def _serve(self, link: Link) -> None:
        """One connection of a worker; its end ends the hold."""
        try:
            async with asyncio.timeout(_OFFER_SECONDS):
                received = await link.receive()
            if received:
                await self._take(link, Held.from_json(*received))
        except (OSError, TimeoutError):
            pass  # the worker has given up
        except Exception:
            log.exception("a session could not be held")
        finally:
            link.close()

    async def _take(self, link: Link, held: Held) -> None:
        matching = await self._matching(held)
        cause = held.holds[0] if held.holds else None
        if cause:
            by, seconds, on_error = cause.rule, cause.deadline_seconds, cause.on_error
        elif matching:
            by, seconds, on_error = matching.name, matching.deadline_seconds, matching.on_error
        else:
            await link.send({"state": "not held"})
            return
        terms = {"rule": by, "deadline_seconds": seconds, "on_error": on_error}
        if len(self._held) >= _HELD_LIMIT:
            await link.send({"state": "full", "held": len(self._held)} | terms)
            return
        if matching:
            self._use(matching)
        session = HeldSession(
            held=held,
            by=by,
            breakpoint=matching.id if matching else None,
            reason=cause.reason if cause else "",
            deadline=datetime.now(UTC) + timedelta(seconds=seconds),
            on_error=on_error,
        )
        one = self._held[held.id] = _Open(session=session, link=link)
        try:
            await link.send({"state": "held"} | terms)
            await self._change()
            await _follow(one)
        finally:
            del self._held[held.id]
            self._ended.append((held.id, one.how))
            if one.taken and not one.taken.done():
                one.taken.set_exception(NotHeldError(one.how))
            await self._change()

    async def _change(self) -> None:
        self.number += 1
        async with self._changed:
            self._changed.notify_all()

    # Breakpoints

    def breakpoints(self) -> list[Breakpoint]:
        """Those that are armed."""
        return list(self._breakpoints.values())

    def arm(
        self,
        stage: Stage,
        *,
        when: Mapping[str, Any] | None = None,
        condition: Condition | None = None,
        count: int | None = 1,
        deadline_seconds: float = HOLD_SECONDS,
        on_error: OnError = "defer",
        actor: str,
    ) -> Breakpoint:
        """Hold the next ``count`` sessions at a stage; from now on in all workers. Raises TooManyError."""
        if len(self._breakpoints) >= _BREAKPOINTS_LIMIT:
            raise TooManyError(f"already {_BREAKPOINTS_LIMIT} breakpoints are armed")
        armed = Breakpoint(
            id=new_id(),
            stage=stage,
            when=when,
            condition=condition,
            remaining=count,
            deadline_seconds=deadline_seconds,
            on_error=on_error,
            armed_by=actor,
        )
        self._breakpoints[armed.id] = armed
        self._show_armed()
        return armed

    def disarm(self, breakpoint_id: str) -> bool:
        """Remove a breakpoint; sessions that it holds stay held. False if it is not armed."""
        removed = self._breakpoints.pop(breakpoint_id, None)
        self._show_armed()
        return removed is not None

    def _show_armed(self) -> None:
        """Tell the workers at which stages to ask."""
        self.number += 1
        for stage in Stage:
            self._channel.armed[stage] = any(one.stage is stage for one in self._breakpoints.values())

    async def _matching(self, held: Held) -> Breakpoint | None:
        for one in self.breakpoints():
            if one.stage is not held.stage or not await asyncio.to_thread(one.matches, held):
                continue
            if one.id in self._breakpoints:  # not disarmed or used up meanwhile
                return one
        return None

    def _use(self, used: Breakpoint) -> None:
        if used.remaining is None:
            return
        used.remaining -= 1
        if used.remaining <= 0:
            self.disarm(used.id)


async def _follow(one: _Open) -> None:
    """Read what the worker says, until it ends the hold."""
    while received := await one.link.receive():
        said = received[0]
        if said["state"] == "ended":
            one.how = said["why"]
            return
        if one.taken and not one.taken.done():  # else nobody waits for it any more
            one.taken.set_result(said.get("why", ""))
        if said["state"] == "done":
            return
    one.how = "its worker has ended"
