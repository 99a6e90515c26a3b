"""Backups of SQLite's files: what is no backup, files beside it, owners, and what a plain copy loses."""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from gatepost.maintenance_lock import MaintenanceLock
from gatepost.store import StoreError, back_up, open_archive, open_mailbox, open_store, restore

VERSION_1 = Path(__file__).with_name("version_0001.sql")
OTHER_USER = 65534
READS = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
print(*connection.execute("SELECT count(*) FROM kept").fetchone(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def file(tmp_path):
    return tmp_path / "backup"


@pytest.fixture
def folder(tmp_path):
    (folder := tmp_path / "folder").mkdir()
    return folder


@pytest.fixture
async def closed(settings, tmp_path, make_record, make_kept):
    store = open_store(settings, tmp_path)
    await store.commit(make_record(id="t1"), [make_kept(id="q1")])
    await store.close()
    return tmp_path / "gatepost.db"


def test_it_is_one_file_that_only_its_owner_reads_and_a_read_only_disk_may_hold(
    closed, settings, tmp_path, file
):
    back_up(settings, tmp_path, file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_bytes()[18:20] == b"\1\1", "read and written without a write-ahead log"
    assert {path.name for path in tmp_path.iterdir() if "backup" in path.name} == {"backup"}


@pytest.mark.parametrize("name", ["gatepost.db", "./gatepost.db", "gatepost.db-wal", "gatepost.db-search"])
def test_no_file_of_the_store_itself_is_overwritten(closed, settings, tmp_path, name):
    before = closed.read_bytes()
    with pytest.raises(StoreError, match="belongs to the store itself"):
        back_up(settings, tmp_path, tmp_path / name, replace=True)
    (tmp_path / name).touch()
    with pytest.raises(StoreError, match="belongs to the store itself"):
        restore(settings, tmp_path, tmp_path / name, replace=True)
    assert closed.read_bytes() == before


def not_there(file):
    pass


def of_text(file):
    file.write_text("a letter, which is longer than the header of a database " * 20)


def without_tables(file):
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")


def of_others(file):
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE letters (text)")


def of_the_future(file):
    shutil.copy(file.with_name("gatepost.db"), file)
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")


def damaged(file):
    octets = bytearray(file.with_name("gatepost.db").read_bytes())
    octets[4096:8192] = bytes(4096)
    file.write_bytes(octets)


def cut(file):
    file.write_bytes(file.with_name("gatepost.db").read_bytes()[:20_000])


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (not_there, "there is no file .*backup to restore"),
        (of_text, r"file is not a database \(SQLITE_NOTADB\)"),
        (without_tables, "backup is empty. If it is a copy of another store's file.* `gatepost backup`"),
        (of_others, "backup is a database, but not one of Gatepost's"),
        (of_the_future, "of version 9999, newer than this Gatepost's"),
        (damaged, "backup is damaged|malformed"),
        (cut, "malformed|damaged"),
    ],
)
def test_what_is_no_backup_is_refused_and_nothing_changes(closed, settings, tmp_path, file, make, told):
    make(file)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(StoreError, match=told):
        restore(settings, tmp_path, file, replace=True)
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert after.items() >= before.items()
    assert not [name for name in after if "partial" in name or "replaced" in name]


async def test_a_backup_of_an_older_version_is_brought_up_to_date(settings, folder, file, make_record):
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(VERSION_1.read_text())
    assert restore(settings, folder, file).contents.records > 0
    store = open_store(settings, folder)
    assert store.archive.record("01m84vek4zzmkmvx")
    await store.close()


async def test_the_backup_of_an_older_store_is_made_before_it_is_migrated(settings, tmp_path, file):
    with closing(sqlite3.connect(tmp_path / "gatepost.db")) as connection:
        connection.executescript(VERSION_1.read_text())
    assert back_up(settings, tmp_path, file).records > 0


def test_there_is_nothing_to_back_up_before_the_first_start(settings, tmp_path, file):
    with pytest.raises(StoreError, match=r"there is no store .*; `gatepost serve` makes it"):
        back_up(settings, tmp_path, file)
    assert [*tmp_path.iterdir()] == []


def test_a_folder_that_is_missing_is_named(closed, settings, tmp_path):
    with pytest.raises(StoreError, match=r"/missing/backup cannot be made: No such file or directory"):
        back_up(settings, tmp_path, tmp_path / "missing" / "backup")


def test_a_full_disk_leaves_no_file(closed, settings, tmp_path, file, monkeypatch):
    class Full(sqlite3.Connection):
        def backup(self, target):
            target.execute("PRAGMA max_page_count = 3")
            super().backup(target)

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **n: connect(*a, factory=Full, **n))
    with pytest.raises(StoreError, match=r"cannot be copied to .*backup: database or disk is full"):
        back_up(settings, tmp_path, file)
    assert not [path for path in tmp_path.iterdir() if "backup" in path.name]


