"""The PROXY header: whom it names is the client, and only who may send it is believed, once and at once."""

import contextlib
import socket
import struct
from ipaddress import ip_address

import pytest
from gatepost.testing import running_gateway

BALANCER, CLIENT = "127.0.0.1", "203.0.113.9"
ENVELOPE = (
    b"EHLO client.example.org\r\n",
    b"MAIL FROM:<alice@example.org>\r\n",
    b"RCPT TO:<bob@example.com>\r\n",
)
MESSAGE = (b"DATA\r\n", b"Subject: x\r\n\r\n.\r\n")
WHOLE = b"".join((*ENVELOPE, *MESSAGE))


def v1(client, *, more=b""):
    return f"PROXY TCP4 {client} 127.0.0.1 40000 25".encode() + more + b"\r\n"


def v2(client, *, length=12):
    addresses = ip_address(client).packed + ip_address("127.0.0.1").packed + struct.pack("!HH", 40000, 25)
    return b"\r\n\r\n\0\r\nQUIT\n" + struct.pack("!BBH", 0x21, 0x11, length) + addresses


@pytest.fixture(scope="module")
def trusting(upstream):
    """It takes the word of this machine for who the client is."""
    listen = {"address": "127.0.0.1:0", "proxy_protocol_from": [BALANCER]}
    rules = {"listen": listen, "limits": {"command_time": "1s"}}
    with running_gateway(rules, upstream=upstream) as running:
        yield running


@pytest.fixture(scope="module")
def trusting_another(upstream):
    listen = {"address": "127.0.0.1:0", "proxy_protocol_from": ["192.0.2.0/24"]}
    with running_gateway({"listen": listen}, upstream=upstream) as running:
        yield running


@pytest.fixture
def said(reply):
    """All that a gateway answers: to these octets at once, and then to each piece."""

    def talk(gateway, at_once, *pieces):
        replies = []
        with (
            contextlib.suppress(ConnectionError),
            socket.create_connection((gateway.host, gateway.port), 60) as client,
            client.makefile("rb") as lines,
        ):
            client.sendall(at_once)
            replies.append(reply(lines))
            for piece in pieces:
                client.sendall(piece)
                replies.append(reply(lines))
            client.shutdown(socket.SHUT_WR)
            replies += iter(lambda: reply(lines), "")
        return [one for one in replies if one]

    return talk


def codes(replies):
    return [one[:3] for one in replies]


@pytest.mark.case(55)
@pytest.mark.parametrize("header", [v1(CLIENT), v2(CLIENT)], ids=["v1", "v2"])
def test_whom_the_balancer_names_is_the_client(said, trusting, header):
    assert codes(said(trusting, header, *ENVELOPE, *MESSAGE)) == ["220", "250", "250", "250", "354", "250"]
    assert trusting.journal()[0].client == CLIENT


@pytest.mark.case(55)
@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(WHOLE, id="missing"),
        pytest.param(b"", id="missing, and silence"),
        pytest.param(v1(CLIENT, more=b" " + b"x" * 100) + WHOLE, id="v1 of more than 107 octets"),
        pytest.param(b"PROXY TCP4 " + b"1" * 100_000, id="v1 without an end"),
        pytest.param(v1("203.0.113.9.1") + WHOLE, id="v1 with no address"),
        pytest.param(v1(CLIENT)[:-2], id="v1 cut off"),
        pytest.param(v2(CLIENT)[:20], id="v2 cut off in the addresses"),
        pytest.param(v2(CLIENT)[:14], id="v2 cut off in its beginning"),
        pytest.param(v2(CLIENT, length=60_000) + WHOLE, id="v2 that promises more"),
        pytest.param(v2(CLIENT, length=4) + WHOLE, id="v2 too short for its addresses"),
    ],
)
def test_without_a_valid_header_the_balancer_hears_nothing_and_nothing_is_run(
    said, trusting, upstream, octets
):
    before, journalled = len(upstream.messages), len(trusting.journal())
    assert said(trusting, octets) == []
    assert codes(said(trusting, v1(CLIENT), ENVELOPE[0])) == ["220", "250"], "others are served"
    assert (len(upstream.messages), len(trusting.journal())) == (before, journalled)


