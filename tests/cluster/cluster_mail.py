"""Clients that send mail all the time and write down each reply, and the account of it at the end.

Each attempt to send a message has a token of its own, so that it can be found in all places: a message that
was sent twice by a gateway has the same token twice.
"""

import asyncio
import contextlib
import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Self

from cluster_nodes import Cluster
from cluster_servers import PATIENCE_SECONDS, wait_until

RECIPIENTS = {
    "relayed": "bob@example.com",
    "quarantined": "kept@example.com",
    "discarded": "dropped@example.com",
}
"""What becomes of a message -> to whom it is sent."""
LINE = b"0123456789" * 7 + b"\r\n"
AGAIN_SECONDS = 0.1
"""Until a client tries again; a mail server waits for minutes."""
STREAM_SECONDS = 0.1
"""Between two clients of a kind that send one message."""
FLUSH_SECONDS = 2.0
"""The records of relayed and discarded mail of this time before a SIGKILL may be missing from the journal."""


@dataclass(slots=True, kw_only=True)
class Attempt:
    """One transaction of a client."""

    token: str
    end: str
    """What becomes of it, if it is accepted."""
    began: float
    """By the monotonic clock, like ``ended``."""
    ended: float = 0.0
    said: bool = False
    """Whether the end of data was sent."""
    reply: str = ""
    """To the end of data, or the refusal before; empty if the connection was lost."""

    @property
    def is_accepted(self) -> bool:
        return self.said and self.reply.startswith("250")


class Load(threading.Thread):
    """So many clients of each kind of mail, message after message, and others that send one, until it ends.

    The others come in a steady stream, however long one waits for its reply, as senders do.
    """

    def __init__(self, *, clients: int = 3, ends: Sequence[str] = tuple(RECIPIENTS)) -> None:
        super().__init__()
        self._ends, self._clients = ends, clients
        self._numbers = itertools.count()
        self._ended = threading.Event()
        self.attempts: list[Attempt] = []
        self.not_greeted: list[tuple[float, str]] = []
        """When a client had no greeting, and what it had instead."""

    @property
    def accepted(self) -> int:
        return sum(attempt.is_accepted for attempt in self.attempts)

    def reaches(self, count: int) -> None:
        wait_until(lambda: self.accepted >= count, f"{count} messages are accepted")

    def run(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for end in self._ends:
                for _ in range(self._clients):
                    group.create_task(self._client(end))
            while not self._ended.is_set():
                for end in self._ends:
                    group.create_task(self._attempt(end, messages=1))
                await asyncio.sleep(STREAM_SECONDS)

    async def _client(self, end: str) -> None:
        while not self._ended.is_set():
            if not await self._attempt(end, messages=10):
                await asyncio.sleep(AGAIN_SECONDS)

    async def _attempt(self, end: str, *, messages: int) -> bool:
        """Whether a session ended as it should."""
        with contextlib.suppress(OSError, EOFError, TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._session(end, messages)
            return True
        return False

    async def _session(self, end: str, messages: int) -> None:
        began = time.monotonic()
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", 25)
        except OSError as error:
            self.not_greeted.append((began, str(error)))
            raise
        try:
            greeting = await _reply(reader)
            if not greeting.startswith("220"):
                self.not_greeted.append((began, greeting))
                raise EOFError
            await _say(reader, writer, b"EHLO client.example.org")
            for _ in range(messages):
                if self._ended.is_set():
                    break
                if not await self._transact(reader, writer, end):
                    await asyncio.sleep(AGAIN_SECONDS)
            await _say(reader, writer, b"QUIT")
        finally:
            writer.close()

    async def _transact(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, end: str) -> bool:
        token = f"m{next(self._numbers)}"
        attempt = Attempt(token=token, end=end, began=time.monotonic())
        self.attempts.append(attempt)
        try:
            for command in (f"MAIL FROM:<{token}@example.org>", f"RCPT TO:<{RECIPIENTS[end]}>", "DATA"):
                reply = await _say(reader, writer, command.encode())
                if reply[0] not in "23":
                    attempt.reply = reply
                    await _say(reader, writer, b"RSET")
                    return False
            attempt.said = True
            writer.write(
                b"Subject: %b\r\n\r\n%bend of %b\r\n.\r\n" % (token.encode(), LINE * 10, token.encode())
            )
            attempt.reply = await _reply(reader)
        finally:
            attempt.ended = time.monotonic()
        return attempt.is_accepted

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()


async def _say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, command: bytes) -> str:
    writer.write(command + b"\r\n")
    return await _reply(reader)


async def _reply(reader: asyncio.StreamReader) -> str:
    """The last line of a reply; raises EOFError."""
    while line := (await reader.readline()).decode():
        if line[3:4] != "-":
            return line.rstrip()
    raise EOFError


@dataclass(slots=True, kw_only=True)
class Account:
    """Where each message is at the end."""

    sunk: Counter[str]
    held: Counter[str]
    """In the quarantine."""
    journal: dict[str, list[str]]
    """What became of it, by the records."""
    faults: list[str] = field(default_factory=list)
    unrecorded: list[Attempt] = field(default_factory=list)
    """Accepted, and not in the journal."""


def account(cluster: Cluster, attempts: Iterable[Attempt]) -> Account:
    """Compare what clients were answered with what there is."""
    with cluster.databases.primary.connect() as connection:
        rows = connection.execute(
            "SELECT mail_from, disposition FROM transactions JOIN recipients ON transaction_id = id"
        ).fetchall()
        held = connection.execute("SELECT mail_from FROM kept").fetchall()
    journal: dict[str, list[str]] = {}
    for sender, disposition in rows:
        journal.setdefault(sender.partition("@")[0], []).append(disposition)
    sunk = cluster.sunk()
    found = Account(
        sunk=Counter(message.token for message in sunk if message.is_whole),
        held=Counter(sender.partition("@")[0] for (sender,) in held),
        journal=journal,
    )
    for attempt in attempts:
        found.faults += _faults(attempt, found)
        if attempt.is_accepted and attempt.token not in journal:
            found.unrecorded.append(attempt)
    return found


def _faults(attempt: Attempt, found: Account) -> list[str]:
    """What is wrong with one message."""
    token = attempt.token
    recorded = found.journal.get(token, [])
    copies = {"relayed": found.sunk[token], "quarantined": found.held[token], "discarded": 0}
    said = f"{token} ({attempt.end}, {attempt.reply or 'no reply'!r}, journal {recorded})"
    faults = [f"{said} is elsewhere" for end, count in copies.items() if count and end != attempt.end]
    count = copies[attempt.end]
    if count > 1:
        faults.append(f"{said} is there {count} times")
    if len(recorded) > 1:
        faults.append(f"{said} has {len(recorded)} records")
    if attempt.is_accepted:
        if not count and attempt.end != "discarded":
            faults.append(f"{said} is lost")
        if recorded and recorded != [attempt.end]:
            faults.append(f"{said} is recorded as something else")
        if attempt.end == "quarantined" and not recorded:
            faults.append(f"{said} has no record, which is written with it")
    elif count and not attempt.said:
        faults.append(f"{said} was never sent")
    elif count and attempt.reply and "in-doubt" not in recorded:
        faults.append(f"{said} was refused, and is there")
    return faults


def longest_gap(attempts: Iterable[Attempt], end: str, since: float, until: float) -> float:
    """Seconds in that time during which no message of that kind was accepted."""
    times = sorted(
        attempt.ended
        for attempt in attempts
        if attempt.end == end and attempt.is_accepted and since <= attempt.ended <= until
    )
    times = [since, *times, until]
    return max(later - earlier for earlier, later in itertools.pairwise(times))
