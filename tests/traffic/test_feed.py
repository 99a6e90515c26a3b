"""Live lines from the SMTP processes to the web desk."""

import asyncio
import os
import random
import time

import pytest
from gatepost.traffic import feed
from gatepost.traffic.events import event_of, moment
from gatepost.traffic.feed import Receiver, Sender, _pack, pair, unpacked

SAID = [
    ("s1", "*", b"connected ::1 25 smtp"),
    ("s1", "C", b"EHLO \xff\x00\r\n"),
    ("s2", "D", b""),
    ("s2", "S", b"250 \r\n"),
]


def tap(sender, session_id, direction, data):
    sender.tap(event_of(at=time.time_ns() // 1000, session_id=session_id, direction=direction, data=data))


@pytest.fixture
def sides():
    sender, receiver = pair()
    with sender, receiver:
        yield sender, receiver


async def received(receiver, count=None):
    """So many lines, or all until the senders are gone."""
    lines = []
    async with asyncio.timeout(30):
        async for batch in receiver.batches():
            lines += batch
            if count and len(lines) >= count:
                break
    return [(line.session_id, line.direction, line.data) for line in lines]


async def test_lines_arrive_as_they_were_said(sides):
    sender, receiver = Sender(sides[0]), Receiver(sides[1])
    before = time.time()
    for line in SAID:
        tap(sender, *line)
    batches = receiver.batches()
    batch = await anext(batches)
    assert [(line.session_id, line.direction, line.data) for line in batch] == SAID
    assert all(before - 1 <= moment(line.at).timestamp() <= time.time() + 1 for line in batch)
    sender.close()
    sides[0].close()
    assert [lines async for lines in batches] == []
    assert (sender.dropped, receiver.dropped) == (0, 0)


@pytest.mark.parametrize("pause_seconds", [0, 0.02, 0.1], ids=["at-once", "while-it-gathers", "later"])
async def test_close_sends_what_was_said_last_and_ends_the_thread(sides, pause_seconds):
    sender = Sender(sides[0])
    for line in SAID:
        tap(sender, *line)
    await asyncio.sleep(pause_seconds)
    await asyncio.wait_for(asyncio.to_thread(sender.close), 30)
    sides[0].close()
    assert await received(Receiver(sides[1])) == SAID


async def test_a_long_line_is_cut(sides):
    sender = Sender(sides[0])
    tap(sender, "s", "D", b"x" * 100_000)
    tap(sender, "s", "D", b"y")
    sender.close()
    assert await received(Receiver(sides[1]), 2) == [("s", "D", b"x" * 4096), ("s", "D", b"y")]


async def test_who_is_not_read_drops_lines_within_bounds_and_the_reader_learns_how_many(sides, monkeypatch):
    monkeypatch.setattr(feed, "_WAITING_OCTETS", 500_000)
    sender, receiver = Sender(sides[0]), Receiver(sides[1])
    for number in range(2000):
        tap(sender, "s", "D", b"%04d" % number + b"x" * 2000)
    assert sender.dropped > 500
    lines = await received(receiver, 2000 - sender.dropped)
    assert [int(data[:4]) for _, _, data in lines] == sorted({int(data[:4]) for _, _, data in lines})
    tap(sender, "s", "C", b"after")
    assert (await received(receiver, 1))[-1] == ("s", "C", b"after")
    assert receiver.dropped == sender.dropped == 2000 - len(lines)
    sender.close()


def test_a_sender_whose_receiver_is_gone_goes_on(sides):
    sender = Sender(sides[0])
    sides[1].close()
    tap(sender, "s", "C", b"1")
    sender._thread.join(30)
    tap(sender, "s", "C", b"2")
    assert sender.dropped == 1
    assert not sender._waiting
    sender.close()


async def test_processes_share_one_receiver(sides):
    children = []
    for number in range(3):
        child = os.fork()
        if not child:
            sender = Sender(sides[0])
            for _ in range(100):
                tap(sender, f"s{number}", "C", b"NOOP\r\n")
            sender.close()
            os._exit(0)
        children.append(child)
    sides[0].close()
    lines = await received(Receiver(sides[1]))
    for child in children:
        assert (await asyncio.to_thread(os.waitpid, child, 0))[1] == 0
    assert sorted(lines) == [(f"s{number}", "C", b"NOOP\r\n") for number in range(3) for _ in range(100)]


async def test_garbage_is_skipped_and_what_follows_is_read(sides, caplog):
    chance = random.Random(1)
    good = _pack([(0, "s", "C", b"NOOP\r\n")], dropped=0)
    garbage = [
        b"x",
        b"GPF1",
        good[:-1],
        good + b"\x01",
        b"GPF2" + good[4:],
        good[:9] + b"\xff" * (len(good) - 9),
    ]
    garbage += [chance.randbytes(chance.randrange(1, 200)) for _ in range(20)]
    for packet in (*garbage, good):
        sides[0].send(packet)
    receiver = Receiver(sides[1])
    assert await received(receiver, 1) == [("s", "C", b"NOOP\r\n")]
    assert receiver.dropped == 0
    assert len(caplog.records) == len(garbage)


def test_cut_off_octets_never_pass_for_lines():
    one, two = (1000, "s", "C", b"NOOP\r\n"), (2000, "s", "S", b"250\r\n")
    octets = _pack([one, two], dropped=7)
    assert [line.data for line in unpacked(octets)[1]] == [one[3], two[3]]
    for end in set(range(len(octets))) - {len(_pack(said, dropped=7)) for said in ([], [one])}:
        with pytest.raises(ValueError, match=r"lines|cut off"):
            unpacked(octets[:end])


async def test_while_a_batch_is_looked_at_nothing_wakes_the_event_loop(sides):
    sides[0].send(_pack([(0, "s", "C", b"NOOP\r\n")], dropped=0))
    async for _ in Receiver(sides[1]).batches():
        assert not asyncio.get_running_loop().remove_reader(sides[1])
        break


async def test_a_flood_leaves_the_event_loop_its_turns(sides):
    packet = _pack([(0, "s", "C", b"NOOP\r\n")], dropped=0)
    turns = 0

    async def others():
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    busy = asyncio.create_task(others())
    sides[0].send(packet)
    count = 0
    async for batch in Receiver(sides[1]).batches():
        count += len(batch)
        if count > 500:
            break
        for _ in range(len(batch) + 1):  # there is always more
            sides[0].send(packet)
    busy.cancel()
    assert turns > 20
