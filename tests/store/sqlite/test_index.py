"""The full-text index: made from the store, brought up to date, rebuilt where it is damaged."""

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from gatepost.store import open_mailbox, parse_query
from gatepost.store.excerpt import read_excerpt
from gatepost.store.sql import texts


@pytest.fixture
def index_file(tmp_path):
    return tmp_path / "gatepost.db-search"


@pytest.fixture
def keep(store, make_record, make_kept):
    """Keep messages of these subjects whose text is the subject too."""

    async def keep(*subjects, **fields):
        ids = []
        for subject in subjects:
            content = f"Subject: {subject}\r\n\r\ntext {subject}\r\n".encode()
            kept = make_kept(**{"content": content, **fields})
            await store.commit(make_record(), [kept])
            ids.append(kept.id)
        return ids

    return keep


def rows(index_file, table="facts"):
    with closing(sqlite3.connect(index_file)) as connection:
        return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


async def test_what_was_kept_before_and_what_comes_meanwhile_is_found_the_newest_first(
    keep, settings, tmp_path, until
):
    await keep(*(f"old{number}" for number in range(45)))
    with open_mailbox(settings, tmp_path) as mailbox:
        await keep("new")
        await until(lambda: mailbox.count(parse_query("text")) == 46)
        found = [message.shown_subject for message in mailbox.page(parse_query("text"), limit=46).messages]
    assert found == ["new", *(f"old{number}" for number in range(44, -1, -1))]


async def test_a_message_that_cannot_be_read_is_found_by_its_subject_and_logged_once(
    keep, settings, tmp_path, until, monkeypatch, caplog
):
    def read(content, edits):
        if b"bad" in content:
            raise RecursionError
        return read_excerpt(content, edits)

    monkeypatch.setattr(texts, "read_excerpt", read)
    await keep("good1", "=?utf-8?q?bad?=", "good2")
    with open_mailbox(settings, tmp_path) as mailbox:
        await until(lambda: mailbox.count(parse_query("subject:bad")))
        await until(lambda: mailbox.count(parse_query("text")) == 2)
        await keep("good3")
        await until(lambda: mailbox.count(parse_query("text")) == 3)
    assert len([record for record in caplog.records if "cannot be read" in record.message]) == 1


async def test_an_empty_message_is_read_like_any_other(keep, settings, tmp_path, until, caplog):
    await keep("", content=b"")
    await keep("later")
    with open_mailbox(settings, tmp_path) as mailbox:
        await until(lambda: mailbox.count(parse_query("text")) == 1)
        await until(lambda: mailbox.count(parse_query("")) == 2)
    assert "cannot be read" not in caplog.text


READER = """
import os, sys, time
from pathlib import Path
from gatepost.config.store import StoreSettings
from gatepost.store import open_mailbox
from gatepost.store.sql import texts
read = texts.read_excerpt
def deadly(content, edits):
    if b"deadly" in content:
        os._exit(9)
    time.sleep(0.002)
    return read(content, edits)
texts.read_excerpt = deadly
with open_mailbox(StoreSettings(url="sqlite:///gatepost.db"), Path(sys.argv[1])):
    time.sleep(float(sys.argv[2]))
"""


def read(folder, seconds):
    return subprocess.Popen([sys.executable, "-c", READER, folder, str(seconds)])


@pytest.mark.long
async def test_a_message_that_ends_the_process_does_so_only_a_few_times(
    keep, settings, tmp_path, until, monkeypatch
):
    await keep("before", "deadly", "after")
    deaths = 0
    while read(tmp_path, 1).wait() == 9:
        deaths += 1
    assert 1 < deaths <= 4
    with open_mailbox(settings, tmp_path) as mailbox:
        assert mailbox.count(parse_query("subject:deadly")) == 1
        assert mailbox.count(parse_query("text")) == 2


async def test_killed_at_any_time_it_leaves_an_index_that_goes_on(
    keep, settings, tmp_path, until, index_file
):
    await keep(*(f"mail{number}" for number in range(60)))
    with read(tmp_path, 30) as reader:
        await until(lambda: index_file.exists() and _safe_rows(index_file) >= 20)
        reader.send_signal(signal.SIGKILL)
    with open_mailbox(settings, tmp_path) as mailbox:
        await until(lambda: mailbox.count(parse_query("text")) == 60)
    with closing(sqlite3.connect(index_file)) as connection:
        connection.execute("INSERT INTO seen (seen) VALUES ('integrity-check')")
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def _safe_rows(index_file):
    try:
        return rows(index_file)
    except sqlite3.OperationalError:
        return 0


async def test_what_was_deleted_leaves_the_index(keep, settings, tmp_path, until, index_file):
    ids = await keep("one", "two", "three")
    with open_mailbox(settings, tmp_path) as mailbox:
        await until(lambda: mailbox.count(parse_query("text")) == 3)
        assert mailbox.delete(ids[:1], actor="ann") == ids[:1]
        assert mailbox.count(parse_query("text")) == 2
        assert not mailbox.page(parse_query("one")).messages
        await until(lambda: rows(index_file, "seen") == 2)
        assert rows(index_file, "shown") == 2
        assert b"one" not in b"".join(_column(index_file, "shown", "subject"))


