"""The tables, and how an older database becomes one of today."""

import asyncio
import re
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from gatepost.model.verdict import Result
from gatepost.store import (
    Box,
    JournalQuery,
    KeptQuery,
    StoreError,
    StoreFull,
    open_archive,
    open_store,
)
from gatepost.store.sql.schema import VERSION, metadata
from gatepost.store.sql.versions import migrate
from gatepost.store.sqlite import database as database_module
from sqlalchemy import create_engine, event

ROOT = Path(__file__).parents[3]
VERSION_1 = Path(__file__).with_name("version_0001.sql")


def tables_of(connection):
    """What SQLite knows of the tables and indices, without the layout of their source."""
    found = connection.exec_driver_sql("SELECT type, name, sql FROM sqlite_master")
    return {(kind, name): re.sub(r"\s+", " ", sql or "").replace('"', "") for kind, name, sql in found}


def new_engine(path):
    return create_engine(f"sqlite:///{path}", isolation_level="AUTOCOMMIT")


def test_the_migrations_make_exactly_the_tables_of_the_schema(tmp_path):
    made, migrated = new_engine(tmp_path / "made.db"), new_engine(tmp_path / "migrated.db")
    with made.connect() as connection:
        metadata.create_all(connection)
        wanted = tables_of(connection)
    with migrated.connect() as connection:
        migrate(connection)
        assert tables_of(connection) == wanted
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() == VERSION
    made.dispose()
    migrated.dispose()


async def test_a_store_of_version_1_is_read_as_it_was_written(settings, tmp_path, make_record):
    with closing(sqlite3.connect(tmp_path / "gatepost.db")) as connection:
        connection.executescript(VERSION_1.read_text())
    store = open_store(settings, tmp_path)
    await store.commit(make_record())
    records = store.archive.records(JournalQuery(), limit=9)
    assert "01m84vek4zzmkmvx" in {record.id for record in records}
    assert [end.address for end in records[-1].recipients] == ["Bob@example.net", "carol@example.org"]
    for rule, number in (("words", 2), ("no-executables", 2), ("quiet", 0)):
        assert len(store.archive.records(JournalQuery(rule=rule), limit=9)) == number
    (message,) = store.archive.kept(KeptQuery(box=Box.QUARANTINE), limit=9)
    assert store.archive.kept_message(message.id).content.endswith(b"\r\n\r\nHi\r\n")
    with store._database.read() as connection:
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() == VERSION
    await store.close()


@pytest.mark.parametrize(
    ("before", "content"),
    [
        (b"Received: x\r\n", b"Subject: x\r\n\r\ny\r\n"),
        (b"Received: x\r\nX-A: 1\r\n", b"Subject: x\r\n\r\ny\r\n"),
        (b"Received: x\r\n\r\n", b"Hello\r\nSubject: no\r\n"),
        (b"Received: x\r\nX-A: 1\r\n\r\n", b"Hello\r\nSubject: no\r\n"),
        (b"Received: x\r\n", b"\r\nno fields\r\n"),
        (b"Received: x\r\n", b""),
    ],
)
async def test_a_message_of_an_older_store_is_delivered_as_it_would_have_been(
    settings, tmp_path, before, content
):
    with closing(sqlite3.connect(tmp_path / "gatepost.db")) as connection:
        connection.executescript(VERSION_1.read_text())
        connection.execute("UPDATE kept SET prepended = ?, content = ?", (before, content))
        connection.commit()
    store = open_store(settings, tmp_path)
    (found,) = store.archive.kept(KeptQuery(), limit=9)
    message = store.archive.kept_message(found.id)
    assert (message.delivered_form, message.content, message.edits) == (before + content, content, ())
    await store.close()


@pytest.fixture
def older(tmp_path):
    """A store whose version is older than the schema's: nothing but the newest migration is missing."""
    with closing(sqlite3.connect(tmp_path / "gatepost.db")) as connection:
        connection.executescript(VERSION_1.read_text())
        connection.execute("UPDATE alembic_version SET version_num = '0000'")
        connection.commit()


async def test_the_log_says_once_that_a_store_is_migrated(tmp_path, settings, caplog):
    with closing(sqlite3.connect(tmp_path / "gatepost.db")) as connection:
        connection.executescript(VERSION_1.read_text())
    caplog.set_level("INFO")
    await open_store(settings, tmp_path).close()
    assert caplog.messages == [f"migrating the store from version 0001 to {VERSION}"]


def test_alembic_writes_nothing_to_the_log_when_it_is_imported(tmp_path):
    program = (
        "import logging, sys; from pathlib import Path\n"
        "from gatepost.config.store import StoreSettings; from gatepost.store import open_store\n"
        "logging.basicConfig(level=logging.INFO, format='%(name)s')\n"
        "open_store(StoreSettings(), Path(sys.argv[1]))\n"
        "assert 'alembic.command' in sys.modules\n"
    )
    with closing(sqlite3.connect(tmp_path / "gatepost.db")) as connection:
        connection.executescript(VERSION_1.read_text())
    ended = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert ended.stderr.splitlines() == ["gatepost.store.sqlite.database"]


