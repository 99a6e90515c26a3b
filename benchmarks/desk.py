"""How long the web desk's questions to a large store take: list, search, count, open, mark; milliseconds.

python benchmarks/desk.py [--messages 100000] [--folder FOLDER] [--turns 5]

With --folder the store stays there and is used again by the next run. Needs the project installed.
"""

import argparse
import base64
import contextlib
import random
import sqlite3
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

from gatepost.config.settings import Keep, StoreSettings
from gatepost.mail import Stage, new_id
from gatepost.record import Disposition, RecipientRecord, Record
from gatepost.store import Box, Kept, Mailbox, parse_query
from gatepost.store.database import Database
from gatepost.store.writer import Change, _apply
from gatepost.verdict import Action, Evaluation, Result

NAMES = [
    "ann",
    "bob",
    "carol",
    "dave",
    "erin",
    "frank",
    "grace",
    "heidi",
    "ivan",
    "judy",
    "mallory",
    "olivia",
]
RULES = ["no-executables", "legal-words", "too-large", "unknown-sender"]
QUERIES = [
    "",
    "is:unread",
    "is:read",
    "is:quarantined",
    "is:released",
    "the",
    "the is:unread",
    "the before:10d",
    "before:27d",
    "zebra",
    "from:grace zebra",
    "-the",
    "zebra -has:attachment",
    "invo*",
    "abe*",
    '"the invoice"',
    '"of the"',
    "subject:invoice from:ann",
    "to:bob",
    "from:example.org",
    "has:attachment larger:50KB",
    "larger:10MB",
    "rule:too-large",
    "user:user7@example.com",
    "user:nobody",
    "client:192.0.2.7",
    "client:198.51.100.*",
    "tag:t77",
    "tag:none",
    "the client:203.0.113.1",
    "the a of in to rule:legal-words tag:t5",
    "nowhere",
]


