"""A state that is locked, full, gone or damaged is an error, and works again when it can."""

import asyncio
import sqlite3

import pytest
from gatepost.state import database
from gatepost.state import sqlite as sqlite_state
from gatepost.state.contract import StateError


async def works(state, value):
    await state.set("key", value, seconds=100)
    return await state.get("key") == value


async def test_locked(open_state, tmp_path, monkeypatch):
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.1)
    state = open_state()
    assert await works(state, 1)
    other = sqlite3.connect(tmp_path / "state", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StateError, match=r"state is locked by another process \(SQLITE_BUSY\)"):
        await state.set("key", 2, seconds=100)
    assert await state.get("key") == 1, "reading needs no lock"
    other.execute("ROLLBACK")
    other.close()
    assert await works(state, 3)


async def test_too_slow(open_state, tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite_state, "_WAITING_LIMIT", 5)
    state = open_state()
    assert await works(state, 0)
    other = sqlite3.connect(tmp_path / "state", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waiting = [asyncio.ensure_future(state.set("first", 1, seconds=100))]
    await asyncio.sleep(0)
    async with asyncio.timeout(30):
        while state._backend._queue.qsize():  # until the thread has taken it, and waits
            await asyncio.sleep(0.001)
    waiting += [asyncio.ensure_future(state.set(f"{number}", 1, seconds=100)) for number in range(6)]
    await asyncio.sleep(0)
    with pytest.raises(StateError, match="the state is too slow: 5 operations wait"):
        await waiting.pop()
    other.execute("ROLLBACK")
    other.close()
    await asyncio.gather(*waiting)
    assert await works(state, 1)


def test_full(make, tmp_path):
    full = make()
    full.get("test", "key")
    ((pages,),) = full._connection.execute("PRAGMA page_count").fetchall()
    full._connection.execute(f"PRAGMA max_page_count = {pages}").fetchall()
    value = b"x" * 60_000
    with pytest.raises(StateError, match=r"state is full \(SQLITE_FULL\)"), full.changes():
        full.set("test", "key", value, 100)
    assert full.get("test", "key") is None
    full._connection.execute(f"PRAGMA max_page_count = {pages + 100}").fetchall()
    with full.changes():
        full.set("test", "key", value, 100)
    assert full.get("test", "key") == value
    full.close()


async def test_no_folder(make, open_state, tmp_path):
    tmp_path.chmod(0o700)
    folder = tmp_path.with_name(f"{tmp_path.name}-away")
    tmp_path.rename(folder)
    state = open_state()
    with pytest.raises(StateError, match="state cannot be opened: No such file or directory"):
        await state.get("key")
    folder.rename(tmp_path)
    assert await works(state, 1)


async def test_the_file_is_deleted(open_state, tmp_path):
    one, other = open_state(), open_state()
    assert await works(one, 1)
    assert await works(other, 1)
    for path in tmp_path.glob("state*"):
        path.unlink()
    assert await one.get("key") is None, "it begins anew"
    assert await works(other, 2)
    assert await one.get("key") == 2, "and is shared"


@pytest.mark.parametrize(
    "content", [b"no database at all, but text" * 100, b"SQLite format 3\0" + b"\xff" * 5000]
)
async def test_damaged_before_the_start(open_state, tmp_path, content):
    (tmp_path / "state").write_bytes(content)
    one, other = open_state(), open_state()
    moved = tmp_path / "state-damaged"
    with pytest.raises(StateError, match=rf": it was renamed to {moved}, and a new one begins empty"):
        await one.get("key")
    assert await works(one, 1)
    assert await other.get("key") == 1
    assert moved.read_bytes() == content


async def test_damaged_while_it_is_used(open_state, tmp_path):
    one, other = open_state(), open_state()
    for number in range(300):
        await one.set(f"key {number}", b"x" * 2000, seconds=1000)
    with sqlite3.connect(tmp_path / "state") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    size = (tmp_path / "state").stat().st_size
    with (tmp_path / "state").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (size - 4096))
    reading = [(one, other)[number % 2].get(f"key {number}") for number in range(300)]
    answers = [(await asyncio.gather(answer, return_exceptions=True))[0] for answer in reading]
    failures = [str(answer) for answer in answers if isinstance(answer, StateError)]
    assert 1 <= len(failures) <= 2, "each of both notices it at most once"
    assert all("it was renamed to" in failure for failure in failures)
    assert await works(one, 1)
    assert await other.get("key") == 1


def test_gone_read_only(make, tmp_path):
    database = make()
    database.get("test", "key")
    database.close()
    (tmp_path / "state").unlink()
    (tmp_path / "state").mkdir()
    with pytest.raises(StateError, match=r"state cannot be opened|is not an SQLite database"):
        database.get("test", "key")
    (tmp_path / "state").rmdir()
    assert database.get("test", "key") is None
    database.close()
