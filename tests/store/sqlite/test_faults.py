"""What the store does when it cannot: full, locked, gone, killed; nothing is stored by halves."""

import asyncio
import logging
import signal
import sqlite3
import subprocess
import sys
import tracemalloc
from contextlib import closing
from pathlib import Path

import pytest
from gatepost.config.store import StoreSettings
from gatepost.model.record import Disposition, RecipientRecord
from gatepost.model.verdict import Action
from gatepost.store import (
    JournalQuery,
    KeptQuery,
    StoreError,
    StoreFull,
    StoreUnavailable,
    open_archive,
    open_store,
)
from gatepost.store.sql import writer as writer_module
from gatepost.store.sql.changes import record_bytes
from gatepost.store.sql.store import SqlStore
from gatepost.store.sqlite import driver as driver_module
from gatepost.store.sqlite.copying import open_target

ROOT = Path(__file__).parents[3]


@pytest.fixture
def limit_pages(store):
    """Fill the disk, as SQLite sees it: no page more than there are; ``limit_pages(None)`` empties it."""

    def limit(more):
        with store._database.write() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
            allowed = 1_000_000 if more is None else pages + more
            connection.exec_driver_sql(f"PRAGMA max_page_count = {allowed}")

    return limit


@pytest.fixture
def other(store, tmp_path):
    """Another process' connection; the store does not wait long for its locks."""
    with store._database.write() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout = 50")
    with closing(sqlite3.connect(tmp_path / "gatepost.db", isolation_level=None, timeout=30)) as connection:
        yield connection


async def test_commit_does_not_return_before_commit(store, other, make_record, make_kept, everything):
    with store._database.write() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout = 5000")
    other.execute("BEGIN EXCLUSIVE")
    task = asyncio.create_task(store.commit(make_record(), (make_kept(),)))
    await asyncio.sleep(0.1)
    assert not task.done()
    other.execute("ROLLBACK")
    await task
    assert len(everything(store)[1]) == 1


async def test_one_change_that_cannot_be_stored_fails_alone(store, make_record, make_kept, until, everything):
    twice = make_kept()
    await store.commit(make_record(), (twice,))
    good = [(make_record(), make_kept()) for _ in range(10)]
    bad = make_record()
    store.journal(make_record())
    outcomes = await asyncio.gather(
        *(store.commit(record, (kept,)) for record, kept in good),
        store.commit(bad, (twice,)),
        return_exceptions=True,
    )
    assert outcomes[:-1] == [None] * 10
    assert type(outcomes[-1]) is StoreError
    await until(lambda: not store.backlog)
    records, messages = everything(store)
    assert bad.id not in records
    assert messages == {twice.id, *(kept.id for _, kept in good)}
    assert len(records) == 12


async def test_a_record_that_no_try_will_store_is_given_up_and_said(
    store, make_record, caplog, until, everything
):
    record = make_record(size=1 << 70)
    store.journal(record)
    store.journal(make_record())
    await until(lambda: not store.backlog)
    assert len(everything(store)[0]) == 1
    assert f"not stored: transaction {record.id}" in caplog.text


