"""The file: a commit is on the disk, and other programs read it."""

import sqlite3
from contextlib import closing

from gatepost.store import open_store


async def test_commit_returns_after_the_commit_is_visible_to_everybody(
    store, make_record, make_kept, tmp_path
):
    with closing(sqlite3.connect(tmp_path / "gatepost.db")) as other:
        for _ in range(20):
            kept = make_kept()
            await store.commit(make_record(), (kept,))
            found = other.execute("SELECT count(*) FROM kept WHERE id = ?", (kept.id,)).fetchone()
            assert found == (1,)


async def test_the_commit_is_on_the_disk(store, tmp_path):
    with store._database.write() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("synchronous", "journal_mode", "foreign_keys")
        }
    assert pragmas == {"synchronous": 2, "journal_mode": "wal", "foreign_keys": 1}
    assert (tmp_path / "gatepost.db").stat().st_mode & 0o077 == 0


async def test_close_empties_the_log_of_the_database(settings, tmp_path, make_record):
    store = open_store(settings, tmp_path)
    for _ in range(1200):
        store.journal(make_record())
    await store.close()
    assert not (tmp_path / "gatepost.db-wal").exists()
