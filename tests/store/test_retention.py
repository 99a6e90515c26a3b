"""What is taken out, and by whom."""

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime

from proxy.config.settings import StoreSettings
from proxy.store import Box, Store
from proxy.store import writer as writer_module


async def test_one_store_of_many_checkpoints_and_another_takes_over(
    settings, tmp_path, make_record, monkeypatch, until, everything
):
    monkeypatch.setattr(writer_module, "_SWEEP_SECONDS", 0.02)

    def pages(store):
        with store._database.write() as connection:
            return connection.exec_driver_sql("PRAGMA wal_autocheckpoint").scalar()

    async def keeps(store):
        await until(lambda: pages(store))

    first = Store.open(settings, tmp_path)
    await keeps(first)
    second = Store.open(settings, tmp_path)
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
    store = Store.open(settings, tmp_path)
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
        assert other.execute("SELECT count(*) FROM kept_recipients").fetchone() == (12,)
    await store.close()


async def test_retention_takes_out_what_is_too_old(
    tmp_path, make_record, make_kept, monkeypatch, until, everything
):
    monkeypatch.setattr(writer_module, "_SWEEP_SECONDS", 0.03)
    store = Store.open(StoreSettings(keep={"days": 1}), tmp_path)
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
    store = Store.open(StoreSettings(keep={"messages": 2}), tmp_path)
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
    store = Store.open(settings, tmp_path)
    for _ in range(300):
        await store.commit(make_record(), [make_kept(box=Box.INBOX)])

    def count():
        with store._database.read() as connection:
            return connection.exec_driver_sql("SELECT count(*) FROM kept").scalar()

    assert count() < 200
    await until(lambda: count() <= 20 + 11)
    await store.close()
