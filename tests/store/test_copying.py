"""A store is copied from a file to a server, or back: all of it, once, whatever interrupts it."""

import itertools
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from gatepost.config.store import StoreSettings
from gatepost.model.edits import AddHeader, PrefixSubject
from gatepost.model.verdict import Reply
from gatepost.store import (
    Box,
    JournalQuery,
    KeptQuery,
    QueryError,
    StoreError,
    Top,
    compare_stores,
    copy_store,
    open_archive,
    open_conversations,
    open_mailbox,
    open_store,
    parse_query,
)
from gatepost.store.sql import copying
from gatepost.testing import make_message

pytestmark = pytest.mark.real("postgres")

START = datetime(2026, 11, 1, tzinfo=UTC)
WORDS = ["café", "CAFÉ", "straße", "発票", "a_b", "50%", "x\\y", "nul\0", "lone\udcff", "plain", "invoice"]
NUMBERS = itertools.count()
DIRECTIONS = ["to a server", "to a file"]


@pytest.fixture
def server_url(postgresql):
    """An empty schema of its own: a copy begins without tables."""
    return postgresql.new_schema()


@pytest.fixture(params=DIRECTIONS)
def stores(request, server_url):
    """The settings of a source and of a target that is not made yet."""
    file, server = StoreSettings(url="sqlite:///gatepost.db"), StoreSettings(url=server_url)
    return (file, server) if request.param == "to a server" else (server, file)


@pytest.fixture
def fill(tmp_path, make_record, make_kept, make_session, make_part):
    """Fill a store at random, and do to its messages what people do."""

    async def fill(settings, seed, *, messages=30, largest=700_000):
        chance = random.Random(seed)
        store = open_store(settings, tmp_path)
        kept_ids = []
        for number in range(messages):
            word, other = chance.choices(WORDS, k=2)
            record = make_record(
                id=f"t{seed}-{number:05}",
                received_at=START + timedelta(minutes=number),
                mail_from=f"{word}@Example.com",
                authenticated=chance.choice([word, None]),
                helo=word,
                subject=other,
            )
            content = make_message(
                subject=f"{word} {number}".replace("\0", "").encode("utf-8", "replace").decode(),
                text=f"about {word}".encode("utf-8", "replace").decode(),
                attachments={"a.bin": chance.randbytes(chance.choice([10, 10, 10, 10, 5000, largest]))},
            )
            kept = [
                make_kept(
                    id=f"m{seed}-{number:05}-{copy}",
                    box=chance.choice([*Box]),
                    mail_from=f"{word}@Example.com",
                    recipients=(f"Bob+{other}@example.org", f"{word}@example.net"),
                    content=b"" if chance.random() < 0.05 else content,
                    edits=chance.choice([(), (AddHeader("X-A", word[:3]), PrefixSubject("[x] "))]),
                    reason=word,
                )
                for copy in range(chance.choice([0, 1, 1, 2]))
            ]
            await store.commit(record, kept)
            kept_ids += [one.id for one in kept]
            session = make_session(id=f"s{seed}-{number}", started_at=START + timedelta(minutes=number))
            for part in range(chance.choice([0, 1, 3])):
                store.converse(make_part(session, part, b"\0\xff" + chance.randbytes(20), b"MAIL"))
        await store.withdraw([kept_ids.pop(chance.randrange(len(kept_ids)))])
        with open_archive(settings, tmp_path) as archive, open_mailbox(settings, tmp_path) as mailbox:
            mailbox.mark(chance.sample(kept_ids, 4), seen=True)
            mailbox.delete(chance.sample(kept_ids, 3), actor="ann")
            held = archive.kept(KeptQuery(), limit=1000)
            archive.claim_release(held[0], actor="ann")
            claim = archive.claim_release(held[1], actor="bob")
            archive.finish_release(
                claim, to=["x@example.org"], reply=Reply(code=250, enhanced="2.0.0", text="Ok")
            )
        await store.close()

    return fill


