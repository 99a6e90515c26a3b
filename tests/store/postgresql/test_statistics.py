"""Counts over the journal on a server, where some buckets are counted with one question."""

from datetime import UTC, datetime, timedelta

from gatepost.model.record import Disposition, RecipientRecord
from gatepost.model.verdict import Action
from gatepost.store import Span
from gatepost.store.postgresql.database import Database
from gatepost.store.sql.statistics import SqlStatistics

NOW = datetime(2026, 11, 23, 18, 20, tzinfo=UTC)
RELAYED = RecipientRecord(address="a@b.example", disposition=Disposition.RELAYED, action=Action.ACCEPT)


async def test_no_call_takes_much_longer_than_the_budget_and_the_next_goes_on(store, settings, make_record):
    for hours in range(24):
        await store.commit(
            make_record(received_at=NOW - timedelta(hours=hours), recipients=(RELAYED,) * (hours + 1))
        )
    database = Database.existing(settings)
    statistics = SqlStatistics(database, budget_seconds=0.0)
    totals = []
    while not (timeline := statistics.timeline(Span.DAY, NOW)).complete and len(totals) < 100:
        totals.append(sum(timeline.totals.values()))
    database.close()
    assert totals[0] == 1 + 2 + 3 + 4  # those of the last four hours
    assert timeline.totals == {Disposition.RELAYED: 300}