class Mail:
    """Varied mail: words as rare and as common as in a language."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        letters = "aeiou", "bcdfghklmnprstvwz"
        made = {
            "".join(self.random.choice(letters[i % 2]) for i in range(self.random.randint(3, 9)))
            for _ in range(30_000)
        }
        self.words = ["the", "of", "to", "a", "in", "invoice"]
        self.words += [*self.random.sample(sorted(made), len(made)), "zebra"]
        self.weights = [1 / (rank + 2) for rank in range(len(self.words))]
        for rank in range(1, len(self.weights)):
            self.weights[rank] += self.weights[rank - 1]

    def text(self, words):
        return " ".join(self.random.choices(self.words, cum_weights=self.weights, k=words))

    def message(self, sender, recipient, when):
        choose = self.random
        words = int(min(5000, choose.lognormvariate(5, 1)))
        text = self.text(words)
        head = (
            f"From: {sender.split('@')[0].title()} Example <{sender}>\r\nTo: <{recipient}>\r\n"
            f"Subject: {self.text(choose.randint(2, 9))}\r\nDate: {format_datetime(when)}\r\n"
            f"Message-ID: <{new_id()}@example.com>\r\nMIME-Version: 1.0\r\n"
        )
        plain = f"Content-Type: text/plain; charset=utf-8\r\n\r\n{text}\r\n"
        kind = choose.random()
        if kind < 0.4:
            return (head + plain).encode()
        page = (
            "<html><body><p>"
            + text.replace(" the ", "</p><p style='color: #333'>the ")
            + "</p></body></html>"
        )
        html = f"Content-Type: text/html; charset=utf-8\r\n\r\n{page}\r\n"
        parts = [plain, html]
        subtype = "alternative"
        if kind > 0.85:
            subtype = "mixed"
            octets = base64.encodebytes(choose.randbytes(choose.randint(1000, 100_000))).decode()
            file = f'Content-Type: application/pdf; name="{self.text(1)}.pdf"'
            parts = [plain, f"{file}\r\nContent-Transfer-Encoding: base64\r\n\r\n{octets}"]
        body = "".join(f"--=_b\r\n{part}" for part in parts)
        return f'{head}Content-Type: multipart/{subtype}; boundary="=_b"\r\n\r\n{body}--=_b--\r\n'.encode()


def changes(messages):
    """Records and kept messages, oldest first, over 28 days."""
    mail = Mail(1)
    choose = mail.random
    start = datetime.now(UTC) - timedelta(days=28)
    for number in range(messages):
        when = start + timedelta(days=28) * number / messages
        sender = f"{choose.choice(NAMES)}@example.{choose.choice(['com', 'net', 'org'])}"
        recipient = f"{choose.choice(NAMES)}+t{choose.randint(0, 999)}@example.com"
        rule = choose.choice(RULES) if choose.random() < 0.1 else None
        box = Box.QUARANTINE if rule else Box.INBOX
        hit = Evaluation(
            rule=rule or "observed",
            stage=Stage.MESSAGE,
            result=Result.HIT if number % 7 == 0 or rule else Result.PASS,
            action=Action.QUARANTINE,
            observed=rule is None,
            reason="a reason",
            recipients=(recipient,),
            seconds=0.001,
        )
        end = RecipientRecord(
            address=recipient, disposition=Disposition.INBOX, action=Action.ACCEPT, rule=rule
        )
        content = mail.message(sender, recipient, when)
        record = Record(
            id=new_id(),
            session_id=new_id(),
            received_at=when,
            client=f"{choose.choice(['192.0.2', '198.51.100'])}.{choose.randint(1, 250)}",
            helo="client.example",
            tls=None,
            authenticated=f"user{choose.randint(0, 99)}@example.com" if number % 3 == 0 else None,
            mail_from=sender,
            recipients=(end,),
            size=len(content),
            message_id="",
            subject="",
            evaluations=(hit,) * 3,
            reply="250 2.0.0 Ok",
        )
        kept = Kept(
            box=box,
            mail_from=sender,
            recipients=(recipient,),
            prepended=b"Received: here\r\n",
            content=content,
            rule=rule,
            reason="a reason" if rule else "",
        )
        yield Change(record=record, kept=[kept])


def fill(settings, folder, messages):
    database = Database.create(settings, folder)
    database.keep()
    group = []
    for change in changes(messages):
        group.append(change)
        if len(group) == 1000:
            with database.write() as connection:
                _apply(connection, group)
            group.clear()
    with database.write() as connection:
        _apply(connection, group)
    database.close()


def indexed(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT count(*) FROM facts").fetchone()[0]


def measure(name, action, turns):
    times = []
    for _ in range(turns):
        started = time.perf_counter()
        result = action()
        times.append((time.perf_counter() - started) * 1000)
    print(
        f"{name:55} {times[0]:9.1f} {statistics.median(times):9.1f} {max(times):9.1f}   {result}", flush=True
    )


def listing(mailbox, text):
    query = parse_query(text)
    return lambda: f"{len(mailbox.page(query).messages)} listed"


def counting(mailbox, text):
    query = parse_query(text)
    return lambda: f"{mailbox.count(query)} counted"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--turns", type=int, default=5)
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = arguments.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        settings = StoreSettings(url="sqlite:///desk.db", keep=Keep(messages=1_000_000))
        started = time.perf_counter()
        if not (folder / "desk.db").exists():
            fill(settings, folder, arguments.messages)
            print(f"filled in {time.perf_counter() - started:.0f} s")
        print(f"store: {(folder / 'desk.db').stat().st_size / 1e6:.0f} MB")
        mailbox = stack.enter_context(Mailbox.open(settings, folder))
        print(f"{'':55} {'first':>9} {'median':>9} {'worst':>9}")
        index = folder / "desk.db-search"
        if indexed(index) < arguments.messages:
            for text in ("", "is:unread", "tag:none", "zebra"):
                measure(f"list while indexing: {text}", listing(mailbox, text), arguments.turns)
            started, before = time.perf_counter(), indexed(index)
            while (now := indexed(index)) < arguments.messages:
                time.sleep(0.5)
            seconds = time.perf_counter() - started
            print(f"indexed {(now - before) / seconds:.0f} messages/s in {seconds:.0f} s")
        print(f"index: {index.stat().st_size / 1e6:.0f} MB")
        ids = [message.id for message in mailbox.page(parse_query(""), limit=200).messages]
        measure("counts", mailbox.counts, arguments.turns)
        measure("changes", mailbox.changes, arguments.turns)
        measure("open", lambda: len(mailbox.message(ids[7]).content), arguments.turns)
        measure("mark 200 as seen", lambda: mailbox.mark(ids, seen=True), 1)
        measure("mark 200 as unread", lambda: mailbox.mark(ids, seen=False), 1)
        for text in QUERIES:
            measure(f"list {text}", listing(mailbox, text), arguments.turns)
            measure(f"count {text}", counting(mailbox, text), arguments.turns)


main()