@pytest.fixture
def same(tmp_path, until):
    """Ask two stores the same at random."""

    async def same(first, second, seed):
        chance = random.Random(seed)
        opened = [open_mailbox(one, tmp_path) for one in (first, second)]
        try:
            kept = [[*one.archive.kept(KeptQuery(state=None), limit=10_000)] for one in opened]
            assert kept[0] == kept[1]
            assert kept[0]
            records = [one.archive.records(JournalQuery(), limit=10_000) for one in opened]
            assert records[0] == records[1]
            for rule in ("words", "no-executables", "quiet"):
                of_rule = [one.archive.records(JournalQuery(rule=rule), limit=10_000) for one in opened]
                assert of_rule[0] == of_rule[1] == ([] if rule == "quiet" else records[0])
            for message in kept[0]:
                assert opened[0].message(message.id) == opened[1].message(message.id)
            texts = sum(message.state != "deleted" for message in kept[0])
            for one in opened:
                await until(lambda one=one: one.count(parse_query("-absent")) == texts)
                await until(lambda one=one: one.facets(parse_query("")).messages == texts)
            for _ in range(25):
                word = chance.choice(WORDS)
                term = chance.choice(["", "from:", "to:", "user:", "tag:", "mailbox:", "-", "is:unread "])
                try:
                    query = parse_query(f"{term}{word}")
                except QueryError:
                    continue
                answers = [
                    ([m.id for m in one.page(query).messages], one.count(query), one.facets(query))
                    for one in opened
                ]
                assert answers[0] == answers[1], query
            for of in Top:
                tops = [one.archive.statistics().top(of, START, limit=99) for one in opened]
                assert tops[0] == tops[1]
            before = opened[0].position_before(START + timedelta(minutes=7))
            arrived = [[m.id for m in one.arrivals(before, limit=1000).messages] for one in opened]
            assert arrived[0] == arrived[1]
            assert opened[1].position_before(START + timedelta(minutes=7)).number == before.number
        finally:
            for one in opened:
                one.close()
        with open_conversations(first, tmp_path) as here, open_conversations(second, tmp_path) as there:
            sessions = here.sessions(limit=1000)
            assert sessions == there.sessions(limit=1000)
            for session in sessions:
                assert here.conversation(session.id) == there.conversation(session.id)

    return same


def quiet(_):
    """No progress."""


async def test_the_copy_answers_as_the_source_and_goes_on_with_higher_numbers(
    stores, fill, same, tmp_path, make_record, make_kept
):
    source, target = stores
    await fill(source, 1)
    copied = copy_store(source, target, tmp_path, quiet)
    rows = {table.name: table.rows for table in copied.tables}
    assert copied.written == sum(rows.values())
    assert set(rows) == {
        "transactions",
        "recipients",
        "kept",
        "kept_edits",
        "kept_recipients",
        "kept_releases",
        "kept_seen",
        "sessions",
        "conversation_parts",
    }
    assert all(rows.values())
    await same(source, target, 1)
    assert copy_store(source, target, tmp_path, quiet).written == 0
    assert compare_stores(source, target, tmp_path, quiet).messages == rows["kept"]
    store = open_store(target, tmp_path)
    await store.commit(make_record(), [make_kept(id="later")])
    await store.close()
    with open_archive(target, tmp_path) as archive:
        assert archive.kept(KeptQuery(), limit=1)[0].id == "later"


COPY = """
import resource, signal, sys, time
from pathlib import Path
from gatepost.config.store import StoreSettings
from gatepost.store import copy_store
from gatepost.store.sql import copying
limit = int(sys.argv[4])
if limit:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
copying._ROWS, copying._FEWER_ROWS, copying._BATCH_BYTES = 7, {}, 1 << 20
def report(progress):
    print(progress.what, progress.table, progress.rows, flush=True)
copy_store(StoreSettings(url=sys.argv[1]), StoreSettings(url=sys.argv[2]), Path(sys.argv[3]), report)
print(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
"""


