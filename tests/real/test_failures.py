"""Workers are killed and replaced under mail of greylisted, limited and known senders, signed and sealed."""

import base64
import itertools
import os
import signal
import sqlite3
import threading
from collections import Counter, defaultdict, deque
from contextlib import closing
from dataclasses import dataclass, field

import dkim
import psutil
import pytest
import yaml
from argon2 import PasswordHasher
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from dnslib.server import DNSLogger, DNSServer
from dnslib.zoneresolver import ZoneResolver
from gatepost.testing import FakeUpstream

LIMIT = 60
"""Recipients of one user in an hour."""
USERS = ("ann", "bob")
RULES = """
    workers: 2
    listen: {{address: "127.0.0.1:0", auth: {{users: users.yaml, without_tls: true}}}}
    dns: {{servers: ["127.0.0.1:{dns}"]}}
    rules:
      - {{name: limit, filter: ratelimit, with: {{by: user, recipients: [{limit}/hour]}}}}
      - {{name: try-again, filter: greylist, with: {{delay: 500ms, known_after: 0, by_name: false}}}}
      - {{name: authentication, filter: authentication, with: {{authserv_id: gateway.example.net}}}}
      - {{name: correspondents, filter: known}}
      - name: sign
        filter: dkim_sign
        with: {{keys: [{{domain: example.org, selector: s1, file: key.pem}}]}}
      - name: seal
        filter: arc_seal
        with: {{authserv_id: gateway.example.net, domain: example.org, selector: s1, file: key.pem}}
"""
KILLED = "has ended with signal 9; starting another one"
REPLACED = "all workers have been replaced"
PASSWORD = "secret"
VICTIMS = (0, -1)
"""Of the workers by process id: one after the other is killed."""
OF_A_PAIR = 4
"""Messages of one sender to one recipient."""
PAIRS = 3
"""Of strangers that one client has in its queue at a time."""
STEP = 4
"""Messages of each client between two failures."""
PAUSE_SECONDS = 0.02
"""Of a client before it tries again."""
PATIENCE_SECONDS = 60


@dataclass(kw_only=True, eq=False)
class Letter:
    """One message, and the reply to its RCPT and to its final dot in each attempt; empty: there was none."""

    subject: str
    sender: str
    recipient: str
    rcpt: list[str] = field(default_factory=list)
    dot: list[str] = field(default_factory=list)

    @property
    def content(self):
        return (
            f"From: Ann <ann@example.org>\r\nTo: {self.recipient}\r\n"
            f"Date: Thu, 01 Jan 2026 12:00:00 +0000\r\nMessage-ID: <{self.subject}@example.org>\r\n"
            f"Subject: {self.subject}\r\n\r\n{self.subject * 20}\r\n"
        ).encode()

    @property
    def copies_acknowledged(self):
        return sum(reply.startswith("250 ") for reply in self.dot)

    @property
    def is_over(self):
        """True if it was accepted, or the user's limit is reached, which nobody waits for."""
        return self.copies_acknowledged > 0 or any("Too many" in reply for reply in self.rcpt)


class SessionEndedError(Exception):
    """The server has gone, or ends the session."""


