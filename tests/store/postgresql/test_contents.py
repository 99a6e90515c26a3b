"""Messages of any size: the beginning in the row, the rest in pieces, and nothing of a deleted one left."""

import asyncio
import threading

import pytest
from gatepost.store import StoreUnavailable, parse_query
from gatepost.store.postgresql import driver, open_mailbox, reader
from gatepost.store.postgresql.schema import PIECE

LEFT = (
    "SELECT (SELECT count(*) FROM kept_pieces), (SELECT count(*) FROM kept_texts),"
    " (SELECT sum(length(content)) FROM kept)"
)


@pytest.fixture
def left(postgresql, settings):
    """How many pieces and texts there are, and how many bytes in rows."""

    def ask():
        with postgresql.connect(settings.url) as connection:
            return connection.execute(LEFT).fetchone()

    return ask


@pytest.mark.parametrize(
    ("size", "pieces"),
    [
        (0, 0),
        (PIECE - 1, 0),
        (PIECE, 0),
        (PIECE + 1, 1),
        (2 * PIECE, 1),
        (2 * PIECE + 1, 2),
        (9 * PIECE + 7, 9),
    ],
)
async def test_a_message_of_any_size_comes_back_and_goes_as_a_whole(
    store, left, settings, tmp_path, make_record, make_kept, until, size, pieces
):
    content = bytes(range(256)) * (size // 256 + 1)
    kept = make_kept(content=content[:size])
    await store.commit(make_record(), [kept])
    assert left() == (pieces, 0, min(size, PIECE))
    assert store.archive.kept_message(kept.id).content == kept.content
    with open_mailbox(settings, tmp_path) as mailbox:
        await until(lambda: left() == (pieces, 1, min(size, PIECE)))
        removed = mailbox.remove(kept.id, actor="ann")
        assert left() == (0, 0, 0)
        assert mailbox.put_back(removed)
        assert left() == (pieces, 1, min(size, PIECE))
        assert mailbox.message(kept.id).content == kept.content
    await store.withdraw([kept.id])
    assert left() == (0, 0, None)


async def test_words_behind_the_first_piece_are_found(
    store, settings, tmp_path, make_record, make_kept, until
):
    padding = (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: image/png\r\n\r\n"
        + b"A" * 2 * PIECE
    )
    content = padding + b"\r\n--b\r\nContent-Type: text/plain\r\n\r\nlate words\r\n--b--\r\n"
    await store.commit(make_record(), [make_kept(content=content)])
    with open_mailbox(settings, tmp_path) as mailbox:
        await until(lambda: mailbox.count(parse_query('"late words"')) == 1)
        assert mailbox.count(parse_query("early")) == 0


@pytest.mark.parametrize(("size", "largest_batch"), [(10, 10), (300_000, 3), (700_000, 1), (5 << 20, 1)])
async def test_while_large_messages_are_read_others_can_be_deleted(
    store, settings, tmp_path, make_record, make_kept, until, monkeypatch, size, largest_batch
):
    """What is being read is locked for as long as that takes, and holds up all who change messages."""
    kept = [make_kept(content=b"x" * size) for _ in range(20)]
    for one in kept:
        await store.commit(make_record(), [one])
    began, go_on = threading.Event(), threading.Event()
    read = reader.excerpt_of

    def read_slowly(row, content):
        began.set()
        go_on.wait(60)
        return read(row, content)

    monkeypatch.setattr(reader, "excerpt_of", read_slowly)
    monkeypatch.setattr(driver, "LOCK_SECONDS", 0.5)
    with open_mailbox(settings, tmp_path) as mailbox:
        try:
            assert await asyncio.to_thread(began.wait, 60)
            behind = kept[largest_batch].id
            assert await asyncio.to_thread(mailbox.delete, [behind], actor="ann") == [behind]
            with pytest.raises(StoreUnavailable, match="lock timeout"):
                await asyncio.to_thread(mailbox.delete, [kept[largest_batch - 1].id], actor="ann")
        finally:
            go_on.set()
        await until(lambda: mailbox.count(parse_query("is:unread")) == 19)
        await until(lambda: mailbox.facets(parse_query("")).messages == 19)
