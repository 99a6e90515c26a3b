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
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import argon2
import pytest
import trustme
from gatepost.server.auth import hash_password
from gatepost.store import Box
from gatepost.testing import FakeUpstream
from gatepost.testing.upstream import Stall

MIB = 1 << 20
MESSAGE = b"Subject: healthy\r\n\r\nHello\r\n"
LATE_SECONDS = 30.0
"""So late may be what is to come at its time, where the machine has other work."""


@pytest.fixture
def watched(gateway, watch):
    """A gateway that took its first messages; at the end it must hold what it held then."""
    watches = []

    def start(rules="", *, more=8 * MIB, threads=0, **options):
        running = gateway(rules, counted=True, **options)
        for _ in range(3):
            assert running.send(MESSAGE).startswith("250 ")
        one = watch(running)
        watches.append((one, more, threads))
        return running, one

    yield start
    for one, more, threads in watches:
        one.is_back(more, threads)


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


@pytest.mark.alone
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
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
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
@pytest.mark.long
def test_a_client_that_sends_an_octet_now_and_then_is_ended_in_time(watched, credentials, within):
    limit, listen, commands, first = SLOW[within]
    running, _ = watched(f"{listen}limits: {{{limit}: 1500ms}}\n", files=credentials)
    with begun(running, commands) as slow:
        began = time.monotonic()
        slow.sendall(first)
        slow.settimeout(0.02)
        said = None
        while said is None:
            assert time.monotonic() < began + 1.5 + LATE_SECONDS, "it goes on"
            try:
                slow.sendall(b"A")
                said = slow.recv(1000)
            except TimeoutError:
                assert running.send(MESSAGE).startswith("250 ")
            except ConnectionError:
                said = b""
        assert time.monotonic() > began + 1, "not before its time"
    closed_without_a_word = within in ("a TLS handshake", "a PROXY header")
    assert said[:10] == (b"" if closed_without_a_word else b"421 4.4.2 ")


@pytest.mark.case(101)
def test_a_client_that_never_reads_is_ended_in_time_and_fills_no_memory(watched):
    running, watch = watched("limits: {command_time: 1500ms}")
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
                assert time.monotonic() < taken + 1.5 + LATE_SECONDS, "nothing more is taken, and it goes on"
                assert taken < began + LATE_SECONDS, "all is taken"
                assert running.send(MESSAGE).startswith("250 ")
        assert time.monotonic() > began + 1, "not before its time"
    assert watch.peak < 16 * MIB


ROUTES = """
    limits: {connections: 500, connections_per_client: 500}
    relay:
      - {recipients: "*@inbox.example", to: inbox}
      - {recipients: "*@example.com", to: "smtp://127.0.0.1:%d"}
"""


