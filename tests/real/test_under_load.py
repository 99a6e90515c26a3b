"""Reload, restart and stop while mail is relayed: every message has one answer, and the end that it says."""

import contextlib
import itertools
import signal
import socket
import ssl
import threading
from collections import Counter
from dataclasses import dataclass

import psutil
import pytest
from gatepost.process.certificate import make_certificate
from gatepost.testing import FakeUpstream

RULES = """
    listen: {{address: "127.0.0.1:0", tls: {{certificate: "{certificate}", key: "{key}"}}}}
    workers: {workers}
    rules:
      - {{name: slow, filter: "./slow.py:Slow"}}
      - {{name: colour, filter: keywords, with: {{words: [{refused}]}}, reply: "550 5.7.1 No {refused}"}}
"""
SLOW = """
    import asyncio

    from gatepost import hookimpl


    class Slow:
        @hookimpl
        async def filter_message(self, transaction):
            if transaction.message.view.subject == "slow":
                await asyncio.sleep(0.2)
"""
COLOURS = ("red", "blue")
"""Half of the messages are of each; which one is refused changes with each reload."""
LINE = b"0123456789" * 6 + b"\r\n"
CLOSING = "421 4.3.2 "
STEP = 2
"""Messages of each kind between two things that are done to the gateway."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What a client does all the time."""

    lines: int = 1
    """16,384 of them are 1 MB."""
    kept: bool = False
    """All its messages go over one connection, as long as that lives."""
    pipelined: bool = False
    """Envelope and DATA in one write; the message and QUIT too, where the connection is not kept."""
    tls: bool = False
    slow: bool = False
    """There is a filter that takes its time."""


KINDS = {
    "small": Kind(),
    "kept": Kind(kept=True),
    "pipelined": Kind(pipelined=True),
    "kept-pipelined": Kind(kept=True, pipelined=True),
    "large": Kind(lines=16_384),
    "large-kept-pipelined": Kind(lines=16_384, kept=True, pipelined=True),
    "tls": Kind(tls=True, kept=True),
    "large-tls": Kind(lines=16_384, tls=True),
    "slow": Kind(slow=True),
    "slow-kept": Kind(slow=True, kept=True, pipelined=True),
}


class EndOfSessionError(Exception):
    """Nothing more is to be said on this connection."""


class Sender(threading.Thread):
    """Message after message of one kind, until it is told to end or nobody listens any more."""

    def __init__(self, name, kind, port):
        super().__init__(name=name)
        self.kind, self.port = kind, port
        self.ended = threading.Event()
        self.answers = {}
        """The reply to its dot, by the sender of a message; empty before it."""
        self.contents = {}
        self.connections = 0
        self.not_greeted = []
        """What came instead of a greeting, connection by connection."""
        self.closed = 0
        """Sessions that ended with 421."""
        self.surprises = []
        """What no client should ever see."""

    @property
    def finished(self):
        return sum(answer[:3] in ("250", "550") for answer in list(self.answers.values()))

    def run(self):
        numbers = itertools.count()
        while not self.ended.is_set():
            try:
                connection = socket.create_connection(("127.0.0.1", self.port), 60)
            except ConnectionRefusedError:
                self.not_greeted.append("refused")
                return
            self.connections += 1
            with Session(self, connection) as session, contextlib.suppress(EndOfSessionError):
                self.talk(session, numbers)

    def talk(self, session, numbers):
        session.greeting()
        session.say("EHLO client.example.org", "250")
        if self.kind.tls:
            session.start_tls()
            session.say("EHLO client.example.org", "250")
        for number in numbers:
            sender = f"{self.name}-{number}@example.org"
            subject = "slow" if self.kind.slow else "load"
            body = COLOURS[number % 2].encode() + b"\r\n" + LINE * self.kind.lines
            self.contents[sender] = b"Subject: %b\r\n\r\n%b" % (subject.encode(), body)
            self.answers[sender] = ""
            self.transact(session, sender)
            if not self.kind.kept or self.ended.is_set():
                return session.say("" if self.quits_at_once else "QUIT", "221")
        return None

    @property
    def quits_at_once(self):
        return self.kind.pipelined and not self.kind.kept

    def transact(self, session, sender):
        commands = {f"MAIL FROM:<{sender}>": "250", "RCPT TO:<bob@example.com>": "250", "DATA": "354"}
        if self.kind.pipelined:
            session.write("".join(f"{command}\r\n" for command in commands).encode())
        for command, code in commands.items():
            session.say("" if self.kind.pipelined else command, code)
        session.write(self.contents[sender] + b".\r\n" + (b"QUIT\r\n" if self.quits_at_once else b""))
        self.answers[sender] = session.hear("250", "550")


class Session:
    """One connection of a sender; what it hears must be what it waits for, or 421 and the end."""

    def __init__(self, sender, connection):
        self.sender, self.socket = sender, connection
        self.lines = connection.makefile("rb")
        self.said = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.lines.close()
        self.socket.close()

    def start_tls(self):
        self.say("STARTTLS", "220")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            self.socket = context.wrap_socket(self.socket)
        except OSError as error:
            self.surprise(repr(error))
        self.lines.close()
        self.lines = self.socket.makefile("rb")

    def write(self, octets):
        self.said.append(octets[:60])
        with contextlib.suppress(OSError):  # it may have gone with 421; what it said is still to be read
            self.socket.sendall(octets)

    def say(self, command, *codes):
        if command:
            self.write(command.encode() + b"\r\n")
        return self.hear(*codes)

    def reply(self):
        try:
            while line := self.lines.readline().decode():
                if line[3:4] != "-":
                    return line.rstrip("\r\n")
        except OSError as error:
            return repr(error)
        return ""

    def greeting(self):
        reply = self.reply()
        if not reply.startswith("220 "):
            self.sender.not_greeted.append(reply)
            raise EndOfSessionError

    def hear(self, *codes):
        reply = self.reply()
        if reply.startswith(CLOSING):
            self.sender.closed += 1
            end = self.reply()  # a reset is an end too: the client was still talking
            if end and "ConnectionResetError" not in end:
                self.surprise(f"{reply}, then {end}")
            raise EndOfSessionError
        if reply[:3] not in codes:
            self.surprise(reply)
        return reply

    def surprise(self, reply):
        self.sender.surprises.append((reply, self.said[-4:]))
        raise EndOfSessionError


