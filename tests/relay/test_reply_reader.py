"""Octets from upstream become replies, or garbage: never anything else, and never without bounds."""

import pytest
from gatepost.relay.reply_reader import GarbageError, ReplyReader
from hypothesis import given
from hypothesis import strategies as st

HOSTILE = st.lists(
    st.sampled_from([b"250", b"-", b" ", b"\r\n", b"\r", b"\n", b"2.1.0", b"\xff", b"5"]) | st.binary()
).map(b"".join)


@pytest.mark.parametrize(
    ("octets", "replies"),
    [
        (b"250\r\n", ["250"]),
        (b"250 \r\n", ["250"]),
        (b"250 Ok\r\n354 Go\r\n", ["250 Ok", "354 Go"]),
        (b"250-one\r\n250-\r\n250 three\r\n", ["250 one /  / three"]),
        (b"550-5.1.1 No\r\n550 5.1.1 such user\r\n", ["550 5.1.1 No / such user"]),
        (b"550-5.1.1 No\r\n550 such user\r\n", ["550 5.1.1 No / such user"]),
        (b"550 5.1.1\r\n", ["550 5.1.1"]),
        (b"550 4.1.1 of another class\r\n", ["550 4.1.1 of another class"]),
        (b"250 5.1.10.1 an address\r\n", ["250 5.1.10.1 an address"]),
        ("550 Grüße\r\n".encode(), ["550 Grüße"]),
        (b"550 \xff\x1b\0\r\n", ["550 ???"]),
        (b"550 bare\rCR\r\n", ["550 bare?CR"]),
        (b"250-not the end\r\n", []),
        (b"250 not the end", []),
    ],
)
def test_replies_are_read(octets, replies):
    assert [str(reply) for reply in ReplyReader().feed(octets)] == replies


@pytest.mark.parametrize(
    "octets",
    [
        b"\r\n",
        b"250 bare LF\n",
        b"25 \r\n",
        b"2500\r\n",
        b"250\tOk\r\n",
        b"199 Ok\r\n",
        b"600 Ok\r\n",
        b"2\xb250 Ok\r\n",
        b"250-one\r\n251 two\r\n",
        b"250-one\r\nHTTP/1.1 200\r\n",
        b"250 " + b"x" * 2043 + b"\r\n",
        b"x" * 2049,
        b"250-x\r\n" * 101,
        (b"250-" + b"x" * 2000 + b"\r\n") * 17,
    ],
)
def test_garbage_is_told_from_replies(octets):
    with pytest.raises(GarbageError):
        ReplyReader().feed(octets)


def test_the_bounds_are_of_one_reply_and_not_of_the_connection():
    reader = ReplyReader()
    for _ in range(200):
        assert len(reader.feed((b"250-" + b"x" * 2000 + b"\r\n") * 3 + b"250 x\r\n")) == 1
    assert reader.is_empty


@given(HOSTILE, st.integers(1, 7))
def test_however_octets_are_cut_the_same_replies_come_out(octets, size):
    def read(chunks):
        reader, replies = ReplyReader(), []
        try:
            for chunk in chunks:
                replies += reader.feed(chunk)
        except GarbageError:
            return None
        return replies, reader.is_empty

    assert read([octets]) == read([octets[n : n + size] for n in range(0, len(octets), size)])
