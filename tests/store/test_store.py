"""What the gateway relies on: nothing is answered before it is stored, nothing is stored by halves."""

import asyncio
import logging
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from proxy.config.settings import StoreSettings
from proxy.store import Archive, Box, JournalQuery, KeptQuery, Store, StoreError, StoreFull, StoreUnavailable
from proxy.store import sqlite as sqlite_module
from proxy.store import writer as writer_module

ROOT = Path(__file__).parents[2]


async def journalled(store):
    """Until all that was queued is committed."""
    async with asyncio.timeout(10):
        while store.backlog:
            await asyncio.sleep(0.005)


def everything(store):
    """The ids of all records and of all kept messages."""
    records = store.archive.records(JournalQuery(), limit=10_000)
    messages = store.archive.kept(KeptQuery(state=None), limit=10_000)
    return {record.id for record in records}, {kept.id for kept in messages}


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
    with closing(sqlite3.connect(tmp_path / "gatepost.db", isolation_level=None, timeout=5)) as connection:
        yield connection


async def test_what_was_committed_comes_back_as_it_was(store, make_record, make_kept):
    record, kept = make_record(), make_kept()
    await store.commit(record, (kept,))
    assert store.archive.record(record.id) == record
    message = store.archive.kept_message(kept.id)
    assert (message.prepended, message.content) == (kept.prepended, kept.content)
    assert message.delivered_form == kept.prepended + kept.content
    assert (message.mail_from, message.recipients) == (kept.mail_from, kept.recipients)
    assert (message.box, message.rule, message.reason) == (kept.box, kept.rule, kept.reason)
    assert (message.subject, message.header_from) == ("Hello", "Ann <ann@example.com>")
    assert message.message_id == "<1@example.com>"
    assert (message.created_at, message.transaction_id, message.client) == (
        record.received_at,
        record.id,
        record.client,
    )


async def test_commit_returns_after_the_commit_is_visible_to_everybody(
    store, make_record, make_kept, tmp_path
):
    with closing(sqlite3.connect(tmp_path / "gatepost.db")) as other:
        for _ in range(20):
            kept = make_kept()
            await store.commit(make_record(), (kept,))
            found = other.execute("SELECT count(*) FROM kept WHERE id = ?", (kept.id,)).fetchone()
            assert found == (1,)


async def test_commit_does_not_return_before_commit(store, other, make_record, make_kept):
    with store._database.write() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout = 5000")
    other.execute("BEGIN EXCLUSIVE")
    task = asyncio.create_task(store.commit(make_record(), (make_kept(),)))
    await asyncio.sleep(0.1)
    assert not task.done()
    other.execute("ROLLBACK")
    await task
    assert len(everything(store)[1]) == 1


async def test_a_journalled_record_appears_without_waiting(store, make_record):
    record = make_record()
    store.journal(record)
    assert store.backlog == 1
    await journalled(store)
    assert store.archive.record(record.id) == record


async def test_a_later_record_of_the_same_transaction_replaces_the_former(store, make_record):
    first = make_record(reply="451 4.4.2 in doubt")
    await store.commit(first)
    store.journal(replace(first, reply="250 2.0.0 Ok"))
    await journalled(store)
    assert store.archive.record(first.id) == replace(first, reply="250 2.0.0 Ok")


async def test_a_withdrawn_message_was_never_there(store, make_record, make_kept):
    stays, goes = make_kept(), make_kept()
    await store.commit(make_record(), (stays, goes))
    await store.withdraw([goes.id])
    assert everything(store)[1] == {stays.id}


async def test_many_tasks_are_each_answered_for_their_own(store, make_record, make_kept):
    pairs = [(make_record(), make_kept()) for _ in range(300)]
    await asyncio.gather(*(store.commit(record, (kept,)) for record, kept in pairs))
    assert everything(store) == ({r.id for r, _ in pairs}, {k.id for _, k in pairs})


async def test_one_change_that_cannot_be_stored_fails_alone(store, make_record, make_kept):
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
    await journalled(store)
    records, messages = everything(store)
    assert bad.id not in records
    assert messages == {twice.id, *(kept.id for _, kept in good)}
    assert len(records) == 12


async def test_a_record_that_no_try_will_store_is_given_up_and_said(store, make_record, caplog):
    record = make_record(size=1 << 70)
    store.journal(record)
    store.journal(make_record())
    await journalled(store)
    assert len(everything(store)[0]) == 1
    assert f"not stored: transaction {record.id}" in caplog.text


