"""Desks pass lines of live conversations on while somebody watches, and otherwise write nothing."""

import asyncio
import signal

import pytest
from gatepost.config.store import StoreSettings
from gatepost.store import PassedBatch, StoreError, open_exchange
from gatepost.store.postgresql import exchange as module
from gatepost.store.postgresql.database import Database
from gatepost.traffic.events import event_of
from gatepost.web import other_nodes
from gatepost.web.live import LiveHub
from gatepost.web.other_nodes import OtherNodes


@pytest.fixture
def desk(settings):
    """Open the exchange as a desk of that name."""
    Database.create(settings).close()
    opened = []

    def desk(name, settings=settings):
        opened.append(open_exchange(settings, desk=name))
        return opened[-1]

    yield desk
    for one in opened:
        one.close()


def batch(name, number, before, lines=1):
    return PassedBatch(
        desk=name, node=f"node of {name}", number=number, before=before, lines=lines, octets=b"x%d" % number
    )


def look(desk):
    return desk.turn(watches=False, sent=(), seen={})


def watch(desk, **seen):
    return desk.turn(watches=True, sent=(), seen=seen)


def test_what_is_sent_is_read_once_by_those_who_watch_in_the_order_of_each_desk(desk):
    a, b, c = desk("a"), desk("b"), desk("c")
    assert not look(a).others_watch
    assert not watch(b).others_watch, "nobody else does"
    assert look(a).others_watch
    a.turn(watches=False, sent=[batch("a", 0, 0), batch("a", 1, 1)], seen={})
    c.turn(watches=False, sent=[batch("c", 0, 0)], seen={})
    found = watch(b)
    assert [one for one in found.batches if one.desk == "a"] == [batch("a", 0, 0), batch("a", 1, 1)]
    assert [one for one in found.batches if one.desk == "c"] == [batch("c", 0, 0)]
    a.turn(watches=False, sent=[batch("a", 2, 2)], seen={})
    assert watch(b, a=1, c=0).batches == (batch("a", 2, 2),)
    assert look(b).batches == (), "who does not watch reads nothing"


def test_one_who_watches_no_more_is_forgotten_and_so_is_what_was_sent(
    desk, monkeypatch, postgresql, settings
):
    monkeypatch.setattr(module, "WATCH_SECONDS", 0)
    monkeypatch.setattr(module, "_KEPT_SECONDS", 0)
    a, b = desk("a"), desk("b")
    watch(b)
    assert not look(a).others_watch
    a.turn(watches=False, sent=[batch("a", 0, 0)], seen={})
    a.turn(watches=False, sent=[batch("a", 1, 1)], seen={})
    assert [one.number for one in watch(b).batches] == [1]


def test_nothing_is_written_while_nobody_watches(desk, postgresql, settings):
    a, b = desk("a"), desk("b")

    def snapshot():
        with postgresql.connect(settings.url) as connection:
            return connection.execute("SELECT pg_current_snapshot()::text").fetchone()

    before = snapshot()
    for _ in range(10):
        look(a)
        look(b)
    assert snapshot() == before


def test_after_a_crash_of_the_server_it_goes_on(make_postgresql, desk):
    server = make_postgresql()
    settings = StoreSettings(url=server.url())
    Database.create(settings).close()
    a, b = desk("a", settings), desk("b", settings)
    watch(b)
    a.turn(watches=False, sent=[batch("a", 0, 0)], seen={})
    server.stop(signal.SIGQUIT)
    for one in (a, b):
        with pytest.raises(StoreError):
            watch(one)
    server.start()
    assert not look(a).others_watch, "the tables are empty"
    watch(b, a=0)
    assert look(a).others_watch
    a.turn(watches=False, sent=[batch("a", 1, 1)], seen={})
    assert watch(b, a=0).batches == (batch("a", 1, 1),)


def said(number):
    return event_of(at=number, session_id="s1", direction="C", data=b"NOOP %d" % number)


async def taken(subscription, until):
    """The texts and how many were missed, until there are so many of both."""
    texts, missed = [], 0
    async with asyncio.timeout(60):
        async for found in subscription.batches(pause_seconds=0):
            texts += [line.text for line in found.lines]
            missed += found.missed
            if len(texts) + missed >= until:
                return texts, missed
    return None


async def test_lines_that_are_too_many_are_lost_and_counted_for_those_who_watch(desk, monkeypatch):
    monkeypatch.setattr(other_nodes, "_WAITING_BATCHES", 2)
    monkeypatch.setattr(other_nodes, "_BATCH_OCTETS", 300)
    sending, reading = LiveHub(), LiveHub()
    a = OtherNodes(desk("a"), sending, desk="a", node="mx-a")
    b = OtherNodes(desk("b"), reading, desk="b", node="mx-b")
    a.tap([said(number) for number in range(50)])
    tasks = [asyncio.create_task(one.follow(lambda *_: None)) for one in (a, b)]
    with reading.subscribe("mx-a") as subscription:
        async with asyncio.timeout(60):
            while not a._others_watch:
                await asyncio.sleep(0.02)
        a.tap([said(number) for number in range(100, 120)])
        async with asyncio.timeout(60):
            while a._waiting:
                await asyncio.sleep(0.02)
        a.miss(7)
        a.tap([said(200)])
        texts, missed = await taken(subscription, 28)
    assert texts == [f"NOOP {number}" for number in (*range(100, 106), 200)]
    assert missed == 14 + 7, "those from before somebody watched are not lost"
    assert reading._sessions["s1"].node == "mx-a"
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