class Load:
    """All kinds at once, a server behind, and a gateway between them."""

    def __init__(self, start, upstream, folder, workers, wait_until):
        self.certificate, self.key = make_certificate(folder)
        self.upstream, self.workers, self.wait_until = upstream, workers, wait_until
        self.turn = 0
        self.running = start(self.rules(), upstream=upstream.port, files={"slow.py": SLOW})
        self.senders = [Sender(name, kind, self.running.port) for name, kind in KINDS.items()]

    def rules(self):
        refused = COLOURS[self.turn % 2]
        return RULES.format(certificate=self.certificate, key=self.key, workers=self.workers, refused=refused)

    def __enter__(self):
        for sender in self.senders:
            sender.start()
        self.go_on()
        return self

    def __exit__(self, *_):
        for sender in self.senders:
            sender.ended.set()
        for sender in self.senders:
            sender.join(60)
            assert not sender.is_alive()

    def go_on(self):
        """Until each sender has had some more messages answered."""
        wanted = {sender: sender.finished + STEP for sender in self.senders}
        self.wait_until(lambda: all(one.finished >= n for one, n in wanted.items()), "mail goes on")

    def take_other_rules(self, write_rules):
        self.turn += 1
        write_rules(self.running.folder, self.rules(), self.upstream.port)

    def refused_colour(self):
        """What is refused now, as a client sees it."""
        replies = {colour: self.running.send(f"Subject: probe\r\n\r\n{colour}\r\n") for colour in COLOURS}
        return [colour for colour, reply in replies.items() if reply == f"550 5.7.1 No {colour}"]

    def check(self):
        """All that was said is true: what was answered 250 is behind once, and what was not is not."""
        assert [(one.name, one.surprises) for one in self.senders if one.surprises] == []
        arrived = Counter(message.mail_from for message in self.upstream.messages)
        contents = {message.mail_from: message.content for message in self.upstream.messages}
        journal = {
            record.mail_from: str(record.recipients[0].disposition) for record in self.running.journal()
        }
        for sender in self.senders:
            for address, answer in sender.answers.items():
                if answer.startswith("250 "):
                    assert (address, arrived[address], journal[address]) == (address, 1, "relayed")
                    assert contents[address].endswith(sender.contents[address])
                elif journal.get(address) == "in-doubt":
                    assert (address, answer[:3]) == (address, "")
                    assert arrived[address] <= 1
                else:
                    assert (address, arrived[address]) == (address, 0), answer
        colours = [answer for one in self.senders for answer in one.answers.values() if answer[:3] == "550"]
        assert {*colours} <= {f"550 5.7.1 No {colour}" for colour in COLOURS}


@pytest.fixture
def load(gateway, tmp_path, wait_until):
    with FakeUpstream() as upstream:
        yield lambda workers: Load(gateway, upstream, tmp_path, workers, wait_until)


def children(running):
    return {child.pid for child in psutil.Process(running.pid).children()}


@pytest.mark.case(108)
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.long
def test_a_reload_with_other_rules_disturbs_no_message(load, write_rules, workers):
    with load(workers) as under:
        for turn in (1, 2):
            under.take_other_rules(write_rules)
            under.running.kill(signal.SIGHUP)
            under.running.logs("reloaded", times=workers * turn)
            assert under.refused_colour() == [COLOURS[turn % 2]]
            under.go_on()
    for sender in under.senders:
        assert (sender.closed, sender.not_greeted) == (0, [])
        assert sender.connections == 1 or not sender.kind.kept
        answers = {answer.partition(" ")[0] for answer in sender.answers.values()}
        assert answers == {"250", "550"}, f"{sender.name} has seen both"
    assert under.running.stop() == 0
    under.check()


@pytest.mark.long
def test_a_rolling_restart_refuses_no_connection_and_cuts_no_message_off(load, write_rules, wait_until):
    with load(2) as under:
        for turn in (1, 2):
            before = children(under.running)
            under.take_other_rules(write_rules)
            under.running.kill(signal.SIGUSR2)
            under.running.logs("all workers have been replaced", times=turn)
            wait_until(lambda before=before: not before & children(under.running), "the old ones have ended")
            assert under.refused_colour() == [COLOURS[turn % 2]]
            under.go_on()
    for sender in under.senders:
        assert {answer[:3] for answer in sender.not_greeted} <= {"421"}
        assert sender.finished >= 3 * STEP
        assert sender.connections > 2, "its connection was closed with 421"
    assert under.running.stop() == 0
    under.check()


@pytest.mark.case(107)
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.long
def test_a_stop_answers_every_message_that_has_begun(load, workers):
    with load(workers) as under:
        before = sum(sender.finished for sender in under.senders)
        under.running.kill(signal.SIGTERM)
        for sender in under.senders:
            sender.join(60)
            assert sender.not_greeted, "nobody is let in any more"
        assert under.running.wait() == 0
    assert sum(sender.finished for sender in under.senders) > before
    assert any(sender.closed for sender in under.senders)
    under.check()
