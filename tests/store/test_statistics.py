"""Counts over the journal."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from gatepost.mail import Stage
from gatepost.record import Disposition, RecipientRecord
from gatepost.store.database import Database
from gatepost.store.statistics import Counted, Span, Statistics
from gatepost.verdict import Action, Evaluation, Result

NOW = datetime(2026, 11, 23, 18, 20, tzinfo=UTC)
RELAYED = RecipientRecord(address="a@b.example", disposition=Disposition.RELAYED, action=Action.ACCEPT)
REFUSED = RecipientRecord(address="c@b.example", disposition=Disposition.REFUSED, action=Action.REJECT)


def evaluation(rule, result=Result.PASS, action=None, *, observed=False, seconds=0.001):
    return Evaluation(
        rule=rule,
        stage=Stage.MESSAGE,
        result=result,
        action=action,
        observed=observed,
        reason="",
        recipients=(),
        seconds=seconds,
    )


@pytest.fixture
def statistics(store):
    return store.archive.statistics()


@pytest.fixture
def journal(store, make_record):
    """Commit a record so long before NOW, with these fields."""

    async def commit(ago, **fields):
        await store.commit(make_record(received_at=NOW - ago, **fields))

    return commit


def counted(timeline):
    return {bucket.start: dict(bucket.recipients) for bucket in timeline.buckets if bucket.recipients}


async def test_each_recipient_counts_in_the_bucket_of_its_time(statistics, journal):
    await journal(timedelta(minutes=1), recipients=(RELAYED, REFUSED))
    await journal(timedelta(minutes=19), recipients=(RELAYED,))
    await journal(timedelta(minutes=21), recipients=(RELAYED,))
    await journal(timedelta(days=2), recipients=(RELAYED,))
    day = statistics.timeline(Span.DAY, NOW)
    assert counted(day) == {
        NOW.replace(minute=0): {Disposition.RELAYED: 2, Disposition.REFUSED: 1},
        NOW.replace(hour=17, minute=30): {Disposition.RELAYED: 1},
    }
    assert day.totals == {Disposition.RELAYED: 3, Disposition.REFUSED: 1}
    assert day.complete


@pytest.mark.parametrize(
    ("reply", "disposition"),
    [
        ("550 5.7.1 No", Disposition.REFUSED),
        ("451 4.7.1 Later", Disposition.DEFERRED),
        ("", Disposition.ABANDONED),
    ],
)
async def test_a_transaction_without_recipients_counts_by_its_reply(statistics, journal, reply, disposition):
    await journal(timedelta(minutes=1), recipients=(), reply=reply)
    assert statistics.timeline(Span.HOUR, NOW).totals == {disposition: 1}


@pytest.mark.parametrize("span", Span)
def test_buckets_cover_the_span_and_end_with_the_present_one(statistics, span):
    starts = [bucket.start for bucket in statistics.timeline(span, NOW).buckets]
    assert len(starts) == span.buckets
    assert starts[-1] <= NOW < starts[-1] + span.width
    assert {later - earlier for earlier, later in pairwise(starts)} == {span.width}


def test_days_begin_at_midnight_of_the_zone_asked_for(statistics):
    zone = timezone(timedelta(hours=5, minutes=45))
    last = statistics.timeline(Span.MONTH, NOW.astimezone(zone)).buckets[-1].start
    assert last == datetime(2026, 11, 24, tzinfo=zone)


async def test_no_call_takes_much_longer_than_the_budget_and_the_next_goes_on(settings, tmp_path, journal):
    hours = [timedelta(hours=hours) for hours in range(24)]
    for ago in hours:
        await journal(ago, recipients=(RELAYED,))
    database = Database.existing(settings, tmp_path)
    statistics = Statistics(database, budget_seconds=0.0)
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


async def test_clients_and_senders_are_ranked(statistics, journal):
    for client, mail_from in [
        ("2001:db8::1", "Ann@b.example"),
        ("192.0.2.1", ""),
        ("192.0.2.1", "ann@B.example"),
    ]:
        await journal(timedelta(minutes=1), client=client, mail_from=mail_from)
    await journal(timedelta(minutes=1), client="192.0.2.1", mail_from=None)
    await journal(timedelta(days=9), client="192.0.2.9", mail_from="old@b.example")
    since = NOW - timedelta(days=1)
    assert statistics.clients(since) == (
        Counted(name="192.0.2.1", transactions=3),
        Counted(name="2001:db8::1", transactions=1),
    )
    assert statistics.clients(since, limit=1) == (Counted(name="192.0.2.1", transactions=3),)
    newest = statistics.newest(since)
    assert newest.senders == (
        Counted(name="ann@b.example", transactions=2),
        Counted(name="", transactions=1),
    )
    assert (newest.records, newest.complete) == (4, True)


async def test_rules_are_tallied(statistics, journal):
    hit = evaluation("words", Result.HIT, Action.REJECT, seconds=0.010)
    evaluations = [
        (evaluation("virus", Result.TIMEOUT, Action.DEFER, seconds=9.0), hit),
        (evaluation("virus"), replace(hit, observed=True, seconds=0.030)),
        (evaluation("virus"), replace(hit, seconds=0.020)),
        (),
    ]
    for asked in evaluations:
        await journal(timedelta(minutes=1), evaluations=asked)
    words, virus = statistics.newest(NOW - timedelta(hours=1)).rules
    assert (words.rule, words.asked, words.hits, words.observed) == ("words", 3, 3, 1)
    assert words.actions == {Action.REJECT: 2}
    assert (words.median_seconds, words.slowest_seconds) == (0.020, 0.030)
    assert (virus.rule, virus.hits, virus.failed, virus.actions) == ("virus", 0, 1, {Action.DEFER: 1})
    assert (virus.median_seconds, virus.slowest_seconds) == (0.001, 9.0)


async def test_only_so_many_of_the_newest_are_read(statistics, journal):
    for minutes, mail_from in ((3, "c@b.example"), (1, "a@b.example"), (2, "b@b.example")):
        await journal(timedelta(minutes=minutes), mail_from=mail_from)
    newest = statistics.newest(NOW - timedelta(hours=1), records=2)
    assert (newest.records, newest.complete) == (2, False)
    assert {sender.name for sender in newest.senders} == {"a@b.example", "b@b.example"}
