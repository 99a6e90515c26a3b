"""The journal: what became of which message, and why."""

from collections import Counter
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gatepost.record import Disposition, Record, end_before_rcpt
from gatepost.store import KeptQuery
from gatepost.store.journal_search import JournalSearchError, parse_journal_search
from gatepost.web.pages.conversation import conversation_of
from gatepost.web.rendering import desk_of, is_fragment, render

__all__ = ["Entry", "routes"]

_PAGE = 50
_QUERY_LIMIT = 500
_KEPT = 100
_RECIPIENTS_NAMED = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the table."""

    record: Record
    to: tuple[str, ...]
    """The first forward-paths."""
    more: int
    """How many others there are."""
    ends: tuple[tuple[Disposition, int], ...]
    """What became of it, and for how many recipients."""
    rules: tuple[str, ...]
    """Those that decided for a recipient."""
    reply: str

    @classmethod
    def of(cls, record: Record) -> "Entry":
        """What to show of a record."""
        addresses = [recipient.address for recipient in record.recipients]
        replies = [recipient.reply for recipient in record.recipients if recipient.reply]
        ends = Counter(recipient.disposition for recipient in record.recipients)
        return cls(
            record=record,
            to=tuple(addresses[:_RECIPIENTS_NAMED]),
            more=max(0, len(addresses) - _RECIPIENTS_NAMED),
            ends=tuple(ends.items()) or ((end_before_rcpt(record.reply), 0),),
            rules=tuple(dict.fromkeys(end.rule for end in record.recipients if end.rule)),
            reply=record.reply or next(iter(replies), ""),
        )


async def journal_page(request: Request) -> Response:
    """``/journal``: newest first; ``q`` searches, ``before`` goes on behind a record."""
    desk = desk_of(request)
    text = request.query_params.get("q", "")[:_QUERY_LIMIT]
    before = request.query_params.get("before")
    problem, records = "", []
    try:
        query = parse_journal_search(text)
    except JournalSearchError as error:
        problem = str(error)
    else:
        records = await desk.call(desk.archive.records, query, limit=_PAGE + 1, before=before)
    return render(
        request,
        "journal_entries.html" if is_fragment(request) else "journal.html",
        query=text,
        problem=problem,
        dispositions=tuple(Disposition),
        entries=[Entry.of(record) for record in records[:_PAGE]],
        next=records[_PAGE - 1].id if len(records) > _PAGE else None,
        first=before is None,
    )


async def record_page(request: Request) -> Response:
    """``/journal/{id}``: all that is known of one transaction."""
    desk = desk_of(request)
    record = await desk.call(desk.archive.record, request.path_params["id"])
    if record is None:
        raise HTTPException(404)
    kept = await desk.call(desk.archive.kept, KeptQuery(transaction_id=record.id, state=None), limit=_KEPT)
    lines = await desk.call(conversation_of, desk.conversations, record.session_id, record.id)
    return render(request, "record.html", record=record, entry=Entry.of(record), kept=kept, lines=lines)


routes = [Route("/journal", journal_page), Route("/journal/{id}", record_page)]
