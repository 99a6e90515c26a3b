"""The end of a message is CRLF . CRLF and nothing else, and commands are answered in their order."""

import re
import socket
import tracemalloc

import pytest
from gatepost.testing import FakeUpstream, running_gateway

SEQUENCES = {
    1: b"\n.\n",
    2: b"\n.\r\n",
    3: b"\r\n.\n",
    4: b"\r.\r",
    5: b"\r.\n",
    6: b"\n.\r",
    7: b"\r.\r\n",
    8: b"\r\n.\r",
    9: b"\r\n\0.\r\n",
    10: b"\r\n.\0\r\n",
    11: b"\r\n.\r\r\n",
    12: b"\r\r\n.\r\r\n",
}
ENVELOPE = (
    b"EHLO client.example.org\r\n",
    b"MAIL FROM:<alice@example.org>\r\n",
    b"RCPT TO:<bob@example.com>\r\n",
)
SMUGGLED = (
    b"MAIL FROM:<eve@example.org>\r\nRCPT TO:<victim@example.com>\r\nDATA\r\nSubject: smuggled\r\n\r\nx"
)


def codes(replies):
    return [one[:3] for one in replies]


def body(message):
    """What is behind the Received field that the gateway adds."""
    return message.content.partition(b"\r\n\tfor <bob@example.com>;")[2].split(b"\r\n", 2)[2]


@pytest.mark.parametrize(
    "sequence",
    [pytest.param(octets, id=str(n), marks=pytest.mark.case(n)) for n, octets in SEQUENCES.items()],
)
def test_no_other_sequence_ends_a_message(talk, upstream, sequence):
    before = len(upstream.messages)
    content = b"Subject: one\r\n\r\nfirst" + sequence + SMUGGLED + b"\r\n.\r\n"
    replies = talk(*ENVELOPE, b"DATA\r\n", content)
    assert codes(replies) == ["250", "250", "250", "354", "550"]
    assert replies[-1].startswith("550 5.6.11")
    assert len(upstream.messages) == before


@pytest.fixture(scope="module", params=["reject", "normalise", "accept"])
def policy(request):
    """One that is set, and a gateway of its own with its upstream."""
    with (
        FakeUpstream() as upstream,
        running_gateway({"bare_newline": request.param}, upstream=upstream) as gateway,
    ):
        yield request.param, gateway, upstream


@pytest.mark.parametrize("number", SEQUENCES)
def test_whatever_is_set_upstream_sees_no_end_but_the_true_one(talk, policy, number):
    name, gateway, upstream = policy
    before, sequence = len(upstream.messages), SEQUENCES[number]
    content = b"Subject: one\r\n\r\nfirst" + sequence + SMUGGLED + b"\r\n.\r\n"
    *_, reply = talk(*ENVELOPE, b"DATA\r\n", content, to=gateway)
    messages = upstream.messages[before:]
    assert reply.startswith("250 2.0.0" if messages else "550 5.6.11")
    assert not sum(b"eve@" in line.encode() for lines in upstream.commands for line in lines)
    if not messages:
        assert name == "reject" or (name == "accept" and number in {1, 2, 4, 5, 6, 7, 9})
        return
    ((_, _, wire),) = [message.wire.partition(b"Subject: one") for message in messages]
    if name == "normalise":
        assert not re.search(rb"\0|\r(?!\n)|(?<!\r)\n", wire)
    else:
        sent = sequence.replace(b"\r\n.", b"\r\n")  # a dot there is transparency, and was taken out
        assert wire == b"\r\n\r\nfirst" + sent + SMUGGLED + b"\r\n.\r\n"
    for dropped in (b"", b"\0", b"\r"):
        lines = re.split(rb"\r\n|\r|\n", wire.translate(None, dropped))
        assert lines.count(b".") == 1


@pytest.fixture(scope="module")
def small(upstream):
    """A gateway that takes no message of more than 4 KiB."""
    with running_gateway({"limits": {"message_size": "4KiB"}}, upstream=upstream) as gateway:
        yield gateway


@pytest.mark.case(13)
@pytest.mark.parametrize("sequence", SEQUENCES.values(), ids=map(str, SEQUENCES))
@pytest.mark.parametrize("within", range(5))
def test_nor_across_the_limit_of_size(talk, small, upstream, sequence, within):
    before = len(upstream.messages)
    head = b"Subject: one\r\n\r\n"
    content = head + b"x" * (4096 - len(head) - within) + sequence + SMUGGLED + b"\r\n.\r\n"
    *_, reply = talk(*ENVELOPE, b"DATA\r\n", content, to=small)
    assert reply.startswith(("552 5.3.4", "550 5.6.11"))
    assert len(upstream.messages) == before


@pytest.mark.case(17)
@pytest.mark.parametrize("length", [998, 999, 1000, 65_536])
def test_a_long_line_arrives_as_it_was_sent(talk, upstream, length):
    content = b"Subject: long\r\n\r\n" + b"x" * (length - 2) + b"\r\nnext\r\n"
    assert codes(talk(*ENVELOPE, b"DATA\r\n", content + b".\r\n"))[-1] == "250"
    assert body(upstream.messages[-1]) == content


