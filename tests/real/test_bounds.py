"""What many or slow clients can take of the machine, and that all of it is given back.

Descriptors, connections to the server behind, threads, tasks and memory. Large messages are in
test_memory.py, what never ends in test_endless.py.
"""

import base64
import contextlib
import re
import resource
import socket
import threading
import time
from pathlib import Path

import pytest
import trustme

from proxy.server.auth import hash_password
from proxy.store import Box

MIB = 1 << 20
MESSAGE = b"Subject: healthy\r\n\r\nHello\r\n"
LATE_SECONDS = 5.0
"""So late may be what is to come at its time, where the machine has other work."""


@pytest.fixture
def watched(gateway, watch):
    """A gateway that took its first messages; at the end it must hold what it held then."""
    watches = []

    def start(rules="", *, more=8 * MIB, **options):
        running = gateway(rules, counted=True, **options)
        for _ in range(3):
            assert running.send(MESSAGE).startswith("250 ")
        one = watch(running)
        watches.append((one, more))
        return running, one

    yield start
    for one, more in watches:
        one.is_back(more)


def at_once(number, connect):
    """That many connections, made by some threads."""
    made, lock = [], threading.Lock()

    def some(count):
        for _ in range(count):
            client = connect()
            with lock:
                made.append(client)

    threads = [threading.Thread(target=some, args=(number // 10,)) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == number
    return made


@pytest.mark.case(102)
def test_idle_connections_cost_little_and_those_past_the_limit_are_told_so(
    watched, sink, many_open_files, pytestconfig
):
    number = 5000 if pytestconfig.getoption("--long") else 300
    if many_open_files < 2 * number:
        pytest.skip(f"this machine allows {many_open_files} descriptors")
    limits = f"limits: {{connections: {number}, connections_per_client: {2 * number}}}"
    running, watch = watched(limits, more=24 * MIB, upstream=sink().port)
    for _ in range(2):
        with contextlib.ExitStack() as stack:
            idle = at_once(number, running.client)
            for client in idle:
                stack.callback(client.close)
            assert all(client.greeting.startswith("220 ") for client in idle)
            assert watch.grown < number * 40_000
            with running.client() as one_more:
                assert one_more.greeting.startswith("421 4.7.0 ")
                assert one_more.reply() == ""
            client = idle[number // 2].begin("bob@example.com")
            client.socket.sendall(MESSAGE + b".\r\n")
            assert client.reply().startswith("250 2.0.0 ")
        watch.is_back(24 * MIB)


HELO = ("EHLO client.example.org",)
ENVELOPE = (*HELO, "MAIL FROM:<alice@example.org>", "RCPT TO:<bob@example.com>")
SLOW = {
    "a command": ("command_time", "", (), b""),
    "a message": ("message_time", "", (*ENVELOPE, "DATA"), b""),
    "a chunk": ("message_time", "", ENVELOPE, b"BDAT 100000\r\n"),
    "a response to AUTH": (
        "command_time",
        "listen: {address: '127.0.0.1:0', auth: {users: users.yaml, without_tls: true}}\n",
        (*HELO, "AUTH PLAIN"),
        base64.b64encode(b"\0alice\0"),
    ),
    "a TLS handshake": (
        "command_time",
        "listen: {address: '127.0.0.1:0', tls: {certificate: mx.pem, key: mx.key}}\n",
        (*HELO, "STARTTLS"),
        b"\x16\x03\x01\x3f\xff",
    ),
    "a PROXY header": (
        "command_time",
        "listen: ['127.0.0.1:0', {address: '127.0.0.1:0', proxy_protocol_from: 127.0.0.1}]\n",
        None,
        b"PROXY TCP4 192.0.2.1 ",
    ),
}
"""Amid what the octets come: its limit, the listener, what is said before, what comes at once."""


@pytest.fixture(scope="module")
def credentials():
    """A certificate with its key, and a user."""
    issued = trustme.CA().issue_cert("127.0.0.1")
    return {
        "mx.pem": b"".join(blob.bytes() for blob in issued.cert_chain_pems).decode(),
        "mx.key": issued.private_key_pem.bytes().decode(),
        "users.yaml": f"alice: {hash_password('wonder land')}\n",
    }


@contextlib.contextmanager
def begun(running, commands):
    """The socket of a client who has said these; None: of one who connects to the last listener."""
    if commands is None:
        port = int(re.findall(r"127\.0\.0\.1:(\d+)", running.log)[-1])
        with socket.create_connection(("127.0.0.1", port)) as connected:
            yield connected
        return
    with running.client() as client:
        assert all(reply[0] in "23" for reply in client.say(*commands))
        yield client.socket


@pytest.mark.case(50, 100)
@pytest.mark.parametrize("within", SLOW)
def test_a_client_that_sends_an_octet_now_and_then_is_ended_in_time(watched, credentials, within):
    limit, listen, commands, first = SLOW[within]
    running, _ = watched(f"{listen}limits: {{{limit}: 600ms}}\n", files=credentials)
    with begun(running, commands) as slow:
        began = time.monotonic()
        slow.sendall(first)
        slow.settimeout(0.02)
        said = None
        while said is None:
            assert time.monotonic() < began + 0.6 + LATE_SECONDS, "it goes on"
            try:
                slow.sendall(b"A")
                said = slow.recv(1000)
            except TimeoutError:
                assert running.send(MESSAGE).startswith("250 ")
            except ConnectionError:
                said = b""
        assert time.monotonic() > began + 0.4, "not before its time"
    closed_without_a_word = within in ("a TLS handshake", "a PROXY header")
    assert said[:10] == (b"" if closed_without_a_word else b"421 4.4.2 ")


@pytest.mark.case(101)
def test_a_client_that_never_reads_is_ended_in_time_and_fills_no_memory(watched):
    running, watch = watched("limits: {command_time: 600ms}")
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", running.port))
        assert client.recv(1000).startswith(b"220 "), "and nothing from now on"
        client.settimeout(0.05)
        commands = rest = b"HELP\r\n" * 10_000
        taken = began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while True:
                with contextlib.suppress(TimeoutError):
                    rest = rest[client.send(rest) :] or commands
                    taken = time.monotonic()
                assert time.monotonic() < taken + 0.6 + LATE_SECONDS, "nothing more is taken, and it goes on"
                assert taken < began + LATE_SECONDS, "all is taken"
                assert running.send(MESSAGE).startswith("250 ")
        assert time.monotonic() > began + 0.5, "not before its time"
    assert watch.peak < 16 * MIB


ROUTES = """
    limits: {connections: 500, connections_per_client: 500}
    relay:
      - {recipients: "*@inbox.example", to: inbox}
      - {recipients: "*@example.com", to: "smtp://127.0.0.1:%d"}
"""


@pytest.mark.case(103)
def test_without_descriptors_nothing_spins_and_who_is_connected_is_served(watched, sink, wait_until):
    behind = sink()
    running, watch = watched(ROUTES % behind.port, errors=(" ERROR ",))
    usual = resource.prlimit(running.pid, resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as stack:
        relayed = stack.enter_context(running.client()).begin("bob@example.com")
        connected = stack.enter_context(running.smtp())
        connected.ehlo()
        resource.prlimit(running.pid, resource.RLIMIT_NOFILE, (64, usual[1]))
        for _ in range(100):
            stack.enter_context(socket.create_connection(("127.0.0.1", running.port), 20))
        wait_until(lambda: watch.open_descriptors >= 63, "there are none left")
        before, began = watch.processor_seconds(), time.monotonic()
        time.sleep(1.0)
        used, passed = watch.processor_seconds() - before, time.monotonic() - began
        assert used < 0.1 * passed, f"{used:.2f} s of processor time in {passed:.2f} s"
        relayed.socket.sendall(MESSAGE + b".\r\n")
        assert relayed.reply().startswith("250 2.0.0 "), "it has its upstream connection"
        wait_until(lambda: not watch.upstream_connections, "it had")
        stack.enter_context(socket.create_connection(("127.0.0.1", running.port), 20))
        reply = connected.transact(MESSAGE, "bob@example.com", sender="within@example.org")
        assert reply.startswith("451 4.4.1 "), "there is none for a new upstream connection"
        kept = connected.transact(MESSAGE, "bob@inbox.example", sender="within@example.org")
        assert kept.startswith("250 2.0.0 "), "the store has its files open"
    assert len(running.kept(Box.INBOX)) == 1
    watch.is_back()
    assert running.send(MESSAGE, "bob@example.com").startswith("250 ")
    assert running.send(MESSAGE, "bob@inbox.example").startswith("250 ")


@pytest.mark.case(110)
@pytest.mark.real("faketime")
@pytest.mark.parametrize("jump", ["+1d", "-1d"])
def test_when_the_clock_jumps_no_time_ends_early_or_never(watched, tmp_path, jump):
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    clock = tmp_path / "clock"
    clock.write_text("+0d\n")
    environment = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    running, _ = watched("limits: {command_time: 1s, session_time: 1h}", environment=environment)
    before = len(running.journal(4))
    with running.client().begin("bob@example.com") as client:
        clock.write_text(f"{jump}\n")
        client.socket.sendall(MESSAGE + b".\r\n")
        assert client.reply().startswith("250 2.0.0 ")
        assert running.send(MESSAGE).startswith("250 ")
        clock.write_text("+0d\n")
        assert running.send(MESSAGE).startswith("250 ")
        assert client.reply().startswith("421 4.4.2 "), "it said nothing for a second"
    records = running.journal(before + 3)
    days = {record.received_at.date() for record in records}
    assert len({record.id for record in records}) == before + 3
    assert len(days) == 2, "the clock did jump"
