"""What the machine plays with: a gateway that may be stopped, locked, filled or killed; servers; clients."""

import asyncio
import gc
import hashlib
import os
import re
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import get_args

import psutil
import pytest
import uvloop
import yaml
from gatepost.config import load
from gatepost.model.record import Disposition, Record
from gatepost.process.service import Service
from gatepost.store import Box, JournalQuery, KeptQuery, open_archive
from gatepost.store.postgresql import driver as server_driver
from gatepost.store.postgresql import groups
from gatepost.store.sql import writer
from gatepost.store.sqlite import driver
from gatepost.testing import FakeUpstream
from gatepost.testing.upstream import Step

sys.path.insert(0, str(Path(__file__).parents[2] / "store"))
from postgres_server import PostgresServer

PATIENCE_SECONDS = 60.0
"""For each thing that is waited for; a healthy gateway takes milliseconds."""
TCP_OPEN = ("01", "02", "03", "0A")
"""Established, being established, listening."""
ROOT = Path(__file__).parents[3]
LISTENS_ON = re.compile(r"listens on .*?127\.0\.0\.1:(\d+)")
ADDED = re.compile(rb"Received: from [^\r]+\r\n(?:\t[^\r]+\r\n)+(?:X-Tag: yes\r\n)?")
"""What the gateway may put before a message."""
NO_LINGER = struct.pack("ii", 1, 0)
LIMITS = {
    "message_size": "320KiB",
    "memory": "640KiB",
    "filter_time": "1s",
    "upstream_time": "300ms",
    "connect_time": "1s",
    "shutdown_time": "200ms",
}
FILTERS = """
    import asyncio

    from gatepost import Verdict, hookimpl


    class Always:
        @hookimpl
        async def filter_message(self, transaction):
            return Verdict(reason="it is always so")


    class AtOnce:
        @hookimpl
        async def filter_connect(self, session):
            return Verdict(reason="it is always so")


    class Raises:
        @hookimpl
        def filter_message(self, transaction):
            raise RuntimeError("on purpose")


    class Hangs:
        @hookimpl
        async def filter_message(self, transaction):
            await asyncio.sleep(60)
"""
LATE = [
    ("reject", "Always", {"action": "reject"}),
    ("defer", "Always", {"action": "defer"}),
    ("quarantine", "Always", {"action": "quarantine"}),
    ("discard", "Always", {"action": "discard"}),
    ("tag", "Always", {"action": "tag", "tag": {"add": {"X-Tag": "yes"}}}),
    ("refuse-early", "AtOnce", {"action": "reject"}),
    ("quarantine-early", "AtOnce", {"action": "quarantine"}),
    ("discard-early", "AtOnce", {"action": "discard"}),
]
"""A rule for each recipient who is called so."""


def rules_of(mixed, on_error, servers, url, port=0):
    failing = {"on_error": on_error, "timeout": "100ms"}
    rules = [*LATE, ("raise", "Raises", failing), ("hang", "Hangs", failing)]
    return {
        "hostname": "gateway.example.net",
        "listen": f"127.0.0.1:{port}",
        "limits": LIMITS,
        "store": {"url": url},
        "mixed_recipients": mixed,
        "relay": [
            {"recipients": "*@example.com", "to": [server.server.url for server in servers]},
            {"recipients": "*@inbox.example", "to": "inbox"},
            {"recipients": "*@discard.example", "to": "discard"},
        ],
        "rules": [
            {
                "name": name,
                "filter": f"./filters.py:{filter_class}",
                "when": {"recipient": f"{name}@*"},
                **settings,
            }
            for name, filter_class, settings in rules
        ],
    }


