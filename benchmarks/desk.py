"""How long the web desk's questions to a large store take: list, search, count, open, mark; milliseconds.

python benchmarks/desk.py [--messages 100000] [--folder FOLDER] [--turns 5] [--write]

With --folder the store stays there and is used again by the next run. --write puts the times of the pages
into docs/benchmarks.md. Needs the project installed.
"""

import argparse
import asyncio
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
from urllib.parse import quote

from gatepost.config.store import Keep, StoreSettings
from gatepost.model.mail import Stage, new_id
from gatepost.model.record import Disposition, RecipientRecord, Record
from gatepost.model.verdict import Action, Evaluation, Result
from gatepost.store import Box, Kept, open_mailbox, parse_query
from gatepost.store.sql.changes import Change
from gatepost.store.sqlite.database import Database
from gatepost.store.sqlite.groups import apply
from gatepost.web.app import create_app
from gatepost.web.desk import Desk
from report import machine, put_into_page, table

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
CHINESE = ["发票", "付款", "通知", "您好", "会议", "订单", "已经", "今天", "请您", "确认", "账户", "报告"]
PAGES = {
    "list of messages": "/",
    "list, the newest of one sender": "/?q=from:grace",
    "search, a word": "/?q=zebra",
    "search, the beginning of a word": "/?q=invo*",
    "search, a part of words": "/?q=ebr",
    "search, a part of most messages": "/?q=nvoic",
    "search, Chinese without spaces": "/?q=发票",
    "search, several words and a sender": "/?q=from:grace zebra the",
    "search without a hit": "/?q=nowhere-at-all",
}
OPENED = 200
"""Messages that are opened, all over the store."""
LIMIT_MS = 200
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
    "nvoic",
    "ebr",
    "he inv",
    "to",
    "zebra the invoice",
    "发票",
    "cc:bob",
    "bcc:bob",
    "header:mime",
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
        if choose.random() < 0.1:
            text += f" {''.join(choose.choices(CHINESE, k=words))}"
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


def fill(settings, folder, wanted):
    """Write these changes to the store in the folder, which is made if there is none."""
    database = Database.create(settings, folder)
    database.start_checkpoints()
    group = []
    for change in wanted:
        group.append(change)
        if len(group) == 1000:
            with database.write() as connection:
                apply(connection, group)
            group.clear()
    with database.write() as connection:
        apply(connection, group)
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


async def page(app, path):
    """One page as a browser asks for it; its bytes."""
    path, _, query = path.partition("?")
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": quote(query, safe="=").encode(),
        "root_path": "",
        "headers": [(b"host", b"127.0.0.1:8025")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8025),
    }
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    assert sent[0]["status"] == 200, (path, sent[0])
    return b"".join(message.get("body", b"") for message in sent)


async def pages(settings, folder, turns):
    """The times of whole pages: rows of what, median, worst."""
    rows = []

    async def timed(what, paths):
        times = []
        for path in paths:
            started = time.perf_counter()
            await page(app, path)
            times.append((time.perf_counter() - started) * 1000)
        rows.append([what, round(statistics.median(times), 1), round(max(times), 1)])
        print(f"{what:55} {times[0]:9.1f} {rows[-1][1]:9.1f} {rows[-1][2]:9.1f}", flush=True)

    with Desk.open(settings, folder, mode="complaints") as desk:
        app = create_app(desk)
        await page(app, "/")  # the templates
        for what, path in PAGES.items():
            await timed(what, [path] * turns)
        ids, before = [], None
        while True:
            found = desk.mailbox.page(parse_query(""), limit=500, before=before)
            ids += [message.id for message in found.messages]
            before = found.next
            if before is None:
                break
        chosen = ids[:: max(1, len(ids) // OPENED)]
        await page(app, f"/messages/{chosen[0]}")
        await timed(f"open, {len(chosen)} messages of all ages", [f"/messages/{one}" for one in chosen])
    return rows


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = arguments.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        settings = StoreSettings(url="sqlite:///desk.db", keep=Keep(messages=1_000_000))
        started = time.perf_counter()
        if not (folder / "desk.db").exists():
            fill(settings, folder, changes(arguments.messages))
            print(f"filled in {time.perf_counter() - started:.0f} s")
        print(f"store: {(folder / 'desk.db').stat().st_size / 1e6:.0f} MB")
        mailbox = stack.enter_context(open_mailbox(settings, folder))
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
        mailbox.close()
        rows = asyncio.run(pages(settings, folder, arguments.turns))
        if arguments.write:
            megabytes = [round(path.stat().st_size / 1e6) for path in (folder / "desk.db", index)]
            day = time.strftime("%d %B %Y", time.gmtime())
            text = (
                f"Measured on {machine()}, {day}, with {arguments.messages:,} messages: a store of "
                f"{megabytes[0]:,} MB and an index of {megabytes[1]:,} MB. Each page is to take at most "
                f"{LIMIT_MS} ms, also the first time that it is asked for.\n\n"
            )
            judged = [[*row, "met" if row[2] <= LIMIT_MS else "**missed**"] for row in rows]
            put_into_page("desk", text + table(["page", "ms, median", "ms, worst", ""], judged))


if __name__ == "__main__":
    main()
