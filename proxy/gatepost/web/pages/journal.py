"""The pages of the journal."""

from collections import Counter
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from gatepost.model.record import Disposition, Record
from gatepost.model.saved import IMPORTED
from gatepost.model.user import Need
from gatepost.store import KeptQuery
from gatepost.store.query import QueryError, parse_journal_query
from gatepost.values import value
from gatepost.web.access import Guarded
from gatepost.web.audit import note
from gatepost.web.desk import Desk
from gatepost.web.pages.conversation import conversation_of
from gatepost.web.pages.lists import offered
from gatepost.web.rendering import desk_of, render

__all__ = ["Entry", "routes"]

_PAGE = 50
_QUERY_LIMIT = 500
_KEPT = 100
_RECIPIENTS_NAMED = 1


@value
class Entry:
    """One line of the table."""

    record: Record
    to: tuple[str, ...]
    """The first forward-paths."""
    more: int
    """The number of further forward-paths."""
    ends: tuple[tuple[Disposition, int], ...]
    """Dispositions, and the number of recipients of each."""
    rules: tuple[str, ...]
    """The rules that decided for a recipient, or refused the client."""
    reply: str
    imported: bool
    """True if it was read from a file."""

    @classmethod
    def of(cls, record: Record) -> "Entry":
        """The values of a record to show."""
        addresses = [recipient.address for recipient in record.recipients]
        replies = [recipient.reply for recipient in record.recipients if recipient.reply]
        ends = Counter(recipient.disposition for recipient in record.recipients)
        return cls(
            record=record,
            to=tuple(addresses[:_RECIPIENTS_NAMED]),
            more=max(0, len(addresses) - _RECIPIENTS_NAMED),
            ends=tuple((end, ends[end]) for end in record.dispositions),
            rules=record.rules,
            reply=record.reply or next(iter(replies), ""),
            imported=bool(addresses) and all(one.reason == IMPORTED for one in record.recipients),
        )


async def journal_page(request: Request) -> Response:
    """``/journal``: newest first; ``q`` searches, ``before`` continues after a record."""
    desk = desk_of(request)
    text = request.query_params.get("q", "")[:_QUERY_LIMIT]
    before = request.query_params.get("before")
    problem, records = "", []
    try:
        query = parse_journal_query(text)
    except QueryError as error:
        problem = str(error)
    else:
        records = await desk.call(desk.archive.records, query, limit=_PAGE + 1, before=before)
    return render(
        request,
        "journal.html",
        query=text,
        problem=problem,
        dispositions=await desk.call(desk.dispositions),
        entries=[Entry.of(record) for record in records[:_PAGE]],
        several_nodes=len({record.node for record in records if record.node}) > 1,
        next=records[_PAGE - 1].id if len(records) > _PAGE else None,
        first=before is None,
    )


async def record_page(request: Request) -> Response:
    """``/journal/{id}``: one transaction in full; other ids of it lead there."""
    desk = desk_of(request)
    some_id = request.path_params["id"]
    record = await desk.call(desk.archive.record, some_id)
    if record is None:
        return await _elsewhere(desk, some_id)
    kept = await desk.call(desk.archive.kept, KeptQuery(id=record.id, state=None), limit=_KEPT)
    lines = await desk.call(conversation_of, desk.conversations, record.session_id, record.id)
    if lines:
        note(request, action="conversation.read")
    entry = Entry.of(record)
    choices = {} if entry.imported else await offered(desk, record.mail_from, str(record.client))
    return render(request, "record.html", record=record, entry=entry, kept=kept, lines=lines, offered=choices)


async def _elsewhere(desk: Desk, some_id: str) -> Response:
    """Where the transactions of a session or of a kept message are shown."""
    found = await desk.find(some_id)
    if len(found.records) > 1:
        return RedirectResponse(f"/journal?{urlencode({'q': f'id:{some_id}'})}", 303)
    if found.records:
        return RedirectResponse(f"/journal/{found.records[0].id}", 303)
    if found.kept:  # its record is older than the journal
        return RedirectResponse(f"/messages/{found.kept[0].id}", 303)
    raise HTTPException(404)


routes = [
    Guarded("/journal", journal_page, needs=Need.READ),
    Guarded("/journal/{id}", record_page, needs=Need.READ),
]
