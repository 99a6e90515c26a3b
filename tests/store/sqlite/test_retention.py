"""What is taken out, and by whom."""

import asyncio
import logging
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from gatepost.config.store import Keep, StoreSettings
from gatepost.store import Box, open_store
from gatepost.store.sql import writer as writer_module
from gatepost.store.sql.retention import Retention


async def test_one_store_of_many_checkpoints_and_another_takes_over(
    settings, tmp_path, make_record, monkeypatch, until, everything
):
    monkeypatch.setattr(writer_module, "_SWEEP_SECONDS", 0.02)

    def pages(store):
        with store._database.write() as connection:
            return connection.exec_driver_sql("PRAGMA wal_autocheckpoint").scalar()

    async def keeps(store):
        await until(lambda: pages(store))

    first = open_store(settings, tmp_path)
    await keeps(first)
    second = open_store(settings, tmp_path)
    await asyncio.sleep(0.1)
    await asyncio.gather(first.commit(make_record()), second.commit(make_record()))
    assert pages(second) == 0
    with first.archive._database.write() as connection:
        assert connection.exec_driver_sql("PRAGMA wal_autocheckpoint").scalar() == 0
    await first.close()
    await keeps(second)
    assert len(everything(second)[0]) == 2
    await second.close()


async def test_retention_keeps_the_newest_of_each_box(
    tmp_path, make_record, make_kept, monkeypatch, until, everything
):
    monkeypatch.setattr(writer_module, "_SWEEP_SECONDS", 0.03)
    monkeypatch.setattr(writer_module, "_STEP_SECONDS", 0.001)
    settings = StoreSettings(keep={"messages": 3, "days": 100_000, "journal": 4})
    store = open_store(settings, tmp_path)
    boxes = [Box.INBOX, Box.QUARANTINE] * 30
    pairs = [(make_record(id=f"r{n:03}"), make_kept(id=f"k{n:03}", box=box)) for n, box in enumerate(boxes)]
    for record, kept in pairs:
        await store.commit(
            replace(record, received_at=record.received_at.replace(microsecond=int(record.id[1:]))), (kept,)
        )
    wanted = {"r056", "r057", "r058", "r059"}, {"k054", "k055", "k056", "k057", "k058", "k059"}
    await until(lambda: everything(store) == wanted)
    with closing(sqlite3.connect(tmp_path / "gatepost.db")) as other:
        assert other.execute("SELECT count(*) FROM recipients").fetchone() == (8,)
        noted = {record for (record,) in other.execute("SELECT transaction_id FROM transaction_rules")}
        assert noted == wanted[0]
        assert other.execute("SELECT count(*) FROM kept_recipients").fetchone() == (12,)
    await store.close()


async def test_retention_takes_out_what_is_too_old(
    tmp_path, make_record, make_kept, monkeypatch, until, everything
):
    monkeypatch.setattr(writer_module, "_SWEEP_SECONDS", 0.03)
    store = open_store(StoreSettings(keep={"days": 1, "settling": "100ms"}), tmp_path)
    now = make_record(received_at=datetime.now(UTC))
    fresh, old = make_kept(), make_kept()
    await store.commit(now, (fresh,))
    await store.commit(
        make_record(received_at=now.received_at.replace(year=now.received_at.year - 1, day=1)), (old,)
    )
    await until(lambda: everything(store) == ({now.id}, {fresh.id}))
    await store.close()


async def test_room_that_retention_made_is_used_again(
    tmp_path, make_record, make_kept, monkeypatch, until, everything
):
    monkeypatch.setattr(writer_module, "_SWEEP_SECONDS", 0.01)
    monkeypatch.setattr(writer_module, "_STEP_SECONDS", 0.001)
    store = open_store(StoreSettings(keep={"messages": 2}), tmp_path)
    sizes = []
    for _ in range(6):
        for _ in range(5):
            await store.commit(make_record(), (make_kept(content=b"x" * 100_000),))
        await until(lambda: len(everything(store)[1]) <= 2)
        with store._database.read() as connection:
            sizes.append(connection.exec_driver_sql("PRAGMA page_count").scalar())
    assert sizes[-1] <= sizes[1] * 1.5
    await store.close()


async def test_a_small_bound_is_kept_while_messages_pour_in(tmp_path, make_record, make_kept, until):
    """Without waiting for the usual minute."""
    settings = StoreSettings.model_validate({"keep": {"messages": 20}})
    store = open_store(settings, tmp_path)
    for _ in range(300):
        await store.commit(make_record(), [make_kept(box=Box.INBOX)])

    def count():
        with store._database.read() as connection:
            return connection.exec_driver_sql("SELECT count(*) FROM kept").scalar()

    assert count() < 200
    await until(lambda: count() <= 20 + 11)
    await store.close()


class House:
    """Housekeeping of a store, minute by minute, with a clock that can be set."""

    def __init__(self, store, keep, now=datetime(2026, 11, 23, tzinfo=UTC)):
        self.store, self.keep, self.now, self.running = store, keep, now, 5000.0
        self.start()

    def start(self):
        self.retention = Retention(self.keep, clock=lambda _: self.now, running=lambda: self.running)

    def sweep(self):
        with self.store._database.read() as connection:
            self.retention.sweep(connection)
        more = True
        while more:
            with self.store._database.write() as connection:
                more = self.retention.step(connection)
            self.retention.report()

    def run(self, **time):
        """Let that time pass, with a sweep now and then."""
        end = self.running + timedelta(**time).total_seconds()
        while self.running < end:
            self.sweep()
            step = min(3550.0, end - self.running)
            self.running += step
            self.now += timedelta(seconds=step)
        self.sweep()

    async def receive(self, make_record, make_kept):
        """A message and its record, which go together."""
        await self.store.commit(make_record(received_at=self.now), (make_kept(),))


