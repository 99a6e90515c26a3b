"""Large messages from a crowd: memory stays within what `limits.memory` says, and is given back."""

import asyncio
import hashlib
import os
import re
import socket
import threading
from collections import Counter
from contextlib import suppress
from functools import partial

import pytest
import uvloop
from gatepost_attachments import _THREADS as ATTACHMENTS_THREADS

MIB = 1 << 20
MEMORY = 128 * MIB
OCTETS = 25_000_000
HOLDERS = MEMORY // OCTETS
"""So many messages fill the budget."""
PIECE = MIB // 4
"""What is read at once from a connection, and waits a moment to be looked at."""
SMALL = b"Subject: small\r\n\r\nHello\r\n.\r\n"
PATIENCE_SECONDS = 120.0
DOTS = b"Subject: dots\r\n\r\n" + (b"." + b"x" * 70 + b"\r\n") * (OCTETS // 73)
"""Each of its lines has to be stuffed, so that it is there twice while it goes upstream."""
TEXT = b"Subject: text\r\n\r\n" + (b"loans and " * 7 + b"\r\n") * (OCTETS // 72)
WIDE = "Subject: wide\r\n\r\n\U0001f4b6\r\n".encode() + TEXT[-(OCTETS // 72) * 72 :]
"""One character beyond U+FFFF makes Python keep the text with four octets for each character."""
FILTERS = """
rules:
  - {name: words, filter: keywords, timeout: 100, with: {words: [viagra, casino], patterns: ["l[o0]ttery"]}}
  - {name: files, filter: attachments, timeout: 100, with: {extensions: [exe], inside_archives: true}}
"""


class Upstream:
    """Takes messages of any size and keeps only the sha256 of what came behind the trace field."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1000)
        self.port = self._listener.getsockname()[1]
        self.taken = Counter()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self):
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection):
        with connection, connection.makefile("rb") as lines, suppress(OSError):
            connection.sendall(b"220 upstream.example\r\n")
            for line in lines:
                if line == b"DATA\r\n":
                    connection.sendall(b"354 Go ahead\r\n")
                    self.taken[_sha256(lines)] += 1
                reply = b"250-upstream.example\r\n250-PIPELINING\r\n250 8BITMIME\r\n"
                connection.sendall(reply if line.startswith(b"EHLO") else b"250 2.0.0 Ok\r\n")


def _sha256(lines):
    lines.readline()
    while (octets := lines.readline()).startswith(b"\t"):
        pass
    found, end = hashlib.sha256(octets), octets
    while not end.endswith(b"\r\n.\r\n"):
        octets = lines.read1(1 << 18)
        if not octets:
            raise ConnectionError
        found.update(octets)
        end = (end + octets)[-5:]
    return found.digest()


class Message:
    """One that is like the others of its crowd but for its end, as it is on the wire."""

    def __init__(self, content):
        self.most = content.replace(b"\r\n.", b"\r\n..")
        self._sha256 = hashlib.sha256(self.most)

    def end(self, number):
        return b"sender %d\r\n.\r\n" % number

    def sha256(self, number):
        whole = self._sha256.copy()
        whole.update(self.end(number))
        return whole.digest()


class Sender:
    """A client of the crowd."""

    @classmethod
    async def connect(cls, port):
        sender = cls()
        sender.loop = asyncio.get_running_loop()
        sender.socket, sender.read = socket.socket(), b""
        sender.socket.settimeout(0)
        await sender.loop.sock_connect(sender.socket, ("127.0.0.1", port))
        assert (await sender.reply()).startswith("220 ")
        await sender.say(b"EHLO client.example.org\r\n")
        return sender

    async def reply(self):
        while not (found := re.match(rb"(?:\d{3}-.*\r\n)*(\d{3} .*)\r\n", self.read)):
            octets = await self.loop.sock_recv(self.socket, 4096)
            assert octets, "the gateway has closed"
            self.read += octets
        self.read = self.read[found.end() :]
        return found[1].decode()

    async def send(self, octets):
        await self.loop.sock_sendall(self.socket, octets)

    async def say(self, octets):
        await self.send(octets)
        return await self.reply()

    async def begin(self, *, size=None):
        """As far as the 354; gives the reply that refused it."""
        parameter = f" SIZE={size}" if size else ""
        mail = await self.say(f"MAIL FROM:<alice@example.org>{parameter}\r\n".encode())
        if not mail.startswith("250 "):
            return mail
        assert (await self.say(b"RCPT TO:<bob@example.com>\r\nDATA\r\n")).startswith("250 ")
        assert (await self.reply()).startswith("354 ")
        return ""

    async def offer(self, message, number, *, size=None):
        """The reply to a message; where it says its size, maybe before it is sent."""
        if refusal := await self.begin(size=size):
            return refusal
        await self.send(message.most)
        return await self.say(message.end(number))

    def close(self):
        self.socket.close()


class Crowd:
    """So many clients, who all have something large."""

    def __init__(self, running, message, number):
        self.message, self.number = message, number
        self.connect = partial(Sender.connect, running.port)
        self.sending = 0
        """How many sent at once."""
        self.taken = []
        """The numbers of those whose messages were taken."""

    async def play(self, watch):
        senders = await asyncio.gather(*(self.connect() for _ in range(self.number)))
        try:
            await asyncio.wait_for(self._play(senders, watch), PATIENCE_SECONDS)
        finally:
            for sender in senders:
                sender.close()

    async def _play(self, senders, watch):
        holders, others = senders[:HOLDERS], senders[HOLDERS:]
        half = len(others) // 2
        announced, halves, wholes = others[:half], others[half : -half // 2], others[-half // 2 :]
        for sender in holders:
            assert await sender.begin(size=OCTETS) == ""
            await sender.send(self.message.most)
        while not (await self._probe()).startswith("452 4.3.1 "):
            await asyncio.sleep(0.02)
        self.sending = len(holders) + len(halves) + len(wholes)
        begun = await asyncio.gather(*(sender.begin() for sender in halves))
        assert not any(begun)
        flood = asyncio.gather(
            asyncio.gather(*(sender.offer(self.message, 0) for sender in wholes)),
            asyncio.gather(*(sender.send(self.message.most[:MIB]) for sender in halves)),
        )
        refused = await asyncio.gather(*(sender.offer(self.message, 0, size=OCTETS) for sender in announced))
        assert all(reply.startswith("452 4.3.1 ") for reply in refused), "at MAIL"
        await self._small()
        replies = await asyncio.gather(*(h.say(self.message.end(n)) for n, h in enumerate(holders)))
        assert {reply[:9] for reply in replies} == {"250 2.0.0"}, replies
        self.taken = [*range(HOLDERS)]
        replies, _ = await flood
        assert {reply[:9] for reply in replies} == {"452 4.3.1"}, "after the dot"
        await asyncio.gather(*(self._try_again(n, s) for n, s in enumerate(announced[:HOLDERS], HOLDERS)))
        assert watch.open_descriptors > self.number, "all were here"

    async def _probe(self):
        sender = await self.connect()
        try:
            return await sender.say(f"MAIL FROM:<alice@example.org> SIZE={OCTETS}\r\n".encode())
        finally:
            sender.close()

    async def _small(self):
        """Somebody else's small message is taken, at once or at its next try."""
        sender = await self.connect()
        try:
            while (await sender.begin()) or not (reply := await sender.say(SMALL)).startswith("250 2.0.0 "):
                assert reply.startswith("452 4.3.1 ")
        finally:
            sender.close()

    async def _try_again(self, number, sender):
        """Who was told to try again is taken some time."""
        while not (reply := await sender.offer(self.message, number, size=OCTETS)).startswith("250 2.0.0 "):
            assert reply.startswith("452 4.3.1 ")
            await asyncio.sleep(0.05)
        self.taken.append(number)


@pytest.fixture
def upstream():
    server = Upstream()
    yield server
    server.close()


@pytest.mark.case(104)
@pytest.mark.parametrize(
    ("content", "rules", "most"),
    [
        pytest.param(DOTS, "", 2, id="relayed"),
        pytest.param(TEXT, FILTERS, 4, id="filtered"),
        pytest.param(WIDE, FILTERS, 7, id="filtered, wide characters"),
    ],
)
@pytest.mark.long
def test_a_crowd_with_large_messages_stays_within_its_memory_and_gives_it_back(
    gateway, watch, upstream, many_open_files, pytestconfig, content, rules, most
):
    number = 300 if pytestconfig.getoption("--long") else 60
    if many_open_files < 2 * number:
        pytest.skip(f"this machine allows {many_open_files} descriptors")
    limits = f"limits: {{memory: {MEMORY}, connections: 2000, connections_per_client: 2000}}\n"
    running = gateway(limits + rules, upstream=upstream.port, counted=True)
    for _ in range(5):
        assert running.send(SMALL.removesuffix(b".\r\n")).startswith("250 ")
    watched = watch(running)
    crowd = Crowd(running, Message(content), number)
    uvloop.run(crowd.play(watched))
    expected = dict.fromkeys(map(crowd.message.sha256, crowd.taken), 1)
    assert len(expected) == 2 * HOLDERS
    assert {key: upstream.taken[key] for key in expected} == expected, "whole, as sent, and once"
    assert HOLDERS * OCTETS < watched.peak < most * MEMORY + crowd.sending * PIECE
    # Threads in which filters searched are kept: the event loop has at most so many, `attachments` its own.
    watched.is_back(32 * MIB, threads=min(32, os.cpu_count() + 4) + ATTACHMENTS_THREADS if rules else 0)
