"""STARTTLS and AUTH: nothing said before them counts behind them, and nobody guesses for long."""

import base64
import contextlib
import re
import socket
import ssl
import statistics
import time

import argon2
import pytest
import trustme
from gatepost.server.auth import hash_password
from gatepost.testing import FakeUpstream, make_transaction, running_gateway
from gatepost.testing.upstream import Handshake, Stall

HELO, MAIL = b"EHLO client.example.org\r\n", b"MAIL FROM:<alice@example.org>\r\n"
RCPT = b"RCPT TO:<bob@example.com>\r\n"
AUTHORITY = trustme.CA()


def plain(name, password):
    return b"AUTH PLAIN " + base64.b64encode(f"\0{name}\0{password}".encode()) + b"\r\n"


GOOD, BAD = plain("alice", "wonder land"), plain("alice", "guess")
LONG_PASSWORD = "w" * (9_216 - len("\0carol\0"))
"""With it a response of AUTH PLAIN has 12,288 octets in base64."""
LONG = plain("carol", LONG_PASSWORD).removeprefix(b"AUTH PLAIN ")


@pytest.fixture(scope="module")
def files():
    issued = AUTHORITY.issue_cert("127.0.0.1")
    return {
        "users.yaml": f"alice: {hash_password('wonder land')}\ncarol: {hash_password(LONG_PASSWORD)}\n",
        "mx.pem": b"".join(blob.bytes() for blob in issued.cert_chain_pems),
        "mx.key": issued.private_key_pem.bytes(),
    }


@pytest.fixture(scope="module")
def gateway(upstream, files):
    """It has a certificate and users, who must say their passwords before they may send."""
    listen = {
        "address": "127.0.0.1:0",
        "tls": {"certificate": "mx.pem", "key": "mx.key"},
        "auth": {"users": "users.yaml", "required": True},
    }
    rules = {"listen": listen, "limits": {"command_time": "2s"}}
    with running_gateway(rules, upstream=upstream, files=files) as running:
        yield running


@pytest.fixture(scope="module")
def optional(upstream, files):
    """It has a certificate, and takes mail without TLS too."""
    listen = {"address": "127.0.0.1:0", "tls": {"certificate": "mx.pem", "key": "mx.key"}}
    with running_gateway({"listen": listen}, upstream=upstream, files=files) as running:
        yield running


class Client:
    """A client that may start TLS."""

    def __init__(self, gateway, read):
        self.socket = socket.create_connection((gateway.host, gateway.port), 60)
        self.lines, self.read = self.socket.makefile("rb"), read
        self.greeting = self.reply()

    def reply(self):
        return self.read(self.lines)

    def say(self, octets):
        self.socket.sendall(octets)
        return self.reply()

    def start_tls(self):
        context = ssl.create_default_context()
        AUTHORITY.configure_trust(context)
        self.lines.close()
        self.socket = context.wrap_socket(self.socket, server_hostname="127.0.0.1")
        self.lines = self.socket.makefile("rb")


@pytest.fixture
def connect(gateway, reply):
    clients = []

    def connected(*, tls=False, to=gateway, greeting=HELO):
        clients.append(client := Client(to, reply))
        client.say(greeting)
        if tls:
            assert client.say(b"STARTTLS\r\n").startswith("220 ")
            client.start_tls()
            client.say(HELO)
        return client

    yield connected
    for client in clients:
        client.lines.close()
        client.socket.close()


@pytest.mark.case(48)
def test_what_was_said_before_the_handshake_is_not_run_behind_it(connect, upstream):
    before = len(upstream.messages)
    client = connect()
    injected = HELO + GOOD + MAIL + RCPT
    assert client.say(b"STARTTLS\r\n" + injected).startswith("220 ")
    client.start_tls()
    assert client.say(b"RSET\r\n").startswith("250 "), "it is the answer to this, not to what was injected"
    assert client.say(MAIL).startswith("503 "), "nobody has greeted"
    assert client.say(HELO).startswith("250-")
    assert client.say(MAIL).startswith("530 "), "nobody has authenticated"
    assert len(upstream.messages) == before