@pytest.fixture
async def house(store):
    return House(store, Keep(days=2))


@pytest.fixture
def count(store, everything):
    """How many messages there are, and records."""

    def counted():
        records, messages = everything(store)
        assert len(records) == len(messages)
        return len(messages)

    return counted


async def test_what_is_too_old_goes_half_a_day_later(house, make_record, make_kept, count):
    house.run(days=1)
    await house.receive(make_record, make_kept)
    house.run(days=2, hours=11)
    assert count() == 1
    house.run(hours=2)
    assert count() == 0


async def test_without_a_settling_time_what_is_too_old_goes_at_once(store, make_record, make_kept, count):
    """As in complaints mode: a server that a developer starts in the morning never runs for half a day."""
    house = House(store, Keep(days=1 / 24, settling=timedelta(0)))
    await house.receive(make_record, make_kept)
    house.run(minutes=30)
    await house.receive(make_record, make_kept)
    house.run(minutes=29)
    assert count() == 2
    house.run(minutes=2)
    assert count() == 1
    house.run(minutes=28)
    house.start()
    house.run(minutes=2)
    assert count() == 0


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_clock_that_jumps_takes_nothing_before_half_a_day(
    house, make_record, make_kept, count, restarted
):
    house.run(days=1)
    await house.receive(make_record, make_kept)
    house.now += timedelta(days=40)
    if restarted:
        house.start()
    house.run(hours=11)
    await house.receive(make_record, make_kept)
    assert count() == 2
    house.run(hours=2)
    assert count() == 1, "so it does after a downtime of 40 days"


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_clock_that_is_set_right_takes_nothing_that_is_young(
    house, make_record, make_kept, count, restarted
):
    house.run(days=1)
    await house.receive(make_record, make_kept)
    for _ in range(3):
        house.now += timedelta(days=40)
        house.run(hours=11)
        house.now -= timedelta(days=40)
        if restarted:
            house.start()
        house.run(minutes=30)
    assert count() == 1
    house.run(days=2)
    assert count() == 0


async def test_a_clock_that_was_set_back_only_lets_things_live_longer(house, make_record, make_kept, count):
    house.run(days=1)
    await house.receive(make_record, make_kept)
    house.now -= timedelta(days=1)
    house.run(days=3)
    assert count() == 1
    house.run(days=1)
    assert count() == 0


@pytest.mark.parametrize(
    ("restarted", "said"),
    [
        (False, "the clock has jumped ahead by 40.0 days, and by it 1 messages and 1 records of the journal"),
        (True, "the newest record in the store is 41.0 days old by the clock, and by it 1 messages and 1"),
    ],
)
async def test_a_jump_is_said_with_what_it_would_take(house, make_record, make_kept, caplog, restarted, said):
    await house.receive(make_record, make_kept)
    house.run(days=1)
    assert caplog.messages == []
    house.now += timedelta(days=40)
    if restarted:
        house.start()
    house.run(minutes=30)
    (message,) = caplog.messages
    assert message.startswith(said)
    assert message.endswith("they are deleted when Gatepost has run for 12 hours by this clock")
    house.now -= timedelta(days=40)
    house.run(minutes=30)
    assert caplog.messages[1:] == ["the clock has jumped back by 40.0 days"]


async def test_no_clock_that_is_corrected_is_called_a_jump(house, make_record, make_kept, caplog):
    await house.receive(make_record, make_kept)
    house.run(hours=1)
    house.now += timedelta(minutes=50)
    house.run(hours=1)
    house.now -= timedelta(minutes=50)
    house.run(hours=1)
    house.start()
    house.run(hours=1)
    assert caplog.messages == []


async def test_the_log_says_once_a_minute_what_was_taken_out(
    house, store, make_record, make_kept, caplog, everything
):
    caplog.set_level(logging.INFO)
    house.keep = Keep(days=2, messages=3)
    house.start()
    boxes = [Box.QUARANTINE] * 40 + [Box.INBOX] * 5
    kept = [make_kept(box=box) for box in boxes]
    await store.commit(make_record(received_at=house.now), kept)
    store.archive.delete([kept[38].id], actor="carol")
    house.sweep()
    await store.commit(make_record(received_at=house.now), [make_kept(box=Box.INBOX)])
    house.sweep()
    assert caplog.messages == []
    house.run(minutes=2)
    begin = "deleted from the store, see store.keep: "
    (line,) = caplog.records
    assert line.levelname == "WARNING"
    assert line.getMessage() == (
        f"{begin}3 messages of the inbox by number, 36 messages of quarantine by number"
    )
    caplog.clear()
    house.run(days=3)
    (line,) = caplog.records
    assert line.levelname == "INFO"
    assert line.getMessage() == (
        f"{begin}2 records of the journal by age, 3 messages of quarantine by age, "
        "1 deleted messages of quarantine by age, 3 messages of the inbox by age"
    )
    assert everything(store) == (set(), set())


async def test_what_was_taken_out_last_is_said_at_the_end(tmp_path, make_record, make_kept, caplog):
    store = open_store(StoreSettings(keep={"messages": 1}), tmp_path)
    for _ in range(5):
        await store.commit(make_record(), [make_kept() for _ in range(10)])
    await store.close()
    gone = [int(one.split(": ")[1].split()[0]) for one in caplog.messages if "of quarantine" in one]
    assert gone
    assert 1 <= sum(gone) <= 49
