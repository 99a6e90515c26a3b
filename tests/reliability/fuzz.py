"""Say whatever comes to mind to a running gateway, and to what reads paths, settings and MIME.

    python tests/reliability/fuzz.py --seconds 600

It ends with status 1 at the first thing that should not be, and prints what was said and the seed that says
it again.
"""

import argparse
import logging
import random
import re
import socket
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path

from proxy.config import ConfigError, load
from proxy.mime import read_message
from proxy.mime.scan import scan_parts
from proxy.server.paths import parse_mail, parse_rcpt
from proxy.server.replies import Refusal
from proxy.testing import FakeUpstream, running_gateway

PATIENCE_SECONDS = 20.0
LINE = re.compile(rb"[2-5]\d\d(?:[ -](?:[245]\.\d{1,3}\.\d{1,3} )?[\x20-\x7e]*)?\r\n")
TAKEN = re.compile(rb"250 2\.0\.0 Ok: ")
HOLDS_ON = re.compile(rb"\s*(DATA|BDAT|AUTH|STARTTLS|QUIT)", re.IGNORECASE)
"""What is followed by something else than a command."""
INNARDS = re.compile(rb"Traceback|Error\b|Exception|object at 0x|/proxy/|\.py\b")
# fmt: off
COMMANDS = [
    b"EHLO c.example", b"HELO c.example", b"MAIL FROM:<a@example.org>", b"MAIL FROM:<>",
    b"MAIL FROM:<a@example.org> SIZE=100 BODY=8BITMIME", b"RCPT TO:<b@example.com>",
    b"RCPT TO:<c@inbox.example>", b"RCPT TO:<d@discard.example>", b"RCPT TO:<e@foreign.example>",
    b"RCPT TO:<b@example.com> NOTIFY=NEVER", b"RSET", b"NOOP", b"VRFY bob", b"HELP", b"EXPN x",
    b"STARTTLS", b"AUTH PLAIN AGEAYg==", b"AUTH LOGIN", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2",
    b"XCLIENT ADDR=192.0.2.1", b"FOO", b"",
]
CONTENTS = [
    b"Subject: x\r\n\r\nHello\r\n", b"", b"\r\n", b"..dots\r\n", b"a: b\r\n\r\nviagra\r\n",
    b"a\nb\r\n", b"a\rb\r\n", b"\x00\r\n", b"\xff\xfe\r\n", b"x" * 70_000 + b"\r\n",
    b"Received: x\r\n" * 60 + b"\r\n", b"a: b\r\n" * 30_000,
    (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Disposition: attachment; "
        b"filename=a.exe\r\n\r\nx\r\n--b--\r\n"
    ),
]
PIECES = [
    b"\r\n", b"\n", b"\r", b".", b"\r\n.\r\n", b"\n.\n", b"<", b">", b"@", b":", b" ", b'"', b"\\",
    b"\x00", b"\xff", b"=", b"[", b"]", b"9" * 30, b"a" * 3000, b"--b", b"=?utf-8?q?", b"SIZE=",
    b"BDAT 5", b" LAST", b"DATA\r\n", b"QUIT\r\n", b"%", b";", b"charset=", b"base64",
    b"message/rfc822", b"- ", b"{", b"}", b"*", b"&a", b"*a", b"!x",
]
# fmt: on
RULES = """\
listen: 127.0.0.1:0
relay:
  - {recipients: "*@example.com", to: smtp://mail.example.com}
  - {recipients: "*@inbox.example", to: inbox}
limits: {message_size: 100KiB, recipients: 5}
mixed: defer
lists: {words: words.txt}
rules:
  - {name: words, filter: keywords, with: {words: [viagra], patterns: ["a+b"]}, action: reject}
  - name: files
    filter: attachments
    when: {sender: "*@example.org", size: ">1KiB", header: {Subject: "x*"}}
    with: {extensions: [exe, $words]}
    action: tag
    tag: {add: {X-A: b}, subject: "[x] "}
"""
GATEWAY = {
    "relay": [
        {"recipients": "*@inbox.example", "to": "inbox"},
        {"recipients": "*@discard.example", "to": "discard"},
    ],
    "limits": {"message_size": "64KiB", "bogus_commands": 1000, "session_time": "10s"},
    "rules": [
        {"name": "words", "filter": "keywords", "with": {"words": ["viagra"]}},
        {"name": "files", "filter": "attachments", "with": {"extensions": ["exe"]}, "action": "quarantine"},
    ],
}


class Finding(Exception):  # noqa: N818 - it is what one looks for
    """Something that should not be."""