@pytest.mark.alone
@pytest.mark.case(103)
def test_without_descriptors_nothing_spins_and_who_is_connected_is_served(watched, sink, wait_until):
    behind = sink()
    running, watch = watched(ROUTES % behind.port, errors=(" ERROR ",))
    usual = resource.prlimit(running.worker, resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as stack:
        relayed = stack.enter_context(running.client()).begin("bob@example.com")
        connected = stack.enter_context(running.smtp())
        connected.ehlo()
        resource.prlimit(running.worker, resource.RLIMIT_NOFILE, (64, usual[1]))
        for _ in range(100):
            stack.enter_context(socket.create_connection(("127.0.0.1", running.port), 60))
        wait_until(lambda: watch.open_descriptors >= 63, "there are none left")
        before, began = watch.processor_seconds(), time.monotonic()
        time.sleep(1.0)
        used, passed = watch.processor_seconds() - before, time.monotonic() - began
        assert used < 0.1 * passed, f"{used:.2f} s of processor time in {passed:.2f} s"
        relayed.socket.sendall(MESSAGE + b".\r\n")
        assert relayed.reply().startswith("250 2.0.0 "), "it has its upstream connection"
        wait_until(lambda: not watch.upstream_connections, "it had")
        stack.enter_context(socket.create_connection(("127.0.0.1", running.port), 60))
        reply = connected.transact(MESSAGE, "bob@example.com", sender="within@example.org")
        assert reply.startswith("451 4.4.1 "), "there is none for a new upstream connection"
        kept = connected.transact(MESSAGE, "bob@inbox.example", sender="within@example.org")
        assert kept.startswith("250 2.0.0 "), "the store has its files open"
    assert len(running.kept(Box.INBOX)) == 1
    watch.is_back()
    assert running.send(MESSAGE, "bob@example.com").startswith("250 ")
    assert running.send(MESSAGE, "bob@inbox.example").startswith("250 ")


class Guesser(threading.Thread):
    """Guesses a password, as often as each connection lets it, until it is told to stop."""

    def __init__(self, running, ended):
        super().__init__()
        self.running, self.ended = running, ended
        self.heard = Counter()

    def run(self):
        while not self.ended.is_set():
            with self.running.client() as client:
                client.say("EHLO client.example.org")
                code = "535"
                while code == "535" and not self.ended.is_set():
                    code = client.say(plain("alice", "guess"))[0][:3]
                    self.heard[code] += 1


def plain(name, password):
    return "AUTH PLAIN " + base64.b64encode(f"\0{name}\0{password}".encode()).decode()


@pytest.mark.alone
@pytest.mark.long
def test_guessers_hold_up_neither_a_user_nor_mail_and_two_passwords_are_checked_at_a_time(watched):
    running, watch = watched(
        'listen: {address: "127.0.0.1:0", auth: {users: users.yaml, without_tls: true}}',
        files={"users.yaml": f"alice: {argon2.PasswordHasher(time_cost=1).hash('wonder land')}\n"},
        threads=2,
    )

    def authenticated():
        began = time.monotonic()
        with running.client() as user:
            assert user.say("EHLO x", plain("alice", "wonder land"))[1].startswith("235 ")
        return time.monotonic() - began

    alone = authenticated()
    ended = threading.Event()
    guessers = [Guesser(running, ended) for _ in range(20)]
    for guesser in guessers:
        guesser.start()
    try:
        peak = 0
        with ThreadPoolExecutor(1) as threads:
            user = threads.submit(authenticated)
            mails = []
            while not user.done():
                began = time.monotonic()
                assert running.send(MESSAGE).startswith("250 ")
                mails.append(time.monotonic() - began)
                peak = max(peak, watch.grown)
        waited = user.result()
    finally:
        ended.set()
        for guesser in guessers:
            guesser.join()
    heard = sum((guesser.heard for guesser in guessers), Counter())
    assert heard.keys() <= {"535", "421"}
    assert heard["535"] > len(guessers), "they did guess"
    assert waited < 2 + 3 * alone * len(guessers) / 2, "as long as those before it take, two at a time"
    assert max(mails) < waited, "mail does not wait for passwords"
    assert len(mails) > 3
    assert peak < (2 * 64 + 32) * MIB


class Clock:
    """The clock that a process sees, which can be set; its monotonic one goes on."""

    def __init__(self, file):
        (library,) = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
        self.file = file
        self.set("+0d")
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, offset):
        new = self.file.with_suffix(".new")
        new.write_text(f"{offset}\n")
        new.replace(self.file)


@pytest.fixture
def clock(tmp_path):
    return Clock(tmp_path / "clock")


@pytest.mark.case(110)
@pytest.mark.real("faketime")
@pytest.mark.parametrize("jump", ["+1d", "-1d"])
@pytest.mark.long
def test_when_the_clock_jumps_no_time_ends_early_or_never(watched, clock, jump):
    running, _ = watched("limits: {command_time: 2s, session_time: 1h}", environment=clock.environment)
    before = len(running.journal(4))
    with running.client().begin("bob@example.com") as client:
        clock.set(jump)
        client.socket.sendall(MESSAGE + b".\r\n")
        assert client.reply().startswith("250 2.0.0 ")
        assert running.send(MESSAGE).startswith("250 ")
        clock.set("+0d")
        assert running.send(MESSAGE).startswith("250 ")
        assert client.reply().startswith("421 4.4.2 "), "it said nothing for two seconds"
    records = running.journal(before + 3)
    days = {record.received_at.date() for record in records}
    assert len({record.id for record in records}) == before + 3
    assert len(days) == 2, "the clock did jump"


