"""The end of a message is CRLF . CRLF and nothing else, and commands are answered in their order."""

import socket

import pytest

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
    with socket.create_connection((gateway.host, gateway.port), 20) as client, client.makefile("rb") as lines:
        reply(lines)
        for piece in (*ENVELOPE, b"DATA\r\n"):
            client.sendall(piece)
            reply(lines)
        client.sendall(b"Subject: half\r\n\r\nx\r\n.\r\n")
        client.shutdown(socket.SHUT_WR)
        assert reply(lines).startswith("250")
    assert body(upstream.messages[-1]) == b"Subject: half\r\n\r\nx\r\n"
