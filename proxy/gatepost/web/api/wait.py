"""The operation ``wait``: answers as soon as a message is there."""

from gatepost.model.user import Need
from gatepost.store import KeptMessage, Mailbox, State
from gatepost.store.query import Later, Query
from gatepost.web.api.long_poll import long_poll
from gatepost.web.api.messages import full_message, summary
from gatepost.web.api.operation import Call, Link, NoBody, Operation
from gatepost.web.api.requests import Wait, read_query
from gatepost.web.api.responses import Message, NothingCame, Waited
from gatepost.web.audit import note
from gatepost.web.desk import Desk
from gatepost.web.problems import Kind, Problem
from gatepost.web.waiting import TooManyWaitError

__all__ = ["operations"]

_NEWEST = 5
_PAGE = 200
_RETRY_AFTER = "5"

_DESCRIPTION = """
Answers at once if enough matching messages are there, else as soon as they arrive. There is no need
to poll, and a waiting request costs next to nothing.

Without `after` these are the newest `count` messages that match; with it the first `count` after
that message, so that a loop that passes the last id sees every message once. Both are in the order
of arrival.

If they do not arrive in time, the response is a problem with status 504; it has the number of matches and
the newest messages of all.
""".strip()


async def _wait(call: Call[Wait, NoBody]) -> Waited:
    messages = await long_poll(call.request, _matching(call))
    note(call.request, *(one.id for one in messages))
    return Waited(messages=messages)


async def _matching(call: Call[Wait, NoBody]) -> list[Message]:
    desk, asked = call.desk, call.parameters
    query = read_query(asked.query)
    if asked.after is not None and await desk.call(desk.mailbox.message, asked.after) is None:
        raise Problem(Kind.NOT_FOUND, f"after: there is no message {asked.after}")
    if asked.after is not None:
        query = Query(terms=(Later(than=asked.after), *query.terms))
    try:
        found = await desk.waiting.until(lambda: desk.call(_find, desk, query, asked), asked.timeout)
    except TooManyWaitError:
        raise Problem(
            Kind.TOO_MANY_WAIT, "Wait with fewer requests at a time", headers={"retry-after": _RETRY_AFTER}
        ) from None
    if found is None:
        raise await _nothing_came(desk, query, asked)
    return [await full_message(desk, kept) for kept in found]


def _find(desk: Desk, query: Query, asked: Wait) -> list[KeptMessage] | None:
    """The requested number of messages, in the order of arrival; None if there are fewer."""
    ids = (_newest if asked.after is None else _first)(desk.mailbox, query, asked.count)
    kept = [desk.mailbox.message(kept_id) for kept_id in ids]
    there = [message for message in kept if message and message.state is not State.DELETED]
    return there if len(there) == asked.count else None


def _newest(mailbox: Mailbox, query: Query, count: int) -> list[str]:
    return [listed.id for listed in reversed(mailbox.page(query, limit=count).messages)]


def _first(mailbox: Mailbox, query: Query, count: int) -> list[str]:
    page = mailbox.page(query, limit=_PAGE)
    newest_first = [listed.id for listed in page.messages]
    while page.next is not None:
        page = mailbox.page(query, limit=_PAGE, before=page.next)
        newest_first = newest_first[-count:] + [listed.id for listed in page.messages]
    return newest_first[-count:][::-1]


async def _nothing_came(desk: Desk, query: Query, asked: Wait) -> Problem:
    found = await desk.call(desk.mailbox.count, query)
    newest = await desk.call(desk.mailbox.page, Query(), limit=_NEWEST)
    came = f"{found} of {asked.count} messages" if asked.count > 1 else "no message"
    looked_for = f"matches {asked.query!r}" if asked.query else "is there"
    return Problem(
        Kind.NOTHING_CAME,
        f"Within {asked.timeout:g} s {came} arrived that {looked_for}",
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
        needs=Need.READ,
        audit="message.read",
        group="Waiting",
        summary="Wait for messages, and read them",
        description=_DESCRIPTION,
        run=_wait,
        parameters=Wait,
        answer=Waited,
        links=(
            Link(name="first", to="readMessage", given={"id": "/messages/0/id"}),
            Link(name="first deleted", to="deleteMessage", given={"id": "/messages/0/id"}),
            Link(name="next", to="waitForMessages", given={"after": "/messages/0/id"}),
        ),
        problems={Kind.NOT_FOUND: None, Kind.NOTHING_CAME: NothingCame, Kind.TOO_MANY_WAIT: None},
    ),
)