HANGS = """\
import asyncio
from pathlib import Path

from gatepost import hookimpl

class Hangs:
    @hookimpl
    async def filter_message(self, transaction):
        Path("asked").touch()
        await asyncio.sleep(60)
"""
WAITS = """
limits: {{upstream_time: 3s, connect_time: 3s}}
relay:
  - {{recipients: "*@stalls.example.com", to: "{stalls}"}}
  - {{recipients: "*@silent.example.com", to: "{silent}"}}
  - {{recipients: "*@hangs.example.com", to: inbox}}
rules:
  - name: hangs
    filter: ./hangs.py:Hangs
    when: {{recipient: "*@hangs.example.com"}}
    timeout: 3s
"""


@pytest.mark.case(110)
@pytest.mark.real("faketime")
@pytest.mark.long
def test_when_the_clock_jumps_upstream_and_filters_have_their_time_and_no_more(gateway, clock, wait_until):
    with (
        FakeUpstream() as stalls,
        FakeUpstream({"connect": Stall()}) as silent,
        ThreadPoolExecutor(3) as threads,
    ):
        running = gateway(
            WAITS.format(stalls=stalls.url, silent=silent.url),
            files={"hangs.py": HANGS},
            environment=clock.environment,
            errors=("hangs",),
        )

        assert running.send(MESSAGE, "bob@stalls.example.com").startswith("250 ")
        stalls.script["dot"] = Stall()

        def refused(name):
            """Where the gateway waits for others, its reply, and after how many seconds."""
            with running.client() as client:
                client.say("EHLO client.example.org", "MAIL FROM:<alice@example.org>")
                began = time.monotonic()
                (said,) = client.say(f"RCPT TO:<bob@{name}.example.com>")
                if said.startswith("250 "):
                    client.say("DATA")
                    began = time.monotonic()
                    client.socket.sendall(MESSAGE + b".\r\n")
                    said = client.reply()
            return said, time.monotonic() - began

        waiting = {name: threads.submit(refused, name) for name in ("stalls", "silent", "hangs")}
        asked = running.folder / "asked"
        wait_until(lambda: stalls.messages[1:] and silent.connections and asked.exists(), "all three wait")
        clock.set("+1d")
        time.sleep(0.5)  # of the 3 s
        assert not any(answer.done() for answer in waiting.values())
        clock.set("-1d")
        replies = {name: answer.result() for name, answer in waiting.items()}
    for name, code in {"stalls": "451 4.4.2 ", "silent": "451 4.4.1 ", "hangs": "451 4.3.0 "}.items():
        reply, seconds = replies[name]
        assert reply.startswith(code), reply
        assert 2.99 < seconds < 60, name
    assert len({record.received_at.date() for record in running.journal(4)}) == 2, "the clock did jump"


@pytest.mark.case(110)
@pytest.mark.real("faketime")
@pytest.mark.long
def test_a_start_with_a_clock_that_is_ahead_takes_no_mail_away(gateway, gateway_class, clock):
    rules = """
    relay: [{recipients: "*@example.com", to: inbox}]
    rules: [{name: held, filter: match, when: {recipient: "held@*"}, action: quarantine}]
    """
    first = gateway(rules)
    assert first.send(MESSAGE).startswith("250 ")
    assert first.send(MESSAGE, "held@example.com").startswith("250 ")
    assert first.stop() == 0
    clock.set("+40d")
    again = gateway_class(first.folder, "serve", "-c", "rules.yaml", **clock.environment)
    try:
        again.logs("WARNING the newest record in the store is 40.0 days old by the clock")
        for _ in range(3):  # each is written before the housekeeping that follows
            assert again.send(MESSAGE).startswith("250 ")
        assert len(again.kept(Box.INBOX)) == 4
        assert len(again.kept(Box.QUARANTINE)) == 1
        assert len(again.journal(5)) == 5
        assert len({record.received_at.date() for record in again.journal()}) == 2, "the clock is ahead"
    finally:
        assert again.stop() == 0
