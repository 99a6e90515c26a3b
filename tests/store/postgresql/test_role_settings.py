"""What an administrator has set for the role of the store, or for the server, changes nothing."""

import asyncio
import time
from contextlib import closing
from pathlib import Path
from unittest.mock import Mock
from urllib.parse import quote

import pytest
from gatepost.config.store import StoreSettings
from gatepost.store import StoreUnavailable, open_archive, open_store
from gatepost.store.postgresql import driver, preparing
from gatepost.store.postgresql.copying import ServerSource, open_target
from gatepost.store.postgresql.database import Database
from gatepost.store.postgresql.driver import Lock, lock
from gatepost.store.sql.versions import migrate
from sqlalchemy import text

ISOLATION = ["read committed", "repeatable read", "serializable"]
WAITS = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'advisory'"


def with_default(settings, name, value):
    """The store as a role reaches it for which ``ALTER ROLE ... SET`` has set that."""
    option = quote(f" -c{name}={value.replace(' ', chr(92) + ' ')}")
    return settings.model_copy(update={"url": f"{settings.url}{option}"})


@pytest.fixture(params=ISOLATION)
def settings(postgresql, request):
    empty = StoreSettings(url=postgresql.clean_schema())
    return with_default(empty, "default_transaction_isolation", request.param)


async def test_the_tests_reach_it_with_what_was_set(postgresql, settings, request):
    with postgresql.connect(settings.url) as connection:
        (found,) = connection.execute("SHOW default_transaction_isolation").fetchone()
    assert found in request.node.name.replace("-", " ")


async def test_what_is_just_being_released_is_not_deleted(
    postgresql, settings, store, make_record, make_kept, tmp_path, until
):
    """The deletion waits for the claim, and sees it then."""
    await store.commit(make_record(), [kept := make_kept()])
    now = time.time_ns() // 1000
    with open_archive(settings, tmp_path) as archive, postgresql.connect(settings.url) as other:
        other.execute(lock(Lock.WRITE))
        deleting = asyncio.create_task(asyncio.to_thread(archive.delete, [kept.id], actor="bob"))
        await until(lambda: postgresql.execute(WAITS))
        claim = (kept.id, "token", "ann", now, now + 60_000_000)
        other.execute("INSERT INTO kept_releases VALUES (%s, %s, %s, %s, %s)", claim)
        other.commit()
        assert await deleting == []
        assert archive.kept_message(kept.id).content == kept.content


async def test_a_lost_transaction_that_is_committed_while_it_is_waited_for_is_found(
    postgresql, settings, far_store, store, line, make_record, make_kept, everything
):
    record, kept = make_record(), make_kept()
    with postgresql.connect(settings.url) as other:
        other.execute("LOCK TABLE kept_recipients IN SHARE MODE")  # its INSERT waits, the lock is held
        committing = asyncio.create_task(far_store.commit(record, [kept]))
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        while postgresql.execute(waiting) == [(0,)]:
            await asyncio.sleep(0.01)
        line.cut()
        while postgresql.execute(waiting) == [(1,)]:  # until the writer waits for the first transaction
            await asyncio.sleep(0.01)
    await committing
    assert everything(store) == ({record.id}, {kept.id})


async def test_nodes_that_keep_messages_at_the_same_time_do_not_fail_each_other(
    settings, tmp_path, make_record, make_kept, everything
):
    nodes = [open_store(settings, tmp_path) for _ in range(3)]
    kept = [make_kept() for _ in range(90)]
    await asyncio.gather(*(nodes[n % 3].commit(make_record(), [one]) for n, one in enumerate(kept)))
    assert everything(nodes[0])[1] == {one.id for one in kept}
    for node in nodes:
        await node.close()


@pytest.mark.parametrize("settings", ["read committed"], indirect=True)
async def test_a_store_that_is_copied_stays_closed_to_nodes_however_long_nobody_asks_it(
    settings, store, tmp_path, monkeypatch
):
    await store.close()
    impatient = with_default(settings, "idle_session_timeout", "200ms")
    with closing(ServerSource(impatient)) as source, source.snapshot():
        await asyncio.sleep(1)  # as a file that takes its time to be read
        monkeypatch.setattr(driver, "LOCK_SECONDS", 0.2)
        with pytest.raises(StoreUnavailable, match="lock timeout"):
            await open_store(settings, tmp_path).close()


@pytest.mark.parametrize("settings", ["read committed"], indirect=True)
async def test_a_time_is_the_one_that_was_stored_to_its_last_digit(settings, store, make_record):
    """Else a copy would differ from its source."""
    record = make_record(seconds=2 / 3)
    await store.commit(record)
    rounding = with_default(settings, "extra_float_digits", "0")
    with open_archive(rounding, Path()) as archive:
        assert archive.record(record.id).seconds == 2 / 3


@pytest.mark.parametrize("settings", ["read committed"], indirect=True)
async def test_a_limit_for_what_people_wait_for_ends_no_copy(settings, store, tmp_path):
    await store.close()
    impatient = with_default(settings, "statement_timeout", "1s")
    with closing(ServerSource(impatient)) as source, source.snapshot() as reading:
        reading.execute(text("SELECT pg_sleep(2)"))
    with closing(open_target(impatient, tmp_path, None)) as target, target.write() as writing:
        writing.execute(text("SELECT pg_sleep(2)"))


@pytest.mark.parametrize("settings", ["read committed"], indirect=True)
async def test_nor_a_migration_but_what_comes_after_it(settings, store, postgresql, tmp_path, monkeypatch):
    await store.close()
    with postgresql.connect(settings.url) as connection:
        connection.execute("DROP TABLE positions; UPDATE alembic_version SET version_num = '0014'")
    monkeypatch.setattr(preparing, "migrate", slow := Mock(side_effect=sleep_and_migrate))
    monkeypatch.setattr(preparing, "_index_texts", Mock(side_effect=left_over))
    await open_store(with_default(settings, "statement_timeout", "1s"), tmp_path).close()
    slow.assert_called_once()


def sleep_and_migrate(connection):
    connection.execute(text("SELECT pg_sleep(2)"))
    migrate(connection)


def left_over(connection):
    assert connection.scalar(text("SHOW statement_timeout")) == "1s"
    return ""


@pytest.mark.parametrize("settings", ["read committed"], indirect=True)
async def test_nor_an_index(settings, store, postgresql):
    await store.close()
    slow = (
        "DROP INDEX kept_texts_seen, kept_texts_fields;"
        "CREATE FUNCTION slow() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep(2); END$$;"
        "CREATE EVENT TRIGGER slow ON ddl_command_start WHEN TAG IN ('CREATE INDEX') EXECUTE FUNCTION slow()"
    )
    with postgresql.connect(settings.url) as connection:
        connection.execute(slow)
    try:
        Database.create(with_default(settings, "statement_timeout", "1s")).close()
        with postgresql.connect(settings.url) as connection:
            found = connection.execute("SELECT to_regclass('kept_texts_seen') IS NOT NULL").fetchone()
        assert found == (True,)
    finally:
        with postgresql.connect(settings.url) as connection:
            connection.execute("DROP EVENT TRIGGER slow")