@pytest.fixture
def peak():
    """Octets that Python has held at most, since the test began."""
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    yield lambda: tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()


@pytest.mark.case(18)
def test_two_megabytes_of_empty_lines_arrive_as_they_were_sent(talk, upstream, peak):
    content = b"Subject: empty\r\n\r\n" + b"\r\n" * (1 << 20)
    assert codes(talk(*ENVELOPE, b"DATA\r\n", content + b".\r\n"))[-1] == "250"
    assert body(upstream.messages[-1]) == content
    assert peak() < 13 * len(content), "client, gateway and upstream with their copies"


@pytest.mark.case(19)
@pytest.mark.parametrize("octets", [b"a\0b\r\n", b"a\rb\r\n"], ids=["NUL", "bare CR"])
def test_what_no_message_may_hold_is_refused(talk, upstream, octets):
    before = len(upstream.messages)
    *_, reply = talk(*ENVELOPE, b"DATA\r\n", b"Subject: x\r\n\r\n" + octets + b".\r\n")
    assert reply.startswith("550 5.6.11")
    assert len(upstream.messages) == before


@pytest.mark.case(19)
def test_eight_bits_declared_as_seven_arrive_as_they_were_sent(talk, upstream):
    content = b"Subject: x\r\n\r\n" + bytes(range(0x80, 0x100)) + b"\r\n"
    mail = b"MAIL FROM:<alice@example.org> BODY=7BIT\r\n"
    assert codes(talk(ENVELOPE[0], mail, ENVELOPE[2], b"DATA\r\n", content + b".\r\n"))[-1] == "250"
    assert body(upstream.messages[-1]) == content


@pytest.mark.case(14)
def test_a_dot_at_once_is_an_empty_message(talk, upstream):
    assert codes(talk(*ENVELOPE, b"DATA\r\n", b".\r\n"))[-1] == "250"
    assert body(upstream.messages[-1]) == b""


@pytest.mark.case(15)
def test_dots_at_the_beginning_of_lines_stay(talk, upstream):
    assert codes(talk(*ENVELOPE, b"DATA\r\n", b"Subject: dots\r\n\r\n..\r\n.x\r\n...\r\n.\r\n"))[-1] == "250"
    assert body(upstream.messages[-1]) == b"Subject: dots\r\n\r\n.\r\nx\r\n..\r\n"


@pytest.mark.case(16)
@pytest.mark.parametrize("cut", range(1, 8))
def test_the_final_dot_may_come_in_pieces(talk, upstream, cut):
    content, end = b"Subject: cut\r\n\r\nx", b"y\r\n.\r\n"
    whole = content + end
    place = len(whole) - cut
    assert codes(talk(*ENVELOPE, b"DATA\r\n", (whole[:place], whole[place:]), pause=0.01))[-1] == "250"
    assert body(upstream.messages[-1]) == b"Subject: cut\r\n\r\nxy\r\n"


@pytest.mark.parametrize(
    ("commands", "expected"),
    [
        pytest.param(
            (b"RCPT TO:<bob@example.com>\r\n", b"DATA\r\n"), ["503", "503"], marks=pytest.mark.case(23)
        ),
        pytest.param(
            (*ENVELOPE[:2], ENVELOPE[1], ENVELOPE[2]),
            ["250", "250", "503", "250"],
            marks=pytest.mark.case(24),
        ),
        pytest.param(
            (*ENVELOPE[:2], *ENVELOPE[:1], ENVELOPE[2]),
            ["250", "250", "250", "503"],
            marks=pytest.mark.case(25),
        ),
        pytest.param(
            (ENVELOPE[0], b"VRFY bob\r\n", b"EXPN all\r\n"), ["250", "252", "502"], marks=pytest.mark.case(39)
        ),
    ],
    ids=["wrong order", "nested MAIL", "EHLO resets", "VRFY and EXPN"],
)
def test_commands_have_their_answers(talk, commands, expected):
    assert codes(talk(*commands)) == expected


@pytest.mark.case(73)
def test_a_message_that_went_in_circles_is_refused(talk, upstream):
    before = len(upstream.messages)
    trace = b"Received: from a by b; Mon, 1 Jan 2024 00:00:00 +0000\r\n" * 51
    replies = talk(*ENVELOPE, b"DATA\r\n", trace + b"Subject: loop\r\n\r\nx\r\n.\r\n")
    assert replies[-1].startswith("554 5.4.6")
    assert len(upstream.messages) == before


@pytest.mark.case(98)
def test_a_client_that_half_closes_after_its_dot_has_its_reply(gateway, upstream, reply):
    with socket.create_connection((gateway.host, gateway.port), 60) as client, client.makefile("rb") as lines:
        reply(lines)
        for piece in (*ENVELOPE, b"DATA\r\n"):
            client.sendall(piece)
            reply(lines)
        client.sendall(b"Subject: half\r\n\r\nx\r\n.\r\n")
        client.shutdown(socket.SHUT_WR)
        assert reply(lines).startswith("250")
    assert body(upstream.messages[-1]) == b"Subject: half\r\n\r\nx\r\n"
