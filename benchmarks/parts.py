"""What the parts cost alone: filters, parser, store, start, idle connections; how cost grows."""

import asyncio
import base64
import contextlib
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from gatepost.config.store import Keep, StoreSettings
from gatepost.mime import read_message
from gatepost.model.mail import Envelope, Message, Recipient, Session, Transaction, new_id
from gatepost.model.record import Disposition, RecipientRecord, Record
from gatepost.model.verdict import Action
from gatepost.pipeline.filter_settings import make_filter
from gatepost.place import Place
from gatepost.store import Box, Kept, Store, open_store
from gatepost_attachments import Attachments
from gatepost_clamav import ClamAV
from gatepost_keywords import Keywords
from gatepost_match import Match
from measure import Load, cpu_seconds, memory, messages_for, sampled_memory, turn
from proxies import RULES, MissingError, free_port, gatepost, program, sink, started, wait_for

SIZES = {"1 KB": 1 << 10, "30 KB": 30 << 10, "1 MB": 1 << 20}
WORDS = [f"unlikely{number}" for number in range(1000)]
A_RULE = """\
  - {{name: r{number}, filter: match, when: {{sender: "*@no{number}.example"}}, action: reject}}
"""
GATEPOST = Path(sys.executable).parent / "gatepost"
Rows = list[list[object]]
Table = tuple[str, list[str], Rows]
"""Title, column heads, rows."""