def wait_until(
    condition: Callable[[], object], what: str, instead: Callable[[], object] = lambda: ""
) -> None:
    """``instead`` tells what there is if the condition never holds."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < give_up, f"{what}: not within {PATIENCE_SECONDS:g} s {instead()}"
        time.sleep(0.002)


@dataclass(eq=False)
class Message:
    """One transaction, as its client saw it."""

    token: str
    content: bytes
    recipients: list[str] = field(default_factory=list)
    """Whom the gateway said 250 to."""
    begun: bool = False
    """MAIL was answered 250."""
    ended: bool = False
    """Its last octet was sent."""
    answer: str | None = None
    """To its end; empty: the connection ended; None: nobody heard it."""
    disturbed: set[str] = field(default_factory=set)
    """What came between its end and its answer: killed, restarted, store."""

    @classmethod
    def make(cls, number: int, lines: int) -> "Message":
        token = f"message-{number}"
        body = "".join(f"{'.' * (line % 3)}{token} {line:60}\r\n" for line in range(lines))
        return cls(token, f"Subject: {token}\r\n\r\n{body}".encode())

    @property
    def wire(self) -> bytes:
        return self.content.replace(b"\r\n.", b"\r\n..") + b".\r\n"

    @property
    def is_open(self) -> bool:
        return self.ended and self.answer is None


@dataclass(frozen=True)
class Copy:
    """Where a message is."""

    where: str
    recipients: tuple[str, ...]
    content: bytes
    certain: bool
    """False: the server behind took it and did not say so."""


class Server:
    """A server behind the gateway which does at each step what is planned for it, once."""

    def __init__(self) -> None:
        steps = get_args(Step)
        self.server = FakeUpstream({step: partial(self._play, step) for step in steps})
        self.plan: dict[tuple[str, bool], object] = {}
        """By step, and whether it is for connections that are used again only."""
        self.copies: list[tuple[str, Copy]] = []
        self._here = threading.local()

    def _play(self, step: str, argument: str):
        here = self._here
        if step == "mail":
            here.transactions = getattr(here, "transactions", 0) + 1
            here.token = re.search(r"<(.+?)@", argument)[1]
        again = getattr(here, "transactions", 0) > (1 if step != "rset" else 0)
        behaviour = self.plan.pop((step, True), None) if again else None
        behaviour = behaviour or self.plan.pop((step, False), None)
        if step == "dot":
            self._took(here.token, behaviour)
        return behaviour

    def _took(self, token: str, behaviour: object) -> None:
        *_, message = (m for m in self.server.messages if m.mail_from.startswith(f"{token}@"))
        refused = isinstance(behaviour, str) and behaviour[0] in "45"
        if not refused:
            recipients = tuple(recipient.address for recipient in message.recipients)
            copy = Copy("upstream", recipients, message.content, certain=behaviour is None)
            self.copies.append((token, copy))


class Client:
    """Says what it is told to, and reads whole replies; empty where the connection has ended."""

    def __init__(self, port: int) -> None:
        self.message: Message | None = None
        self.state = "idle"
        """idle, envelope, data, chunks or answer: what it is in the midst of."""
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.lines = self.socket.makefile("rb")
        self.reply()
        self.say("EHLO client.example.org")

    def send(self, octets: bytes) -> None:
        with suppress(ConnectionError):
            self.socket.sendall(octets)

    def reply(self) -> str:
        lines = []
        with suppress(ConnectionError):
            while line := self.lines.readline():
                lines.append(line.decode().rstrip("\r\n"))
                if line[3:4] != b"-":
                    return "\n".join(lines)
        return ""

    def say(self, command: str) -> str:
        self.send(f"{command}\r\n".encode())
        return self.reply()

    def half_close(self) -> None:
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def close(self, *, reset: bool = False) -> None:
        if reset:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        self.lines.close()
        self.socket.close()


class Gateway:
    """One store, and a gateway that works on it, now and then."""

    can_be_killed = False

    def __init__(self, servers: list[Server], database: PostgresServer | None = None) -> None:
        self.servers = servers
        self.database = database
        """None: the store is a file."""
        self.url = database.clean_schema() if database else "sqlite:///gatepost.db"
        self.faults = ("lock_store", "stop_database") if database else ("lock_store", "fill_store")
        self.is_down = False
        self.kept_folder = tempfile.TemporaryDirectory(prefix="gatepost-")
        self.folder = Path(self.kept_folder.name)
        (self.folder / "filters.py").write_text(FILTERS.replace("\n    ", "\n"))
        self.path = self.folder / "rules.yaml"
        self.lock = None
        self.full = False
        self.write("quarantine", "defer")
        self.before = self.without_gateway()
        self.start()
        self.base_line = 0
        """`sockets` of a gateway that has nothing to do."""
        gc.collect()  # sockets that earlier tests have left
        wait_until(self.has_base_line, "no socket comes or goes")
        loaded = load(self.path)
        self.archive = open_archive(loaded.config.store, loaded.base)

    @property
    def faulty(self) -> bool:
        return self.full or self.is_down or self.lock is not None

    def has_base_line(self) -> bool:
        """No socket comes or goes for a moment."""
        seen = set()
        for _ in range(5):
            seen.add(self.sockets())
            time.sleep(0.01)
        self.base_line = seen.pop()
        return not seen

    def unrest(self) -> dict[str, object]:
        """What is not as at the beginning: empty if nobody is there, and nothing is in flight."""
        found = {"sockets": self.sockets() - self.base_line, "half closed": self.half_closed()}
        return {name: value for name, value in found.items() if value}

    def held(self) -> dict[str, int]:
        """What this process holds of the gateway."""
        return {}

    def without_gateway(self) -> dict[str, int]:
        """The same where there is none."""
        return {}

    def sockets(self) -> int:
        """How many there are, but for connections to the servers behind."""
        is_counted = self.database is None  # those to a database are Unix sockets, and come and go
        return sum(
            one.is_tcp or is_counted for one in sockets_of(self.pid) if not one.ports & self.ports_behind()
        )

    def half_closed(self) -> int:
        """Connections to the servers behind that one end has closed, and the other one has not."""
        return sum(
            bool(one.ports & self.ports_behind()) and one.is_half_closed for one in sockets_of(self.pid)
        )

    def ports_behind(self) -> set[int]:
        return {server.server.port for server in self.servers}

    def write(self, mixed: str, on_error: str) -> None:
        self.path.write_text(
            yaml.safe_dump(rules_of(mixed, on_error, self.servers, self.url), sort_keys=False)
        )

    def lock_store(self) -> None:
        if self.database and self.lock is None and not self.is_down:
            self.lock = self.database.connect(self.url)
            self.lock.execute("SET lock_timeout = '10s'")
            self.lock.execute(server_driver.lock(server_driver.Lock.WRITE))
        elif self.database is None and self.lock is None:
            self.lock = sqlite3.connect(self.folder / "gatepost.db", isolation_level=None, timeout=5)
            self.lock.execute("BEGIN IMMEDIATE")

    def mend_store(self) -> None:
        if self.is_down:
            self.database.start()
            self.is_down = False
        if self.lock is not None:
            if self.database is None:
                self.lock.execute("ROLLBACK")
            self.lock.close()
            self.lock = None

    def stop_database(self) -> None:
        """As a crash: nobody is told, and it recovers at its next start."""
        if not self.is_down:
            self.database.stop(signal.SIGQUIT)
            self.is_down = True

    def restart_database(self) -> None:
        """The gateway's connections end; a lock that was held is not any more."""
        self.stop_database()
        self.mend_store()

    def journal(self) -> dict[str, Record]:
        """By the token in the reverse-path; one for each transaction."""
        records = self.archive.records(JournalQuery(), limit=100_000)
        named = [(record.mail_from or "").partition("@")[0] for record in records]
        assert len(named) == len(set(named)), f"more than one record of {sorted(named)}"
        return dict(zip(named, records, strict=True))

    def kept(self) -> list[tuple[str, Copy]]:
        copies = []
        for box in Box:
            for summary in self.archive.kept(KeptQuery(box=box), limit=100_000):
                kept = self.archive.kept_message(summary.id)
                copy = Copy(str(box), kept.recipients, kept.delivered_form, certain=True)
                copies.append((kept.mail_from.partition("@")[0], copy))
        return copies

    def close(self) -> None:
        self.mend_store()
        self.stop()
        self.archive.close()
        self.kept_folder.cleanup()
        give_up = time.monotonic() + PATIENCE_SECONDS
        while left := Counter(self.held()) - Counter(self.before):
            assert time.monotonic() < give_up, f"it left {dict(left)}"
            time.sleep(0.002)


