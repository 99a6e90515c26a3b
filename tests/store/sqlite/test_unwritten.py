"""Records that a killed process takes with it are counted by the next one."""

import asyncio
import os
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from gatepost.store import JournalQuery, open_store
from gatepost.store.sql.unwritten import QUEUED, SETTLED, Unwritten
from gatepost.store.sqlite import driver

JOURNALS = """
import asyncio, sys
from pathlib import Path
from gatepost.config.store import StoreSettings
from gatepost.store import open_store
from gatepost.testing import make_record

async def main():
    store = open_store(StoreSettings(url="sqlite:///gatepost.db"), Path(sys.argv[1]))
    print("open", flush=True)
    sys.stdin.readline()
    for _ in range(int(sys.argv[2])):
        store.journal(make_record())
    print("queued", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.fixture
def database(tmp_path):
    return tmp_path / "mail [1].db"


def files(database):
    return [path for path in database.parent.iterdir() if "-unwritten-" in path.name]


def kill(unwritten):
    """The file stays, and nobody has it locked any more."""
    os.close(unwritten._file)
    unwritten.numbers.release()
    unwritten._memory.close()


def test_what_killed_processes_had_queued_is_counted_once(database, caplog):
    killed = [Unwritten.open(database) for _ in range(2)]
    lives = Unwritten.open(database)
    for number, unwritten in enumerate((*killed, lives), start=1):
        unwritten.numbers[QUEUED] += 10 * number
        unwritten.numbers[SETTLED] += number
        assert unwritten.left == 9 * number
    for unwritten in killed:
        kill(unwritten)
    found = Unwritten.open(database)
    assert (found.lost, lives.lost, lives.left) == (9 + 18, 0, 27)
    assert "journal records lost: 27, of a process that was killed" in caplog.text
    assert Unwritten.open(database).lost == 0
    assert len(files(database)) == 3


def test_a_process_that_ends_leaves_nothing_behind(database):
    unwritten = Unwritten.open(database)
    unwritten.numbers[QUEUED] += 1
    unwritten.close()
    assert files(database) == []
    assert Unwritten.open(database).lost == 0


@pytest.mark.parametrize("content", [b"", b"x", bytes(16)])
def test_a_file_of_another_kind_is_no_count(database, content):
    path = database.with_name(f"{database.name}-unwritten-other")
    path.write_bytes(content)
    assert Unwritten.open(database).lost == 0
    assert not path.exists()


def test_where_no_file_can_be_made_the_store_works_without(tmp_path, caplog):
    unwritten = Unwritten.open(tmp_path / "gone" / "mail.db")
    unwritten.numbers[QUEUED] += 1
    assert (unwritten.lost, unwritten.left) == (0, 1)
    unwritten.close()
    assert "will not be counted" in caplog.text


async def test_a_killed_process_is_counted_by_the_next_that_opens_the_store(settings, tmp_path, monkeypatch):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", JOURNALS, tmp_path, "7"),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert await process.stdout.readline() == b"open\n"
    with closing(sqlite3.connect(tmp_path / "gatepost.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # so that none of it is written
        process.stdin.write(b"go\n")
        assert await process.stdout.readline() == b"queued\n"
        process.kill()
        await process.wait()
    store = open_store(settings, tmp_path)
    assert store.lost == 7
    assert store.archive.records(JournalQuery(), limit=9) == []
    await store.close()
    assert store.lost == 7
    store = open_store(settings, tmp_path)
    assert store.lost == 0
    await store.close()
    assert not [path for path in tmp_path.iterdir() if "unwritten" in path.name]


async def test_all_that_is_written_is_settled(settings, tmp_path, make_record, make_kept, until):
    store = open_store(settings, tmp_path)
    for _ in range(3):
        store.journal(make_record())
    await store.commit(make_record(), [make_kept()])
    await until(lambda: not store.backlog)
    assert list(store._unwritten.numbers) == [3, 3], "whoever waits for a commit learns of its failure"
    await store.close()
    assert store.lost == 0


async def test_a_record_that_cannot_be_written_at_the_end_is_lost(
    settings, tmp_path, make_record, monkeypatch, caplog
):
    monkeypatch.setattr(driver, "BUSY_SECONDS", 0.05)
    store = open_store(settings, tmp_path)
    with closing(sqlite3.connect(tmp_path / "gatepost.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        store.journal(make_record())
        await store.close()
    assert store.lost == 1
    assert "the store is closed; records lost: 1" in caplog.text


async def test_a_record_that_the_store_refuses_is_lost(settings, tmp_path, make_record, monkeypatch, until):
    store = open_store(settings, tmp_path)
    monkeypatch.setattr("gatepost.store.sql.rows.transaction_row", lambda record: 1 / 0)
    store.journal(make_record())
    await until(lambda: not store.backlog)
    assert store.lost == 1
    await store.close()
    assert store.lost == 1


async def test_records_of_a_writer_that_has_failed_are_lost(
    settings, tmp_path, make_record, monkeypatch, until
):
    store = open_store(settings, tmp_path)
    monkeypatch.setattr(store._writer, "_results", lambda group: 1 / 0)
    store.journal(make_record())
    await until(lambda: not store._writer.alive)
    await store.close()
    assert store.lost == 1
