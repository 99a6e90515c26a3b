"""What a filter learns of a session, however it ends, and of whose."""

import base64
import json
import socket
import struct
import time

import pytest
from argon2 import PasswordHasher
from gatepost.process import service
from gatepost.testing import running_gateway

NOTED = """
import asyncio
import json
from dataclasses import asdict
from pathlib import Path

from gatepost import hookimpl


class Noted:
    '''Writes down the record of each session.'''

    @hookimpl
    async def report_session(self, record):
        with Path(__file__).with_name("sessions").open("a") as file:
            print(json.dumps(asdict(record), default=str), file=file)


class Mail:
    '''Writes down that a transaction has ended.'''

    @hookimpl
    async def report_transaction(self, record):
        with Path(__file__).with_name("mail").open("a") as file:
            print(record.id, file=file)


class NeverDone:
    '''Would make everything wait that waits for it.'''

    @hookimpl
    async def report_session(self, record):
        await asyncio.Event().wait()
"""
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
EHLO = "EHLO client.example.org"
MAIL = ["MAIL FROM:<ann@example.org>", "RCPT TO:<bob@example.com>"]
NOBODY = "RCPT TO:<nobody@elsewhere.example>"
MESSAGE = ["DATA", "Subject: hello\r\n\r\nhello\r\n."]


def plain(password):
    return "AUTH PLAIN " + base64.b64encode(f"\0alice\0{password}".encode()).decode()


FRONT = "10.0.0.1"
CASES = {
    # the source that PROXY names, lines, how it ends, and of each record what is not as usual
    "nothing": ("192.0.2.1", [], "QUIT", [{}]),
    "a message": ("192.0.2.1", [EHLO, *MAIL, *MESSAGE], "QUIT", [{"messages": 1}]),
    "two messages": ("192.0.2.1", [EHLO, *MAIL, *MESSAGE, *MAIL, *MESSAGE], "reset", [{"messages": 2}]),
    "a refused recipient": ("192.0.2.1", [EHLO, *MAIL, NOBODY, NOBODY], "QUIT", [{"refused_recipients": 2}]),
    "a deferred recipient": ("192.0.2.1", [EHLO, MAIL[0], "RCPT TO:<later@example.com>"], "QUIT", [{}]),
    "wrong credentials": ("192.0.2.1", [EHLO, plain("x"), plain("y")], "QUIT", [{"failed_auth": 2}]),
    "right credentials": ("192.0.2.1", [EHLO, plain("wonder land")], "QUIT", [{"authenticated": "alice"}]),
    "unknown commands": ("192.0.2.1", ["HALLO", EHLO, "EHLO", "RCPT x"], "QUIT", [{"bad_commands": 2}]),
    "too many of them": ("192.0.2.1", ["X"] * 5, "closed", [{"bad_commands": 5}]),
    "another protocol": ("192.0.2.1", ["GET / HTTP/1.1"], "closed", [{"bad_commands": 1}]),
    "a wrong BDAT": ("192.0.2.1", [EHLO, *MAIL, "BDAT x"], "closed", [{"bad_commands": 1}]),
    "a reset": ("192.0.2.1", [EHLO, "X", plain("x")], "reset", [{"bad_commands": 1, "failed_auth": 1}]),
    "a reset in a transaction": ("192.0.2.1", [EHLO, *MAIL, NOBODY], "reset", [{"refused_recipients": 1}]),
    "a client that a rule refuses": ("192.0.2.66", [], "closed", [{}]),
    "a source that names nobody": (FRONT, ["X", EHLO, "Y", plain("x")], "QUIT", []),
    "XCLIENT": (
        FRONT,
        ["X", "XCLIENT ADDR=192.0.2.7", EHLO, "Y", plain("x"), *MAIL, NOBODY],
        "QUIT",
        [{"client": "192.0.2.7", "bad_commands": 1, "failed_auth": 1, "refused_recipients": 1}],
    ),
    "XFORWARD": (
        FRONT,
        [
            EHLO,
            "XFORWARD ADDR=192.0.2.7 HELO=seven.example",
            *[*MAIL, *MESSAGE, "X"],
            "XFORWARD ADDR=192.0.2.7 HELO=seven.example",
            *[*MAIL, *MESSAGE, "X"],
            "XFORWARD ADDR=192.0.2.8 HELO=eight.example",
            *[MAIL[0], NOBODY, "X", "RSET", plain("x")],
        ],
        "QUIT",
        [
            {"client": "192.0.2.7", "helo": "seven.example", "messages": 2},
            {"client": "192.0.2.8", "helo": "eight.example", "refused_recipients": 1},
        ],
    ),
}
USUAL = {
    "helo": "client.example.org",
    "tls": None,
    "authenticated": None,
    "early_talker": False,
    "bad_commands": 0,
    "failed_auth": 0,
    "refused_recipients": 0,
    "messages": 0,
}


