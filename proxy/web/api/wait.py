"""The operation ``wait``: answers as soon as a message is there."""

import asyncio

from starlette.requests import Request

from proxy.store import KeptMessage, State
from proxy.store.query import Query
from proxy.web.api.answers import Message, NothingCame, Waited
from proxy.web.api.asked import Wait, read_query
from proxy.web.api.messages import full_message, summary
from proxy.web.api.operation import Call, NoBody, Operation
from proxy.web.api.problems import Kind, Problem, WrongValue
from proxy.web.api.waiting import TooManyWaitError, waiting_of
from proxy.web.desk import Desk

__all__ = ["operations"]

_NEWEST = 5
_RETRY_AFTER = "5"

_DESCRIPTION = """
Answers at once if enough matching messages are there already, else as soon as they have come. Nothing needs
to be asked twice, and a request costs next to nothing while it waits.

Without `after` these are the newest `count` messages that match; with it the first `count` that came after
that message, so that a loop that passes the last id it got sees every message once. Both come in the order
of arrival.

Where they do not come in time the answer is a problem with status 504; it says how many match, and shows
the newest messages that are there instead.
""".strip()


async def _wait(call: Call[Wait, NoBody]) -> Waited:
    waiting = asyncio.ensure_future(_matching(call.desk, call.parameters))
    gone = asyncio.ensure_future(_gone(call.request))
    try:
        await asyncio.wait((waiting, gone), return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            raise Problem(Kind.NOTHING_CAME, "The client has gone")
        return Waited(messages=await waiting)
    finally:
        for task in (waiting, gone):
            task.cancel()
        await asyncio.gather(waiting, gone, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _matching(desk: Desk, asked: Wait) -> list[Message]:
    query = read_query(asked.query)
    if asked.after is not None and await desk.call(desk.mailbox.message, asked.after) is None:
        raise Problem(
            Kind.WRONG_REQUEST,
            f"after: there is no message {asked.after}",
            errors=[WrongValue(where="query after", found=asked.after, expected="the id of a kept message")],
        )
    try:
        found = await waiting_of(desk).until(lambda: desk.call(_find, desk, query, asked), asked.timeout)
    except TooManyWaitError:
        raise Problem(
            Kind.TOO_MANY_WAIT, "Wait for less at a time", headers={"retry-after": _RETRY_AFTER}
        ) from None
    if found is None:
        raise await _nothing_came(desk, query, asked)
    return [await full_message(desk, kept) for kept in found]


def _find(desk: Desk, query: Query, asked: Wait) -> list[KeptMessage] | None:
    """As many as are waited for, in the order of arrival; None for fewer."""
    if asked.after is None:
        listed = desk.mailbox.page(query, limit=asked.count).messages[::-1]
    else:
        listed = desk.mailbox.arrived(query, after=asked.after, limit=asked.count)
    if len(listed) < asked.count:
        return None
    kept = [desk.mailbox.message(one.id) for one in listed]
    there = [message for message in kept if message and message.state is not State.DELETED]
    return there if len(there) == asked.count else None


async def _nothing_came(desk: Desk, query: Query, asked: Wait) -> Problem:
    if asked.after is None:
        found = await desk.call(desk.mailbox.count, query)
    else:
        found = len(await desk.call(desk.mailbox.arrived, query, after=asked.after, limit=asked.count))
    newest = await desk.call(desk.mailbox.page, Query(), limit=_NEWEST)
    came = f"{found} of {asked.count} messages" if asked.count > 1 else "no message"
    looked_for = f"matches {asked.query!r}" if asked.query else "is there"
    return Problem(
        Kind.NOTHING_CAME,
        f"Within {asked.timeout:g} s {came} came that {looked_for}",
        query=asked.query,
        timeout=asked.timeout,
        found=found,
        newest=[summary(listed).model_dump(mode="json") for listed in newest.messages],
    )


operations = (
    Operation(
        method="GET",
        path="/wait",
        name="waitForMessages",
        group="Waiting",
        summary="Wait for messages, and read them",
        description=_DESCRIPTION,
        run=_wait,
        parameters=Wait,
        answer=Waited,
        problems={Kind.NOTHING_CAME: NothingCame, Kind.TOO_MANY_WAIT: None},
    ),
)