def test_a_process_that_only_reads_has_the_store_open(closed, settings, tmp_path, file):
    back_up(settings, tmp_path, file)
    command = [sys.executable, "-c", READS, str(closed)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert reader.stdout.readline() == b"1\n"
        with pytest.raises(StoreError, match="is in use"):
            restore(settings, tmp_path, file, replace=True)
        reader.stdin.close()
    restore(settings, tmp_path, file, replace=True)


def test_a_gateway_without_an_open_connection_counts_as_open(closed, settings, tmp_path, file):
    """As it opens them again one after the other, it holds the maintenance lock."""
    back_up(settings, tmp_path, file)
    lock = MaintenanceLock(closed)
    assert lock.acquire()
    with pytest.raises(StoreError, match="is in use"):
        restore(settings, tmp_path, file, replace=True)
    lock.release()
    restore(settings, tmp_path, file, replace=True)


async def test_the_write_ahead_log_goes_with_the_store_that_is_set_aside(
    settings, tmp_path, folder, file, make_record
):
    """As after a crash: the newest content is only there, and must not be applied to the new file."""
    store = open_store(settings, tmp_path)
    back_up(settings, tmp_path, file)
    await store.commit(make_record(id="in the log"))
    for name in ("gatepost.db", "gatepost.db-wal"):
        shutil.copy(tmp_path / name, folder / name)
    await store.close()
    done = restore(settings, folder, file, replace=True)
    with open_archive(settings, folder) as archive:
        assert archive.record("in the log") is None
    aside = settings.model_copy(update={"url": f"sqlite:///{done.replaced}"})
    with open_archive(aside, folder) as archive:
        assert archive.record("in the log")


async def test_a_log_without_its_database_is_not_applied_to_the_restored_one(
    settings, tmp_path, folder, file, make_record
):
    store = open_store(settings, tmp_path)
    await store.commit(make_record(id="before"))
    back_up(settings, tmp_path, file)
    await store.commit(make_record(id="in the log"))
    shutil.copy(tmp_path / "gatepost.db-wal", folder / "gatepost.db-wal")
    await store.close()
    assert restore(settings, folder, file).replaced is None
    with open_archive(settings, folder) as archive:
        assert archive.record("before")
        assert archive.record("in the log") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has files of others")
def test_root_restores_for_the_owner_of_the_folder_or_of_the_store(closed, settings, tmp_path, folder, file):
    back_up(settings, tmp_path, file)
    os.chown(folder, OTHER_USER, OTHER_USER)
    for replace in (False, True):
        restore(settings, folder, file, replace=replace)
        assert {path.stat().st_uid for path in folder.iterdir()} == {OTHER_USER}
        os.chown(folder, 0, 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has files of others")
async def test_root_backs_up_and_leaves_nothing_of_its_own_beside_the_store(
    settings, tmp_path, folder, make_record
):
    """The gateway of another user could not open what root made there."""
    store = open_store(settings, folder)
    await store.commit(make_record())
    for _ in range(2):
        for path in (folder, *folder.iterdir()):
            os.chown(path, OTHER_USER, OTHER_USER)
        back_up(settings, folder, tmp_path / "backup", replace=True)
        assert {path.stat().st_uid for path in folder.iterdir()} == {OTHER_USER}
        await store.close()


async def test_a_copy_of_the_main_file_alone_is_not_taken_for_an_old_or_a_new_store(
    settings, tmp_path, folder, make_record, caplog
):
    store = open_store(settings, tmp_path)
    await store.commit(make_record(id="t1"))
    shutil.copy(tmp_path / "gatepost.db", folder / "gatepost.db")
    await store.close()
    for opener in (open_archive, open_mailbox):
        with pytest.raises(
            StoreError, match=r"is empty; .*ends in -wal: copy a store with `gatepost backup`"
        ):
            opener(settings, folder)
    assert "was empty" not in caplog.text
    await open_store(settings, folder).close()
    assert "gatepost.db was empty. If it is a copy of another store's file" in caplog.text