class Mind:
    """Where it all comes from."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def mutated(self, octets, most=6):
        """The octets with some changes."""
        for _ in range(self.random.randrange(most)):
            begin = self.random.randrange(len(octets) + 1)
            end = min(len(octets), begin + self.random.choice([0, 0, 1, 1, 4, 30]))
            new = self.random.choice(
                [b"", self.random.choice(PIECES), octets[end : end + 20], self.random.randbytes(2)]
            )
            octets = octets[:begin] + new + octets[end:]
        return octets

    def often(self):
        """True now and then."""
        return self.random.random() < 0.3

    def line(self):
        """One line, which may be none."""
        command = self.random.choice(COMMANDS)
        return self.mutated(command) if self.often() else command

    def content(self):
        """What may be a message."""
        content = self.random.choice(CONTENTS)
        return self.mutated(content) if self.often() else content

    def transaction(self):
        """What would be answered 250, but for a change or two."""
        chosen = [
            b"EHLO c.example",
            b"MAIL FROM:<a@example.org>",
            *self.random.choices(COMMANDS[5:9], k=2),
            b"DATA",
        ]
        return [self.mutated(line, 2) if self.random.random() < 0.05 else line for line in chosen]


class Sessions:
    """Sessions with one gateway."""

    def __init__(self, gateway):
        self.gateway = gateway
        self.acknowledged = 0
        self.cut_off = 0
        """Connections that were reset, so that a last reply may have been lost on its way."""

    def play(self, mind):
        """One session: in steps, or all at once."""
        with socket.create_connection((self.gateway.host, self.gateway.port), PATIENCE_SECONDS) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with client.makefile("rb") as lines:
                said = []
                try:
                    self._check(lines.readline())
                    (self._in_steps if mind.random.random() < 0.5 else self._at_once)(
                        mind, client, lines, said
                    )
                except TimeoutError:
                    raise Finding(f"no answer within {PATIENCE_SECONDS:g} s to {said[-3:]!r}") from None
                except OSError:  # reset
                    self.cut_off += 1
                except Finding as finding:
                    raise Finding(f"{finding}; said: {said[-5:]!r}") from None

    def _reply(self, lines):
        while line := lines.readline():
            self._check(line)
            if line[3:4] != b"-":
                self.acknowledged += bool(TAKEN.match(line))
                return line
        return b""

    def _check(self, line):
        if line and not LINE.fullmatch(line):
            raise Finding(f"no reply: {line!r}")
        if INNARDS.search(line):
            raise Finding(f"innards: {line!r}")

    def _in_steps(self, mind, client, lines, said):
        """Each line has one reply, and what follows has its own."""

        def say(octets):
            said.append(octets)
            client.sendall(octets)
            return self._reply(lines)

        planned = mind.transaction() + [mind.line() for _ in range(mind.random.randrange(8))]
        for line in planned:
            one = line.replace(b"\n", b"").replace(b"\r", b"") + b"\r\n"
            if one[:4].upper() == b"QUIT" or one[:4].upper() == b"BDAT":
                continue
            code = say(one)[:3]
            if code == b"354":
                content = mind.content()
                body = content if content.endswith(b"\r\n") or not content else content + b"\r\n"
                stuffed = (b"\r\n" + body).replace(b"\r\n.", b"\r\n..")[2:]
                code = say(stuffed + b".\r\n")[:3]
            while code == b"334":
                code = say(b"*\r\n")[:3]
            if code in (b"", b"421", b"220"):
                return
            if (after := say(b"VRFY x\r\n"))[:3] not in (b"252", b"421", b"503", b""):
                raise Finding(f"{after!r} to VRFY: an answer to something else")

    def _at_once(self, mind, client, lines, said):
        """Anything, in packets of any size; then nothing more."""
        parts = []
        for _ in range(mind.random.randrange(1, 5)):
            parts += [line + b"\r\n" for line in mind.transaction()]
            parts += [mind.content(), b"\r\n.\r\n", mind.line() + b"\r\n"]
            if mind.often():
                chunk = mind.content()
                parts.append(b"BDAT %d%b\r\n%b" % (len(chunk), mind.random.choice([b"", b" LAST"]), chunk))
        octets = mind.mutated(b"".join(parts), 12)
        said.append(octets)
        while octets:
            size = mind.random.choice([1, 7, 500, 100_000])
            client.sendall(octets[:size])
            octets = octets[size:]
        client.shutdown(socket.SHUT_WR)
        while self._reply(lines):
            pass

    def settle(self, there):
        """What was answered 250 is there, and nothing else is."""
        if not self.acknowledged <= there <= self.acknowledged + self.cut_off * 5:
            raise Finding(
                f"{self.acknowledged} were answered 250, {there} are there, {self.cut_off} were cut off"
            )


def codes(gateway, packets):
    """The codes of all replies; each packet is sent once the one before was answered."""
    with (
        socket.create_connection((gateway.host, gateway.port), PATIENCE_SECONDS) as client,
        client.makefile("rb") as lines,
    ):
        found = [lines.readline()[:3]]
        for packet in packets:
            client.sendall(packet)
            for _ in range(packet.count(b"\r\n")):
                while (line := lines.readline())[3:4] == b"-":
                    pass
                found.append(line[:3])
        return [*found, lines.read()[:3]]


def play_pipelined(mind):
    """The same commands one by one and all at once: as many replies, and in the same order."""
    with (
        FakeUpstream() as upstream,
        running_gateway({"limits": {"bogus_commands": 1000}}, upstream=upstream) as gateway,
    ):
        gateway.send()  # from now on it knows what upstream offers, and each session is offered the same
        for _ in range(40):
            lines = [
                mind.line().replace(b"\r", b"").replace(b"\n", b"")
                for _ in range(mind.random.randrange(1, 25))
            ]
            lines = [line + b"\r\n" for line in lines if not HOLDS_ON.match(line)] + [b"QUIT\r\n"]
            try:
                one_by_one, at_once = codes(gateway, lines), codes(gateway, [b"".join(lines)])
            except TimeoutError:
                raise Finding(f"fewer replies than commands: {lines!r}") from None
            if one_by_one != at_once:
                raise Finding(f"{one_by_one} one by one, {at_once} at once: {lines!r}")


def mail_in(gateway):
    """How many messages were answered 250."""
    gone = {"refused", "deferred", "abandoned"}
    taken = [record for record in gateway.journal() if record.reply.startswith("250")]
    return sum(any(str(one.disposition) not in gone for one in record.recipients) for record in taken)


def play_sessions(mind):
    """Some sessions with a gateway of their own."""
    with FakeUpstream() as upstream:
        relay = [*GATEWAY["relay"], {"recipients": "*@example.com", "to": upstream.url}]
        with running_gateway({**GATEWAY, "relay": relay}) as gateway:
            sessions = Sessions(gateway)
            for _ in range(60):
                sessions.play(mind)
            sessions.settle(mail_in(gateway))
            owned = sum(
                "relayed" in {str(one.disposition) for one in record.recipients}
                for record in gateway.journal()
            )
            if len(upstream.messages) < owned:
                raise Finding(f"{owned} were relayed, {len(upstream.messages)} are upstream")


def read_paths(mind):
    """Paths and parameters."""
    for _ in range(500):
        argument = mind.mutated(mind.random.choice(COMMANDS[2:10]).partition(b" ")[2]).decode(
            "utf-8", "ignore"
        )
        calls = (
            partial(parse_mail, argument, ("SIZE", "BODY", "SMTPUTF8", "DSN")),
            partial(parse_rcpt, argument, ("DSN",), smtputf8=mind.often()),
        )
        for parse in calls:
            try:
                parse()
            except Refusal:
                pass
            except Exception as error:
                raise Finding(f"{argument!r}: {error!r}") from error


def read_settings(mind):
    """rules.yaml."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rules.yaml")
        Path(folder, "words.txt").write_text("exe\n")
        for _ in range(15):
            written = mind.mutated(RULES.encode(), 4)
            path.write_bytes(written)
            try:
                load(path)
            except ConfigError as error:
                if not str(error):
                    raise Finding(f"{written!r}: refused without a word") from error
            except Exception as error:
                raise Finding(f"{written!r}: {error!r}") from error


