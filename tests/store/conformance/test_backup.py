"""A backup is the store as it was when it began; a backend that has none says so."""

import asyncio
import threading

import pytest
from gatepost.store import Box, JournalQuery, State, StoreError, parse_query


@pytest.fixture
def elsewhere(tmp_path):
    (folder := tmp_path / "elsewhere").mkdir()
    return folder


@pytest.fixture
def file(elsewhere):
    return elsewhere / "backup"


def test_one_that_cannot_says_so_and_makes_nothing(
    has_no_backup, backend, store, settings, tmp_path, elsewhere, file
):
    for call in (backend.back_up, backend.restore):
        with pytest.raises(
            StoreError,
            match=r"(in memory can neither be|on a PostgreSQL server is) backed up (nor|and) restored",
        ):
            call(settings, tmp_path, file, replace=False)
    assert [*elsewhere.iterdir()] == []


async def test_what_was_committed_before_is_in_it(
    has_backup, backend, store, settings, tmp_path, elsewhere, file, make_record, make_kept, make_part,
    make_session, everything, until,
):  # fmt: skip
    session = make_session()
    await store.commit(make_record(id="t1", session_id=session.id), [make_kept(id="q1", content=b"x" * 9999)])
    await store.commit(make_record(id="t2"), [make_kept(id="i1", box=Box.INBOX), make_kept(id="gone")])
    store.converse(make_part(session, 0, b"EHLO x"))
    store.journal(make_record(id="t3"))
    await until(lambda: store.backlog == 0)
    store.archive.delete(["gone"], actor="ann")
    contents = backend.back_up(settings, tmp_path, file, replace=False)
    assert (contents.records, contents.messages, contents.size) == (3, 2, file.stat().st_size)
    before = everything(store)
    await store.commit(make_record(id="late"))
    done = backend.restore(settings, elsewhere, file, replace=False)
    assert (done.contents, done.replaced) == (contents, None)
    restored = backend.open_store(settings, elsewhere)
    assert everything(restored) == before
    assert restored.archive.kept_message("q1").content == b"x" * 9999
    assert restored.archive.kept_message("gone").state is State.DELETED
    await restored.commit(make_record(id="new"))
    await restored.close()
    with backend.open_conversations(settings, elsewhere) as conversations:
        assert [line.data for line in conversations.conversation(session.id).lines] == [b"EHLO x"]


async def test_it_is_made_while_others_write(
    has_backup, backend, store, settings, tmp_path, elsewhere, file, make_record, make_kept, everything
):
    """All that was acknowledged before it began is there, and whole: each record with its message."""
    acknowledged = []
    stopped = asyncio.Event()

    async def write(name):
        while not stopped.is_set():
            number = f"{name}-{len(acknowledged)}"
            await store.commit(make_record(id=number), [make_kept(id=number, content=b"y" * 20_000)])
            acknowledged.append(number)

    writers = [asyncio.create_task(write(name)) for name in "abcd"]
    for attempt in range(5):
        while len(acknowledged) < 20 * (attempt + 1):
            await asyncio.sleep(0)
        before = set(acknowledged)
        await asyncio.to_thread(backend.back_up, settings, tmp_path, file, replace=True)
        folder = elsewhere / str(attempt)
        folder.mkdir()
        await asyncio.to_thread(backend.restore, settings, folder, file, replace=False)
        restored = await asyncio.to_thread(backend.open_store, settings, folder)
        records, messages = everything(restored)
        await restored.close()
        assert before <= records == messages
    stopped.set()
    await asyncio.gather(*writers)


def test_an_existing_file_is_replaced_only_if_that_is_wanted(
    has_backup, backend, store, settings, tmp_path, elsewhere, file
):
    file.write_text("a letter")
    with pytest.raises(StoreError, match=r"there is a file .*backup already; --replace replaces it"):
        backend.back_up(settings, tmp_path, file, replace=False)
    assert file.read_text() == "a letter"
    backend.back_up(settings, tmp_path, file, replace=True)
    assert file.read_bytes() != b"a letter"
    assert [*elsewhere.iterdir()] == [file]


async def test_a_store_is_replaced_only_if_that_is_wanted_and_is_then_set_aside(
    has_backup, backend, store, settings, tmp_path, file, make_record, make_kept
):
    await store.commit(make_record(id="old"), [make_kept(id="old")])
    backend.back_up(settings, tmp_path, file, replace=False)
    await store.commit(make_record(id="new"), [make_kept(id="new")])
    await store.close()
    with pytest.raises(StoreError, match=r"there is a store .*; --replace sets it aside"):
        backend.restore(settings, tmp_path, file, replace=False)

    def ids(one):
        with backend.open_archive(one, tmp_path) as archive:
            return [record.id for record in archive.records(JournalQuery(), limit=9)]

    assert ids(settings) == ["old", "new"]
    done = backend.restore(settings, tmp_path, file, replace=True)
    assert ids(settings) == ["old"]
    assert ids(settings.model_copy(update={"url": f"sqlite:///{done.replaced}"})) == ["old", "new"]


async def test_a_store_that_is_open_is_not_replaced(
    has_backup, backend, store, settings, tmp_path, file, make_record, everything
):
    backend.back_up(settings, tmp_path, file, replace=False)
    for opener in (backend.open_archive, backend.open_mailbox):
        with opener(settings, tmp_path), pytest.raises(StoreError, match="is in use: stop gatepost first"):
            backend.restore(settings, tmp_path, file, replace=True)
    await store.commit(make_record(id="still"))
    assert everything(store)[0] == {"still"}


async def test_messages_of_a_restored_store_are_found_by_their_words_and_no_others(
    has_backup, backend, store, settings, tmp_path, file, make_record, make_kept, until
):
    """Also one that was deleted after the backup, so that its words were removed."""

    def content(word):
        return b"Subject: " + word + b"\r\n\r\nHello\r\n"

    await store.commit(make_record(), [make_kept(id="first", content=content(b"apples"))])
    backend.back_up(settings, tmp_path, file, replace=False)
    await store.commit(make_record(), [make_kept(id="second", content=content(b"pears"))])
    await store.close()
    with backend.open_mailbox(settings, tmp_path) as mailbox:
        await until(lambda: mailbox.count(parse_query("pears")) == 1)
        mailbox.delete(["first"], actor="ann")
        await until(lambda: mailbox.count(parse_query("apples")) == 0)
        mailbox.close()
    backend.restore(settings, tmp_path, file, replace=True)
    with backend.open_mailbox(settings, tmp_path) as mailbox:
        await until(lambda: mailbox.count(parse_query("apples")) == 1)
        assert mailbox.count(parse_query("pears")) == 0


def test_two_backups_at_a_time_make_one_file(has_backup, backend, store, settings, tmp_path, elsewhere, file):
    done = []

    def back_up():
        try:
            done.append(backend.back_up(settings, tmp_path, file, replace=False))
        except StoreError as error:
            done.append(error)

    threads = [threading.Thread(target=back_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(one, StoreError) for one in done) == 3
    assert [*elsewhere.iterdir()] == [file]
