"""Stored conversations: the sessions of late, and what was said in one of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gatepost.events import Direction, Line
from gatepost.record import Record
from gatepost.store import Archive, Conversations, JournalQuery, SessionSummary, of_transaction
from gatepost.transcript import Transcript, reply_class
from gatepost.web.rendering import desk_of, render

__all__ = ["Said", "conversation_of", "routes", "said"]

_DATA_LINES = 200
"""Of each message; the whole of it is on the message's page."""
_LINES_LIMIT = 5_000
_PAGE = 50
_TRANSACTIONS = 200
_LATE = timedelta(minutes=15)
"""A record may be of so much later than the last line of its session."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One line of a conversation, as a page shows it."""

    at: datetime
    direction: Direction
    text: str
    reply_class: str
    """``2`` to ``5`` for a reply, else nothing."""
    transaction_id: str
    """Of the line that says that a transaction begins, else nothing."""


def said(lines: Iterable[Line]) -> tuple[Said, ...]:
    """What to show of the lines of one session: the beginning of each message, the beginning of it all."""
    transcript = Transcript(data_lines=_DATA_LINES, cut=True)
    shown: list[Said] = []
    for line in lines:
        for direction, text in transcript.texts(line):
            if len(shown) >= _LINES_LIMIT:
                shown.append(_note(line.at, f"... only {_LINES_LIMIT} lines are shown"))
                return tuple(shown)
            shown.append(_said(line.at, direction, text))
    return tuple(shown)


def _said(at: datetime, direction: Direction, text: str) -> Said:
    name, _, transaction_id = text.partition(" ")
    begins = direction == "*" and name == "transaction"
    return Said(
        at=at,
        direction=direction,
        text=text,
        reply_class=reply_class(text) if direction == "S" else "",
        transaction_id=transaction_id if begins else "",
    )


def _note(at: datetime, text: str) -> Said:
    return Said(at=at, direction="*", text=text, reply_class="", transaction_id="")


def conversation_of(
    conversations: Conversations | None, session_id: str, transaction_id: str
) -> tuple[Said, ...]:
    """What was said in a transaction; nothing where it is not stored. Blocks."""
    found = conversations.conversation(session_id) if conversations else None
    return said(of_transaction(found, transaction_id)) if found else ()


async def sessions_page(request: Request) -> Response:
    """``/sessions``: newest first, of one client or with one address."""
    desk = desk_of(request)
    words = request.query_params.get("q", "").strip()[:300]
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
    """``/sessions/{id}``: one conversation from its beginning, and the transactions in it."""
    desk = desk_of(request)
    session_id = request.path_params["id"]
    if desk.conversations is None:
        raise HTTPException(404)
    found = await desk.call(desk.conversations.conversation, session_id)
    if found is None:
        raise HTTPException(404)
    records = await desk.call(_records, desk.archive, found.session)
    return render(
        request,
        "session.html",
        session=found.session,
        lines=said(found.lines),
        records=records,
    )


def _records(archive: Archive, session: SessionSummary) -> list[Record]:
    """The session's transactions, oldest first; found by the index on client and time."""
    query = JournalQuery(
        session_id=session.id,
        client=session.client,
        since=session.started_at,
        until=session.ended_at + _LATE if session.ended_at else None,
    )
    return archive.records(query, limit=_TRANSACTIONS)[::-1]


routes = [Route("/sessions", sessions_page), Route("/sessions/{id}", session_page)]
