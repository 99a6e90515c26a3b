"""Killed at any system call, on a disk that fails or is full: what was answered 250 is there.

strace sends SIGKILL as the gateway enters its nth call of a kind, or has the call fail.
"""

import contextlib
import os
import re
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from gatepost.store import Box
from gatepost.testing import FakeUpstream

RULES = """
    relay:
      - {{recipients: "*@inbox.example", to: inbox}}
      - {{recipients: "*@discard.example", to: discard}}
      - {{recipients: "*@example.com", to: "{url}"}}
    rules:
      - {{name: kept, filter: match, when: {{recipient: kept@example.com}}, action: quarantine}}
      - {{name: drop, filter: match, when: {{recipient: drop@example.com}}, action: discard}}
"""
RELAYED, DISCARDED, MIXED = "bob@example.com", "bob@discard.example", "bob@example.com drop@example.com"
RECIPIENTS = ("bob@inbox.example", "kept@example.com", RELAYED, DISCARDED, MIXED)
"""Of one message each."""
CALLS = ("read", "write", "pwrite64", "fdatasync")
"""What happens between the first octet of a message and its reply: SQLite's, and the two sockets'."""
PARTS = 4
"""Tests that share the calls at which the gateway is killed."""
CALLED = re.compile(r"^(\d+) +(\w+)\(")


class Strace:
    """Attached to a gateway and its threads while the block lasts."""

    def __init__(self, pid, *options, output=None):
        self.command = ["strace", "-f", "-qq", "-p", str(pid), *options, "-o", str(output or os.devnull)]
        self.pid, self.output = pid, output

    def __enter__(self):
        self.process = subprocess.Popen(self.command)
        while not self.attached():
            assert self.process.poll() is None, "strace may not look into other processes here"
            time.sleep(0.005)
        return self

    def attached(self):
        """True if every thread has a tracer."""
        with contextlib.suppress(FileNotFoundError):
            states = [task.read_text() for task in Path(f"/proc/{self.pid}/task").glob("*/status")]
            return states and not any("TracerPid:\t0\n" in state for state in states)
        return False

    def __exit__(self, *_):
        # Killed it lets go at once; at SIGTERM it writes its output, and may wait for a thread for ever
        # that has ended.
        self.process.send_signal(signal.SIGTERM if self.output else signal.SIGKILL)
        self.process.wait(60)


@pytest.fixture
def upstream():
    with FakeUpstream() as server:
        yield server


@pytest.fixture
def base_line(watch):
    """Of a gateway that has taken its first messages; at the end of the test it must be back at it."""
    watches = []
    yield lambda running: watches.append(watch(running))
    for one in watches:
        one.is_back()


@pytest.fixture
def start(gateway, upstream):
    """A gateway; the second one on has the store of the first."""
    first = []

    def started(more="", **options):
        store = f"    store: {{url: 'sqlite:///{first[0].folder}/gatepost.db'}}\n" if first else ""
        running = gateway(RULES.format(url=upstream.url) + more + store, **options)
        first.append(running)
        return running

    return started


def message(token):
    return f"Subject: {token}\r\n\r\n{token * 40}\r\n".encode()


def send_all(running, token):
    """Send all messages; gives the replies to their dots, empty where there was none."""
    with contextlib.suppress(OSError), running.client() as client:
        return send_over(client, token)
    return dict.fromkeys(RECIPIENTS, "")


def send_over(client, token):
    """The same over a connection that has been greeted."""
    replies = dict.fromkeys(RECIPIENTS, "")
    with contextlib.suppress(OSError):
        client.say("EHLO client.example.org")
        for recipients in RECIPIENTS:
            commands = [f"RCPT TO:<{recipient}>" for recipient in recipients.split()]
            said = client.say(f"MAIL FROM:<{sender(token, recipients)}>", *commands, "DATA")
            if not said[-1].startswith("354"):
                break
            client.socket.sendall(message(token) + b".\r\n")
            replies[recipients] = client.reply()
    return replies


def sender(token, recipients):
    return f"{token}-{re.sub('[@ ]', '-', recipients)}@example.org"


