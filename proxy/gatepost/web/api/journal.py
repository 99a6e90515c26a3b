"""Operations on the journal: what became of each transaction."""

from datetime import UTC, datetime

from gatepost.store import JournalQuery
from gatepost.web.api.answers import JournalPage, JournalRecord, Statistics
from gatepost.web.api.asked import CountJournal, ListJournal
from gatepost.web.api.operation import Call, NoBody, NoParameters, Operation
from gatepost.web.problems import Kind, Problem

__all__ = ["operations"]


async def _list(call: Call[ListJournal, NoBody]) -> JournalPage:
    asked = call.parameters
    query = JournalQuery(**asked.model_dump(exclude={"limit", "before"}))
    found = await call.desk.call(call.desk.archive.records, query, limit=asked.limit + 1, before=asked.before)
    return JournalPage(
        records=[JournalRecord.model_validate(record) for record in found[: asked.limit]],
        next=found[asked.limit - 1].id if len(found) > asked.limit else None,
    )


async def _read(call: Call[NoParameters, NoBody]) -> JournalRecord:
    transaction_id = call.path("id")
    found = await call.desk.call(call.desk.archive.record, transaction_id)
    if found is None:
        raise Problem(Kind.NOT_FOUND, f"The journal has no transaction {transaction_id[:64]}")
    return JournalRecord.model_validate(found)


async def _count(call: Call[CountJournal, NoBody]) -> Statistics:
    counted = call.desk.statistics
    timeline = await call.desk.call(counted.timeline, call.parameters.span, datetime.now(UTC))
    since = timeline.buckets[0].start
    newest = await call.desk.call(counted.newest, since)
    clients = await call.desk.call(counted.clients, since)
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
        group="Journal",
        summary="List or search transactions, the refused ones too",
        run=_list,
        parameters=ListJournal,
        answer=JournalPage,
    ),
    Operation(
        method="GET",
        path="/journal/{id}",
        name="readJournal",
        group="Journal",
        summary="What became of one transaction, and what each rule said",
        run=_read,
        answer=JournalRecord,
        problems=(Kind.NOT_FOUND,),
    ),
    Operation(
        method="GET",
        path="/statistics",
        name="readStatistics",
        group="Journal",
        summary="Counts over time, the busiest clients and senders, and what each rule did",
        run=_count,
        parameters=CountJournal,
        answer=Statistics,
    ),
)