def test_a_migration_that_fails_changes_nothing(older, settings, tmp_path, monkeypatch):
    def fail(connection):
        connection.exec_driver_sql("DROP TABLE kept")
        raise StoreFull("no room to migrate")

    monkeypatch.setattr(database_module, "migrate", fail)
    with pytest.raises(StoreFull):
        open_store(settings, tmp_path)
    with closing(sqlite3.connect(tmp_path / "gatepost.db")) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (1,)


def test_several_may_open_a_new_store_at_once(settings, tmp_path):
    with ThreadPoolExecutor(4) as threads:
        stores = list(threads.map(lambda _: open_store(settings, tmp_path), range(4)))
    for store in stores:
        asyncio.run(store.close())


def test_commands_do_not_migrate(older, settings, tmp_path):
    with pytest.raises(StoreError, match="older version; `gatepost serve`"):
        open_archive(settings, tmp_path)


def test_commands_make_no_store(settings, tmp_path):
    with pytest.raises(StoreError, match="there is no store"):
        open_archive(settings, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_store_of_today_is_opened_without_alembic(tmp_path):
    code = (
        "import sys, pathlib, asyncio\n"
        "from gatepost.config.store import StoreSettings\n"
        "from gatepost.store import open_store\n"
        "for _ in range(2):\n"
        f"    store = open_store(StoreSettings(), pathlib.Path({str(tmp_path)!r}))\n"
        "    asyncio.run(store.close())\n"
        "sys.exit('alembic' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=120, check=False)
    assert done.returncode == 0


def test_only_the_store_imports_sqlalchemy():
    store = ROOT / "proxy" / "gatepost" / "store"
    importing = re.compile(r"^\s*(?:from|import)\s+(?:sqlalchemy|alembic)\b", re.MULTILINE)
    outside = [
        str(path.relative_to(ROOT))
        for folder in ("proxy", "plugins")
        for path in (ROOT / folder).rglob("*.py")
        if importing.search(path.read_text()) and not path.is_relative_to(store)
    ]
    assert outside == []


@pytest.mark.parametrize(
    ("conditions", "index"),
    [
        ("received_at > 5 ORDER BY received_at DESC, id DESC", "transactions_received_at"),
        ("client = 'x' ORDER BY received_at DESC, id DESC", "transactions_client"),
        ("lower(mail_from) = lower('x') ORDER BY received_at DESC, id DESC", "transactions_mail_from"),
        (
            "id IN (SELECT other.id FROM transactions AS other WHERE other.message_id = 'x')",
            "COVERING INDEX transactions_received_at",
        ),
        ("session_id = 'x' ORDER BY received_at DESC, id DESC", "transactions_session_id"),
        (
            "id IN (SELECT transaction_id FROM recipients WHERE lower(address) = lower('x'))",
            "recipients_address",
        ),
    ],
)
async def test_looking_up_uses_an_index(store, conditions, index):
    with store._database.read() as connection:
        plan = connection.exec_driver_sql(
            f"EXPLAIN QUERY PLAN SELECT * FROM transactions WHERE {conditions}"
        ).all()
    assert index in " ".join(row[-1] for row in plan)


async def test_the_newest_records_of_a_rule_are_read_from_an_index_and_no_others(store, make_record):
    last = make_record()
    await store.commit(last)
    asked = []
    engine = store.archive._database._engine
    event.listen(engine, "before_cursor_execute", lambda *given: asked.append(given[2:4]))
    store.archive.records(JournalQuery(rule="words"), limit=9, before=last.id)
    (statement, values), *_ = [one for one in asked if "transaction_rules" in one[0]]
    with store._database.read() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values).all()
    steps = " ".join(row[-1] for row in plan)
    assert "COVERING INDEX transaction_rules_rule (rule=? AND" in steps
    assert "SCAN" not in steps
    assert "ORDER BY" not in steps


async def test_a_record_is_not_read_again_for_each_rule_that_hit(store, make_record):
    """Where it is referred to, SQLite reads all of it, and its evaluations may be long."""
    hit = replace(make_record().evaluations[0], reason="x" * 1000, result=Result.HIT)
    rules = tuple(replace(hit, rule=f"rule{number}") for number in range(100))
    await store.commit(make_record(evaluations=rules))
    assert len(store.archive.records(JournalQuery(rule="rule99"), limit=9)) == 1
    with store._database.read() as connection:
        assert connection.exec_driver_sql("PRAGMA foreign_key_list(transaction_rules)").all() == []
