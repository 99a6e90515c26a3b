"""Say whatever comes to mind to a running gateway, and to what reads paths, settings and MIME.

    python tests/reliability/fuzz.py --seconds 600

It ends with status 1 at the first thing that should not be, and prints what was said and the seed that says
it again.
"""

import argparse
import base64
import logging
import random
import re
import socket
import ssl
import sys
import tempfile
import time
from collections import Counter
from functools import cache, partial
from itertools import count
from pathlib import Path

import argon2
import trustme
from gatepost.config import ConfigError, load
from gatepost.mime import read_message
from gatepost.mime.scan import scan_parts
from gatepost.server.paths import parse_mail, parse_rcpt
from gatepost.server.replies import Refusal
from gatepost.testing import FakeUpstream, running_gateway
from reading import Message, Reading, Unanswered

PATIENCE_SECONDS = 20.0
LISTENERS = ("plain", "starttls", "tls", "proxy")
TRACE = re.compile(rb"Received: from .+\r\n\tby .+ id [^\s;]+(?:\r\n\tfor <.+>)?;\r\n\t.+\r\n")
"""The field that the gateway adds."""
LINE = re.compile(rb"[2-5]\d\d(?:[ -](?:[245]\.\d{1,3}\.\d{1,3} )?[\x20-\x7e]*)?\r\n")
HOLDS_ON = re.compile(rb"\s*(DATA|BDAT|AUTH|STARTTLS|QUIT)", re.IGNORECASE)
"""What is followed by something else than a command."""
INNARDS = re.compile(rb"Traceback|Error\b|Exception|object at 0x|/gatepost/|\.py\b")
# fmt: off
COMMANDS = [
    b"EHLO c.example", b"HELO c.example", b"MAIL FROM:<a@example.org>", b"MAIL FROM:<>",
    b"MAIL FROM:<a@example.org> SIZE=100 BODY=8BITMIME", b"RCPT TO:<b@example.com>",
    b"RCPT TO:<c@inbox.example>", b"RCPT TO:<d@discard.example>", b"RCPT TO:<e@foreign.example>",
    b"RCPT TO:<b@example.com> NOTIFY=NEVER", b"RSET", b"NOOP", b"VRFY bob", b"HELP", b"EXPN x",
    b"STARTTLS", b"AUTH PLAIN AGEAYg==", b"AUTH PLAIN", b"AUTH LOGIN", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2",
    b"XCLIENT ADDR=192.0.2.1", b"FOO", b"", b"AUTH PLAIN " + base64.b64encode(b"\0alice\0wonder land"),
]
RESPONSES = [
    b"*", b"", b"=", b"YWxpY2U=", b"d29uZGVyIGxhbmQ=", base64.b64encode(b"\0alice\0wonder land"),
    base64.b64encode(b"\0alice\0guess"), b"A" * 13_000,
]
ENDS = [
    b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r.\n", b"\n.\r", b"\r.\r\n", b"\r\n.\r", b"\r\n\0.\r\n",
    b"\r\n.\0\r\n", b"\r\n.\r\r\n", b"\r\r\n.\r\r\n",
]
SMUGGLED = b"MAIL FROM:<smuggled@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\na: b\r\n\r\ny\r\n"
CONTENTS = [
    b"Subject: x\r\n\r\nHello\r\n", b"", b"\r\n", b"..dots\r\n", b"a: b\r\n\r\nviagra\r\n",
    b"a\nb\r\n", b"a\rb\r\n", b"\x00\r\n", b"\xff\xfe\r\n", b"x" * 70_000 + b"\r\n",
    b"Received: x\r\n" * 60 + b"\r\n", b"a: b\r\n" * 30_000,
    (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Disposition: attachment; "
        b"filename=a.exe\r\n\r\nx\r\n--b--\r\n"
    ),
    *(b"a: b\r\n\r\nx" + end + SMUGGLED for end in ENDS),
]
PROXIED = [
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", b"PROXY TCP6 2001:db8::1 2001:db8::2 65535 25\r\n",
    b"PROXY UNKNOWN\r\n", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\2\1\xc0\0\2\2\0\1\0\x19",
    b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
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
mixed_recipients: defer
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
    "limits": {
        "message_size": "64KiB",
        "invalid_commands": 1000,
        "session_time": "10s",
        "data_time": "1s",
        "command_time": "1500ms",
    },
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
        self.tokens = count()

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
        """What may be a message; most have a field that no other has."""
        content = self.random.choice(CONTENTS)
        content = self.mutated(content) if self.often() else content
        return content if self.often() else b"X-Token: %d\r\n" % next(self.tokens) + content

    def transaction(self):
        """What would be answered 250, but for a change or two."""
        chosen = [
            b"EHLO c.example",
            b"MAIL FROM:<token%d@example.org>" % next(self.tokens),
            *self.random.choices(COMMANDS[5:9], k=2),
            b"DATA",
        ]
        return [self.mutated(line, 2) if self.random.random() < 0.05 else line for line in chosen]


class Line:
    """A connection to one of the listeners, with what was said on it since its beginning or the handshake."""

    def __init__(self, host, port):
        self.socket = socket.create_connection((host, port), PATIENCE_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.lines = self.socket.makefile("rb")
        self.is_tls = False
        self.said, self.replies, self.before = b"", [], []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.lines.close()
        self.socket.close()

    def say(self, octets):
        self.said += octets
        self.socket.sendall(octets)

    def reply(self):
        """The last line of a reply; empty where the connection has ended."""
        while line := self.lines.readline():
            if not LINE.fullmatch(line):
                raise Finding(f"no reply: {line!r}")
            if INNARDS.search(line):
                raise Finding(f"innards: {line!r}")
            if line[3:4] != b"-":
                self.replies.append(line)
                return line
        return b""

    def start_tls(self):
        """The handshake; what was said before it is read as a session of its own."""
        self.before.append((self.said, self.replies))
        self.said, self.replies = b"", []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.lines.close()
        self.socket = context.wrap_socket(self.socket)
        self.lines = self.socket.makefile("rb")
        self.is_tls = True

    def hear_all(self):
        """Say nothing more, and hear what there is to hear."""
        if not self.is_tls:  # there is no half of a close with TLS
            self.socket.shutdown(socket.SHUT_WR)
        while self.reply():
            pass


class Sessions:
    """Sessions with one gateway."""

    def __init__(self, gateway, *, normalise):
        self.places = dict(zip(LISTENERS, gateway.addresses, strict=True))
        self.normalise = normalise
        self.taken = Counter()
        """The messages that were answered 250."""
        self.cut_off = []
        """What was said on connections that were reset, so that replies may have been lost on their way."""

    def play(self, mind):
        """One session: in steps, or all at once."""
        kind = mind.random.choice(LISTENERS)
        with Line(*self.places[kind]) as line:
            try:
                if self._begun(mind, kind, line):
                    (self._in_steps if mind.random.random() < 0.5 else self._at_once)(mind, line)
                self.read(line)
            except TimeoutError:
                raise Finding(f"no answer within {PATIENCE_SECONDS:g} s to {line.said[-500:]!r}") from None
            except OSError:  # reset
                self.cut_off.append(b"".join((*(said for said, _ in line.before), line.said)))
            except (Finding, Unanswered) as finding:
                raise Finding(f"{kind}: {finding}; said: {line.said!r}, heard: {line.replies}") from None

    def _begun(self, mind, kind, line):
        """The header of a balancer, a handshake, the greeting; False where there is none."""
        if kind == "proxy":
            header = mind.random.choice(PROXIED)
            line.socket.sendall(mind.mutated(header, 3) if mind.often() else header)
            line.socket.settimeout(PATIENCE_SECONDS)
        if kind == "tls":
            line.start_tls()
        if not line.reply().startswith(b"220"):
            line.replies.clear()
            return False
        line.replies.clear()
        if kind == "starttls" and mind.random.random() < 0.7:
            line.say(b"EHLO c.example\r\n")
            line.reply()
            line.say(b"STARTTLS\r\n" + (mind.line() + b"\r\n" if mind.often() else b""))
            if line.reply().startswith(b"220"):
                line.start_tls()
        return True

    def _in_steps(self, mind, line):
        """Each line has one reply, and what follows has its own."""

        def say(octets):
            line.say(octets)
            return line.reply()

        for planned in mind.transaction() + [mind.line() for _ in range(mind.random.randrange(8))]:
            one = planned.replace(b"\n", b"").replace(b"\r", b"") + b"\r\n"
            if one[:4].upper() == b"QUIT" or one[:4].upper() == b"BDAT":
                continue
            code = say(one)[:3]
            if code == b"354":
                content = mind.content()
                body = content if content.endswith(b"\r\n") or not content else content + b"\r\n"
                stuffed = (b"\r\n" + body).replace(b"\r\n.", b"\r\n..")[2:]
                code = say(stuffed + b".\r\n")[:3]
            while code == b"334":
                code = say(mind.random.choice(RESPONSES) + b"\r\n")[:3]
            if code == b"220":
                line.start_tls()
            if code in (b"", b"421"):
                return
            if (after := say(b"VRFY x\r\n"))[:3] not in (b"252", b"421", b"503", b""):
                raise Finding(f"{after!r} to VRFY: an answer to something else")

    def _at_once(self, mind, line):
        """Anything, in packets of any size; then nothing more."""
        parts = []
        for _ in range(mind.random.randrange(1, 5)):
            parts += [one + b"\r\n" for one in mind.transaction()]
            parts += [mind.content(), b"\r\n.\r\n", mind.line() + b"\r\n"]
            if mind.often():
                chunk = mind.content()
                parts.append(b"BDAT %d%b\r\n%b" % (len(chunk), mind.random.choice([b"", b" LAST"]), chunk))
        octets = mind.mutated(b"".join(parts), 12)
        if line.is_tls:
            octets += b"\r\n.\r\nQUIT\r\n"
        while octets:
            size = mind.random.choice([1, 7, 500, 100_000])
            line.say(octets[:size])
            octets = octets[size:]
        line.hear_all()

    def read(self, line):
        """What the gateway has said to it all."""
        for said, replies in (*line.before, (line.said, line.replies)):
            reading = Reading(said, replies, normalise=self.normalise)
            reading.read()
            self.taken.update(reading.taken)

    def settle(self, there, discarded):
        """What was answered 250 is there, once and as it was sent, and nothing else is."""
        missing, more = self.taken - there, there - self.taken
        missing_by_size = Counter()
        for message, number in missing.items():
            missing_by_size[message.mail_from, message.recipients, message.size] += number
        wrong = {
            "answered 250, and neither there nor discarded": missing_by_size - discarded,
            "there, and not answered 250": Counter(
                one for one in more.elements() if not self._cut(one.mail_from)
            ),
            "discarded, and not answered 250": Counter(
                one for one in (discarded - missing_by_size).elements() if not self._cut(one[0])
            ),
        }
        if any(wrong.values()):
            raise Finding(f"{wrong}; cut off: {self.cut_off}")

    def _cut(self, mail_from):
        path = b"<%b>" % mail_from.encode("utf-8", "surrogateescape")
        return any(path in said for said in self.cut_off)


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
        running_gateway({"limits": {"invalid_commands": 1000}}, upstream=upstream) as gateway,
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


@cache
def credentials():
    """A certificate, its key and a user whose password is checked fast."""
    issued = trustme.CA().issue_cert("127.0.0.1")
    hasher = argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
    return {
        "users.yaml": f"alice: {hasher.hash('wonder land')}\n",
        "mx.pem": b"".join(blob.bytes() for blob in issued.cert_chain_pems),
        "mx.key": issued.private_key_pem.bytes(),
    }


def listeners():
    """Plain, with STARTTLS, with TLS from the beginning, and behind a balancer."""
    tls, local = {"certificate": "mx.pem", "key": "mx.key"}, {"address": "127.0.0.1:0"}
    auth = {"users": "users.yaml"}
    return [
        {**local, "auth": {**auth, "without_tls": True}},
        {**local, "tls": tls, "auth": auth},
        {**local, "tls": {**tls, "mode": "implicit"}, "auth": auth},
        {**local, "proxy_protocol_from": "127.0.0.1"},
    ]


def messages_in(gateway, upstream):
    """The messages upstream and in the store, and envelopes and sizes of those that were discarded."""
    there = Counter()
    for message in upstream.messages:
        found = TRACE.match(message.content)
        if not found:
            raise Finding(f"no field of ours: {message.content[:200]!r}")
        recipients = [recipient.address for recipient in message.recipients]
        there[Message.of(message.mail_from, recipients, message.content[found.end() :])] += 1
        for dropped in (b"", b"\0", b"\r"):
            if re.split(rb"\r\n|\r|\n", message.wire.translate(None, dropped)).count(b".") != 1:
                raise Finding(f"two messages for somebody: {message.wire!r}")
    for kept in (*gateway.inbox(), *gateway.quarantine()):
        there[Message.of(kept.mail_from, kept.recipients, kept.content)] += 1
    discarded = Counter()
    for record in gateway.journal():
        recipients = tuple(one.address for one in record.recipients if one.disposition == "discarded")
        discarded[record.mail_from, recipients, record.size] += bool(recipients)
    return there, discarded


def play_sessions(mind):
    """Some sessions with a gateway of their own."""
    with FakeUpstream() as upstream:
        policy = mind.random.choice(["reject", "reject", "normalise", "accept"])
        settings = {
            **GATEWAY,
            "listen": listeners(),
            "bare_newline": policy,
            "relay": [*GATEWAY["relay"], {"recipients": "*@example.com", "to": upstream.url}],
        }
        with running_gateway(settings, files=credentials()) as gateway:
            sessions = Sessions(gateway, normalise=policy == "normalise")
            for _ in range(60):
                sessions.play(mind)
            sessions.settle(*messages_in(gateway, upstream))


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