@dataclass(frozen=True)
class Socket:
    """An open one."""

    is_tcp: bool = False
    """False: another kind, or a connection that is over."""
    ports: frozenset[int] = frozenset()
    """Its own, and the one that it is connected to."""
    is_half_closed: bool = False


def sockets_of(pid: int) -> list[Socket]:
    """All of a process, with what the kernel says of them (proc(5), net/tcp)."""
    open_files = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it is closed just now
            open_files.append(str(descriptor.readlink()))
    known = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            _, local, remote, state, *_, inode = line.split()[:10]
            ports = frozenset(int(one.partition(":")[2], 16) for one in (local, remote))
            known[f"socket:[{inode}]"] = Socket(
                is_tcp=True, ports=ports, is_half_closed=state not in TCP_OPEN
            )
    return [known.get(one, Socket()) for one in open_files if one.startswith("socket:")]


class InThisProcess(Gateway):
    """Restarts within milliseconds."""

    pid = os.getpid()

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        servers: list[Server],
        database: PostgresServer | None = None,
    ) -> None:
        self.loop = loop
        super().__init__(servers, database)

    def _run(self, function, *arguments):
        async def run():
            result = function(*arguments)
            return await result if asyncio.iscoroutine(result) else result

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(PATIENCE_SECONDS)

    def start(self) -> None:
        self.service = self._run(Service, load(self.path))
        self._run(self.service.start)
        self.port = self.service.addresses[0][1]
        self.full = False

    def stop(self, grace_seconds: float = 0.0) -> None:
        self._run(self.service.stop, grace_seconds)
        self.full = False  # the limit was its connection's

    def reload(self, mixed: str, on_error: str) -> None:
        self.write(mixed, on_error)
        self._run(self.service.reload, load(self.path))

    def fill_store(self) -> None:
        """No page more than there are."""
        self._limit_pages("page_count")
        self.full = True

    def mend_store(self) -> None:
        super().mend_store()
        if self.full:
            self._limit_pages("max")
            self.full = False

    def _limit_pages(self, limit: str) -> None:
        with suppress(Exception), self.service.store._database.write() as connection:
            pages = (
                connection.exec_driver_sql("PRAGMA page_count").scalar()
                if limit == "page_count"
                else 1_000_000
            )
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

    def held(self) -> dict[str, int]:
        """The event loop keeps a few threads of its own for what blocks."""
        threads = [thread.name for thread in threading.enumerate()]
        return {
            "descriptors": len([*Path("/proc/self/fd").iterdir()]),
            "tasks": len(asyncio.all_tasks(self.loop)),
            "threads": sum(not name.startswith("asyncio_") for name in threads),
        }

    def without_gateway(self) -> dict[str, int]:
        self.start()  # what the first one ever leaves in the process it leaves for good
        self.stop()
        return self.held()

    def unrest(self) -> dict[str, object]:
        (endpoint,) = self.service._server._endpoints
        found = {
            "sessions": self.service.samples()["sessions_open",] or self.service._server._sessions,
            "unwritten": self.service.store.backlog,
            "memory taken": not endpoint.memory.has(self.service.limits.memory),
            "tasks": asyncio.all_tasks(self.loop),
        }
        return {name: value for name, value in found.items() if value} | super().unrest()