def a_message(octets: int) -> bytes:
    """A text of up to 10 KB, and the rest as a base64 attachment."""
    head = b"From: <a@example.org>\r\nTo: <b@example.com>\r\nSubject: report\r\nMIME-Version: 1.0\r\n"
    line = b"The quick brown fox jumps over the lazy dog and comes back again.\r\n"
    text = line * (min(octets, 10 << 10) // len(line))
    if octets <= 10 << 10:
        return head + b"Content-Type: text/plain\r\n\r\n" + text
    data = base64.encodebytes(bytes(range(256)) * ((octets - len(text)) * 3 // 4 // 256)).replace(
        b"\n", b"\r\n"
    )
    return b"".join(
        (
            head,
            b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\n',
            text,
            b"--b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n",
            b'Content-Disposition: attachment; filename="data.bin"\r\n\r\n',
            data,
            b"--b--\r\n",
        )
    )


def a_transaction(octets: int) -> Transaction:
    return Transaction(
        id=new_id(),
        session=Session(
            id=new_id(),
            client=ip_address("192.0.2.1"),
            client_port=25,
            listener="127.0.0.1:25",
            connected_at=datetime.now(UTC),
            helo="client.example",
        ),
        envelope=Envelope(mail_from="a@example.org", recipients=(Recipient(address="b@example.com"),)),
        message=Message(content=a_message(octets)),
        received_at=datetime.now(UTC),
    )


async def microseconds(call: Callable[[], Awaitable[object]], seconds: float = 0.4) -> float:
    """Of the fastest third of the calls, since others use the machine too."""
    await call()
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 3:
        begin = time.perf_counter()
        await call()
        times.append(time.perf_counter() - begin)
    return round(statistics.median(sorted(times)[: max(1, len(times) // 3)]) * 1e6, 1)


def filters() -> list[Table]:
    """Each filter alone, on a message that nobody has read yet, and the parser alone."""
    archives = {"extensions": ["exe", "scr"], "inside_archives": True}
    made = {
        "match, discard": make_filter(Match, {}),
        "keywords, 1,000 words": make_filter(Keywords, {"words": WORDS}),
        "attachments": make_filter(Attachments, {"extensions": ["exe", "scr"]}),
        "attachments, inside archives": make_filter(Attachments, archives),
    }

    async def parser(octets: int) -> float:
        content = a_message(octets)

        async def read() -> None:
            read_message(content)

        return await microseconds(read)

    async def filtering(instance: Any, octets: int) -> float:
        transaction = a_transaction(octets)

        async def ask() -> None:
            if not hasattr(instance, "filter_message"):
                await instance.filter_connect()
                return
            fresh = Message(content=transaction.message.content)
            await instance.filter_message(replace(transaction, message=fresh))

        return await microseconds(ask)

    async def run() -> Rows:
        rows: Rows = [["parser", *[await parser(octets) for octets in SIZES.values()]]]
        for name, instance in made.items():
            rows.append([name, *[await filtering(instance, octets) for octets in SIZES.values()]])
        return rows

    with contextlib.ExitStack() as stack:
        try:
            address = stack.enter_context(clamd())
        except MissingError as error:
            print(f"left out: clamav: {error}", file=sys.stderr)
        else:
            place = {Place: Place(rule="virus", folder=Path())}
            settings = {"address": address, "watch": False}
            made["clamav, with a clamd that knows one virus"] = make_filter(ClamAV, settings, provided=place)
        rows = asyncio.run(run())
    return [("A filter alone, with the parser where it needs that", ["us a message", *SIZES], rows)]


@contextlib.contextmanager
def clamd():
    """A clamd without its large database; its address. Raises MissingError."""
    port = free_port()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "one.ndb").write_text(f"One:0:*:{b'a virus that nobody has'.hex()}\n")
        settings = folder / "clamd.conf"
        settings.write_text(
            f"DatabaseDirectory {folder}\nForeground yes\nTCPSocket {port}\nTCPAddr 127.0.0.1\n"
        )
        with started([program("clamd", "clamav-daemon"), "-c", settings], port, "clamd"):
            yield f"127.0.0.1:{port}"


def a_record() -> Record:
    return Record(
        id=new_id(),
        session_id=new_id(),
        received_at=datetime.now(UTC),
        client="192.0.2.1",
        helo="client.example",
        tls=None,
        authenticated=None,
        mail_from="a@example.org",
        recipients=(
            RecipientRecord(address="b@example.com", disposition=Disposition.RELAYED, action=Action.ACCEPT),
        ),
        size=1024,
        message_id="<1@example.org>",
        subject="report",
        evaluations=(),
        reply="250 2.0.0 Ok",
    )


async def backlog_of(opened: Store, most: int) -> None:
    while opened.backlog > most:  # noqa: ASYNC110 - the store tells nobody
        await asyncio.sleep(0.005)


def store() -> list[Table]:
    """Commits that somebody waits for, and records of the journal that nobody waits for."""

    async def commits(opened: Store, tasks: int, each: int) -> float:
        content = a_message(1024)

        async def one() -> None:
            for _ in range(each):
                kept = Kept(
                    box=Box.INBOX,
                    mail_from="a",
                    recipients=("b@example.com",),
                    prepended=b"",
                    rule=None,
                    reason="",
                    content=content,
                )
                await opened.commit(a_record(), (kept,))

        begin = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(tasks)))
        return tasks * each / (time.perf_counter() - begin)

    async def journal(opened: Store, count: int) -> float:
        begin = time.perf_counter()
        for number in range(count):
            opened.journal(a_record())
            if number % 500 == 0:
                await asyncio.sleep(0)
            await backlog_of(opened, 5000)
        await backlog_of(opened, 0)
        return count / (time.perf_counter() - begin)

    async def run() -> Rows:
        with tempfile.TemporaryDirectory() as folder:
            opened = open_store(StoreSettings(keep=Keep(messages=1_000_000)), Path(folder))
            rows: Rows = [
                [
                    f"commits of 1 KB messages by {tasks} tasks",
                    round(await commits(opened, tasks, 4000 // tasks)),
                ]
                for tasks in (1, 20, 100)
            ]
            rows.append(["records of the journal", round(await journal(opened, 40_000))])
            await opened.close()
            return rows

    return [("The store", ["what", "a second"], asyncio.run(run()))]


def start() -> list[Table]:
    """From exec to the end of `check`, and to the first greeting of `serve`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = folder / "rules.yaml"
        rows: Rows = []
        settings.write_text(RULES.format(port=free_port(), upstream=9, workers=1, rules=""))
        times = []
        for _ in range(7):
            begin = time.perf_counter()
            subprocess.run([GATEPOST, "check", "-c", settings], check=True, capture_output=True)
            times.append(time.perf_counter() - begin)
        rows.append(["gatepost check", round(statistics.median(times) * 1000)])
        for workers in (1, 2):
            times = []
            for _ in range(7):
                port = free_port()
                settings.write_text(RULES.format(port=port, upstream=9, workers=workers, rules=""))
                begin = time.perf_counter()
                with started([GATEPOST, "serve", "-q", "-c", settings], port, "gatepost"):
                    times.append(time.perf_counter() - begin)
            what = f"gatepost serve, {workers} worker{'s' * (workers > 1)}, until it listens"
            rows.append([what, round(statistics.median(times) * 1000)])
    return [("Start", ["what", "ms, median of 7"], rows)]


def idle(connections: int = 2000) -> list[Table]:
    """Memory of a connection that has said EHLO and nothing since."""
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (connections + 500, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    )
    with (
        tempfile.TemporaryDirectory() as name,
        sink() as upstream,
        gatepost(upstream.port, Path(name), workers=1) as proxy,
    ):
        open_ones = [connect(proxy.port) for _ in range(50)]
        before = memory(proxy.process)
        open_ones += [connect(proxy.port) for _ in range(connections)]
        cost = (memory(proxy.process) - before) / connections
        for one in open_ones:
            one.close()
    return [("An idle connection", ["what", "KB"], [["after EHLO, of 2,000", round(cost / 1024, 1)]])]


def connect(port: int) -> socket.socket:
    opened = socket.create_connection(("127.0.0.1", port))
    opened.recv(1000)
    opened.sendall(b"EHLO client.example\r\n")
    opened.recv(1000)
    return opened


def growth(seconds: float) -> list[Table]:
    """CPU a message as rules, recipients and octets grow; one worker."""
    with tempfile.TemporaryDirectory() as name, sink() as upstream:
        rows: Rows = []
        for count in (0, 10, 100, 1000):
            rules = "".join(A_RULE.format(number=number) for number in range(count))
            with serving(Path(name), upstream.port, f"rules:\n{rules}" if rules else "") as proxy:
                load = Load(1024, 20, reuse=True)
                run = turn(proxy, load, messages_for(proxy.port, load, seconds))
                rows.append([f"{count:,} rules of `match`", round(run.cpu * 1000)])
        with serving(Path(name), upstream.port, "") as proxy:
            for count in (1, 10, 100):
                rows.append(
                    [f"{count} recipient{'s' * (count > 1)}", round(many_recipients(proxy, count, seconds))]
                )
            for octets in (1 << 10, 10 << 10, 100 << 10, 1 << 20):
                load = Load(octets, 20, reuse=True)
                run = turn(proxy, load, messages_for(proxy.port, load, seconds))
                rows.append([f"{octets >> 10:,} KB", round(run.cpu * 1000)])
    return [("How the cost of a message grows", ["with", "CPU us a message"], rows)]


@contextlib.contextmanager
def serving(folder: Path, upstream: int, rules: str):
    port = free_port()
    settings = folder / "rules.yaml"
    settings.write_text(RULES.format(port=port, upstream=upstream, workers=1, rules=rules))
    with started([GATEPOST, "serve", "-q", "-c", settings], port, "gatepost") as proxy:
        yield proxy


def many_recipients(proxy, count: int, seconds: float) -> float:
    """CPU us a message; smtp-source -r makes that many recipients of one message."""
    messages = max(20, round(3000 * seconds / count))
    command = [program("smtp-source", "postfix"), "-d", "-s", "20", "-l", "1024", "-m", str(messages)]
    command += ["-r", str(count), "-f", "a@example.org", "-t", "b@example.com", f"127.0.0.1:{proxy.port}"]
    subprocess.run(command, check=True, capture_output=True)
    before = cpu_seconds(proxy.process)
    subprocess.run(command, check=True, capture_output=True)
    return (cpu_seconds(proxy.process) - before) / messages * 1e6


def complaints(seconds: float, turns: int) -> list[Table]:
    """The mail trap with its page: each message is on the disk, with its conversation, before its 250."""
    with tempfile.TemporaryDirectory() as name:
        port, web = free_port(), free_port()
        command = [GATEPOST, "complaints", "-q", "--smtp", f"127.0.0.1:{port}", "--web", f"127.0.0.1:{web}"]
        with started(
            [*command, "--store", "bench.db", "--keep", "1000000"], port, "complaints", cwd=name
        ) as proxy:
            wait_for(web, "the desk")
            load = Load(1024, 20, reuse=True)
            count = messages_for(port, load, seconds)
            rates = [turn(proxy, load, count).rate for _ in range(turns)]
    return [
        (
            "Complaints mode",
            ["1 KB, reused", "messages/s"],
            [["stored durably", round(statistics.median(rates))]],
        )
    ]


def large(turns: int) -> list[Table]:
    """25 MB through one session of one worker."""
    octets = 25 << 20
    with tempfile.TemporaryDirectory() as name, sink() as upstream:
        with gatepost(upstream.port, Path(name), workers=1) as proxy:
            load = Load(octets, 1, reuse=True)
            count = messages_for(proxy.port, load, 2)
            rate = statistics.median(turn(proxy, load, count).rate for _ in range(turns))
            before = memory(proxy.process)
        with gatepost(upstream.port, Path(name), workers=1) as proxy:
            before = memory(proxy.process)
            with sampled_memory(proxy.process) as samples:
                turn(proxy, load, count)
    rows: Rows = [
        ["MB/s", round(rate * 25)],
        ["peak memory on top of the idle process, in messages", round((max(samples) - before) / octets, 2)],
    ]
    return [("25 MB, one session, one worker", ["what", "figure"], rows)]