async def test_what_was_put_back_is_found_at_once_though_the_index_had_let_go_of_it(
    keep, settings, tmp_path, until, index_file
):
    ids = await keep("one", "two", "three")
    with open_mailbox(settings, tmp_path) as mailbox:
        await until(lambda: mailbox.count(parse_query("text")) == 3)
        removed = mailbox.remove(ids[1], actor="ann")
        await until(lambda: rows(index_file, "seen") == 2)
        assert mailbox.put_back(removed)
        assert [one.id for one in mailbox.page(parse_query("text")).messages] == ids[::-1]


async def test_what_was_put_back_is_soon_indexed_by_the_process_that_has_the_index(
    keep, settings, tmp_path, until, index_file
):
    ids = await keep("one", "two")
    with open_mailbox(settings, tmp_path) as owner:
        await until(lambda: owner.count(parse_query("text")) == 2)
        with open_mailbox(settings, tmp_path) as other:
            removed = other.remove(ids[0], actor="ann")
            owner.delete([], actor="ann")
            await until(lambda: rows(index_file, "seen") == 1)
            assert other.put_back(removed)
        owner.delete([], actor="ann")
        await until(lambda: owner.count(parse_query("one")) == 1)


async def test_what_the_store_has_no_more_leaves_the_index(
    store, keep, settings, tmp_path, until, index_file
):
    """Withdrawn messages give their numbers to those that come next."""
    ids = await keep("one", "two", "three")
    with open_mailbox(settings, tmp_path) as mailbox:
        await until(lambda: mailbox.count(parse_query("text")) == 3)
        await store.withdraw(ids[1:])
        assert mailbox.count(parse_query("two")) == 0
        await keep("four", "five", "six")
        await until(lambda: mailbox.count(parse_query("text")) == 4)
        found = [message.shown_subject for message in mailbox.page(parse_query("text")).messages]
        await store.withdraw(ids[:1])
        mailbox.delete([], actor="ann")
        await until(lambda: rows(index_file, "seen") == 3)
    assert found == ["six", "five", "four", "one"]


@pytest.mark.parametrize("harm", ["missing", "no database", "older", "empty"])
async def test_an_index_that_is_not_fit_is_made_anew(keep, settings, tmp_path, until, index_file, harm):
    await keep("one")
    with open_mailbox(settings, tmp_path) as mailbox:
        await until(lambda: mailbox.count(parse_query("one")))
    match harm:
        case "missing":
            index_file.unlink()
        case "no database":
            index_file.write_bytes(b"nonsense" * 1000)
        case "older":
            with closing(sqlite3.connect(index_file)) as connection:
                connection.execute("PRAGMA user_version = 0")
        case "empty":
            index_file.write_bytes(b"")
    with open_mailbox(settings, tmp_path) as mailbox:
        await until(lambda: mailbox.count(parse_query("one")))


async def test_an_index_that_breaks_while_in_use_is_made_anew(keep, settings, tmp_path, until, index_file):
    await keep("one", "two")
    with open_mailbox(settings, tmp_path) as mailbox:
        await until(lambda: mailbox.count(parse_query("text")) == 2)
        # Both are opened first: what is made anew after the first write is not damaged by the second.
        with (
            index_file.open("r+b") as index,
            index_file.with_name(f"{index_file.name}-wal").open("r+b") as log,
        ):
            for file in (index, log):
                file.write(os.urandom(os.fstat(file.fileno()).st_size))
        await keep("three")
        await until(lambda: mailbox.count(parse_query("text")) == 3)
        assert len(mailbox.page(parse_query("")).messages) == 3


async def test_several_may_open_the_same_index_and_another_goes_on_where_one_ended(
    keep, settings, tmp_path, until
):
    first, second = (open_mailbox(settings, tmp_path) for _ in range(2))
    await keep("one")
    await until(lambda: first.count(parse_query("one")) == second.count(parse_query("one")) == 1)
    first.close()
    await keep("two")
    await until(lambda: second.count(parse_query("two")) == 1)
    second.close()


def test_hostile_messages_are_read_in_bounded_size():
    huge = b"Subject: " + b"x" * 100_000 + b"\r\n\r\n" + b"word " * 1_000_000
    nested = b"".join(
        b"Content-Type: multipart/mixed; boundary=%d\r\n\r\n--%d\r\n" % (n, n) for n in range(2000)
    )
    for content in (huge, nested, b"", b"\0\xff" * 1000, b"\r\n" * 1000):
        excerpt = read_excerpt(content)
        assert len(excerpt.body) <= 65_536 + 2_000
        assert len(excerpt.subject) <= 4000
        assert len(excerpt.snippet) <= 120


def _column(index_file, table, column):
    with closing(sqlite3.connect(index_file)) as connection:
        return [str(value).encode() for (value,) in connection.execute(f"SELECT {column} FROM {table}")]
