"""Pipelining, BDAT, and what becomes of a message when its connection does not wait."""

import asyncio

import pytest

MAIL = b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\n"
MAIL_REFUSED = b"MAIL FROM:<a@example.org>\r\nRCPT TO:<refused@example.com>\r\n"


def codes(replies):
    return [reply[:3] for reply in replies]


async def test_a_pipelined_batch_is_answered_in_order(mx):
    """RELIABILITY 41."""
    client = await mx.ready()
    batch = b"".join(b"RCPT TO:<%d@example.com>\r\n" % number for number in range(100))
    await client.send(b"MAIL FROM:<a@b>\r\n" + batch + b"DATA\r\n")
    assert codes([await client.reply() for _ in range(102)]) == ["250"] * 101 + ["354"]
    await client.send(b"x\r\n.\r\n")
    assert (await client.reply()).startswith("250")
    assert [r.address for r in mx.script.messages[0][0].recipients] == [
        f"{n}@example.com" for n in range(100)
    ]


async def test_the_replies_to_a_batch_leave_in_one_write(mx):
    client = await mx.ready()
    await client.send(MAIL + b"NOOP\r\nDATA\r\n")
    octets = await client.reader.read(1000)
    assert octets.count(b"\r\n") == 4


async def test_data_without_a_valid_recipient_is_refused_and_what_follows_are_commands(mx):
    """RELIABILITY 42."""
    client = await mx.ready()
    await client.send(MAIL_REFUSED + b"DATA\r\nRSET\r\n" + MAIL + b"DATA\r\nx\r\n.\r\nQUIT\r\n")
    assert codes(await client.replies()) == ["250", "550", "554", "250", "250", "250", "354", "250", "221"]
    assert mx.contents == [b"x\r\n"]


async def test_two_mails_and_quit_in_one_write(mx):
    """RELIABILITY 43, 45."""
    client = await mx.ready()
    await client.send(MAIL + b"DATA\r\none\r\n.\r\n" + MAIL + b"DATA\r\nQUIT\r\n.\r\nQUIT\r\n")
    assert codes(await client.replies()) == ["250", "250", "354", "250", "250", "250", "354", "250", "221"]
    assert mx.contents == [b"one\r\n", b"QUIT\r\n"]


async def test_who_talks_while_the_greeting_is_prepared_is_sent_away(mx):
    """RELIABILITY 44."""
    mx.script.answers["connect"] = lambda: asyncio.sleep(0.1)
    client = await mx.connect()
    await client.send(b"EHLO early\r\n")
    [reply] = await client.replies()
    assert reply.startswith("421 4.7.0")
    assert mx.script.calls == ["connect", "close"]


@pytest.mark.parametrize("size", [1, 3, 10_000])
async def test_bdat_takes_its_octets_as_they_are(mx, size):
    """RELIABILITY 46."""
    client = await mx.ready()
    content = b"..a\r\n.\r\nQUIT\r\n" * 3
    first, second = content[:4], content[4:]  # divides a CRLF
    wire = MAIL + b"BDAT %d\r\n%bbdat %d\r\n%bBDAT 0 last\r\nQUIT\r\n" % (
        len(first),
        first,
        len(second),
        second,
    )
    for start in range(0, len(wire), size):
        await client.send(wire[start : start + size])
        if size == 1:
            await asyncio.sleep(0)
    assert codes(await client.replies()) == ["250"] * 5 + ["221"]
    assert mx.contents == [content]


@pytest.mark.parametrize(
    ("wire", "expected", "messages"),
    [
        pytest.param(
            MAIL + b"BDAT 3 LAST\r\nx\r\nBDAT 0 LAST\r\n", "250 250 250 503 221", [b"x\r\n"], id="after LAST"
        ),
        pytest.param(MAIL + b"BDAT 0 LAST\r\n", "250 250 250 221", [b""], id="empty"),
        pytest.param(
            MAIL + b"BDAT 3\r\nx\r\nRSET\r\nBDAT 6\r\nQUIT\r\n", "250 250 250 250 503 221", [], id="RSET"
        ),
        pytest.param(MAIL + b"BDAT 3\r\nx\r\nDATA\r\n", "250 250 250 503 221", [], id="DATA after BDAT"),
        pytest.param(
            MAIL + b"BDAT 3\r\nx\r\nRCPT TO:<c@d>\r\n", "250 250 250 503 221", [], id="RCPT after BDAT"
        ),
        pytest.param(MAIL + b"BDAT 3\r\nx\r\nNOOP\r\n", "250 250 250 250 221", [], id="NOOP after BDAT"),
        pytest.param(
            MAIL_REFUSED + b"BDAT 6 LAST\r\nQUIT\r\n", "250 550 554 221", [], id="no valid recipient"
        ),
        pytest.param(b"BDAT 6 LAST\r\nQUIT\r\n", "503 221", [], id="no MAIL"),
        pytest.param(MAIL + b"BDAT 9 LAST\r\nbare\nLF\r\n", "250 250 550 221", [], id="bare LF"),
        pytest.param(
            MAIL + b"BDAT 2\r\nx\rBDAT 1 LAST\r\n\n", "250 250 250 250 221", [b"x\r\n"], id="CRLF in two"
        ),
        pytest.param(MAIL + b"BDAT 2\r\nx\rBDAT 1 LAST\r\nx", "250 250 250 550 221", [], id="CR alone"),
        pytest.param(MAIL + b"BDAT 2 LAST\r\nx\r", "250 250 550 221", [], id="CR at the end"),
        pytest.param(MAIL + b"BDAT\r\nQUIT\r\n", "250 250 501", [], id="no size"),
        pytest.param(MAIL + b"BDAT -6\r\nQUIT\r\n", "250 250 501", [], id="negative"),
        pytest.param(MAIL + b"BDAT 6 FIRST\r\nQUIT\r\n", "250 250 501", [], id="not LAST"),
        pytest.param(
            b"HELO c\r\n" + MAIL + b"BDAT 6 LAST\r\nQUIT\r\n", "250 250 250 503 221", [], id="47 HELO"
        ),
    ],
)
async def test_bdat_payload_is_never_run_as_commands(mx, wire, expected, messages):
    """RELIABILITY 46, 47."""
    client = await mx.ready()
    await client.send(wire + b"QUIT\r\n")
    assert codes(await client.replies()) == expected.split()
    assert mx.contents == messages