@pytest.mark.case(48)
@pytest.mark.parametrize(
    "injected", [GOOD + MAIL + RCPT, MAIL + RCPT + b"DATA\r\nx\r\n.\r\n"], ids=["AUTH", "DATA"]
)
def test_what_is_said_within_the_handshake_ends_it(connect, upstream, gateway, injected):
    before, journalled = len(upstream.messages), len(gateway.journal())
    client = connect()
    assert client.say(b"STARTTLS\r\n").startswith("220 ")
    client.socket.sendall(HELO + injected)
    with contextlib.suppress(ConnectionError):
        assert not re.search(rb"^[2-5]\d\d[ -]", client.lines.read(), re.MULTILINE), "a TLS alert at most"
    assert (len(upstream.messages), len(gateway.journal())) == (before, journalled)


@pytest.mark.case(48)
def test_nor_does_it_count_where_its_packet_comes_behind_that_of_starttls(connect, upstream, gateway):
    """It may be there when the 220 is written, or come into the handshake."""
    before, journalled = len(upstream.messages), len(gateway.journal())
    client = connect()
    client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.socket.sendall(b"STARTTLS\r\n")
    client.socket.sendall(HELO + GOOD + MAIL)
    assert client.reply().startswith("220 ")
    refusals = 0
    with contextlib.suppress(OSError):  # the handshake is broken
        client.start_tls()
        assert client.say(MAIL).startswith("503 "), "nobody has greeted"
        assert client.say(HELO).startswith("250-")
        assert client.say(MAIL).startswith("530 "), "nobody has authenticated"
        refusals = 1
    assert len(upstream.messages) == before
    assert len(gateway.journal()) - journalled <= refusals


@pytest.mark.case(48)
@pytest.mark.parametrize(
    ("injection", "messages"),
    [
        ([b"220 Go ahead\r\n250-evil.example\r\n250 AUTH PLAIN\r\n", Handshake()], 1),
        ([b"220 Go ahead\r\n", Stall(0.05), b"250-evil.example\r\n250 AUTH PLAIN\r\n", Handshake()], 0),
    ],
    ids=["with the 220", "later"],
)
def test_nor_does_what_upstream_seems_to_say_before_its_handshake(talk, files, injection, messages):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    AUTHORITY.issue_cert("127.0.0.1").configure_cert(context)
    certified = {**files, "ca.pem": AUTHORITY.cert_pem.bytes()}
    with FakeUpstream({"starttls": injection}, tls=context) as upstream:
        server = {"host": upstream.host, "port": upstream.port, "tls": "required", "ca": "ca.pem"}
        relay = [{"recipients": "*@example.com", "to": server}]
        with running_gateway({"relay": relay}, files=certified) as gateway:
            reply = gateway.send(make_transaction())
            assert (reply.code, reply.enhanced) == ((250, "2.0.0") if messages else (451, "4.4.1"))
            assert [message.tls for message in upstream.messages] == [True] * messages
            for commands in upstream.commands:
                assert not [line for line in commands if line.startswith("AUTH")]
                behind = [line[:4] for line in commands[2:]]
                assert behind[:1] in ([], ["EHLO"]), "it is greeted anew"


@pytest.mark.case(49)
def test_behind_the_handshake_the_session_begins_anew(connect):
    client = connect()
    assert "STARTTLS" in client.say(HELO)
    assert client.say(b"STARTTLS\r\n").startswith("220 ")
    client.start_tls()
    assert client.say(MAIL).startswith("503 ")
    greeted = client.say(HELO)
    assert "STARTTLS" not in greeted
    assert "AUTH PLAIN LOGIN" in greeted
    assert client.say(b"STARTTLS\r\n").startswith("503 ")
    assert client.say(MAIL).startswith("530 5.7.0"), "the user was not carried over"
    assert client.say(GOOD).startswith("235 ")
    assert client.say(MAIL).startswith("250 ")


