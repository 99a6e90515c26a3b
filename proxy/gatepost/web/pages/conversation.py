"""Stored conversations: the latest sessions, and the conversation of one of them."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from ipaddress import ip_address

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from gatepost.model.mail import is_id
from gatepost.model.user import Need
from gatepost.store import Conversations, JournalQuery, SessionSummary, of_transaction
from gatepost.traffic.events import Direction, Event, TransactionBegan, moment
from gatepost.traffic.transcript import Transcript, reply_class
from gatepost.values import value
from gatepost.web.access import Guarded
from gatepost.web.rendering import desk_of, render

__all__ = ["Said", "conversation_of", "routes", "said"]

_DATA_LINES = 200
"""Lines shown of each message; the message's page has all."""
_LINES_LIMIT = 5_000
_PAGE = 50
_TRANSACTIONS = 200


@value
class Said:
    """One line of a conversation on a page."""

    at: datetime
    direction: Direction
    text: str
    reply_class: str
    """``2`` to ``5`` for a reply, else empty."""
    transaction_id: str
    """Of the line with which a transaction begins, else empty."""


def said(events: Iterable[Event]) -> tuple[Said, ...]:
    """What to show of the events of one session: the beginning of each message, the beginning of it all."""
    transcript = Transcript(data_lines=_DATA_LINES, cut=True)
    shown: list[Said] = []
    for event in events:
        at = moment(event.at)
        for direction, text in transcript.texts(event):
            if len(shown) >= _LINES_LIMIT:
                shown.append(_said(at, "*", f"... only {_LINES_LIMIT} lines are shown"))
                return tuple(shown)
            shown.append(_said(at, direction, text))
        if isinstance(event, TransactionBegan):
            shown[-1] = replace(shown[-1], transaction_id=event.transaction_id)
    return tuple(shown)


def _said(at: datetime, direction: Direction, text: str) -> Said:
    return Said(
        at=at,
        direction=direction,
        text=text,
        reply_class=reply_class(text) if direction == "S" else "",
        transaction_id="",
    )


def conversation_of(
    conversations: Conversations | None, session_id: str, transaction_id: str
) -> tuple[Said, ...]:
    """The conversation of a transaction; empty where it is not stored. Blocks."""
    found = conversations.conversation(session_id) if conversations else None
    return said(of_transaction(found, transaction_id)) if found else ()


async def sessions_page(request: Request) -> Response:
    """``/sessions``: newest first, of one client or with one address; an identifier leads to its session."""
    desk = desk_of(request)
    words = request.query_params.get("q", "").strip()[:300]
    if is_id(words) and (found := await desk.conversation(words.lower())):
        return RedirectResponse(f"/sessions/{found.session.id}", 303)
    before = request.query_params.get("before")
    sessions: Sequence[SessionSummary] = ()
    if desk.conversations:
        sessions = await desk.call(
            desk.conversations.sessions, **_wanted(words), limit=_PAGE + 1, before=before
        )
    return render(
        request,
        "sessions.html",
        stored=desk.conversations is not None,
        query=words,
        sessions=sessions[:_PAGE],
        next=sessions[_PAGE - 1].id if len(sessions) > _PAGE else None,
        first=before is None,
    )


def _wanted(words: str) -> dict[str, str]:
    if not words:
        return {}
    try:
        return {"client": str(ip_address(words))}
    except ValueError:
        return {"address": words.removeprefix("<").removesuffix(">")}


async def session_page(request: Request) -> Response:
    """``/sessions/{id}``: one conversation and its transactions."""
    desk = desk_of(request)
    session_id = request.path_params["id"]
    found = await desk.conversation(session_id)
    if found is None:
        raise HTTPException(404)
    if found.session.id != session_id:  # that of a transaction, or of a kept message
        records = (await desk.find(session_id)).records
        place = f"#{records[0].id}" if records else ""
        return RedirectResponse(f"/sessions/{found.session.id}{place}", 303)
    query = JournalQuery(session_id=session_id)
    newest_first = await desk.call(desk.archive.records, query, limit=_TRANSACTIONS)
    return render(
        request,
        "session.html",
        session=found.session,
        lines=said(found.lines),
        records=newest_first[::-1],
    )


routes = [
    Guarded("/sessions", sessions_page, needs=Need.READ_ALL),
    Guarded("/sessions/{id}", session_page, needs=Need.READ_ALL, audit="conversation.read"),
]