async def test_bdat_over_the_size_is_refused_at_its_chunk_and_still_read(start):
    """RELIABILITY 46."""
    mx = await start(limits={"message_size": 1000})
    client = await mx.ready()
    chunk = b"BDAT 600\r\n" + b"QUIT\r\n" * 100
    await client.send(MAIL + chunk * 3 + b"BDAT 0 LAST\r\n" + MAIL + b"DATA\r\n.\r\nQUIT\r\n")
    expected = ["250", "250", "250", "552", "503", "503", "250", "250", "354", "250", "221"]
    assert codes(await client.replies()) == expected
    assert mx.script.refusals == [("552 5.3.4 Message too big", 1200)]
    assert mx.contents == [b""]


@pytest.mark.parametrize(
    "wire",
    [
        b"DATA\r\nhalf a mess",
        b"DATA\r\nx\r\n.",
        b"BDAT 3\r\nx\r\n",
        b"BDAT 10 LAST\r\nx\r\n",
        b"DATA\r\nx\r\n.\n",
    ],
)
@pytest.mark.parametrize("end", ["half_close", "close", "reset"])
async def test_an_unfinished_message_is_never_delivered(mx, wire, end):
    """RELIABILITY 46."""
    client = await mx.in_transaction()
    await client.send(wire)
    if b"LAST" not in wire:
        assert (await client.reply())[:3] in ("354", "250")
    getattr(client, end)()
    async with asyncio.timeout(30):
        await mx.script.closed.wait()
    assert mx.script.calls[2:] == ["mail", "rcpt", "reset", "close"]


async def test_after_a_half_close_the_reply_is_still_sent(mx):
    """RELIABILITY 98."""
    decided = asyncio.Event()

    async def decide():
        await decided.wait()
        return "250 2.0.0 Queued"

    mx.script.answers["message"] = decide
    client = await mx.in_transaction()
    await client.send(b"DATA\r\nx\r\n.\r\n")
    assert (await client.reply()).startswith("354")
    client.half_close()
    await asyncio.sleep(0.05)
    decided.set()
    assert await client.reply() == "250 2.0.0 Queued"
    assert await client.reply() == ""
    assert mx.contents == [b"x\r\n"]


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_a_message_is_finished_when_its_client_is_gone(mx, end):
    """RELIABILITY 99."""
    asked, decided = asyncio.Event(), asyncio.Event()

    async def decide():
        asked.set()
        await decided.wait()
        return "250 2.0.0 Queued"

    mx.script.answers["message"] = decide
    client = await mx.in_transaction()
    await client.send(b"DATA\r\nx\r\n.\r\n")
    async with asyncio.timeout(30):
        await asked.wait()
        getattr(client, end)()
        await asyncio.sleep(0.05)
        decided.set()
        await mx.script.closed.wait()
    assert mx.contents == [b"x\r\n"]
    assert mx.script.calls[2:] == ["mail", "rcpt", "message", "close"]


async def test_memory_for_all_messages_has_one_bound(start):
    """RELIABILITY 104."""
    mx = await start(limits={"memory": 100_000})
    first = await mx.in_transaction()
    await first.send(b"DATA\r\n" + b"x" * 60_000)
    assert (await first.reply()).startswith("354")
    second = await mx.in_transaction()
    await second.send(b"DATA\r\n" + b"y" * 60_000 + b"\r\n.\r\n")
    await second.talk("""
        S: 354
        S: 452 4.3.1
        C: MAIL FROM:<a@b> SIZE=60000
        S: 452 4.3.1
    """)
    await first.send(b"\r\n.\r\n")
    await first.talk("""
        S: 250
    """)
    await second.talk("""
        C: MAIL FROM:<a@b> SIZE=60000
        S: 250
        C: RCPT TO:<a@b>
        S: 250
    """)
    await second.send(b"DATA\r\n" + b"y" * 60_000 + b"\r\n.\r\n")
    await second.talk("""
        S: 354
        S: 250
    """)
    assert [len(content) for content in mx.contents] == [60_002, 60_002]