class MailServer(threading.Thread):
    """Sends message after message, and tries again what was deferred or cut off, until it is told to end."""

    def __init__(self, name, running, user=None):
        super().__init__(name=name)
        self.running, self.user = running, user
        self.letters = []
        self.replies = defaultdict(list)
        """To RCPT, by recipient; each has one sender."""
        self.told_to_end = threading.Event()
        self.given_up = threading.Event()
        self.surprises = []

    @property
    def finished(self):
        return sum(letter.is_over for letter in list(self.letters))

    def run(self):
        for number in itertools.count():
            if self.told_to_end.is_set():
                return
            self.empty(deque(self.some(number)))

    def some(self, number):
        """Messages of some pairs, those of each pair one after the other."""
        for pair, message in itertools.product(range(PAIRS), range(OF_A_PAIR)):
            sender = f"{self.name}-{number}-{pair}"
            letter = Letter(
                subject=f"{sender}-{message}",
                sender=f"{self.user or sender}@example.org",
                recipient=f"{sender}@example.com",
            )
            self.letters.append(letter)
            yield letter

    def empty(self, queue):
        while queue and not self.given_up.is_set():
            try:
                with self.running.client() as client:
                    self.talk(client, queue)
            except (OSError, SessionEndedError):
                self.given_up.wait(PAUSE_SECONDS)

    def talk(self, client, queue):
        if not client.greeting.startswith("220 "):
            raise SessionEndedError
        self.say(client, "EHLO client.example.org", "250")
        if self.user:
            secret = base64.b64encode(f"\0{self.user}\0{PASSWORD}".encode()).decode()
            self.say(client, f"AUTH PLAIN {secret}", "235")
        while queue and not self.given_up.is_set():
            self.transact(client, queue[0])
            if not queue[0].copies_acknowledged:
                self.given_up.wait(PAUSE_SECONDS)
            queue.rotate(-1)
            if queue[-1].is_over:
                queue.pop()
        self.say(client, "QUIT", "221")

    def transact(self, client, letter):
        self.say(client, f"MAIL FROM:<{letter.sender}>", "250")
        letter.rcpt.append("")
        replies = self.replies[letter.recipient]
        replies.append("")
        letter.rcpt[-1] = replies[-1] = self.say(client, f"RCPT TO:<{letter.recipient}>", "250", "451")
        if letter.rcpt[-1].startswith("451"):
            self.say(client, "RSET", "250")
            return
        self.say(client, "DATA", "354")
        letter.dot.append("")
        client.socket.sendall(letter.content + b".\r\n")
        letter.dot[-1] = self.heard(client.reply(), ("250", "451"))

    def say(self, client, command, *codes):
        client.socket.sendall(command.encode() + b"\r\n")
        return self.heard(client.reply(), codes)

    def heard(self, reply, codes):
        if reply.startswith("421 4.3.2 ") or not reply:
            raise SessionEndedError
        if reply[:3] not in codes:
            self.surprises.append((codes, reply))
            self.given_up.set()
        return reply


@pytest.fixture
def key():
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
def record(key):
    """Its record in DNS."""
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"v=DKIM1; k=rsa; p={base64.b64encode(public).decode()}"


@pytest.fixture
def dns(record):
    parts = " ".join(f'"{record[at : at + 200]}"' for at in range(0, len(record), 200))
    zone = (
        f's1._domainkey.example.org. 60 IN TXT {parts}\nexample.org. 60 IN TXT "v=spf1 ip4:127.0.0.1 -all"\n'
    )
    server = DNSServer(ZoneResolver(zone), port=0, address="127.0.0.1", logger=DNSLogger(logf=lambda _: None))
    server.start_thread()
    yield server.server.server_address[1]
    server.stop()
    server.server.server_close()


@pytest.fixture
def running(gateway, upstream, dns, key):
    cheap = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    files = {
        "users.yaml": yaml.safe_dump({user: cheap.hash(PASSWORD) for user in USERS}),
        "key.pem": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
    }
    return gateway(RULES.format(dns=dns, limit=LIMIT), upstream=upstream.port, files=files, errors=[KILLED])


@pytest.fixture
def upstream():
    with FakeUpstream() as server:
        yield server


@pytest.fixture
def servers(running):
    """Two of strangers, and two of each user, which share its limit."""
    started = [MailServer(f"stranger{number}", running) for number in range(2)]
    started += [MailServer(f"{user}{number}", running, user) for user in USERS for number in range(2)]
    for one in started:
        one.start()
    yield started
    for one in started:
        one.given_up.set()
        one.join(PATIENCE_SECONDS)


