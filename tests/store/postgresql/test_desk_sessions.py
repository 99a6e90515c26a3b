"""Log-ins on a server: what is written when, what goes, and what they outlive."""

import math
import threading
import time

import psycopg
import pytest
from gatepost.config.store import StoreSettings
from gatepost.store import StoreError, StoreUnavailable, open_desk_sessions
from gatepost.store.postgresql import desk_sessions as module
from gatepost.store.postgresql.database import Database

HOUR = 3600
KEYS = [bytes([number]) * 32 for number in range(5)]
ANN, BOB = b"a" * 16, b"b" * 16


@pytest.fixture
def desk(settings):
    """Open the sessions as a desk does."""
    Database.create(settings).close()
    opened = []

    def desk(settings=settings):
        opened.append(open_desk_sessions(settings, unused_seconds=12 * HOUR))
        return opened[-1]

    yield desk
    for one in opened:
        one.close()


@pytest.fixture
def sql(postgresql, settings):
    """Ask the server; returns all rows."""
    with psycopg.connect(settings.url, autocommit=True) as connection:

        def ask(statement):
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

        yield ask


def age(sql, seconds, column="used_at"):
    sql(f"UPDATE desk_sessions SET {column} = {column} - make_interval(secs => {seconds})")


def unused_seconds(sql):
    (found,) = sql("SELECT extract(epoch FROM clock_timestamp() - used_at)::float8 FROM desk_sessions")
    return found[0]


def put(desk, key=KEYS[0], lasts_seconds=math.inf, owner=ANN):
    desk.put(key, b"sealed", owner=owner, lasts_seconds=lasts_seconds)


def test_a_use_is_written_once_a_minute_and_a_look_never(desk, sql):
    one = desk()
    put(one)

    def commits():
        return sql("SELECT pg_current_snapshot()::text")

    before = commits()
    for uses in (True, False) * 5:
        one.get(KEYS[0], uses=uses)
    age(sql, HOUR)
    aged = commits()
    one.get(KEYS[0], uses=False)
    assert commits() == aged != before
    assert unused_seconds(sql) >= HOUR
    one.get(KEYS[0], uses=True)
    assert unused_seconds(sql) < HOUR
    written = commits()
    one.get(KEYS[0], uses=True)
    assert commits() == written != aged


@pytest.mark.parametrize(("column", "seconds"), [("used_at", 12 * HOUR), ("ends_at", HOUR)])
def test_a_session_that_is_over_is_found_no_more_and_goes_with_the_next_log_in(desk, sql, column, seconds):
    one = desk()
    put(one, lasts_seconds=HOUR)
    age(sql, seconds - 60, column)
    assert one.get(KEYS[0], uses=False)
    age(sql, 60, column)
    assert one.get(KEYS[0], uses=True) is None
    put(one, KEYS[1])
    assert sql("SELECT key FROM desk_sessions") == [(KEYS[1],)]


def test_a_session_that_is_over_goes_with_the_next_use_of_another_one(desk, sql):
    one = desk()
    put(one, KEYS[0])
    age(sql, 13 * HOUR)
    sql(f"INSERT INTO desk_sessions VALUES ('\\x{KEYS[1].hex()}', '', clock_timestamp() - interval '1 hour')")
    assert one.get(KEYS[1], uses=False) == b""
    assert len(sql("SELECT 1 FROM desk_sessions")) == 2
    one.get(KEYS[1], uses=True)
    assert sql("SELECT key FROM desk_sessions") == [(KEYS[1],)]


def test_of_too_many_those_go_that_were_unused_for_longest(desk, sql, monkeypatch):
    monkeypatch.setattr(module, "_SESSIONS", 3)
    one, other = desk(), desk()
    for key in KEYS[:3]:
        put(one, key)
        age(sql, 120)
    other.get(KEYS[0], uses=True)
    for key in KEYS[3:]:
        put(other, key)
    assert {key for (key,) in sql("SELECT key FROM desk_sessions")} == {KEYS[0], *KEYS[3:]}


