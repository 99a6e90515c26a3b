"""What an administrator has set for the role of the store, or for the server, changes nothing."""

import asyncio
import time
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest
from gatepost.config.store import StoreSettings
from gatepost.store import StoreUnavailable, open_archive, open_store
from gatepost.store.postgresql import driver
from gatepost.store.postgresql.copying import ServerSource
from gatepost.store.postgresql.driver import Lock, lock

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
