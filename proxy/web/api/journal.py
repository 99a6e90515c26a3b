"""Operations on the journal: what became of each transaction."""

from proxy.store import JournalQuery
from proxy.web.api.answers import JournalPage, JournalRecord
from proxy.web.api.asked import ListJournal
from proxy.web.api.operation import Call, NoBody, NoParameters, Operation
from proxy.web.api.problems import Kind, Problem

__all__ = ["operations"]


async def _list(call: Call[ListJournal, NoBody]) -> JournalPage:
    asked = call.parameters
    query = JournalQuery(**asked.model_dump(exclude={"limit", "before"}))
    found = await call.desk.call(call.desk.archive.records, query, limit=asked.limit, before=asked.before)
    return JournalPage(
        records=[JournalRecord.model_validate(record) for record in found],
        next=found[-1].id if len(found) == asked.limit else None,
    )


async def _read(call: Call[NoParameters, NoBody]) -> JournalRecord:
    transaction_id = call.path("id")
    found = await call.desk.call(call.desk.archive.record, transaction_id)
    if found is None:
        raise Problem(Kind.NOT_FOUND, f"The journal has no transaction {transaction_id[:64]}")
    return JournalRecord.model_validate(found)


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
)