@pytest.mark.case(49)
def test_no_transaction_is_carried_over_the_handshake(connect, optional, upstream):
    before = len(upstream.messages)
    client = connect(to=optional)
    assert [client.say(command)[:3] for command in (MAIL, RCPT, b"STARTTLS\r\n")] == ["250", "250", "220"]
    client.start_tls()
    assert client.say(b"DATA\r\n").startswith("503 ")
    assert client.say(HELO).startswith("250-")
    assert client.say(b"DATA\r\n").startswith("503 ")
    assert client.say(RCPT).startswith("503 ")
    whole = [client.say(command)[:3] for command in (MAIL, RCPT, b"DATA\r\n", b"a: b\r\n\r\n.\r\n")]
    assert whole == ["250", "250", "354", "250"]
    assert len(upstream.messages) == before + 1
    record, abandoned = optional.journal()[:2]
    assert (record.tls, record.recipients[0].disposition) == ("TLSv1.3", "relayed")
    assert (abandoned.tls, abandoned.recipients[0].disposition) == (None, "abandoned")


@pytest.mark.case(49)
@pytest.mark.parametrize(
    ("greeting", "expected"),
    [(HELO, "220 "), (b"HELO client.example.org\r\n", "503 5.5.1"), (b"NOOP\r\n", "503 5.5.1")],
    ids=["EHLO", "HELO", "no greeting"],
)
def test_starttls_is_there_for_who_has_said_ehlo(connect, optional, greeting, expected):
    client = connect(to=optional, greeting=greeting)
    assert client.say(b"STARTTLS\r\n").startswith(expected)


@pytest.mark.case(49, 51)
def test_where_neither_tls_nor_users_are_configured_their_commands_are_not_implemented(talk):
    with running_gateway({}) as bare:
        replies = talk(HELO, b"STARTTLS\r\n", b"AUTH PLAIN AGEAYg==\r\n", to=bare)
    assert "STARTTLS" not in replies[0]
    assert "AUTH" not in replies[0]
    assert [reply[:9] for reply in replies[1:]] == ["502 5.5.1"] * 2


@pytest.mark.case(50)
@pytest.mark.parametrize("octets", [b"", b"\x16\x03\x01"], ids=["silent", "half"])
def test_a_handshake_that_stalls_is_ended_and_holds_nobody_up(connect, octets):
    stalling, other = connect(), connect(tls=True)
    assert stalling.say(b"STARTTLS\r\n").startswith("220 ")
    stalling.socket.sendall(octets)
    assert other.say(GOOD).startswith("235 ")
    assert stalling.reply() == "", "closed"


@pytest.mark.case(51)
def test_no_password_without_tls(connect):
    client = connect()
    assert "AUTH" not in client.say(HELO)
    assert client.say(GOOD).startswith("538 5.7.11")
    assert client.say(MAIL).startswith("530 5.7.0")


@pytest.mark.case(52)
@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ((GOOD.replace(b"AUTH PLAIN", b"auth plain"),), "235 2.7.0"),
        ((b"AUTH PLAIN =\r\n",), "501 5.5.2"),
        ((b"AUTH PLAIN\r\n", b"*\r\n"), "501 5.7.0"),
        ((b"AUTH LOGIN\r\n", b"QQ==\r\n", b"*\r\n"), "501 5.7.0"),
        ((b"AUTH PLAIN ???\r\n",), "501 5.5.2"),
        ((b"AUTH PLAIN AGE\r\n",), "501 5.5.2"),
        ((b"AUTH PLAIN\r\n", LONG), "235 2.7.0"),
        ((b"AUTH PLAIN\r\n", b"A" * 12_288 + b"\r\n"), "501 5.5.2"),
        ((b"AUTH PLAIN\r\n", b"A" * 12_289 + b"\r\n"), "500 5.5.6"),
        ((b"AUTH PLAIN\r\n", b"A" * 1_000_000 + b"\r\n"), "500 5.5.6"),
        ((BAD,), "535 5.7.8"),
        ((b"AUTH CRAM-MD5\r\n",), "504 5.5.4"),
    ],
    ids=[
        "lower case",
        "=",
        "*",
        "LOGIN *",
        "???",
        "half",
        "12,288",
        "no PLAIN",
        "12,289",
        "1 MB",
        "wrong",
        "unknown",
    ],
)
def test_each_attempt_has_its_answer_and_the_session_goes_on(connect, said, expected):
    assert len(LONG) == 12_288 + len("\r\n")
    client = connect(tls=True)
    *_, reply = map(client.say, said)
    assert reply.startswith(expected)
    assert client.say(MAIL).startswith("250 " if expected.startswith("2") else "530 5.7.0")