def test_too_many_of_one_user_end_the_oldest_of_that_user_and_none_of_others(desk, sql, monkeypatch):
    monkeypatch.setattr(module, "_SESSIONS", 4)
    monkeypatch.setattr(module, "_SESSIONS_OF_OWNER", 2)
    one, other = desk(), desk()
    put(one, KEYS[0], owner=BOB)
    age(sql, 120)
    sql(f"INSERT INTO desk_sessions VALUES ('\\x{KEYS[1].hex()}', '', clock_timestamp())")  # of version 0013
    age(sql, 120)
    for key in KEYS[2:]:
        put(other, key, owner=ANN)
        age(sql, 120)
        other.get(KEYS[2], uses=True)
    assert {key for (key,) in sql("SELECT key FROM desk_sessions")} == {*KEYS[:3], KEYS[4]}


def test_rows_that_another_node_removes_just_now_hold_nobody_up(desk, sql, settings):
    one = desk()
    put(one, KEYS[0])
    age(sql, 13 * HOUR)
    with psycopg.connect(settings.url) as other:
        other.execute("DELETE FROM desk_sessions")
        put(one, KEYS[1])  # would else wait for the other's end
        other.rollback()
    assert one.get(KEYS[1], uses=True)


def test_they_outlive_the_server_which_is_missed_only_while_it_is_gone(make_postgresql, desk):
    server = make_postgresql()
    settings = StoreSettings(url=server.url())
    Database.create(settings).close()
    one, other = desk(settings), desk(settings)
    put(one)
    assert other.get(KEYS[0], uses=True)
    server.stop()
    server.start()
    assert one.get(KEYS[0], uses=True), "a connection that has ended is no error"
    server.stop()
    for call in (
        lambda: one.get(KEYS[0], uses=True),
        lambda: put(one, KEYS[1]),
        lambda: other.remove(KEYS[0]),
    ):
        with pytest.raises(StoreError):
            call()
    server.start()
    assert one.get(KEYS[0], uses=True) == other.get(KEYS[0], uses=False) == b"sealed"
    other.remove(KEYS[0])
    assert one.get(KEYS[0], uses=True) is None


def test_a_log_in_does_not_wait_for_a_standby(make_postgresql, desk):
    server = make_postgresql()
    settings = StoreSettings(url=server.url())
    Database.create(settings).close()
    server.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    server.execute("SELECT pg_reload_conf()")
    assert server.execute("SHOW synchronous_standby_names") == [("nobody",)]
    one = desk(settings)
    done = threading.Thread(target=put, args=(one,), daemon=True)
    done.start()
    done.join(30)
    assert not done.is_alive()
    assert one.get(KEYS[0], uses=True)


def test_a_session_is_valid_although_its_use_cannot_be_written(desk, sql):
    one = desk()
    put(one)
    age(sql, HOUR)
    sql("ALTER TABLE desk_sessions ADD CONSTRAINT full_disk CHECK (used_at < '2000-01-01') NOT VALID")
    try:
        assert one.get(KEYS[0], uses=True) == b"sealed"
        assert one.get(KEYS[0], uses=True) == b"sealed"
    finally:
        sql("ALTER TABLE desk_sessions DROP CONSTRAINT full_disk")
    assert unused_seconds(sql) >= HOUR


def test_who_waits_for_a_server_that_is_frozen_holds_the_others_up_for_a_moment_only(
    desk, sql, settings, monkeypatch
):
    monkeypatch.setattr(module, "_PATIENCE_SECONDS", 0.01)
    one = desk()
    put(one)
    found = []
    with psycopg.connect(settings.url) as other:
        other.execute("LOCK TABLE desk_sessions")
        waiting = threading.Thread(target=lambda: found.append(one.get(KEYS[0], uses=True)))
        waiting.start()
        blocked = (
            "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%desk_sessions%'"
        )
        give_up = time.monotonic() + 30
        while not sql(blocked):
            assert time.monotonic() < give_up
        with pytest.raises(StoreUnavailable, match="does not answer"):
            one.get(KEYS[0], uses=True)
    waiting.join(60)
    assert found == [b"sealed"]