HOSTILE = "a\x00b\udcffc\ud800\u202e\U0001f4a3\r\n\x1b[2J"


async def test_text_of_any_kind_is_stored(store, make_record, make_kept):
    base = make_record()
    evil = replace(
        base,
        helo=HOSTILE,
        authenticated=HOSTILE,
        mail_from=HOSTILE,
        message_id=HOSTILE,
        subject=HOSTILE,
        reply=HOSTILE,
        upstream_reply=HOSTILE,
        recipients=tuple(replace(r, address=HOSTILE, reason=HOSTILE, reply=HOSTILE) for r in base.recipients),
        evaluations=tuple(replace(e, reason=HOSTILE, recipients=(HOSTILE,)) for e in base.evaluations),
    )
    content = b"From: \xff\xfe\x00\r\nSubject: \xed\xa0\x80\r\n\r\n\x00\xff"
    kept = make_kept(mail_from=HOSTILE, recipients=(HOSTILE,), reason=HOSTILE, content=content)
    await store.commit(evil, (kept,))
    stored = HOSTILE.replace("\x00", "\ufffd").replace("\udcff", "\ufffd").replace("\ud800", "\ufffd")
    record = store.archive.record(evil.id)
    assert {record.helo, record.mail_from, record.subject, record.recipients[0].address} == {stored}
    assert record.evaluations == evil.evaluations
    assert store.archive.kept_message(kept.id).content == content
    assert [r.id for r in store.archive.records(JournalQuery(mail_from=HOSTILE), limit=2)] == [evil.id]
    assert [k.id for k in store.archive.kept(KeptQuery(recipient=HOSTILE), limit=2)] == [kept.id]


@pytest.mark.parametrize(
    ("content", "subject"),
    [
        (b"", ""),
        (b"\r\nSubject: body\r\n", ""),
        (b"X: y\r\n\r\nSubject: body\r\n", ""),
        (b"subject :\r\n\tfolded\r\n  twice\r\n", "folded twice"),
        (b"Subject: one\r\nSubject: two\r\n\r\n", "one"),
        (b"Subject: bare\n feed\n\nSubject: body", "bare feed"),
        (b"Subject: " + b"x" * 500 + b"\r\n\r\n", "x" * 200),
    ],
)
async def test_lists_show_the_first_subject_of_the_header_section(
    store, make_record, make_kept, content, subject
):
    kept = make_kept(content=content)
    await store.commit(make_record(), (kept,))
    assert store.archive.kept_message(kept.id).subject == subject