def run_copy(source, target, folder, *, kill_at=0, file_limit=0):
    """Copy in another process, which is killed at a line; returns its status, last line and errors."""
    command = [sys.executable, "-c", COPY, source.url, target.url, str(folder), str(file_limit)]
    with (folder / "errors").open("w+") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        lines = [""]
        with process.stdout:
            for line in process.stdout:
                lines.append(line)
                if len(lines) == kill_at:
                    process.kill()
        status = process.wait(60)
        errors.seek(0)
        return status, lines[-1], errors.read()


async def test_a_copy_that_is_killed_again_and_again_is_completed_and_has_nothing_twice(
    stores, fill, same, tmp_path
):
    source, target = stores
    await fill(source, 2, messages=16)
    statuses = [run_copy(source, target, tmp_path, kill_at=lines)[0] for lines in (3, 12)]
    assert statuses == [-signal.SIGKILL] * 2
    with pytest.raises(StoreError, match="is the unfinished copy of another one; run the same"):
        open_store(target, tmp_path)
    assert run_copy(source, target, tmp_path)[0] == 0
    await same(source, target, 2)


async def test_what_changed_between_two_runs_is_in_the_copy(stores, fill, same, tmp_path, monkeypatch):
    source, target = stores
    await fill(source, 3, messages=20)
    monkeypatch.setattr(copying, "_ROWS", 9)

    class StoppedError(Exception):
        pass

    def stop(progress):
        if progress.what == "compared":
            raise StoppedError

    with pytest.raises(StoppedError):
        copy_store(source, target, tmp_path, stop)
    await fill(source, 4, messages=10)
    with open_mailbox(source, tmp_path) as mailbox:
        oldest = mailbox.archive.kept(KeptQuery(), limit=1000)[-3:]
        mailbox.delete([one.id for one in oldest], actor="ann")
    assert copy_store(source, target, tmp_path, quiet).written
    await same(source, target, 3)


async def test_a_large_message_is_copied_in_pieces_with_bounded_memory(
    stores, tmp_path, make_record, make_kept
):
    source, target = stores
    content = b"Subject: large\r\n\r\n" + random.Random(5).randbytes(25 << 20)
    store = open_store(source, tmp_path)
    await store.commit(make_record(id="t1"), [make_kept(id="large", content=content)])
    await store.close()
    status, largest, errors = run_copy(source, target, tmp_path)
    assert status == 0, errors
    if target.url.startswith("postgresql"):  # to a file it takes the memory of one message
        assert int(largest) < 110 << 10, "KiB"
    with open_archive(target, tmp_path) as archive:
        assert archive.kept_message("large").content == content


async def test_a_store_with_mail_of_its_own_or_of_another_source_is_no_target(
    stores, fill, tmp_path, make_record, make_kept
):
    source, target = stores
    await fill(source, 6, messages=12)
    store = open_store(target, tmp_path)
    await store.commit(make_record(id="t-own"), [make_kept(id="own")])
    await store.close()
    with pytest.raises(
        StoreError, match=r"has content that is no copy of .*, expected an empty database: the row"
    ):
        copy_store(source, target, tmp_path, quiet)
    with pytest.raises(StoreError, match=r"^the row 1 of the table kept differs in"):
        compare_stores(source, target, tmp_path, quiet)
    with open_archive(target, tmp_path) as archive:
        assert [one.id for one in archive.kept(KeptQuery(), limit=10)] == ["own"]


async def test_a_store_that_serve_has_made_and_that_is_empty_is_a_target(stores, fill, tmp_path):
    source, target = stores
    await fill(source, 7, messages=12)
    await open_store(target, tmp_path).close()
    assert copy_store(source, target, tmp_path, quiet).written
    assert compare_stores(source, target, tmp_path, quiet).messages