class Peer:
    """A client behind a proxy that names it."""

    def __init__(self, address, source, early=b""):
        self.socket = socket.create_connection(address, timeout=30)
        self.file = self.socket.makefile("rb")
        self.socket.sendall(f"PROXY TCP4 {source} 127.0.0.1 4000 25\r\n".encode() + early)

    def reply(self):
        """The code of the next reply; None at the end."""
        while line := self.file.readline():
            if line[3:4] != b"-":
                return int(line[:3])
        return None

    def say(self, line):
        self.socket.sendall(line.encode() + b"\r\n")
        return self.reply()

    def end(self, how):
        if how == "QUIT":
            assert self.say("QUIT") == 221
        elif how == "reset":
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if how != "reset":
            assert self.reply() is None
        self.file.close()
        self.socket.close()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    folder = tmp_path_factory.mktemp("noted")
    rules = {
        "listen": {
            "address": "127.0.0.1:0",
            "proxy_protocol_from": "127.0.0.1",
            "xforward_from": FRONT,
            "xclient_from": FRONT,
            "auth": {"users": "users.yaml", "without_tls": True},
        },
        "limits": {"invalid_commands": 5, "auth_failures": 10},
        "relay": [{"recipients": "*@example.com", "to": "inbox"}],
        "rules": [
            {"name": "never-done", "filter": "./noted.py:NeverDone"},
            {"name": "noted", "filter": "./noted.py:Noted"},
            {"name": "mail", "filter": "./noted.py:Mail"},
            {"name": "listed", "filter": "match", "when": {"client": "192.0.2.66"}, "action": "reject"},
            {"name": "l", "filter": "match", "when": {"recipient": "later@example.com"}, "action": "defer"},
        ],
    }
    files = {
        "noted.py": NOTED.replace("__file__", repr(f"{folder}/noted.py")),
        "users.yaml": f'alice: "{CHEAP.hash("wonder land")}"',
    }
    with pytest.MonkeyPatch.context() as patch, running_gateway(rules, files=files) as started:
        patch.setattr(service, "_REPORTS_SECONDS", 0.1)  # never-done is not waited for
        started.sessions = folder / "sessions"
        yield started


@pytest.fixture
def reported(gateway):
    """The records of the sessions that end during a test, as many as are expected."""
    known = len(_lines(gateway.sessions))

    def reported(count):
        give_up = time.monotonic() + 30
        while len(lines := _lines(gateway.sessions)[known:]) < count:
            assert time.monotonic() < give_up, lines
            time.sleep(0.01)
        return [json.loads(line) for line in lines]

    return reported


def _lines(file):
    return file.read_text().splitlines() if file.exists() else []


@pytest.mark.parametrize("name", CASES)
def test_each_end_of_a_session_is_reported_with_its_counts(gateway, reported, name):
    source, lines, how, expected = CASES[name]
    peer = Peer(gateway.addresses[0], source)
    peer.reply()
    for line in lines:
        peer.say(line)
    peer.end(how)
    if not expected:  # the next report is that of another session
        other = Peer(gateway.addresses[0], "192.0.2.99")
        other.reply()
        other.end("QUIT")
        expected = [{"client": "192.0.2.99", "helo": ""}]
    helo = "client.example.org" if EHLO in lines else ""
    records = reported(len(expected))
    for record, differs in zip(records, expected, strict=True):
        del record["id"], record["connected_at"], record["listener"]
        assert record == {**USUAL, "client": source, "helo": helo, **differs}


def test_an_early_talker_is_reported_too(gateway, reported):
    peer = Peer(gateway.addresses[0], "192.0.2.1", early=b"EHLO early\r\n")
    assert peer.reply() == 421
    peer.end("closed")
    (record,) = reported(1)
    assert record["early_talker"] is True


def test_too_many_reports_of_sessions_leave_room_for_those_of_mail(gateway, caplog):
    for _ in range(150):  # the rule never-done still makes those of all tests before
        peer = Peer(gateway.addresses[0], "192.0.2.1")
        peer.reply()
        peer.end("QUIT")
    assert gateway.send().positive
    (record, *_) = gateway.journal()
    give_up = time.monotonic() + 30
    while record.id not in _lines(gateway.sessions.with_name("mail")):
        assert time.monotonic() < give_up
        time.sleep(0.01)
    skipped = [line for line in caplog.messages if "too slow" in line]
    assert skipped
    assert all("report of session" in line for line in skipped)