async def test_a_full_disk_is_said_and_nothing_is_stored_by_halves(
    store, limit_pages, make_record, make_kept
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


async def test_after_a_full_disk_all_goes_on(store, limit_pages, make_record, make_kept, monkeypatch, caplog):
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
    await journalled(store)
    await store.commit(make_record(), (make_kept(),))
    assert everything(store)[0] >= {record.id for record in records}
    assert "is full" in caplog.text


async def test_a_locked_store_is_said_and_recovers(store, other, make_record, make_kept, monkeypatch):
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
    await journalled(store)
    records, messages = everything(store)
    assert late.id in records
    assert len(messages) == 1
    assert not records & {record.id for record, _ in lost}


async def test_a_locked_store_answers_within_the_time_to_wait_for_a_lock(
    settings, tmp_path, make_record, monkeypatch
):
    """RELIABILITY 106"""
    monkeypatch.setattr(sqlite_module, "BUSY_SECONDS", 0.1)
    store = Store.open(settings, tmp_path)
    with closing(sqlite3.connect(tmp_path / "gatepost.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        async with asyncio.timeout(1.5):  # all twenty together, not one by one
            outcomes = await asyncio.gather(
                *(store.commit(make_record()) for _ in range(20)), return_exceptions=True
            )
        assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}
    await store.close()


async def test_a_store_that_is_gone_takes_no_mail_until_it_is_back(store, tmp_path, make_record, make_kept):
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

    monkeypatch.setattr(writer_module, "_apply", fail)
    outcomes = await asyncio.gather(*(store.commit(make_record()) for _ in range(5)), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}
    with pytest.raises(StoreUnavailable):
        await store.commit(make_record())
    assert "the store's writer has failed" in caplog.text


async def test_who_gives_up_waiting_disturbs_nobody(store, make_record, make_kept):
    tasks = [asyncio.create_task(store.commit(make_record(), (make_kept(),))) for _ in range(10)]
    await asyncio.sleep(0)
    tasks[3].cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [outcome for outcome in outcomes if outcome] == [outcomes[3]]


async def test_close_writes_what_is_queued_and_then_refuses(settings, tmp_path, make_record, caplog):
    store = Store.open(settings, tmp_path)
    records = [make_record() for _ in range(1200)]
    for record in records:
        store.journal(record)
    await store.close()
    await store.close()
    with pytest.raises(StoreUnavailable):
        await store.commit(make_record())
    store.journal(make_record())
    assert "takes no more records" in caplog.text
    assert not (tmp_path / "gatepost.db-wal").exists()
    with Archive.open(settings, tmp_path) as archive:
        assert len(archive.records(JournalQuery(), limit=2000)) == 1200


async def test_close_does_not_wait_forever_for_a_lock(settings, tmp_path, make_record, monkeypatch, caplog):
    monkeypatch.setattr(sqlite_module, "BUSY_SECONDS", 0.05)
    store = Store.open(settings, tmp_path)
    with closing(sqlite3.connect(tmp_path / "gatepost.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        store.journal(make_record())
        async with asyncio.timeout(2):
            await store.close()
    assert "records lost: 1" in caplog.text


async def test_a_journal_that_nobody_can_write_is_bounded(store, make_record, monkeypatch, caplog):
    monkeypatch.setattr(Store, "JOURNAL_LIMIT", 10)
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
from proxy.config.settings import StoreSettings
from proxy.store import Store

async def main():
    store = Store.open(StoreSettings(url="sqlite:///gatepost.db"), Path({base!r}))
    for number in range(50):
        await store.commit(replace(RECORD, id=f"r{{number}}"), (replace(KEPT, id=f"k{{number}}"),))
        os.write(1, b"k%d\\n" % number)
    {end}

asyncio.run(main())
"""


def run_child(tmp_path, end):
    code = CHILD.format(folder=str(Path(__file__).parent), base=str(tmp_path), end=end)
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=30, check=False
    )


def test_what_commit_said_survives_kill_9(settings, tmp_path):
    """RELIABILITY 109"""
    child = run_child(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)")
    assert child.returncode == -signal.SIGKILL, child.stderr
    said = child.stdout.decode().split()
    assert len(said) == 50
    with Archive.open(settings, tmp_path) as archive:
        assert {kept.id for kept in archive.kept(KeptQuery(), limit=100)} == set(said)
        assert len(archive.records(JournalQuery(), limit=100)) == 50


def test_a_store_that_was_not_closed_does_not_keep_the_process_alive(tmp_path):
    assert run_child(tmp_path, "pass").returncode == 0


async def test_the_commit_is_on_the_disk(store, tmp_path):
    with store._database.write() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("synchronous", "journal_mode", "foreign_keys")
        }
    assert pragmas == {"synchronous": 2, "journal_mode": "wal", "foreign_keys": 1}
    assert os.stat(tmp_path / "gatepost.db").st_mode & 0o077 == 0


async def test_one_store_of_many_checkpoints_and_another_takes_over(
    settings, tmp_path, make_record, monkeypatch
):
    monkeypatch.setattr(writer_module, "_SWEEP_SECONDS", 0.02)

    def pages(store):
        with store._database.write() as connection:
            return connection.exec_driver_sql("PRAGMA wal_autocheckpoint").scalar()

    async def keeps(store):
        async with asyncio.timeout(5):
            while not pages(store):
                await asyncio.sleep(0.01)

    first = Store.open(settings, tmp_path)
    await keeps(first)
    second = Store.open(settings, tmp_path)
    await asyncio.sleep(0.1)
    await asyncio.gather(first.commit(make_record()), second.commit(make_record()))
    assert pages(second) == 0
    with first.archive._database.write() as connection:
        assert connection.exec_driver_sql("PRAGMA wal_autocheckpoint").scalar() == 0
    await first.close()
    await keeps(second)
    assert len(everything(second)[0]) == 2
    await second.close()


@pytest.mark.parametrize("kind", ["folder", "text", "foreign", "newer", "memory", "mysql", "nonsense"])
def test_a_database_that_cannot_be_used_is_named_and_left_alone(tmp_path, kind):
    path, diary = tmp_path / "gatepost.db", "Dear diary, " * 100
    url, words = "sqlite:///gatepost.db", str(path)
    if kind == "folder":
        url, words = "sqlite:///missing/gatepost.db", "No such file or directory"
    elif kind == "text":
        path.write_text(diary)
        words = "is no SQLite database"
    elif kind in ("foreign", "newer"):
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
            if kind == "newer":
                connection.execute("INSERT INTO alembic_version VALUES ('9999')")
                connection.commit()
        words = "newer than this Gatepost" if kind == "newer" else "none of Gatepost's"
    else:
        url = {"memory": "sqlite://", "mysql": "mysql://root:secret@host/db", "nonsense": "gatepost.db"}[kind]
        words = "store.url"
    with pytest.raises(StoreError, match=words) as raised:
        Store.open(StoreSettings.model_construct(url=url), tmp_path)
    assert "secret" not in str(raised.value)
    if kind == "text":
        assert path.read_text() == diary
    elif path.exists():
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("alembic_version",)]


async def test_retention_keeps_the_newest_of_each_box(tmp_path, make_record, make_kept, monkeypatch):
    monkeypatch.setattr(writer_module, "_SWEEP_SECONDS", 0.03)
    monkeypatch.setattr(writer_module, "_STEP_SECONDS", 0.001)
    settings = StoreSettings(keep={"messages": 3, "days": 100_000, "journal": 4})
    store = Store.open(settings, tmp_path)
    boxes = [Box.INBOX, Box.QUARANTINE] * 30
    pairs = [(make_record(id=f"r{n:03}"), make_kept(id=f"k{n:03}", box=box)) for n, box in enumerate(boxes)]
    for record, kept in pairs:
        await store.commit(replace(record, received_at=record.received_at.replace(microsecond=int(record.id[1:]))), (kept,))
    wanted = {"r056", "r057", "r058", "r059"}, {"k054", "k055", "k056", "k057", "k058", "k059"}
    async with asyncio.timeout(5):
        while everything(store) != wanted:
            await asyncio.sleep(0.01)
    with closing(sqlite3.connect(tmp_path / "gatepost.db")) as other:
        assert other.execute("SELECT count(*) FROM recipients").fetchone() == (8,)
        assert other.execute("SELECT count(*) FROM kept_recipients").fetchone() == (12,)
    await store.close()


async def test_retention_takes_out_what_is_too_old(tmp_path, make_record, make_kept, monkeypatch):
    monkeypatch.setattr(writer_module, "_SWEEP_SECONDS", 0.03)
    store = Store.open(StoreSettings(keep={"days": 1}), tmp_path)
    now = make_record(received_at=datetime.now(UTC))
    fresh, old = make_kept(), make_kept()
    await store.commit(now, (fresh,))
    await store.commit(make_record(received_at=now.received_at.replace(year=now.received_at.year - 1, day=1)), (old,))
    async with asyncio.timeout(5):
        while everything(store) != ({now.id}, {fresh.id}):
            await asyncio.sleep(0.01)
    await store.close()


async def test_room_that_retention_made_is_used_again(tmp_path, make_record, make_kept, monkeypatch):
    monkeypatch.setattr(writer_module, "_SWEEP_SECONDS", 0.01)
    monkeypatch.setattr(writer_module, "_STEP_SECONDS", 0.001)
    store = Store.open(StoreSettings(keep={"messages": 2}), tmp_path)
    sizes = []
    for _ in range(6):
        for _ in range(5):
            await store.commit(make_record(), (make_kept(content=b"x" * 100_000),))
        async with asyncio.timeout(5):
            while len(everything(store)[1]) > 2:
                await asyncio.sleep(0.005)
        with store._database.read() as connection:
            sizes.append(connection.exec_driver_sql("PRAGMA page_count").scalar())
    assert sizes[-1] <= sizes[1] * 1.5
    await store.close()


async def test_the_log_shows_no_more_than_a_line_for_a_failed_group(store, other, make_record, caplog):
    other.execute("BEGIN EXCLUSIVE")
    caplog.set_level(logging.INFO)
    await asyncio.gather(*(store.commit(make_record()) for _ in range(30)), return_exceptions=True)
    other.execute("ROLLBACK")
    assert len(caplog.records) <= 3
