"""The server's own troubles: restarts, and what it must have written before it confirmed."""

import os
import signal

import pytest
from gatepost.config.store import StoreSettings
from gatepost.store import JournalQuery, StoreUnavailable
from gatepost.store.postgresql import groups, open_archive, open_store
from gatepost.store.sql import writer
from gatepost.store.sql.store import SqlStore


@pytest.fixture
def careless(make_postgresql):
    """A server that by default confirms what is not on its disk."""
    return make_postgresql(
        "fsync=on", "synchronous_commit=off", "wal_writer_delay=10s", "checkpoint_timeout=1h"
    )


async def test_what_was_committed_survives_a_crash_of_a_server_that_is_careless_by_default(
    careless, tmp_path, make_record, make_kept, everything, until, monkeypatch
):
    monkeypatch.setattr(writer, "_RETRY_SECONDS", 0.05)
    monkeypatch.setattr(groups, "_SETTLE_SECONDS", 0.0)
    store = open_store(StoreSettings(url=careless.new_schema()), tmp_path)
    record, kept = make_record(), make_kept()
    await store.commit(record, [kept])
    careless.stop(signal.SIGQUIT)
    with pytest.raises(StoreUnavailable):
        await store.commit(make_record(), [make_kept()])
    with pytest.raises(StoreUnavailable):
        store.archive.records(JournalQuery(), limit=1)
    with pytest.raises(StoreUnavailable):
        store.archive.check_writable()
    waiting = make_record()
    store.journal(waiting)
    careless.start()
    await until(lambda: store.backlog == 0)
    assert everything(store) == ({record.id, waiting.id}, {kept.id})
    store.archive.check_writable()
    assert store.lost == 0
    await store.close()


def test_a_server_that_takes_no_changes_is_told(settings, tmp_path):
    settings = settings.model_copy(update={"url": f"{settings.url}%20-cdefault_transaction_read_only%3Don"})
    with open_archive(settings, tmp_path) as archive:
        with pytest.raises(StoreUnavailable, match="read-only"):
            archive.delete(["none"], actor="ann")
        with pytest.raises(StoreUnavailable, match="takes no changes"):
            archive.check_writable()
    with pytest.raises(StoreUnavailable, match="takes no changes: it is a standby, or set to read-only"):
        open_store(settings, tmp_path)


async def test_a_server_that_stands_still_keeps_nobody_waiting_and_stores_nothing_that_was_refused(
    store, make_record, make_kept, everything, until, monkeypatch
):
    await store.commit(make_record(), [kept := make_kept()])
    monkeypatch.setattr(SqlStore, "ANSWER_SECONDS", 0.1)
    process = store._database._groups._connection.info.backend_pid
    os.kill(process, signal.SIGSTOP)
    try:
        with pytest.raises(StoreUnavailable, match=r"the store did not answer in 0\.1 seconds"):
            await store.commit(make_record(), [make_kept()])
    finally:
        os.kill(process, signal.SIGCONT)
    await until(lambda: store.backlog == 0)
    assert everything(store)[1] == {kept.id}
