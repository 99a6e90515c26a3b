"""What a filter remembers, and for how long."""

import asyncio
import gc
import math
import sqlite3
import stat

import pytest
from gatepost.state import Amount, State
from gatepost.state.database import Database
from gatepost.state.sqlite import SqliteState
from gatepost.testing import make_state

HOUR, YEAR = 3600, 365 * 86400


def times(number, limit=3, key="client", seconds=60):
    return Amount(key=key, amount=number, seconds=seconds, limit=limit)


@pytest.mark.parametrize(
    "value", [0, -1, 2**63 - 1, 1.5, math.inf, "", "Grüße \0", b"", b"\xff\0", "x" * 65536], ids=repr
)
async def test_a_value_is_remembered_with_its_type(open_any, value):
    await open_any().set("key", value, seconds=10)
    found = await open_any().get("key")
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (2**63, ValueError),
        ("x" * 65537, ValueError),
        (None, TypeError),
        ([], TypeError),
        (math.nan, TypeError),
    ],
)
async def test_other_values_are_refused(open_any, value, error):
    with pytest.raises(error):
        await open_any().set("key", value, seconds=10)


@pytest.mark.parametrize("seconds", [0, -1, math.inf, math.nan])
async def test_a_time_that_is_none_is_refused(open_any, seconds):
    with pytest.raises(ValueError, match="seconds, expected more than 0"):
        await open_any().set("key", 1, seconds=seconds)


async def test_a_value_ends_with_its_time_and_another_replaces_it(open_any, clock):
    state = open_any()
    assert await state.get("key") is None
    await state.set("key", 1, seconds=10)
    await state.set("key", 2, seconds=20)
    clock.go_on(19)
    assert await state.get("key") == 2
    clock.go_on(2)
    assert await state.get("key") is None


async def test_the_keys_of_another_filter_are_others(open_any):
    one, other = open_any("greylist"), open_any("./my filter.py:Mine")
    await one.set("key", 1, seconds=10)
    await other.add(times(1, key="key"))
    assert await other.get("key") is None
    assert await one.get("key") == 1


@pytest.mark.parametrize("key", ["", "x" * 100_000, "Bücher@例え.example", "a\0b", "\udcff", "'; DROP TABLE"])
async def test_any_text_is_a_key_of_its_own(open_any, key):
    state = open_any()
    await state.set(key, 1, seconds=10)
    await state.set(f"{key}!", 2, seconds=10)
    assert [await state.get(key), await state.get(f"{key}!")] == [1, 2]


async def test_counts_add_up_until_the_limit_and_again_when_the_window_is_over(open_any, clock):
    state = open_any()
    assert [(await state.add(times(1)))[0].total for _ in range(3)] == [1, 2, 3]
    (refused,) = await state.add(times(1))
    assert refused.total == 3
    assert 60 < refused.wait_seconds <= 65
    clock.go_on(refused.wait_seconds)
    assert (await state.add(times(1)))[0].total == 1


async def test_either_all_amounts_are_added_or_none(open_any):
    state = open_any()
    await state.add(times(3, key="sender"))
    client, sender = await state.add(times(1), times(1, key="sender"))
    assert (client.wait_seconds, client.total) == (0, 1), "there was room for this one"
    assert sender.wait_seconds > 0
    assert (await state.add(times(3)))[0].wait_seconds == 0, "and it was not added"


async def test_windows_of_other_lengths_and_the_same_one_twice(open_any):
    state = open_any()
    hour, day, again = await state.add(
        times(1, seconds=HOUR), times(1, seconds=86400), times(1, seconds=HOUR)
    )
    assert (hour.total, day.total, again.total) == (1, 1, 2)
    assert (await state.add(times(1, seconds=HOUR)))[0].total == 3


async def test_it_outlives_a_restart_and_several_share_it(make, open_state):
    first = make(SqliteState)
    await State(first, "test").set("key", 1, seconds=HOUR)
    await State(first, "test").add(times(2))
    await first.close()
    one, other = open_state(), open_state()
    assert await other.get("key") == 1
    await one.set("key", 2, seconds=HOUR)
    assert await other.get("key") == 2
    assert (await one.add(times(1)))[0].total == 3
    assert (await other.add(times(1)))[0].wait_seconds > 0