@pytest.mark.case(53)
def test_once_authenticated_never_again(connect):
    client = connect(tls=True)
    assert client.say(GOOD).startswith("235 ")
    assert client.say(GOOD).startswith("503 ")
    assert client.say(MAIL).startswith("250 ")
    assert client.say(GOOD).startswith("503 ")


@pytest.mark.case(54)
def test_whoever_goes_on_guessing_is_sent_away(connect):
    client = connect(tls=True)
    said = [client.say(BAD)[:3] for _ in range(4)]
    assert said == ["535", "535", "535", "421"]
    assert client.reply() == ""


@pytest.mark.alone
def test_nobody_learns_by_the_time_whether_a_user_is_one(connect, upstream):
    """However much a check costs: the hashes in the file may have been made with other parameters."""
    hasher = argon2.PasswordHasher(time_cost=2, memory_cost=16 << 10, parallelism=1)
    files = {"users.yaml": f"alice: {hasher.hash('wonder land')}\n"}
    listen = {"address": "127.0.0.1:0", "auth": {"users": "users.yaml", "without_tls": True}}
    took = {"alice": [], "mallory": []}
    with running_gateway({"listen": listen}, upstream=upstream, files=files) as cheap:
        for _ in range(9):
            client = connect(to=cheap)
            for name, seconds in took.items():
                began = time.perf_counter()
                assert client.say(plain(name, "guess")).startswith("535 5.7.8")
                seconds.append(time.perf_counter() - began)
    known, unknown = map(statistics.median, took.values())
    assert 1 / 3 < unknown / known < 3


@pytest.mark.case(74)
@pytest.mark.parametrize(
    ("on_error", "expected", "relayed"),
    [("defer", "451 4.3.0 ", 0), ("skip", "250 2.0.0 ", 1), ("quarantine", "250 2.0.0 ", 0)],
)
@pytest.mark.parametrize("value", ["a\\r\\nBcc: eve@example.net", "a\\nX: y", "a\\r\\n\\r\\nbody", "a\\0b"])
def test_a_filter_that_is_fooled_adds_no_second_field(value, on_error, expected, relayed):
    fooled = f"""\
from gatepost import AddHeader, Verdict, hookimpl

class Fooled:
    @hookimpl
    def filter_message(self, transaction):
        return Verdict(reason="found", edits=(AddHeader("X-Found", "{value}"),))
"""
    rule = {
        "name": "fooled",
        "filter": "./fooled.py:Fooled",
        "on_error": on_error,
        "action": "tag",
        "tag": {"add": {"X-A": "b"}},
    }
    with (
        FakeUpstream() as upstream,
        running_gateway({"rules": [rule]}, upstream=upstream, files={"fooled.py": fooled}) as gateway,
    ):
        transaction = make_transaction()
        assert str(gateway.send(transaction)).startswith(expected)
        assert len(upstream.messages) == relayed
        for message in upstream.messages:
            trace, unchanged, _ = message.content.partition(transaction.message.content)
            assert re.fullmatch(rb"Received: [^\r]*\r\n(?:[ \t][^\r]*\r\n)*", trace)
            assert unchanged
        assert gateway.journal()[0].evaluations[0].result == "error"
