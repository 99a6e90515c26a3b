"""Counts over a long journal: bounded, and remembered."""

from datetime import UTC, datetime, timedelta

import pytest
from gatepost.model.record import Disposition, RecipientRecord
from gatepost.model.verdict import Action
from gatepost.store import Span, Top
from gatepost.store.sql.statistics import SqlStatistics
from gatepost.store.sqlite.database import Database
from sqlalchemy import event

NOW = datetime(2026, 11, 23, 18, 20, tzinfo=UTC)
RELAYED = RecipientRecord(address="a@b.example", disposition=Disposition.RELAYED, action=Action.ACCEPT)


@pytest.fixture
def statistics(store, settings, tmp_path):
    """With more time than a busy machine takes."""
    database = Database.existing(settings, tmp_path)
    yield SqlStatistics(database, budget_seconds=60.0)
    database.close()


@pytest.fixture
def journal(store, make_record):
    """Commit a record so long before NOW, with these fields."""

    async def commit(ago, **fields):
        await store.commit(make_record(received_at=NOW - ago, **fields))

    return commit


async def test_no_call_takes_much_longer_than_the_budget_and_the_next_goes_on(settings, tmp_path, journal):
    hours = [timedelta(hours=hours) for hours in range(24)]
    for ago in hours:
        await journal(ago, recipients=(RELAYED,))
    database = Database.existing(settings, tmp_path)
    statistics = SqlStatistics(database, budget_seconds=0.0)
    totals = []
    while not (timeline := statistics.timeline(Span.DAY, NOW)).complete and len(totals) < 100:
        totals.append(sum(timeline.totals.values()))
    database.close()
    assert totals[0] == 1  # the present bucket alone
    assert timeline.totals == {Disposition.RELAYED: len(hours)}


async def test_settled_buckets_are_counted_once_and_the_present_one_always(statistics, journal):
    await journal(timedelta(minutes=1), recipients=(RELAYED,))
    await journal(timedelta(hours=5), recipients=(RELAYED,))
    statistics.timeline(Span.DAY, NOW)
    await journal(timedelta(minutes=1), recipients=(RELAYED,))
    await journal(timedelta(hours=5), recipients=(RELAYED,))
    assert statistics.timeline(Span.DAY, NOW).totals == {Disposition.RELAYED: 3}


async def test_only_so_many_of_the_newest_are_read(statistics, journal):
    for minutes, mail_from in ((3, "c@b.example"), (1, "a@b.example"), (2, "b@b.example")):
        await journal(timedelta(minutes=minutes), mail_from=mail_from)
    newest = statistics.newest(NOW - timedelta(hours=1), records=2)
    assert (newest.records, newest.complete) == (2, False)
    assert {sender.name for sender in newest.senders} == {"a@b.example", "b@b.example"}


@pytest.mark.parametrize(
    ("hours", "index"), [(1, "INDEXED BY transactions_received_at"), (99, "INDEXED BY transactions_client")]
)
async def test_clients_of_a_small_part_of_the_journal_are_counted_by_time(statistics, journal, hours, index):
    for ago in range(100):
        await journal(timedelta(hours=ago), client=f"192.0.2.{ago % 2}")
    asked = []
    event.listen(statistics._database._engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    found = statistics.top(Top.CLIENTS, NOW - timedelta(hours=hours))
    assert {one.name: one.transactions for one in found} == {
        "192.0.2.0": (hours + 2) // 2,
        "192.0.2.1": (hours + 1) // 2,
    }
    assert [one for one in asked if "INDEXED BY" in one and index not in one] == []
    assert any(index in one for one in asked)
