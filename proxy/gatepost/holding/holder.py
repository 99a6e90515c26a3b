"""A worker's side: asks the desk about a session that is held, and waits for the answer."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from gatepost.holding.channel import Channel, Link
from gatepost.holding.held import Answer, Held
from gatepost.model.verdict import OnError
from gatepost.values import value

__all__ = ["Check", "HoldEnd", "Holder", "Left"]

_DESK_SECONDS: Final = 5.0
"""For the desk to take the session; it answers in milliseconds if it runs."""

Check = Callable[[Answer], str]
"""Why an answer cannot be carried out; empty if it can."""
Left = Callable[[], asyncio.Future[None]]
"""A future that is done when the client has left; made when the session is held."""


@value
class HoldEnd:
    """How holding a session ended."""

    rule: str
    """What held it: a rule, or a breakpoint."""
    on_error: OnError
    """What to do without an answer."""
    answer: Answer | None = None
    why: str = ""
    """Why there is no answer."""
    deadline: bool = False
    """True if the deadline is the reason."""
    left: bool = False
    """True if the client has disconnected."""


class Holder:
    """Holds the sessions of one worker; for one event loop."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._stopping = asyncio.Event()
        self.armed: Sequence[int] = channel.armed
        """For each `Stage`: not 0 if a breakpoint is armed there."""

    def stop(self) -> None:
        """End all holds, and hold no more: the process ends soon."""
        self._stopping.set()

    async def hold(self, held: Held, *, left: Left, check: Check) -> HoldEnd | None:
        """Hold a session until somebody answers, or until the deadline; None: no breakpoint holds it.

        Args:
            held: what is known of it. If no rule holds it, the desk looks for a breakpoint.
            left: tells when the client has left.
            check: whether an answer can be carried out; if not, the session is held on.
        """
        cause = held.holds[0] if held.holds else None
        end = HoldEnd(rule=cause.rule, on_error=cause.on_error) if cause else None
        if self._stopping.is_set():
            return end and _ended(end, "the server is stopping")
        try:
            link = await self._channel.connect()
        except OSError as error:
            return end and _ended(end, f"the web desk cannot be reached: {error.strerror}")
        try:
            taken = await _offer(link, held)
            if taken is None:
                return end and _ended(end, "the web desk does not answer")
            if taken["state"] == "not held":
                return None
            end = HoldEnd(rule=taken["rule"], on_error=taken["on_error"])
            if taken["state"] == "full":
                return _ended(end, f"already {taken['held']} sessions are held")
            return await self._wait(link, end, taken["deadline_seconds"], left, check)
        finally:
            link.close()

    async def _wait(self, link: Link, end: HoldEnd, seconds: float, left: Left, check: Check) -> HoldEnd:
        deadline = asyncio.get_running_loop().time() + seconds
        gone, stopping = left(), asyncio.ensure_future(self._stopping.wait())
        receiving = asyncio.ensure_future(link.receive())
        try:
            while True:
                remaining = deadline - asyncio.get_running_loop().time()
                await asyncio.wait(
                    (receiving, gone, stopping), timeout=remaining, return_when=asyncio.FIRST_COMPLETED
                )
                if receiving.done():
                    received = receiving.result()
                    if received is None:
                        return _ended(end, "the web desk has ended")
                    answer = Answer.from_json(*received)
                    if not (fault := check(answer)):
                        await _tell(link, {"state": "done"})
                        return HoldEnd(rule=end.rule, on_error=end.on_error, answer=answer)
                    await _tell(link, {"state": "fault", "why": fault})
                    receiving = asyncio.ensure_future(link.receive())
                    continue
                if gone.done():
                    end = HoldEnd(rule=end.rule, on_error=end.on_error, why="the client has left", left=True)
                elif stopping.done():
                    end = _ended(end, "the server is stopping")
                else:
                    why = f"no answer within {seconds:g} s"
                    end = HoldEnd(rule=end.rule, on_error=end.on_error, why=why, deadline=True)
                await _tell(link, {"state": "ended", "why": end.why})
                return end
        finally:
            receiving.cancel()
            stopping.cancel()
            gone.cancel()


def _ended(end: HoldEnd, why: str) -> HoldEnd:
    return HoldEnd(rule=end.rule, on_error=end.on_error, why=why)


async def _offer(link: Link, held: Held) -> dict[str, Any] | None:
    """The desk's reply to a session that is to be held; None if there is none in time."""
    try:
        async with asyncio.timeout(_DESK_SECONDS):
            await link.send(held.to_json(), held.content)
            received = await link.receive()
    except (OSError, TimeoutError):
        return None
    return received[0] if received else None


async def _tell(link: Link, data: dict[str, Any]) -> None:
    """Send a frame that may be lost: what it says is done anyway."""
    with suppress(OSError):
        await link.send(data)