def places(running, upstream):
    """How often each message is somewhere, by its sender; and how it ended by the journal."""
    kept = [one for box in (Box.INBOX, Box.QUARANTINE) for one in running.kept(box)]
    found = Counter(one.mail_from for one in kept)
    found.update(one.mail_from for one in upstream.messages)
    relayed = [(one.mail_from, one.content) for one in upstream.messages]
    for known, content in [*relayed, *((one.mail_from, one.delivered_form) for one in kept)]:
        trace, _, octets = content.partition(b"Subject: ")
        assert trace.startswith(b"Received: ")
        assert b"Subject: " + octets == message(known.partition("-")[0]), "half a message, or another one"
    journal = {
        record.mail_from: [recipient.disposition for recipient in record.recipients]
        for record in running.journal()
    }
    return found, journal


def is_there(recipients, sender, found, journal):
    """True if what was answered 250 has its owner: for all, or it is discarded for them."""
    ends = journal.get(sender, [])
    if recipients == DISCARDED:
        return ends == ["discarded"]
    return found[sender] == 1 and (recipients != MIXED or ends[1] == "discarded")


@pytest.mark.case(109)
@pytest.mark.real("strace")
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.long
def test_whatever_call_it_is_killed_at_nothing_acknowledged_is_lost(
    start, upstream, tmp_path, pytestconfig, wait_until, part
):
    running = start(errors=["has ended with signal 9; starting another one"])
    points = crash_points(running, anew(running, wait_until), tmp_path)
    points = [point for point in points if point[1] % PARTS == part]
    heard, unheard = {}, 0
    for call, number in points[:: 1 if pytestconfig.getoption("--long") else 12]:
        token = f"{call}{number}"
        inject = f"inject={call}:signal=SIGKILL:when={number}"
        with Strace(anew(running, wait_until), "-e", f"trace={call}", "-e", inject):
            heard[token] = send_all(running, token)
        unheard += not all(heard[token].values())
    assert unheard > len(heard) // 2, "most kills came before the last reply"
    running.crash()
    all_is_true(heard, *places(start(), upstream))


def anew(running, wait_until):
    """Kill the worker, the only process that has the store open; returns the next one, which serves already.

    It is what a gateway that starts again would be, without another supervisor.
    """
    file = Path(f"/proc/{running.pid}/task/{running.pid}/children")  # proc(5)
    before = file.read_text().split()
    for worker in before:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(worker), signal.SIGKILL)
    wait_until(lambda: {*file.read_text().split()} - {*before}, "another worker")
    with running.client() as client:
        client.say("QUIT")
        assert client.reply() == "", "it has closed the connection"
    return running.worker


def crash_points(running, pid, tmp_path, client=None):
    """Each call of all these kinds with its number, of the thread that makes the most of them."""
    output = tmp_path / "calls"
    with Strace(pid, "-e", f"trace={','.join(CALLS)}", output=output):
        replies = send_over(client, "clean") if client else send_all(running, "clean")
    assert all(reply.startswith("250 ") for reply in replies.values())
    lines = output.read_text().splitlines()
    counted = Counter(found.groups() for line in lines if (found := CALLED.match(line)))
    most = {call: max(n for (_, name), n in counted.items() if name == call) for call in CALLS}
    assert all(most.values()), most
    return [(call, number) for call in CALLS for number in range(1, most[call] + 1)]


def all_is_true(heard, found, journal):
    """What was answered 250 is where it belongs, and nothing is anywhere twice."""
    for token, replies in heard.items():
        for recipients, reply in replies.items():
            known = sender(token, recipients)
            if reply.startswith("250 "):
                assert is_there(recipients, known, found, journal), (known, found[known], journal.get(known))
            assert found[known] <= 1, known


@pytest.mark.case(109)
@pytest.mark.real("strace")
@pytest.mark.long
def test_whatever_call_a_worker_is_killed_at_the_others_go_on_and_nothing_is_lost(
    start, upstream, tmp_path, pytestconfig
):
    killed = "has ended with signal 9; starting another one"
    running = start("    workers: 2\n", errors=[killed])
    with running.client() as client:
        points = crash_points(running, worker_of(running, client), tmp_path, client)
    heard, unheard = {}, 0
    for call, number in points[:: 12 if pytestconfig.getoption("--long") else 16]:
        token = f"{call}{number}"
        with running.client() as client:
            inject = f"inject={call}:signal=SIGKILL:when={number}"
            with Strace(worker_of(running, client), "-e", f"trace={call}", "-e", inject):
                heard[token] = send_over(client, token)
        unheard += not all(heard[token].values())
        running.logs(killed, times=unheard)
    assert unheard > len(heard) // 2, "most kills came before the last reply"
    assert all(reply.startswith("250 ") for reply in send_all(running, "after").values())
    all_is_true(heard, *places(running, upstream))