class InItsOwnProcess(Gateway):
    """As its operator runs it; it may be killed."""

    can_be_killed = True

    @property
    def pid(self) -> int:
        """The worker's."""
        (worker,) = psutil.Process(self.process.pid).children()
        return worker.pid

    def start(self) -> None:
        log = self.folder / "log"
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join((str(ROOT / "proxy"), str(ROOT / "plugins"))),
        }
        with log.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gatepost", "serve", "-c", self.path],
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                env=environment,
            )
        wait_until(
            lambda: self.process.poll() is not None or LISTENS_ON.search(log.read_text()),
            "the gateway listens",
        )
        assert self.process.poll() is None, log.read_text()
        self.port = int(LISTENS_ON.search(log.read_text())[1])
        self.log = log

    def stop(self, grace_seconds: float = 0.0, number: int = signal.SIGTERM) -> None:
        del grace_seconds  # it has its own
        if number == signal.SIGKILL:  # none of its processes sees the others end
            self.process.send_signal(signal.SIGSTOP)
            os.kill(self.pid, signal.SIGKILL)
        self.process.send_signal(number)
        assert self.process.wait(PATIENCE_SECONDS) in (0, -signal.SIGKILL), self.log.read_text()

    def reload(self, mixed: str, on_error: str) -> None:
        self.write(mixed, on_error)
        before = self.log.read_text().count(" reloaded")
        self.process.send_signal(signal.SIGHUP)
        wait_until(lambda: self.log.read_text().count(" reloaded") > before, "reloaded")


