"""What goes on for ever, from clients and from the server behind, is ended, and memory stays flat.

Each is a stream that goes on until the gateway closes the connection.
"""

import itertools
import time
from contextlib import suppress

import pytest
from gatepost.testing import FakeUpstream

MIB = 1 << 20
MESSAGE = b"Subject: healthy\r\n\r\nHello\r\n"
FLAT = 8 * MIB
"""What reading takes, whatever is read."""
MUCH = 16 * MIB
LATE_SECONDS = 30.0
"""So late may be what is to come at its time, where the machine has other work."""
PIECE = 1 << 16
HELO = "EHLO client.example.org"
ENVELOPE = (HELO, "MAIL FROM:<alice@example.org>", "RCPT TO:<bob@example.com>")


@pytest.fixture
def upstream():
    with FakeUpstream() as server:
        yield server


@pytest.fixture
def watched(gateway, watch, upstream):
    """A gateway that took its first messages; at the end it must hold what it held then."""
    watches = []

    def start(limits):
        running = gateway(f"limits: {{{limits}}}", upstream=upstream.port, counted=True)
        for _ in range(3):
            assert running.send(MESSAGE).startswith("250 ")
        watches.append(watch(running))
        return running, watches[-1]

    yield start
    for one in watches:
        one.is_back()


def stream(client, piece, seconds):
    """Sends the piece again and again until the connection has ended; gives how many octets that were."""
    give_up = time.monotonic() + seconds + LATE_SECONDS
    sent = 0
    with suppress(ConnectionError):
        while time.monotonic() < give_up:
            sent += client.socket.send(piece)
        pytest.fail("it goes on")
    return sent


@pytest.mark.parametrize(
    ("said", "first", "piece", "kept"),
    [
        pytest.param((HELO,), b"", b"x" * PIECE, 0, marks=pytest.mark.case(21), id="a command"),
        pytest.param(
            (HELO,), b"MAIL FROM:<", b"a" * PIECE, 0, marks=pytest.mark.case(21), id="an address of MAIL"
        ),
        pytest.param(
            (*ENVELOPE, "DATA"),
            b"Subject: endless\r\n\r\n",
            b"x" * PIECE,
            MIB,
            marks=pytest.mark.case(17),
            id="a line of a message",
        ),
        pytest.param(
            (*ENVELOPE, "DATA"),
            b"Subject: ",
            b"x" * 70 + b"\r\n " + b"y" * 70 + b"\r\n ",
            4 * MIB,
            marks=pytest.mark.case(17, 92),
            id="a header field",
        ),
        pytest.param(
            (*ENVELOPE, "DATA"),
            b"",
            b"X-Endless: yes\r\n" * (PIECE // 16),
            4 * MIB,
            marks=pytest.mark.case(17, 92),
            id="a header section",
        ),
        pytest.param(
            (*ENVELOPE, "DATA"),
            b"\r\n",
            b"\r\n" * (PIECE // 2),
            4 * MIB,
            marks=pytest.mark.case(18),
            id="empty lines",
        ),
        pytest.param(
            ENVELOPE,
            b"BDAT 99999999999999999 LAST\r\n",
            b"x" * 70 + b"\r\n",
            4 * MIB,
            marks=pytest.mark.case(17, 46),
            id="a chunk",
        ),
    ],
)
@pytest.mark.long
def test_what_a_client_never_ends_is_ended_in_time_and_memory_stays_flat(
    watched, said, first, piece, kept, upstream
):
    piece *= PIECE // len(piece)
    for seconds in (2, 8):  # a machine with other work may need the longer one to send much
        limits = f"command_time: {seconds}s, message_time: {seconds}s, message_size: 4MiB, line: 1MiB"
        running, watch = watched(limits)
        before = len(upstream.messages)
        with running.client() as client:
            assert all(reply[0] in "23" for reply in client.say(*said))
            began = time.monotonic()
            client.socket.sendall(first)
            sent = stream(client, piece, seconds)
            assert time.monotonic() > began + seconds - 0.1, "not before its time"
            assert watch.peak < kept + FLAT
            assert running.send(MESSAGE).startswith("250 ")
        assert len(upstream.messages) == before + 1
        if sent > MUCH:
            break
    assert sent > MUCH


@pytest.mark.case(17)
@pytest.mark.long
def test_a_line_past_its_limit_is_refused_and_what_is_within_arrives(watched, upstream):
    running, watch = watched("message_size: 64MiB, line: 1MiB")
    for octets, expected in ((MIB - 2, "250 2.0.0 "), (48 * MIB, "552 5.6.0 ")):
        with running.client().begin("bob@example.com") as client:
            client.socket.sendall(b"Subject: long\r\n\r\n")
            for _ in range(octets // PIECE):
                client.socket.sendall(b"x" * PIECE)
            client.socket.sendall(b"x" * (octets % PIECE) + b"\r\n.\r\n")
            assert client.reply().startswith(expected)
    assert watch.peak < 3 * MIB + FLAT
    assert upstream.messages[-1].content.endswith(b"\r\n\r\n" + b"x" * (MIB - 2) + b"\r\n")


@pytest.mark.case(17, 92)
@pytest.mark.long
def test_a_header_section_past_its_limit_is_refused_however_long_it_is(watched, upstream):
    running, watch = watched("header_size: 128KiB, message_size: 4MiB")
    before = len(upstream.messages)
    for octets in (256 << 10, 48 * MIB):
        with running.client().begin("bob@example.com") as client:
            for _ in range(octets // PIECE):
                client.socket.sendall(b"X-Long: header field\r\n" * (PIECE // 22))
            client.socket.sendall(b"\r\nHello\r\n.\r\n")
            assert client.reply().startswith("552 5.3.4 ")
    assert watch.peak < 4 * MIB + FLAT
    assert len(upstream.messages) == before


STEPS = ("connect", "ehlo", "mail", "rcpt", "data", "body", "dot", "quit")


@pytest.mark.case(76, 78)
@pytest.mark.parametrize(
    "piece", [b"250-and so on\r\n" * (PIECE // 15), b"2" * PIECE], ids=["lines", "a line"]
)
@pytest.mark.long
def test_a_reply_that_never_ends_is_no_reply_at_any_step(watched, upstream, wait_until, piece):
    running, watch = watched("connect_time: 60s, upstream_time: 60s")
    for step in STEPS:
        pieces = []
        upstream.script[step] = (pieces.append(piece) or piece for _ in itertools.count())
        began = time.monotonic()
        expected = "250 2.0.0 " if step == "quit" else "451 4.4."
        assert running.send(MESSAGE).startswith(expected), step
        wait_until(lambda: not upstream.open_connections, "the connection has ended")
        assert time.monotonic() < began + LATE_SECONDS, "as soon as it was too long, not at its time"
        assert pieces, "it was said"
        assert len(pieces) * PIECE < MUCH, "it was not listened to for long"
        upstream.script.clear()
        assert running.send(MESSAGE).startswith("250 "), f"after {step}"
        wait_until(lambda: not upstream.open_connections, "it is not kept")
    assert watch.peak < FLAT
