"""Lines reach another process, in order and in batches; a side that is slow or gone holds nobody up."""

import asyncio

import pytest

from proxy import feed


@pytest.fixture
def ends():
    sending, receiving = feed.pair()
    yield sending, receiving
    sending.close()
    receiving.close()


async def take(receiver, count):
    lines = []
    async for batch in receiver.batches():
        lines += batch
        if len(lines) >= count:
            return lines
    return lines


async def test_lines_arrive_in_order_whatever_octets_they_hold(ends):
    sender, receiver = feed.Sender(ends[0]), feed.Receiver(ends[1])
    every = bytes(range(256))
    for number in range(500):
        sender.tap("session", "D", b"%d " % number + every)
    lines = await asyncio.wait_for(take(receiver, 500), 20)
    assert [line.data for line in lines] == [b"%d " % number + every for number in range(500)]
    assert {line.session_id for line in lines} == {"session"}
    sender.close()


async def test_without_a_reader_lines_are_dropped_and_counted(ends):
    sender, receiver = feed.Sender(ends[0]), feed.Receiver(ends[1])
    for _ in range(20_000):
        sender.tap("s", "C", b"x" * 1000)
    sender.close()  # waits for nobody
    got = 0
    again = feed.Sender(ends[0])
    async for batch in receiver.batches():
        got += len(batch)
        if batch[-1].data == b"last":
            break
        if not again._waiting:
            again.tap("s", "C", b"last")
    again.close()
    assert 0 < got < 20_000


async def test_what_was_dropped_is_told_with_the_next_batch(ends):
    sender, receiver = feed.Sender(ends[0]), feed.Receiver(ends[1])
    sender._dropped = 7
    sender.tap("s", "C", b"NOOP\r\n")
    await asyncio.wait_for(take(receiver, 1), 20)
    assert receiver.dropped == 7
    sender.close()


async def test_garbage_is_passed_over(ends):
    receiver = feed.Receiver(ends[1])
    for garbage in (
        b"",
        b"{",
        b"[]",
        b'{"dropped":0,"lines":[[1,2]]}',
        b'{"dropped":"x","lines":3}',
        b"\xff",
    ):
        ends[0].send(garbage)
    sender = feed.Sender(ends[0])
    sender.tap("s", "S", b"250 Ok\r\n")
    (line,) = await asyncio.wait_for(take(receiver, 1), 20)
    assert line.data == b"250 Ok\r\n"
    sender.close()


async def test_a_desk_that_is_gone_does_not_trouble_the_sender(ends):
    ends[1].close()
    sender = feed.Sender(ends[0])
    sender.tap("s", "C", b"NOOP\r\n")
    sender.close()
    assert sender._dropped == 1