class LostError(AssertionError):
    """An invariant does not hold."""


def check(message: Message, copies: list[Copy], record: Record | None, *, is_last_word: bool = True) -> None:
    """The promise, for one message whose transaction is over, maybe before the journal's last word on it."""
    ends = {one.address: one.disposition for one in record.recipients} if record else {}
    doubt = Disposition.IN_DOUBT in ends.values() or "killed" in message.disturbed
    answer = message.answer or (record.reply if record else "")

    def require(condition: object, what: str) -> None:
        if not condition:
            where = [f"{c.where} for {', '.join(c.recipients)}, certain: {c.certain}" for c in copies]
            raise LostError(
                f"{message.token}: {what}\n  its recipients: {message.recipients}"
                f"\n  answer: {message.answer!r}\n  disturbed: {message.disturbed}"
                f"\n  copies: {where}\n  journal: {record}"
            )

    for copy in copies:
        require(set(copy.recipients) <= set(message.recipients), "somebody else has it")
        added = ADDED.match(copy.content)
        content = copy.content[added.end() :] if added else copy.content
        same = hashlib.sha256(content).digest() == hashlib.sha256(message.content).digest()
        require(same, "its content was changed")
    for recipient in message.recipients:
        certain = [copy for copy in copies if recipient in copy.recipients and copy.certain]
        possible = [copy for copy in copies if recipient in copy.recipients]
        discarded = ends.get(recipient) is Disposition.DISCARDED
        if answer.startswith("2"):
            require(certain or discarded, f"{recipient} has not got what was acknowledged")
            require(not (discarded and possible), f"{recipient} has got what was discarded")
        else:
            what = f"{recipient} has got what was not acknowledged"
            require(not possible or doubt or "store" in message.disturbed, what)
        few = len(possible) <= 1 or doubt or "store" in message.disturbed
        require(few, f"{recipient} has got it more than once")
    if message.answer and record and "killed" not in message.disturbed:
        # A record that was never finished, for want of a store, says of itself that it is in doubt.
        unfinished = not record.reply and ("store" in message.disturbed or not is_last_word)
        agree = message.answer[:3] == record.reply[:3] or unfinished
        require(agree, "the journal says something else than the client was told")


@pytest.fixture
def play(monkeypatch):
    """What the machine needs: servers, gateways, clients, messages and their check."""
    monkeypatch.setattr(driver, "BUSY_SECONDS", 0.03)
    monkeypatch.setattr(server_driver, "LOCK_SECONDS", 0.1)
    monkeypatch.setattr(groups, "_SETTLE_SECONDS", 0.3)
    monkeypatch.setattr(groups, "_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(writer, "_RETRY_SECONDS", 0.02)
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    class Play:
        server = Server
        client = Client
        message = Message.make
        in_this_process = partial(InThisProcess, loop)
        in_its_own_process = InItsOwnProcess

    Play.check = staticmethod(check)
    Play.wait_until = staticmethod(wait_until)
    yield Play
    asyncio.run_coroutine_threadsafe(loop.shutdown_default_executor(), loop).result(PATIENCE_SECONDS)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(PATIENCE_SECONDS)
    # After a failure something may still be open, and then uvloop may not return from this.
    closing = threading.Thread(target=loop.close, daemon=True)
    closing.start()
    closing.join(PATIENCE_SECONDS)


@pytest.fixture(scope="module")
def database():
    """A server for the machines of one module, one after the other."""
    server = PostgresServer()
    yield server
    server.close()