@pytest.mark.case(107, 109)
@pytest.mark.long
def test_killed_and_replaced_workers_lose_nothing_and_forget_nothing(
    running, servers, upstream, record, wait_until
):
    def workers():
        return sorted(child.pid for child in psutil.Process(running.pid).children())

    def goes_on():
        wanted = [(one, one.finished + STEP) for one in servers]
        wait_until(
            lambda: any(one.surprises for one in servers) or all(one.finished >= n for one, n in wanted),
            "mail goes on",
        )

    goes_on()
    number = len(workers())
    learnt = {letter.recipient for letter in of_users(servers) if letter.copies_acknowledged}
    wait_until(lambda: learnt <= correspondents(running), "it is learnt")
    for turn, victims in enumerate((VICTIMS, VICTIMS[:1]), 1):
        for victim in victims:
            wait_until(lambda: len(workers()) == number, "those that were replaced have ended")
            os.kill(workers()[victim], signal.SIGKILL)
            goes_on()
        running.kill(signal.SIGUSR2)
        running.logs(REPLACED, times=turn)
        goes_on()
    running.logs(KILLED, times=len(VICTIMS) + 1)
    for one in servers:
        one.told_to_end.set()
    for one in servers:
        one.join(PATIENCE_SECONDS)
        assert not one.is_alive(), "all that was deferred is accepted in the end"
    assert [(one.name, one.surprises) for one in servers if one.surprises] == []
    assert running.stop() == 0
    nothing_is_lost_or_doubled([letter for one in servers for letter in one.letters], upstream, running)
    signatures_are_valid(upstream.messages, record)
    what_has_passed_stays_passed(servers)
    for user in USERS:
        the_limit_holds([letter for letter in of_users(servers) if letter.sender == f"{user}@example.org"])
    remembered = correspondents(running)
    assert not learnt - remembered
    assert not remembered - {one.recipients[0].address for one in upstream.messages}


def of_users(servers):
    return [letter for one in servers if one.user for letter in list(one.letters)]


def correspondents(running):
    """The recipients that the filter known has learnt."""
    with closing(sqlite3.connect(running.folder / "gatepost.db-state")) as state:
        return {key.split()[1] for (key,) in state.execute("SELECT key FROM entries WHERE space = 'known'")}


def nothing_is_lost_or_doubled(letters, upstream, running):
    """Each message that was answered 250 is behind, and again only for each dot that had no answer."""
    arrived = Counter(subject(one.content) for one in upstream.messages)
    ends = [(one.subject, one.recipients[0].disposition) for one in running.journal() if one.recipients]
    in_doubt = Counter(known for known, disposition in ends if disposition == "in-doubt")
    for letter in letters:
        at_most = letter.copies_acknowledged + letter.dot.count("") + in_doubt[letter.subject]
        assert letter.copies_acknowledged <= arrived[letter.subject] <= at_most, letter
    assert {*arrived} <= {letter.subject for letter in letters}


def subject(content):
    return content.partition(b"\nSubject: ")[2].partition(b"\r\n")[0].decode()


def signatures_are_valid(messages, record):
    def look_up(name, timeout=0):
        assert name == b"s1._domainkey.example.org."
        return record.encode()

    for message in messages:
        assert dkim.verify(message.content, dnsfunc=look_up), message.content
        chain, _, why = dkim.arc_verify(message.content, dnsfunc=look_up)
        assert chain == dkim.CV_Pass, (why, message.content)


def what_has_passed_stays_passed(servers):
    """Of each pair the replies to RCPT: deferred at first, and never again after it has passed."""
    for pair, replies in (item for one in servers if not one.user for item in one.replies.items()):
        heard = [reply[:3] for reply in replies if reply]
        deferred = heard.index("250")
        assert heard == ["451"] * deferred + ["250"] * (len(heard) - deferred), pair
        assert deferred or len(heard) < len(replies), pair


def the_limit_holds(letters):
    """No more were accepted, and no fewer but those that had no answer."""
    replies = Counter(reply[:3] for letter in letters for reply in letter.rcpt)
    assert replies["451"], "it was reached"
    assert replies["250"] <= LIMIT <= replies["250"] + replies[""]