@pytest.mark.parametrize("which", ["source", "target"])
async def test_a_store_in_use_is_neither_copied_nor_filled(
    stores, fill, tmp_path, which, monkeypatch, make_record
):
    monkeypatch.setattr("gatepost.store.postgresql.copying._PATIENCE_SECONDS", 0.3)
    source, target = stores
    await fill(source, 8, messages=12)
    store = open_store(source if which == "source" else target, tmp_path)
    await store.commit(make_record())
    with pytest.raises(StoreError, match=r"is in use: stop gatepost"):
        copy_store(source, target, tmp_path, quiet)
    await store.close()


async def test_a_file_that_was_changed_while_it_was_copied_is_copied_again(fill, same, server_url, tmp_path):
    source, target = StoreSettings(url="sqlite:///gatepost.db"), StoreSettings(url=server_url)
    await fill(source, 9, messages=12)
    deleted = []

    def delete_one(progress):
        if progress.what == "compared" and not deleted:
            with open_archive(source, tmp_path) as archive:
                unclaimed = archive.kept(KeptQuery(), limit=2)[1]
                deleted.extend(archive.delete([unclaimed.id], actor="ann"))

    with pytest.raises(
        StoreError, match=r"gatepost\.db was changed while it was copied; stop gatepost and run"
    ):
        copy_store(source, target, tmp_path, delete_one)
    assert len(deleted) == 1
    with pytest.raises(StoreError, match="unfinished copy"):
        open_archive(target, tmp_path)
    assert copy_store(source, target, tmp_path, quiet).written
    await same(source, target, 9)


async def test_no_gateway_starts_with_a_database_that_is_being_copied(
    fill, server_url, tmp_path, monkeypatch
):
    source, target = StoreSettings(url=server_url), StoreSettings(url="sqlite:///gatepost.db")
    await fill(source, 17, messages=12)
    monkeypatch.setattr("gatepost.store.postgresql.driver.LOCK_SECONDS", 0.3)
    refused = []

    def start(progress):
        if progress.what == "compared" and not refused:
            with pytest.raises(StoreError, match="lock timeout"):
                open_store(source, tmp_path)
            refused.append(progress)

    assert copy_store(source, target, tmp_path, start).written
    assert refused


async def test_an_unfinished_copy_of_another_store_is_no_target(fill, server_url, tmp_path):
    file = StoreSettings(url="sqlite:///gatepost.db")
    other = StoreSettings(url="sqlite:///other.db")
    target = StoreSettings(url=server_url)
    await fill(file, 10, messages=12)
    await fill(other, 11, messages=12)

    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy_store(file, target, tmp_path, stop)
    with pytest.raises(
        StoreError, match="is the unfinished copy of another store, expected an empty database"
    ):
        copy_store(other, target, tmp_path, quiet)


async def test_what_differs_afterwards_is_named(fill, server_url, tmp_path, postgresql):
    source, target = StoreSettings(url="sqlite:///gatepost.db"), StoreSettings(url=server_url)
    await fill(source, 12, messages=12)
    copy_store(source, target, tmp_path, quiet)
    for change, said in (
        (
            "UPDATE recipients SET reason = 'x' WHERE transaction_id = 't12-00003'",
            r"the row t12-00003, 0 of the table recipients differs",
        ),
        (
            "DELETE FROM sessions WHERE id = 's12-4'",
            r"the row s12-4 of the table sessions is in \S+gatepost\.db and not in postgresql:",
        ),
        (
            "UPDATE kept SET content = set_byte(content, 5, 0) WHERE number = 2",
            r"the content of message m12-\S+ differs: SHA-256 [0-9a-f]{64} in",
        ),
    ):
        with postgresql.connect(server_url) as connection:
            connection.execute(change)
        with pytest.raises(StoreError, match=said):
            compare_stores(source, target, tmp_path, quiet)