def worker_of(running, client):
    """The process id of the worker that talks to this client."""
    port = client.socket.getsockname()[1]
    for child in psutil.Process(running.pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):  # one that was killed, and is still a zombie
            if port in {one.raddr.port for one in child.net_connections("tcp") if one.raddr}:
                return child.pid
    raise AssertionError("nobody talks to this client")


@pytest.mark.case(105, 106)
@pytest.mark.real("strace")
@pytest.mark.parametrize(
    ("fault", "reply"),
    [
        ("pwrite64:error=ENOSPC", "452 4.3.1 "),
        ("pwrite64:error=EIO", "451 4.3.0 "),
        ("fdatasync:error=EIO", "451 4.3.0 "),
    ],
)
@pytest.mark.long
def test_on_a_disk_that_fails_nothing_is_acknowledged_and_later_all_goes_on(
    start, upstream, base_line, fault, reply
):
    running = start(errors=(" ERROR ",), counted=True)
    before = send_all(running, "before")
    base_line(running)
    with Strace(running.worker, "-e", f"trace={fault.partition(':')[0]}", "-e", f"inject={fault}"):
        within = send_all(running, "within")
    after = send_all(running, "after")
    for replies in (before, after):
        assert all(said.startswith("250 ") for said in replies.values())
    for recipients, said in within.items():
        expected = "250 " if recipients == RELAYED else reply
        assert said.startswith(expected), f"{recipients}: upstream owns what was relayed, the store the rest"
    found, journal = places(running, upstream)
    for token in ("before", "after"):
        for recipients in RECIPIENTS:
            assert is_there(recipients, sender(token, recipients), found, journal)
    assert [known for known in found if known.startswith("within")] == [sender("within", RELAYED)]


@pytest.mark.real("strace")
def test_the_commit_and_upstreams_reply_come_before_the_250_on_the_wire(start, tmp_path):
    running = start()
    output = tmp_path / "calls"
    with Strace(running.worker, "-s", "200", "-e", "trace=read,write,fdatasync", output=output):
        assert all(reply.startswith("250 ") for reply in send_all(running, "traced").values())
    lines = output.read_text().splitlines()
    dots = [n for n, line in enumerate(lines) if "read(" in line and '"Subject: traced' in line]
    replies = [n for n, line in enumerate(lines) if "write(" in line and '"250 2.0.0 Ok: ' in line]
    assert len(replies) == len(RECIPIENTS)
    for recipients, dot, reply in zip(RECIPIENTS, dots, replies, strict=True):
        between = lines[dot:reply]
        taken = [n for n, line in enumerate(between) if '"250 2.0.0 Ok: queued' in line and "read(" in line]
        stored = [n for n, line in enumerate(between) if "fdatasync" in line and line.endswith("= 0")]
        assert len(taken) == (recipients in (RELAYED, MIXED))
        assert stored or recipients == RELAYED
        if recipients == MIXED:
            assert stored[0] < taken[0], "the journal knows who gets nothing before the others get it"


@pytest.mark.case(106)
@pytest.mark.parametrize("fault", ["locked", "gone"])
@pytest.mark.long
def test_while_the_store_is_locked_or_gone_nothing_is_acknowledged(start, upstream, base_line, fault):
    running = start(errors=(" ERROR ",), counted=True)
    assert all(reply.startswith("250 ") for reply in send_all(running, "before").values())
    base_line(running)
    database = running.folder / "gatepost.db"
    with contextlib.ExitStack() as mended:
        if fault == "gone":
            database.rename(running.folder / "elsewhere")
            mended.callback((running.folder / "elsewhere").rename, database)
        else:
            other = mended.enter_context(contextlib.closing(sqlite3.connect(database, isolation_level=None)))
            other.execute("BEGIN IMMEDIATE")
        for recipients in ("bob@inbox.example", MIXED):
            said = running.send(message("within"), *recipients.split(), sender="within-@example.org")
            assert said.startswith("451 4.3.0 ")
    assert all(reply.startswith("250 ") for reply in send_all(running, "after").values())
    inbox = [kept.mail_from.partition("-")[0] for kept in running.kept(Box.INBOX)]
    assert sorted(inbox) == ["after", "before"]
    relayed = [one.mail_from for one in upstream.messages]
    assert not [known for known in relayed if known.startswith("within")]