async def test_a_full_disk_is_said_and_nothing_is_stored_by_halves(
    store, limit_pages, make_record, make_kept, everything
):
    """RELIABILITY 105"""
    limit_pages(20)
    large, small, with_large = make_kept(content=b"x" * 400_000), make_kept(), make_kept()
    waiting = make_record()
    store.journal(waiting)
    outcomes = await asyncio.gather(
        store.commit(make_record(), (with_large, large)),
        store.commit(make_record(), (small,)),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [StoreFull, type(None)]
    assert everything(store)[1] == {small.id}


async def test_after_a_full_disk_all_goes_on(
    store, limit_pages, make_record, make_kept, monkeypatch, caplog, until, everything
):
    """RELIABILITY 105"""
    monkeypatch.setattr(writer_module, "_RETRY_SECONDS", 0.02)
    limit_pages(0)
    with pytest.raises(StoreFull):
        await store.commit(make_record(), (make_kept(content=b"x" * 50_000),))
    records = [make_record(subject="x" * 190) for _ in range(100)]
    for record in records:
        store.journal(record)
    await asyncio.sleep(0.2)
    assert store.backlog > 0
    limit_pages(None)
    await until(lambda: not store.backlog)
    await store.commit(make_record(), (make_kept(),))
    assert everything(store)[0] >= {record.id for record in records}
    assert "is full" in caplog.text


async def test_a_locked_store_is_said_and_recovers(
    store, other, make_record, make_kept, monkeypatch, until, everything
):
    """RELIABILITY 106"""
    monkeypatch.setattr(writer_module, "_RETRY_SECONDS", 0.02)
    other.execute("BEGIN EXCLUSIVE")
    lost = [(make_record(), make_kept()) for _ in range(20)]
    late = make_record()
    store.journal(late)
    outcomes = await asyncio.gather(*(store.commit(r, (k,)) for r, k in lost), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}
    other.execute("ROLLBACK")
    await store.commit(make_record(), (make_kept(),))
    await until(lambda: not store.backlog)
    records, messages = everything(store)
    assert late.id in records
    assert len(messages) == 1
    assert not records & {record.id for record, _ in lost}


async def test_a_locked_store_answers_within_the_time_to_wait_for_a_lock(
    settings, tmp_path, make_record, monkeypatch
):
    """RELIABILITY 106"""
    monkeypatch.setattr(driver_module, "BUSY_SECONDS", 0.5)
    store = open_store(settings, tmp_path)
    with closing(sqlite3.connect(tmp_path / "gatepost.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        async with asyncio.timeout(9):  # all twenty together, not one by one
            outcomes = await asyncio.gather(
                *(store.commit(make_record()) for _ in range(20)), return_exceptions=True
            )
        assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}
    await store.close()


async def test_a_store_that_is_gone_takes_no_mail_until_it_is_back(
    store, tmp_path, make_record, make_kept, everything
):
    """RELIABILITY 106"""
    (tmp_path / "gatepost.db").rename(tmp_path / "away")
    with pytest.raises(StoreUnavailable, match="is gone"):
        await store.commit(make_record(), (make_kept(),))
    (tmp_path / "gatepost.db").write_bytes(b"")
    with pytest.raises(StoreUnavailable, match="was replaced"):
        await store.commit(make_record(), (make_kept(),))
    (tmp_path / "away").rename(tmp_path / "gatepost.db")
    await store.commit(make_record(), (make_kept(),))
    assert len(everything(store)[1]) == 1


async def test_a_failure_of_the_writer_itself_is_told_to_all_who_wait(
    store, make_record, monkeypatch, caplog
):
    def fail(*_):
        raise SystemExit(3)

    monkeypatch.setattr("gatepost.store.sqlite.database.apply", fail)
    outcomes = await asyncio.gather(*(store.commit(make_record()) for _ in range(5)), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}
    with pytest.raises(StoreUnavailable):
        await store.commit(make_record())
    assert "the store's writer has failed" in caplog.text


async def test_close_does_not_wait_forever_for_a_lock(settings, tmp_path, make_record, monkeypatch, caplog):
    monkeypatch.setattr(driver_module, "BUSY_SECONDS", 0.05)
    store = open_store(settings, tmp_path)
    with closing(sqlite3.connect(tmp_path / "gatepost.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        store.journal(make_record())
        async with asyncio.timeout(30):
            await store.close()
    assert "records lost: 1" in caplog.text


async def test_a_journal_that_nobody_can_write_is_bounded(store, make_record, monkeypatch, caplog):
    monkeypatch.setattr(SqlStore, "JOURNAL_LIMIT", 10)
    for _ in range(50):
        store.journal(make_record())
    assert store.backlog == 10
    with pytest.raises(StoreUnavailable, match="keep up"):
        await store.commit(make_record())
    assert "takes no more records" in caplog.text


CHILD = """
import asyncio, os, signal, sys
from pathlib import Path
sys.path.insert(0, {folder!r})
from conftest import RECORD, KEPT
from dataclasses import replace
from gatepost.config.store import StoreSettings
from gatepost.store import open_store

async def main():
    store = open_store(StoreSettings(url="sqlite:///gatepost.db"), Path({base!r}))
    for number in range(50):
        await store.commit(replace(RECORD, id=f"r{{number}}"), (replace(KEPT, id=f"k{{number}}"),))
        os.write(1, b"k%d\\n" % number)
    {end}

asyncio.run(main())
"""


def run_child(tmp_path, end):
    code = CHILD.format(folder=str(Path(__file__).parents[1]), base=str(tmp_path), end=end)
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=120, check=False
    )


def test_what_commit_said_survives_kill_9(settings, tmp_path):
    """RELIABILITY 109"""
    child = run_child(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)")
    assert child.returncode == -signal.SIGKILL, child.stderr
    said = child.stdout.decode().split()
    assert len(said) == 50
    with open_archive(settings, tmp_path) as archive:
        assert {kept.id for kept in archive.kept(KeptQuery(), limit=100)} == set(said)
        assert len(archive.records(JournalQuery(), limit=100)) == 50


def test_a_store_that_was_not_closed_does_not_keep_the_process_alive(tmp_path):
    assert run_child(tmp_path, "pass").returncode == 0


@pytest.fixture(params=["another program's", "a newer version's", "text"])
def foreign(request, tmp_path):
    """A file that is no store of this version; it has no write-ahead log."""
    path = tmp_path / "gatepost.db"
    if request.param == "text":
        path.write_text("Dear diary, " * 100)
        return path
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE letters (text TEXT)")
        if request.param == "a newer version's":
            connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
            connection.execute("INSERT INTO alembic_version VALUES ('9999')")
        connection.commit()
    return path


@pytest.mark.parametrize(
    "opener",
    [open_store, open_archive, lambda settings, folder: open_target(settings, folder, "copying-1")],
    ids=["serve", "a command", "migrate"],
)
def test_a_file_of_another_program_keeps_its_bytes_and_has_nothing_beside_it(foreign, settings, opener):
    before = foreign.read_bytes()
    with pytest.raises(StoreError, match=r"not one of Gatepost's|newer than this|is not an SQLite database"):
        opener(settings, foreign.parent)
    assert foreign.read_bytes() == before
    assert [*foreign.parent.iterdir()] == [foreign]


async def test_records_of_many_recipients_are_bounded_in_bytes(store, other, make_record, monkeypatch, until):
    monkeypatch.setattr(SqlStore, "BACKLOG_BYTES", 50_000)
    monkeypatch.setattr(SqlStore, "JOURNAL_BYTES", 100_000)
    recipients = recipients_of(100)
    size = record_bytes(make_record(recipients=recipients))
    assert 25_000 < size < 33_000
    other.execute("BEGIN EXCLUSIVE")
    store.journal(make_record(recipients=recipients))
    assert not store.overloaded
    for _ in range(4):
        store.journal(make_record(recipients=recipients))
    assert (store.overloaded, store.lost) == (True, 2)
    store.journal(make_record())
    assert store.lost == 2, "there is room for a small one"
    other.execute("ROLLBACK")
    await until(lambda: not store.backlog)
    assert not store.overloaded
    for _ in range(3):
        store.journal(make_record(recipients=recipients))
    await until(lambda: not store.backlog)
    assert (store.lost, len(store.archive.records(JournalQuery(), limit=99))) == (2, 7)


def test_the_bytes_of_a_record_are_not_underestimated(make_record):
    for count in (1, 100):
        tracemalloc.start()
        try:
            records = [make_record(recipients=recipients_of(count)) for _ in range(50)]
            taken, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert taken < sum(map(record_bytes, records))


def recipients_of(count):
    return tuple(
        RecipientRecord(
            address=f"user{number}@example.com",
            disposition=Disposition.RELAYED,
            action=Action.ACCEPT,
            reply=f"250 2.0.0 Ok {number}",
        )
        for number in range(count)
    )


@pytest.mark.parametrize("kind", ["folder", "text", "foreign", "newer", "memory", "mysql", "nonsense"])
def test_a_database_that_cannot_be_used_is_named_and_left_alone(tmp_path, kind):
    path, diary = tmp_path / "gatepost.db", "Dear diary, " * 100
    url, words = "sqlite:///gatepost.db", str(path)
    if kind == "folder":
        url, words = "sqlite:///missing/gatepost.db", "No such file or directory"
    elif kind == "text":
        path.write_text(diary)
        words = "is not an SQLite database"
    elif kind in ("foreign", "newer"):
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
            if kind == "newer":
                connection.execute("INSERT INTO alembic_version VALUES ('9999')")
                connection.commit()
        words = "newer than this Gatepost" if kind == "newer" else "not one of Gatepost's"
    else:
        url = {"memory": "sqlite://", "mysql": "mysql://root:secret@host/db", "nonsense": "gatepost.db"}[kind]
        words = "store.url"
    with pytest.raises(StoreError, match=words) as raised:
        open_store(StoreSettings.model_construct(url=url), tmp_path)
    assert "secret" not in str(raised.value)
    if kind == "text":
        assert path.read_text() == diary
    elif path.exists():
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("alembic_version",)]


async def test_the_log_shows_no_more_than_a_line_for_a_failed_group(store, other, make_record, caplog):
    other.execute("BEGIN EXCLUSIVE")
    caplog.set_level(logging.INFO)
    await asyncio.gather(*(store.commit(make_record()) for _ in range(30)), return_exceptions=True)
    other.execute("ROLLBACK")
    assert len(caplog.records) <= 3


async def test_a_store_that_is_locked_gone_or_without_room_is_not_writable(
    store, other, tmp_path, monkeypatch, archive_that_does_not_wait
):
    """RELIABILITY 105, 106"""
    archive = archive_that_does_not_wait
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="is locked by another process"):
        archive.check_writable()
    other.execute("ROLLBACK")
    archive.check_writable()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("tempfile.TemporaryFile", full)
        with pytest.raises(StoreFull, match="cannot be written: No space left on device"):
            archive.check_writable()
    other.execute("PRAGMA user_version = 7")  # the file is another one, and intact
    (tmp_path / "gatepost.db").rename(tmp_path / "moved.db")
    with pytest.raises(StoreUnavailable, match="is gone"):
        archive.check_writable()


@pytest.fixture
def archive_that_does_not_wait(store, settings, tmp_path, monkeypatch):
    monkeypatch.setattr(driver_module, "BUSY_SECONDS", 0.05)
    with open_archive(settings, tmp_path) as archive:
        yield archive
