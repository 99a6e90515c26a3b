"""Messages of any size: the beginning in the row, the rest in pieces, and nothing of a deleted one left."""

import pytest
from gatepost.store import parse_query
from gatepost.store.postgresql import open_mailbox
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