@pytest.mark.parametrize(
    ("octets", "what"),
    [
        pytest.param(b"", "no complete PROXY header within 1 s", id="silence"),
        pytest.param(v1(CLIENT)[:-2], "no complete PROXY header within 1 s", id="half a header"),
        pytest.param(WHOLE, "no valid PROXY header: ", id="another protocol"),
    ],
)
def test_a_source_without_a_header_is_named_once(upstream, caplog, octets, what):
    listen = {"address": "127.0.0.1:0", "proxy_protocol_from": [BALANCER]}
    rules = {"listen": listen, "limits": {"command_time": "1s"}}
    with running_gateway(rules, upstream=upstream) as running:
        with contextlib.ExitStack() as opened:
            clients = [
                opened.enter_context(socket.create_connection((running.host, running.port), 60))
                for _ in range(5)
            ]
            for client in clients:
                client.sendall(octets)
            for client in clients:
                with contextlib.suppress(ConnectionError):
                    assert client.recv(100) == b""
        for _ in range(3):  # health checks
            with socket.create_connection((running.host, running.port), 60) as client:
                client.shutdown(socket.SHUT_WR)
                assert client.recv(100) == b""
    (line,) = [str(record.msg) for record in caplog.records if record.levelname == "WARNING"]
    assert line.startswith(f"listener 127.0.0.1:0: {what}")
    assert f" from {BALANCER}; its connections are closed. " in line


def test_a_health_check_is_no_trouble(said, trusting, caplog):
    assert said(trusting, b"") == []
    assert not caplog.records


@pytest.mark.case(55)
@pytest.mark.parametrize("second", [v1("198.51.100.7"), v2("198.51.100.7")], ids=["v1", "v2"])
def test_a_second_header_right_behind_the_first_is_talk_before_the_greeting(said, trusting, upstream, second):
    before = len(upstream.messages)
    replies = said(trusting, v1(CLIENT) + second + WHOLE)
    assert [one[:9] for one in replies] == ["421 4.7.0"]
    assert len(upstream.messages) == before


@pytest.mark.case(55)
@pytest.mark.parametrize("place", range(4))
def test_a_header_in_the_midst_of_a_session_is_no_command(said, trusting, place):
    pieces = [*ENVELOPE, *MESSAGE]
    pieces.insert(place, v1("198.51.100.7"))
    greeting, *replies = said(trusting, v1(CLIENT), *pieces)
    assert greeting.startswith("220 ")
    assert replies.pop(place).startswith("500 5.5.1 ")
    assert codes(replies) == ["250", "250", "250", "354", "250"]
    assert trusting.journal()[0].client == CLIENT


@pytest.mark.case(55)
def test_nor_is_that_of_version_2(said, trusting):
    """Its beginning reads as two empty commands, one of NUL and a QUIT that ends in LF alone."""
    midst = v2("198.51.100.7") + b"\r\n" + b"".join(MESSAGE)
    replies = said(trusting, v1(CLIENT), *ENVELOPE, midst)
    assert codes(replies) == ["220", "250", "250", "250", *["500"] * 5, "354", "250"]
    assert trusting.journal()[0].client == CLIENT


@pytest.mark.case(55)
@pytest.mark.parametrize("header", [v1("198.51.100.7"), v2("198.51.100.7") + b"\r\n"], ids=["v1", "v2"])
def test_a_stranger_is_who_it_is_whatever_it_says(talk, trusting_another, upstream, header):
    before = len(upstream.messages)
    said = talk(header + b"NOOP\r\n", to=trusting_another)
    assert set(codes(said)) == {"500", "250"}
    replies = talk(*ENVELOPE, *MESSAGE, to=trusting_another)
    assert codes(replies) == ["250", "250", "250", "354", "250"]
    assert trusting_another.journal()[0].client == BALANCER
    assert len(upstream.messages) == before + 1
