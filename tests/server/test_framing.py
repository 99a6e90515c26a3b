"""Where a message ends: nobody gets a second message through by another idea of that."""

import pytest

SEQUENCES = {
    "1": b"\n.\n",
    "2": b"\n.\r\n",
    "3": b"\r\n.\n",
    "4": b"\r.\r",
    "5": b"\r.\n",
    "6": b"\n.\r",
    "7": b"\r.\r\n",
    "8": b"\r\n.\r",
    "9": b"\r\n\0.\r\n",
    "10": b"\r\n.\0\r\n",
    "11": b"\r\n.\r\r\n",
    "12": b"\r\r\n.\r\r\n",
}
ENDS_FOR_SOMEBODY = {SEQUENCES[name] for name in ("1", "2", "4", "5", "6", "7", "9")}
"""The others have a transparency dot upstream: they begin with CRLF and a dot."""
SMUGGLED = b"MAIL FROM:<evil@example.net>\r\nRCPT TO:<b@example.com>\r\nDATA\r\nevil"


@pytest.mark.parametrize("padding", [0, 4000], ids=["", "13 across the size limit"])
@pytest.mark.parametrize("policy", ["reject", "normalise", "accept"])
@pytest.mark.parametrize("sequence", SEQUENCES.values(), ids=SEQUENCES)
async def test_a_smuggled_message_is_part_of_the_first_or_refused_with_it(start, sequence, policy, padding):
    """RELIABILITY 1-13."""
    mx = await start(bare_newline=policy, limits={"message_size": "4000B"})
    client = await mx.in_transaction()
    body = b"Subject: x\r\n\r\nbody" + b"x" * padding + sequence + SMUGGLED
    await client.send(b"DATA\r\n" + body + b"\r\n.\r\nQUIT\r\n")
    replies = await client.replies()
    assert [r[:3] for r in replies] in (["354", "250", "221"], ["354", "550", "221"], ["354", "552", "221"])
    if policy == "reject" or padding or (policy == "accept" and sequence in ENDS_FOR_SOMEBODY):
        assert not mx.script.messages
        assert len(mx.script.refusals) == 1
    else:
        [content] = mx.contents
        assert content.endswith(b"\r\nevil\r\n")
        if policy == "accept":
            # the dot that begins a line after a true CRLF is transparency
            assert content == body.replace(b"\r\n.", b"\r\n") + b"\r\n"


async def test_after_a_refused_message_the_session_goes_on(mx):
    client = await mx.in_transaction()
    await client.send(b"DATA\r\nbare\nnewline\r\n.\r\n")
    await client.talk("""
        S: 354
        S: 550 5.6.11
        C: MAIL FROM:<>
        S: 250
        C: RCPT TO:<postmaster>
        S: 250
        C: DATA
        S: 354
        C: .
        S: 250
    """)
    assert mx.contents == [b""]
    assert mx.script.refusals == [("550 5.6.11 CR or LF alone, or NUL, in the message", 14)]
    assert "reset" not in mx.script.calls


@pytest.mark.parametrize(
    ("octets", "reply"),
    [
        pytest.param(b"x" * 998 + b"\r\n", "250", id="998"),
        pytest.param(b"x" * 999 + b"\r\n", "250", id="999"),
        pytest.param(b"x" * 1000 + b"\r\n", "250", id="1000"),
        pytest.param(b"x" * 65536 + b"\r\n", "250", id="64 K"),
        pytest.param(b"x" * 1_100_000 + b"\r\n", "552 5.6.0", id="longer than the limit"),
        pytest.param(b"\r\n" * 1_000_000, "250", id="18 empty lines"),
        pytest.param(b"8-bit \xff\r\n", "250", id="19"),
    ],
)
async def test_lines_are_taken_as_sent(mx, octets, reply):
    """RELIABILITY 17, 18, 19."""
    client = await mx.in_transaction()
    await client.send(b"DATA\r\nS: x\r\n\r\n" + octets + b".\r\n")
    assert (await client.reply()).startswith("354")
    assert (await client.reply()).startswith(reply)
    if reply == "250":
        assert mx.contents == [b"S: x\r\n\r\n" + octets]


async def test_a_message_over_the_size_is_read_to_its_end_and_refused(start):
    """RELIABILITY 34: SIZE lied, or there was none."""
    mx = await start(limits={"message_size": "100KB"})
    client = await mx.ready()
    await client.talk("""
        C: MAIL FROM:<a@b> SIZE=100001
        S: 552 5.3.4
        C: MAIL FROM:<a@b> SIZE=10
        C: RCPT TO:<c@d>
        C: DATA
        S: 250
        S: 250
        S: 354
    """)
    await client.send(b"line\r\n" * 100_000 + b".\r\n")
    await client.talk("""
        S: 552 5.3.4
        C: QUIT
        S: 221
    """)
    assert mx.script.refusals == [("552 5.3.4 Message too big", 600_000)]
    assert not mx.script.messages