def read_mime(mind):
    """Messages."""
    for _ in range(60):
        content = mind.mutated(b"".join(mind.random.choices(CONTENTS, k=3)), 40)
        begin = time.process_time()
        try:
            read_message(content)
            scan_parts(content)
        except Exception as error:
            raise Finding(f"{content[:500]!r}: {error!r}") from error
        if (used := time.process_time() - begin) > 5:
            raise Finding(f"{content[:500]!r}: {used:.1f} s")


class Errors(logging.Handler):
    """What the gateway logs as an error."""

    def __init__(self):
        super().__init__(logging.ERROR)
        self.records = []

    def emit(self, record):
        self.records.append(record)

    def check(self):
        """Nothing has been logged."""
        if self.records:
            record = self.records[0]
            raise Finding(f"logged: {record.getMessage()} {record.exc_info or ''}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--seed", type=int, default=None, help="begin with this one, of this kind alone")
    parser.add_argument(
        "--kind", choices=["play_sessions", "play_pipelined", "read_paths", "read_settings", "read_mime"]
    )
    options = parser.parse_args()
    errors = Errors()
    logging.getLogger().addHandler(errors)
    kinds = [play_sessions, play_pipelined, read_paths, read_settings, read_mime]
    kinds = [kind for kind in kinds if options.kind in (None, kind.__name__)]
    seed = random.randrange(1 << 32) if options.seed is None else options.seed
    done, end = Counter(), time.monotonic() + options.seconds
    while time.monotonic() < end:
        for kind in kinds:
            try:
                kind(Mind(seed))
                errors.check()
            except Finding as finding:
                print(f"--kind {kind.__name__} --seed {seed}: {finding}", file=sys.stderr)
                sys.exit(1)
            done[kind.__name__] += 1
        seed += 1
    print(f"nothing found: {dict(done)}")


if __name__ == "__main__":
    main()
