"""A group of changes is stored once, whatever becomes of the connection while it is committed."""

import asyncio

import psycopg
import pytest
from gatepost.config.store import StoreSettings
from gatepost.store import JournalQuery, KeptQuery, StoreUnavailable
from gatepost.store.postgresql import driver, groups, open_store
from gatepost.store.postgresql.schema import PIECE


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(groups, "_LOOK_SECONDS", 0.01)


@pytest.mark.parametrize("at", ["before", "after"])
@pytest.mark.parametrize("size", [10, 3 * PIECE])
async def test_a_message_is_stored_once_though_the_connection_is_lost_at_its_commit(
    far_store, store, line, make_record, make_kept, everything, at, size
):
    record, kept = make_record(), make_kept(content=b"x" * size)
    line.breaks_at = at
    await far_store.commit(record, [kept])
    assert line.broken == 1
    assert everything(store) == ({record.id}, {kept.id})
    assert store.archive.kept_message(kept.id).content == kept.content


@pytest.mark.parametrize("at", ["before", "after"])
async def test_a_record_is_written_though_the_connection_is_lost_at_its_commit(
    far_store, store, line, make_record, until, at
):
    line.breaks_at = at
    record = make_record()
    far_store.journal(record)
    await until(lambda: far_store.backlog == 0)
    assert line.broken == 1
    assert store.archive.records(JournalQuery(), limit=9) == [record]


@pytest.mark.parametrize("at", ["before", "after"])
async def test_a_message_of_which_nothing_is_known_is_refused_and_withdrawn_when_the_store_is_back(
    far_store, store, line, make_record, make_kept, everything, monkeypatch, caplog, at
):
    monkeypatch.setattr(groups, "_SETTLE_SECONDS", 0.1)
    kept, later = make_kept(), make_kept()
    line.breaks_at, line.stays_closed = at, True
    with pytest.raises(StoreUnavailable, match="it is not known whether the last COMMIT succeeded"):
        await far_store.commit(make_record(), [kept])
    assert "it is not known whether these messages are stored; they are refused, and withdrawn" in caplog.text
    assert kept.id in caplog.text
    assert everything(store)[1] == ({kept.id} if at == "after" else set())
    with pytest.raises(StoreUnavailable):
        await far_store.commit(make_record(), [make_kept()])
    line.is_open = True
    await far_store.commit(make_record(), [later])
    assert everything(store)[1] == {later.id}


@pytest.mark.parametrize("is_back", [True, False])
async def test_at_its_end_a_process_withdraws_what_it_has_refused_or_names_it(
    line, settings, tmp_path, store, make_record, make_kept, everything, monkeypatch, caplog, is_back
):
    monkeypatch.setattr(groups, "_SETTLE_SECONDS", 0.1)
    far_store = open_store(line.settings(settings), tmp_path)
    kept = make_kept()
    line.breaks_at, line.stays_closed = "after", True
    with pytest.raises(StoreUnavailable):
        await far_store.commit(make_record(), [kept])
    line.is_open = is_back
    await far_store.close()
    assert everything(store)[1] == (set() if is_back else {kept.id})
    named = f"these messages may be stored though they were refused: {kept.id}"
    assert (named in caplog.text) is not is_back


async def test_a_lost_transaction_that_is_still_under_way_is_waited_for(
    postgresql, settings, far_store, store, line, make_record, make_kept, everything
):
    """The server has not noticed yet: what it commits later is found, and not stored again."""
    record, kept = make_record(), make_kept()
    with postgresql.connect(settings.url) as other:
        other.execute(
            "LOCK TABLE kept_recipients IN SHARE MODE"
        )  # its INSERT waits, with all that is before it
        committing = asyncio.create_task(far_store.commit(record, [kept]))
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        while postgresql.execute(waiting) == [(0,)]:
            await asyncio.sleep(0.01)
        line.cut()
        while postgresql.execute(waiting) == [(1,)]:  # until the writer waits for the first transaction
            await asyncio.sleep(0.01)
    await committing
    assert everything(store) == ({record.id}, {kept.id})


async def test_a_connection_that_breaks_just_before_a_rollback_loses_nothing(
    postgresql, settings, line, tmp_path, store, make_record, make_kept, everything, until, monkeypatch
):
    """Whether the lost transaction is stored is looked up then too."""
    monkeypatch.setattr(driver, "LOCK_SECONDS", 0.05)
    far_store = open_store(line.settings(settings), tmp_path)
    noted, record, kept = make_record(), make_record(), make_kept()
    other = postgresql.connect(settings.url)
    roll_back = psycopg.Connection.rollback

    def break_and_roll_back(connection):
        if connection.autocommit and not line.broken:  # the writer's
            line.cut()
            line.broken += 1
            other.close()
        roll_back(connection)

    monkeypatch.setattr(psycopg.Connection, "rollback", break_and_roll_back)
    other.execute("BEGIN")
    other.execute("LOCK TABLE recipients IN SHARE MODE")
    try:
        far_store.journal(noted)
        await far_store.commit(record, [kept])
        await until(lambda: far_store.backlog == 0)
    finally:
        other.close()
        await far_store.close()
    assert line.broken
    assert everything(store) == ({noted.id, record.id}, {kept.id})
    assert far_store.lost == 0