async def test_only_its_owner_can_read_it_and_a_memory_that_nobody_uses_is_no_file(tmp_path, open_state):
    state = open_state()
    assert list(tmp_path.iterdir()) == []
    await state.get("key")
    modes = {path.name: stat.filemode(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes["state"] == "-rw-------"
    assert set(modes.values()) == {"-rw-------"}


async def test_a_trial_makes_no_file(tmp_path, open_state):
    trial = open_state(keeps_changes=False)
    await trial.set("key", 1, seconds=10)
    assert list(tmp_path.iterdir()) == []
    assert await trial.get("key") is None


async def test_a_trial_sees_what_is_there_and_changes_nothing(open_any):
    trial, state = open_any(keeps_changes=False), open_any()
    await state.set("key", 2, seconds=10)
    await trial.set("key", 3, seconds=10)
    assert [await trial.get("key"), await state.get("key")] == [2, 2]
    assert (await trial.add(times(3)))[0].total == 3
    assert (await state.add(times(3)))[0].wait_seconds == 0
    assert (await trial.add(times(1)))[0].wait_seconds > 0


async def test_above_the_greatest_number_those_go_that_end_first(open_state):
    state = open_state(max_entries=10)
    for number in range(30):
        await state.set(f"{number}", number, seconds=100 + (number * 7) % 30)
    left = [number for number in range(30) if await state.get(f"{number}") is not None]
    assert sorted((number * 7) % 30 for number in left) == [20, 21, 22, 23, 24, 25, 26, 27, 28, 29]


@pytest.mark.parametrize("at_once", [1, 1000])
async def test_a_filter_that_remembers_much_takes_no_place_from_one_that_remembers_little(make, at_once):
    backend = make(SqliteState, max_entries=90)
    pairs, counts, others = (State(backend, space) for space in ("greylist", "ratelimit", "lockout"))
    await asyncio.gather(*(counts.add(times(1, key=f"{number}")) for number in range(20)))
    await asyncio.gather(*(others.set(f"{number}", 1, seconds=1) for number in range(30)))  # its whole share
    for begin in range(0, 2000, at_once):
        flood = range(begin, begin + at_once)
        await asyncio.gather(*(pairs.set(f"{number}", 1, seconds=86400) for number in flood))
    assert [(await counts.add(times(0, key=f"{number}")))[0].total for number in range(20)] == [1] * 20
    assert [await others.get(f"{number}") for number in range(30)] == [1] * 30
    left = [number for number in range(2000) if await pairs.get(f"{number}") is not None]
    assert len(left) == 40
    await backend.close()


async def test_what_a_filter_leaves_free_is_for_the_others(make):
    backend = make(SqliteState, max_entries=90)
    old, new = State(backend, "removed"), State(backend, "new")
    await asyncio.gather(*(old.set(f"{number}", 1, seconds=10 + number) for number in range(90)))
    await asyncio.gather(*(new.set(f"{number}", 1, seconds=10) for number in range(45)))
    assert [await old.get(f"{number}") for number in range(90)] == [None] * 45 + [1] * 45
    assert [await new.get(f"{number}") for number in range(45)] == [1] * 45
    await backend.close()


def test_a_file_that_does_not_know_yet_how_much_each_filter_has_is_counted(make, tmp_path):
    fill(database := make(), 40)
    database.close()
    with sqlite3.connect(tmp_path / "state") as connection:
        connection.execute("DROP TABLE spaces")
    connection.close()
    fill(make(max_entries=30), 41)
    assert entries(tmp_path / "state") == (30, 30)


def entries(path):
    with sqlite3.connect(path) as connection:
        both = "SELECT (SELECT count(*) FROM entries), sum(entries) FROM spaces"
        return connection.execute(both).fetchone()


def fill(database, number, seconds=10):
    with database.changes():
        for one in range(number):
            database.set("test", f"{one}", one, seconds)


def test_what_is_over_is_deleted_in_steps_by_one_process_when_the_clock_has_run_on(make, clock, tmp_path):
    database, other = make(), make()
    fill(database, 700)
    clock.go_on(HOUR)
    assert other.get("test", "1") is None
    assert not other.maintain(), "the first process does it"
    assert entries(tmp_path / "state") == (700, 700)
    assert database.maintain()
    assert entries(tmp_path / "state") == (200, 200)
    assert database.maintain()
    assert entries(tmp_path / "state") == (0, 0)
    assert not database.maintain()
    fill(database, 3)
    clock.go_on(HOUR)
    database.close()
    clock.go_on(HOUR)
    assert other.get("test", "1") is None
    other.maintain()
    assert entries(tmp_path / "state") == (0, 0), "then the other"
    other.close()


@pytest.mark.parametrize("jump", [-YEAR, -100, 100, HOUR, YEAR])
def test_a_clock_that_is_set_and_corrected_forgets_nothing(make, clock, tmp_path, jump):
    database = make()
    fill(database, 5, seconds=50)
    clock.go_on(HOUR - 3595)
    clock.now += jump
    for _ in range(30):
        clock.go_on(1)
        database.maintain()
    assert (database.get("test", "1") is None) == (jump > 0), "what is over is not found"
    clock.now -= jump
    database.maintain()
    assert database.get("test", "1") == 1
    assert entries(tmp_path / "state") == (5, 5)
    clock.go_on(60)
    assert database.get("test", "1") is None
    database.close()


def test_what_was_remembered_while_the_clock_was_ahead_ends_in_its_time(make, clock):
    database = make()
    clock.now += YEAR
    fill(database, 2, seconds=50)
    clock.now -= YEAR
    database.maintain()
    assert database.get("test", "1") == 1
    clock.go_on(HOUR)
    assert database.get("test", "1") == 1, "now the clock is believed"
    clock.go_on(52)
    assert database.get("test", "1") is None
    database.close()


async def test_the_event_loop_goes_on_while_another_process_holds_the_lock(open_state, tmp_path):
    state = open_state()
    await state.set("key", 1, seconds=10)
    with sqlite3.connect(tmp_path / "state", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = asyncio.ensure_future(state.set("key", 2, seconds=10))
        turns = 0
        while turns < 100:
            await asyncio.sleep(0)
            turns += 1
        assert not waiting.done()
        other.execute("ROLLBACK")
        await waiting
    other.close()
    assert await state.get("key") == 2


async def test_who_waits_no_longer_is_left_out(open_state, tmp_path):
    state = open_state()
    await state.set("key", 1, seconds=10)
    with sqlite3.connect(tmp_path / "state", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        first = asyncio.ensure_future(state.set("first", 1, seconds=10))
        await asyncio.sleep(0.05)
        late = asyncio.ensure_future(state.set("late", 1, seconds=10))
        await asyncio.sleep(0)
        late.cancel()
        other.execute("ROLLBACK")
        await first
    other.close()
    assert [await state.get("first"), await state.get("late")] == [1, None]


def test_the_memory_of_a_test_ends_with_it_and_works_on_one_event_loop_after_the_other():
    state = make_state(clock=lambda: 0.0, max_entries=5)
    asyncio.run(state.set("key", 1, seconds=10))
    assert asyncio.run(state.get("key")) == 1
    thread = state._backend._thread
    del state
    gc.collect()
    thread.join(30)
    assert not thread.is_alive()


async def test_all_that_is_asked_at_once_is_one_transaction(make, tmp_path):
    backend = make(SqliteState)
    state = State(backend, "test")
    await asyncio.gather(*(state.set(f"{number}", number, seconds=10) for number in range(500)))
    await asyncio.gather(*(state.add(times(1, limit=500)) for _ in range(500)))
    assert (await state.add(times(0, limit=500)))[0].total == 500
    assert entries(tmp_path / "state") == (501, 501)
    await backend.close()


def test_a_database_in_memory_is_not_shared():
    one, other = (Database(None, max_entries=5) for _ in range(2))
    fill(one, 2)
    assert [one.get("test", "1"), other.get("test", "1")] == [1, None]
