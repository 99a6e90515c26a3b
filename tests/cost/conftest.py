"""A gateway of its own for each test, a client that waits for each reply, and what things may cost."""

import fcntl
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
import yaml

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
COSTS = HERE / "costs.json"
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
BODY = b"Subject: lunch\r\nFrom: alice@example.org\r\n\r\n" + 15 * (62 * b"x" + b"\r\n")
ADDRESS = "127.0.0.1"
UPDATE = "pytest tests/cost --update-costs"
MORE, LESS = 1.05, 0.9
"""By how much a cost may differ from the expected one."""

FILTERS = [
    {"name": "words", "filter": "keywords", "with": {"words": [f"word{n}" for n in range(1000)]}},
    {"name": "programs", "filter": "attachments", "with": {"extensions": ["exe", "scr"]}},
]
REFUSE = {"action": "reject", "reply": "550 5.7.1 Not accepted here"}
INBOX = [{"recipients": "*", "to": "inbox"}]
DIALOGUES = {
    "relayed": {},
    "relayed in chunks": {},
    "relayed, filtered": {"rules": [rule | REFUSE for rule in FILTERS]},
    "kept": {"relay": INBOX},
    "kept, with the conversation": {"relay": INBOX, "store": {"conversations": True}},
}


class Upstream:
    """Answers what comes in one piece with one piece, so that reads can be counted; remembers nothing."""

    def __init__(self, *extensions):
        self._more = b"".join(b"250-%b\r\n" % extension for extension in extensions)
        self._listener = socket.create_server((ADDRESS, 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self):
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection):
        with connection, suppress(OSError):
            connection.sendall(b"220 upstream.example ESMTP\r\n")
            while batch := connection.recv(1 << 16):
                lines = batch.splitlines()
                if lines[-1] == b"DATA":
                    connection.sendall(b"250 2.0.0 Ok\r\n" * (len(lines) - 1) + b"354 Go ahead\r\n")
                    self._read_message(connection)
                    lines = [b"."]
                elif lines[0].startswith(b"BDAT"):  # small enough to be whole
                    lines = [b"BDAT"]
                elif lines[0].startswith(b"EHLO"):
                    connection.sendall(b"250-upstream.example\r\n250-PIPELINING\r\n" + self._more)
                    lines = [b"250 8BITMIME"]
                connection.sendall(b"250 2.0.0 Ok\r\n" * len(lines))

    def _read_message(self, connection):
        buffer, end = bytearray(1 << 18), b""
        while end != b"\r\n.\r\n":
            count = connection.recv_into(buffer)
            if not count:
                raise ConnectionError
            end = (end + bytes(buffer[max(count - 5, 0) : count]))[-5:]


class Client:
    """One connection; each command waits for its reply, as most clients do."""

    def __init__(self, port):
        self._socket = socket.create_connection((ADDRESS, port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._read(b"220")
        self.say(b"EHLO client.example.org", b"250")

    def _read(self, code):
        reply = b""
        while not re.search(rb"(?m)^\d{3} .*\r\n\Z", reply):
            received = self._socket.recv(4096)
            assert received, reply
            reply += received
        assert reply.startswith(code), reply

    def say(self, octets, code):
        self._socket.sendall(octets + b"\r\n")
        self._read(code)

    def send(self, count, body=BODY):
        message = body + b"."
        for _ in range(count):
            self.say(b"MAIL FROM:<alice@example.org>", b"250")
            self.say(b"RCPT TO:<bob@example.com>", b"250")
            self.say(b"DATA", b"354")
            self.say(message, b"250")

    def close(self):
        self._socket.close()


class Gateway:
    """A gateway in a process of its own, and its instruments."""

    def __init__(self, process):
        self._process = process
        self.port = int(self._answer())
        self._clients = ExitStack()

    def _answer(self):
        answer = self._process.stdout.readline()
        assert answer, "the gateway has ended"
        return answer

    def ask(self, word):
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        return int(self._answer())

    def settle(self):
        """Wait until all is written."""
        while self.ask("backlog"):
            time.sleep(0.01)

    def client(self):
        client = Client(self.port)
        self._clients.callback(client.close)
        return client

    def end(self):
        """Close all connections, then the gateway; it takes the end of standard input as SIGTERM."""
        self._clients.close()
        self._process.stdin.close()
        self._process.wait(60)


@pytest.fixture
def start(tmp_path):
    """Start a gateway for one of the dialogues, or with other settings, maybe under a program like strace."""
    with ExitStack() as opened:

        def start(dialogue, *under, **settings):
            upstream = Upstream(*[b"CHUNKING"] * (dialogue == "relayed in chunks"))
            opened.callback(upstream.close)
            path = tmp_path / "rules.yaml"
            relay = [{"recipients": "*@example.com", "to": f"smtp://{ADDRESS}:{upstream.port}"}]
            given = {"listen": f"{ADDRESS}:0", "relay": relay, **DIALOGUES[dialogue], **settings}
            path.write_text(yaml.safe_dump(given))
            return opened.enter_context(_running([*under, sys.executable, HERE / "gateway.py", path]))

        yield start


@contextmanager
def _running(command):
    path = os.pathsep.join((str(ROOT / "proxy"), str(ROOT / "plugins")))
    process = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        try:
            gateway = Gateway(process)
            try:
                yield gateway
            finally:
                gateway.end()
        finally:
            process.kill()


class Costs:
    """What a message or a connection may cost: a file, so that one command takes what is measured now."""

    def __init__(self, update):
        self._update = update
        self._known = {} if update else json.loads(COSTS.read_text()).get(VERSION, {})

    def check(self, what, measured):
        """Fail where a cost has grown, and where it is so much lower that the expectation should follow."""
        if self._update:
            self._note(what, {unit: round(cost, 1) for unit, cost in measured.items()})
            return
        if what not in self._known:
            pytest.skip(f"no costs are known for Python {VERSION}; to take those of now: {UPDATE}")
        expected = self._known[what]
        assert measured.keys() == expected.keys()
        complaints = [_complaint(unit, measured[unit], expected[unit]) for unit in expected]
        assert not any(complaints), "\n".join([f"{what}:", *filter(None, complaints)])

    def _note(self, what, measured):
        """Write one cost; the others may have been written by another process of this run meanwhile."""
        with COSTS.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            costs = json.load(file)
            costs.setdefault(VERSION, {})[what] = measured
            file.seek(0)
            file.truncate()
            json.dump(costs, file, indent=2, sort_keys=True)
            file.write("\n")


def _complaint(unit, measured, expected):
    if measured > expected * MORE:
        return f"{measured:.1f} {unit}, expected {expected}; if the change is worth it: {UPDATE}"
    if measured < expected * LESS:
        return f"{measured:.1f} {unit}, expected {expected}; keep what was gained: {UPDATE}"
    return ""


@pytest.fixture
def costs(request):
    return Costs(update=request.config.getoption("--update-costs"))