async def test_what_cannot_be_looked_up_is_in_doubt_though_the_server_answers(
    postgresql, settings, line, tmp_path, store, make_record, make_kept, everything, until, monkeypatch
):
    """Another process holds the lock that the lost transaction may still hold."""
    monkeypatch.setattr(driver, "LOCK_SECONDS", 0.05)
    far_store = open_store(line.settings(settings), tmp_path)
    kept, later = make_kept(), make_kept()
    line.breaks_at, line.stays_closed = "after", True
    committing = asyncio.create_task(far_store.commit(make_record(), [kept]))
    await until(lambda: everything(store)[1] == {kept.id})
    with postgresql.connect(settings.url) as other:
        other.execute(groups._LOCK)
        line.is_open = True
        waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'advisory'"
        await until(lambda: postgresql.execute(waiting))
        monkeypatch.setattr(groups, "_SETTLE_SECONDS", 0.0)
        with pytest.raises(StoreUnavailable, match=r"lock timeout .*; it is not known whether"):
            await committing
    await far_store.commit(make_record(), [later])
    assert everything(store)[1] == {later.id}
    await far_store.close()


async def test_a_connection_that_ends_while_nothing_is_written_is_no_error(
    postgresql, store, make_record, make_kept, everything, monkeypatch
):
    monkeypatch.setattr(groups, "_IDLE_SECONDS", 0.0)
    monkeypatch.setattr(groups, "_SETTLE_SECONDS", -1.0)
    await store.commit(make_record(), [make_kept()])
    everything(store)
    postgresql.execute(
        "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity WHERE application_name = 'gatepost'"
    )
    await store.commit(make_record(), [make_kept()])
    assert len(everything(store)[1]) == 2


async def test_mail_that_is_only_journalled_waits_for_no_other_process(
    postgresql, settings, store, tmp_path, make_record, make_kept
):
    """A message to keep does: numbers are in the order of the commits."""
    with postgresql.connect(settings.url) as other:
        other.execute(groups._LOCK)
        keeping = asyncio.create_task(store.commit(make_record(), [make_kept()]))
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory'"
        while postgresql.execute(waiting) == [(0,)]:
            await asyncio.sleep(0.01)
        relaying = open_store(settings, tmp_path)
        await relaying.commit(make_record())
        await relaying.close()
        assert not keeping.done()
    await keeping
    assert len(store.archive.kept(KeptQuery(), limit=9)) == 1


async def test_a_commit_whose_wait_for_the_standby_is_cancelled_waits_for_it_all_the_same(
    make_postgresql, tmp_path, make_record, make_kept, everything, until, caplog
):
    """The server answers then as if it had succeeded, with a warning."""
    server = make_postgresql()
    store = open_store(StoreSettings(url=server.url()), tmp_path)
    set_standbys(server, "SET synchronous_standby_names = 'nobody'")
    record, kept = make_record(), make_kept()
    committing = asyncio.create_task(store.commit(record, [kept]))
    waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    for _ in range(2):  # of the COMMIT, and of that which has looked for it
        await until(lambda: server.execute(waits))
        server.execute("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
    await until(lambda: server.execute(waits))
    assert not committing.done()
    set_standbys(server, "RESET synchronous_standby_names")
    await committing
    assert everything(store) == ({record.id}, {kept.id})
    assert caplog.text.count("the wait of a COMMIT for the standby was cancelled") == 1
    await store.close()


async def test_other_warnings_of_the_server_hold_up_no_mail(
    settings, store, tmp_path, make_record, make_kept, everything
):
    """As each transaction has one when old ones must be cleared away soon."""
    warning = (
        "CREATE FUNCTION warn() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN RAISE WARNING 'clear away soon'; RETURN NULL; END$$; "
        "CREATE TRIGGER warns AFTER INSERT OR UPDATE ON kept EXECUTE FUNCTION warn()"
    )
    with psycopg.connect(settings.url) as connection:
        connection.execute(warning)
    record, kept = make_record(), make_kept()
    await store.commit(record, [kept])
    assert everything(store) == ({record.id}, {kept.id})


def set_standbys(server, what):
    server.execute(f"ALTER SYSTEM {what}")
    server.execute("SELECT pg_reload_conf()")
