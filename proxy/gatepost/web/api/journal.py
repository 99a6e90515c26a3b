"""Operations on the journal."""

from collections.abc import Sequence
from datetime import UTC, datetime

from gatepost.model.record import Record
from gatepost.model.user import Need
from gatepost.store import JournalQuery, KeptQuery, KeptSummary, Top
from gatepost.web.api.journal_responses import JournalEntry, JournalPage, JournalRecord, Statistics
from gatepost.web.api.operation import Call, Link, NoBody, NoParameters, Operation
from gatepost.web.api.requests import CountJournal, ListJournal
from gatepost.web.api.responses import fields_of
from gatepost.web.desk import Desk
from gatepost.web.problems import Kind, Problem

__all__ = ["operations"]

_KEPT_LIMIT = 100


async def _list(call: Call[ListJournal, NoBody]) -> JournalPage:
    asked = call.parameters
    query = JournalQuery(**asked.model_dump(exclude={"limit", "before"}))
    found = await call.desk.call(call.desk.archive.records, query, limit=asked.limit + 1, before=asked.before)
    return JournalPage(
        records=[JournalRecord.model_validate(record) for record in found[: asked.limit]],
        next=found[asked.limit - 1].id if len(found) > asked.limit else None,
    )


async def _read(call: Call[NoParameters, NoBody]) -> JournalEntry:
    some_id = call.path("id")
    records = (await call.desk.find(some_id)).records
    if not records:
        raise Problem(Kind.NOT_FOUND, f"The journal has no transaction {some_id[:64]}")
    if len(records) > 1:
        some = ", ".join(record.id for record in records[:20])
        raise Problem(Kind.AMBIGUOUS, f"The session {some_id} has several transactions: {some}")
    record = records[0]
    return JournalEntry.model_validate(
        {**fields_of(record), "early_end": record.early_end, "kept": await _kept(call.desk, record)}
    )


async def _kept(desk: Desk, record: Record) -> Sequence[KeptSummary]:
    return await desk.call(desk.archive.kept, KeptQuery(id=record.id, state=None), limit=_KEPT_LIMIT)


async def _count(call: Call[CountJournal, NoBody]) -> Statistics:
    counted = call.desk.statistics
    timeline = await call.desk.call(counted.timeline, call.parameters.span, datetime.now(UTC))
    since = timeline.buckets[0].start
    newest = await call.desk.call(counted.newest, since)
    clients = await call.desk.call(counted.top, Top.CLIENTS, since)
    return Statistics.model_validate(
        {
            "bucket_seconds": timeline.width.total_seconds(),
            "buckets": timeline.buckets,
            "complete": timeline.complete,
            "records_read": newest.records,
            "clients": clients,
            "senders": newest.senders,
            "rules": newest.rules,
        }
    )


operations = (
    Operation(
        method="GET",
        path="/journal",
        name="listJournal",
        needs=Need.READ,
        group="Journal",
        summary="List or search transactions, including refused ones",
        run=_list,
        parameters=ListJournal,
        answer=JournalPage,
        links=(
            Link(name="next page", to="listJournal", given={"before": "/next"}),
            Link(name="newest", to="readJournal", given={"id": "/records/0/id"}),
            Link(name="its conversation", to="readConversation", given={"id": "/records/0/session_id"}),
        ),
    ),
    Operation(
        method="GET",
        path="/journal/{id}",
        name="readJournal",
        needs=Need.READ,
        group="Journal",
        summary="One transaction: dispositions, and the evaluation of each rule",
        description="By its own id, that of its session, or that of a message kept from it.",
        run=_read,
        answer=JournalEntry,
        links=(
            Link(name="conversation", to="readConversation", given={"id": "/session_id"}),
            Link(name="its message", to="readMessage", given={"id": "/kept/0/id"}),
        ),
        problems=(Kind.NOT_FOUND, Kind.AMBIGUOUS),
    ),
    Operation(
        method="GET",
        path="/statistics",
        name="readStatistics",
        needs=Need.READ_ALL,
        group="Journal",
        summary="Counts over time, the busiest clients and senders, and the results of each rule",
        run=_count,
        parameters=CountJournal,
        answer=Statistics,
    ),
)