@pytest.mark.parametrize("damage", ["cut", "overwritten", "other", "older", "none"])
async def test_a_source_that_is_of_no_use_is_named_and_nothing_is_made(
    fill, server_url, tmp_path, postgresql, damage
):
    source, target = StoreSettings(url="sqlite:///gatepost.db"), StoreSettings(url=server_url)
    file = tmp_path / "gatepost.db"
    if damage != "none":
        await fill(source, 13, messages=12)
    if damage == "cut":
        os.truncate(file, file.stat().st_size // 2)
    elif damage == "overwritten":
        with file.open("r+b") as opened:
            opened.seek(4096 * 3)
            opened.write(os.urandom(4096 * 10))
    elif damage in ("other", "older"):
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute(
                "DROP TABLE alembic_version"
                if damage == "other"
                else "UPDATE alembic_version SET version_num = '0006'"
            )
    said = {
        "cut": "is damaged",
        "overwritten": "is damaged",
        "other": "is a database, but not one of Gatepost's",
        "older": "is of an older version; `gatepost serve` brings it up to date",
        "none": "there is no store",
    }
    before = file.read_bytes() if file.exists() else None
    with pytest.raises(StoreError, match=re.escape(str(file))) as raised:
        copy_store(source, target, tmp_path, quiet)
    assert said[damage] in str(raised.value)
    assert before == (file.read_bytes() if file.exists() else None)
    with postgresql.connect(server_url) as connection:
        assert connection.execute("SELECT to_regclass('kept')").fetchall() == [(None,)]


async def test_the_file_that_is_copied_is_not_changed(fill, server_url, tmp_path):
    source, target = StoreSettings(url="sqlite:///gatepost.db"), StoreSettings(url=server_url)
    await fill(source, 14, messages=12)
    beside = [tmp_path / name for name in ("gatepost.db", "gatepost.db-wal")]
    before = [file.read_bytes() if file.exists() else b"" for file in beside]
    copy_store(source, target, tmp_path, quiet)
    assert before == [file.read_bytes() if file.exists() else b"" for file in beside]


async def test_a_file_on_a_read_only_disk_is_copied(fill, server_url, tmp_path, monkeypatch):
    source, target = StoreSettings(url="sqlite:///gatepost.db"), StoreSettings(url=server_url)
    await fill(source, 18, messages=12)
    before = sorted(tmp_path.iterdir())
    assert tmp_path / "gatepost.db-wal" not in before
    monkeypatch.setattr(os, "access", lambda *_: False)
    beside = []
    assert copy_store(source, target, tmp_path, lambda _: beside.extend(tmp_path.iterdir())).written
    assert sorted({*beside}) == before, "SQLite needs no file of its own beside it"


async def test_a_full_disk_stops_the_copy_and_room_lets_it_go_on(fill, server_url, tmp_path):
    source, target = StoreSettings(url=server_url), StoreSettings(url="sqlite:///copy.db")
    await fill(source, 15)
    status, _, errors = run_copy(source, target, tmp_path, file_limit=2 << 20)
    assert status == 1
    assert re.search(r"Store(Full|Unavailable): the store .*copy\.db", errors)
    copy_store(source, target, tmp_path, quiet)
    assert compare_stores(source, target, tmp_path, quiet).messages


async def test_a_role_without_the_right_to_make_tables_is_told_so(fill, postgresql, tmp_path):
    source = StoreSettings(url="sqlite:///gatepost.db")
    await fill(source, 16, messages=12)
    role, name = f"copier{next(NUMBERS)}", f"copies{next(NUMBERS)}"
    postgresql.execute(f"CREATE ROLE {role} LOGIN")
    postgresql.execute(f"CREATE DATABASE {name}")
    with pytest.raises(StoreError, match=rf"{role} may not make tables in the schema public"):
        copy_store(source, StoreSettings(url=postgresql.url(name, user=role)), tmp_path, quiet)
    postgresql.execute("CREATE TABLE letters (text text)", database=name)
    with pytest.raises(StoreError, match="is a database, but not one of Gatepost's"):
        copy_store(source, StoreSettings(url=postgresql.url(name)), tmp_path, quiet)
