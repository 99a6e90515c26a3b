"""Counts over the journal."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from gatepost.model.mail import Stage
from gatepost.model.record import Disposition, RecipientRecord
from gatepost.model.verdict import Action, Evaluation, Result
from gatepost.store import Counted, Span, Top

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


def whole(statistics, span):
    """A time line with all its buckets counted, however many calls that takes."""
    while not (timeline := statistics.timeline(span, NOW)).complete:
        pass
    return timeline


def counted(timeline):
    return {bucket.start: dict(bucket.recipients) for bucket in timeline.buckets if bucket.recipients}


async def test_each_recipient_counts_in_the_bucket_of_its_time(statistics, journal):
    await journal(timedelta(minutes=1), recipients=(RELAYED, REFUSED))
    await journal(timedelta(minutes=19), recipients=(RELAYED,))
    await journal(timedelta(minutes=21), recipients=(RELAYED,))
    await journal(timedelta(days=2), recipients=(RELAYED,))
    day = whole(statistics, Span.DAY)
    assert counted(day) == {
        NOW.replace(minute=0): {Disposition.RELAYED: 2, Disposition.REFUSED: 1},
        NOW.replace(hour=17, minute=30): {Disposition.RELAYED: 1},
    }
    assert day.totals == {Disposition.RELAYED: 3, Disposition.REFUSED: 1}


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
    assert whole(statistics, Span.HOUR).totals == {disposition: 1}


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


@pytest.fixture
async def busy(journal):
    """Four transactions of a minute ago, and one of nine days ago."""
    hit = evaluation("words", Result.HIT, Action.REJECT)
    twice = (RELAYED, replace(RELAYED, address="A@b.example"), REFUSED)
    for fields in (
        {"client": "2001:db8::1", "mail_from": "Ann@b.example", "authenticated": "ann", "recipients": twice},
        {"client": "192.0.2.1", "mail_from": "", "evaluations": (evaluation("virus"), hit, hit)},
        {"client": "192.0.2.1", "mail_from": "ann@B.example", "authenticated": "ann"},
        {"client": "192.0.2.1", "mail_from": None, "evaluations": (replace(hit, observed=True),)},
    ):
        await journal(timedelta(minutes=1), **{"recipients": (), "evaluations": (), **fields})
    await journal(timedelta(days=9), client="192.0.2.9", mail_from="old@b.example", authenticated="old")


@pytest.mark.parametrize(
    ("of", "ranked"),
    [
        (Top.SENDERS, {"ann@b.example": 2, "": 1}),
        (Top.RECIPIENTS, {"a@b.example": 1, "c@b.example": 1}),
        (Top.CLIENTS, {"192.0.2.1": 3, "2001:db8::1": 1}),
        (Top.RULES, {"words": 2}),
        (Top.USERS, {"ann": 2}),
    ],
    ids=str,
)
async def test_those_with_most_transactions_over_a_time(statistics, busy, of, ranked):
    day, minute = timedelta(days=1), timedelta(minutes=1)
    expected = tuple(Counted(name=name, transactions=number) for name, number in ranked.items())
    assert statistics.top(of, NOW - day) == expected
    assert statistics.top(of, NOW - day, limit=1) == expected[:1]
    assert statistics.top(of, NOW - day, NOW - minute) == (), "until is not included"
    assert statistics.top(of, NOW - minute, NOW) == expected, "since is"


async def test_senders_of_the_newest_records_are_ranked(statistics, busy):
    newest = statistics.newest(NOW - timedelta(days=1))
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
