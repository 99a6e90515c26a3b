"""The desk's pages over a large store, in SQLite and in PostgreSQL: the same mail, the same pages, in turns.

python benchmarks/large_store.py [--messages 100000] [--records 1000000] [--folder FOLDER] [--turns 5]
                                 [--write]

Fills SQLite, copies it with the code of ``gatepost migrate``, waits until all texts can be searched, and asks
both desks for pages. With --folder the stores stay there and are used again by the next run. --write puts the
times into docs/benchmarks.md. Needs the project installed and Debian's package postgresql, whose server it
starts.
"""

import argparse
import asyncio
import contextlib
import os
import random
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path

import psycopg  # noqa: TID251 - to ask the server what the store does not tell
from desk import NAMES, RULES, changes, fill, indexed, page
from gatepost.config.store import Keep, StoreSettings
from gatepost.model.mail import Stage, new_id
from gatepost.model.record import Disposition, RecipientRecord, Record
from gatepost.model.verdict import Action, Evaluation, Result
from gatepost.store import copy_store, open_mailbox, parse_query
from gatepost.store.sql.changes import Change
from gatepost.web.app import create_app
from gatepost.web.desk import Desk
from report import machine, put_into_page, table

LIMIT_MS = 300
KEEP = Keep(messages=10_000_000, journal=100_000_000, days=10_000)
PAGES = {
    "list of messages": "/",
    "messages of one sender": "/?q=from:grace",
    "search, a word": "/?q=zebra",
    "search, a part of most messages": "/?q=nvoic",
    "search, Chinese without spaces": "/?q=发票",
    "search, several words and a sender": "/?q=from:grace zebra the",
    "search, without a word": "/?q=-the",
    "search, a tag": "/?q=tag:t77",
    "search, a user": "/?q=user:user7@example.com",
    "search, a rule": "/?q=rule:too-large",
    "search without a hit": "/?q=nowhere-at-all",
    "quarantine": "/quarantine",
    "journal": "/journal",
    "journal, a sender": "/journal?q=from:grace@example.org",
    "journal, a rule": "/journal?q=rule:too-large",
    "journal, a rule without a hit": "/journal?q=rule:never",
    "journal, refused": "/journal?q=is:refused",
    "journal without a hit": "/journal?q=from:nobody@nowhere.example",
    "counts beside the list": "/messages/facets",
    "overview": "/overview",
}


def relayed(records: int) -> Iterator[Change]:
    """Records of relayed mail, of which one in twenty was refused, over 28 days."""
    choose = random.Random(2)
    start = datetime.now(UTC) - timedelta(days=28)
    for number in range(records):
        refused = choose.random() < 0.05
        rule = choose.choice(RULES) if refused else None
        recipient = RecipientRecord(
            address=f"{choose.choice(NAMES)}{choose.randint(0, 9999)}@example.com",
            disposition=Disposition.REFUSED if refused else Disposition.RELAYED,
            action=Action.REJECT if refused else Action.ACCEPT,
            rule=rule,
            reason="a reason" if refused else "",
        )
        evaluation = Evaluation(
            rule=rule or "legal-words",
            stage=Stage.MESSAGE,
            result=Result.HIT if refused else Result.PASS,
            action=Action.REJECT if refused else None,
            observed=False,
            reason="a reason" if refused else "",
            recipients=(),
            seconds=0.001,
        )
        yield Change(
            record=Record(
                id=new_id(),
                session_id=new_id(),
                received_at=start + timedelta(days=28) * number / records,
                client=f"192.0.{choose.randint(0, 255)}.{choose.randint(1, 250)}",
                helo="client.example",
                tls=None,
                authenticated=None,
                mail_from=f"{choose.choice(NAMES)}{choose.randint(0, 9999)}@example.org",
                recipients=(recipient,),
                size=choose.randint(1000, 100_000),
                message_id=f"<{number}@example.org>",
                subject="Report",
                evaluations=(evaluation,),
                reply="550 5.7.1 No" if refused else "250 2.0.0 Ok",
                upstream=None if refused else "mail.example.com:25",
                node="bench",
            )
        )


@contextlib.contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """A server with its data in the folder, as its package configures it, with a buffer of 1 GB; its URL."""
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"))
    folder.mkdir(exist_ok=True)
    user: list[str] = []
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
        user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    data = folder / "data"
    if not data.exists():
        command = [
            *user,
            programs / "initdb",
            "-D",
            data,
            "-U",
            "gatepost",
            "--auth=trust",
            "--locale=C.UTF-8",
        ]
        subprocess.run([*command, "--encoding=UTF8"], check=True, stdout=subprocess.DEVNULL, cwd=folder)
    options = {"listen_addresses": "", "unix_socket_directories": folder, "shared_buffers": "1GB"}
    settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    url = f"postgresql://gatepost@/postgres?host={folder}"
    with (folder / "log").open("a") as log:
        server = subprocess.Popen(
            [*user, programs / "postgres", "-D", data, *settings], cwd=folder, stdout=log, stderr=log
        )
        try:
            until = time.monotonic() + 60
            while True:
                try:
                    psycopg.connect(url).close()
                    break
                except psycopg.OperationalError:
                    if server.poll() is not None or time.monotonic() > until:
                        raise
                    time.sleep(0.1)
            yield url
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(60)


def searchable(url: str) -> int:
    """Of how many messages the texts are in PostgreSQL's index."""
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT count(*) FROM kept_texts").fetchone()
    return int(found[0]) if found else 0


def wait_for(count: Callable[[], int], messages: int, what: str) -> None:
    """Wait until all texts can be searched."""
    started = time.perf_counter()
    while count() < messages:
        time.sleep(1)
    print(f"{what}: all texts can be searched after {time.perf_counter() - started:.0f} s", flush=True)


async def times(desks: dict[str, Desk], turns: int) -> list[list[object]]:
    """A row for each page: median and worst of each desk."""
    apps = {name: create_app(desk) for name, desk in desks.items()}
    rows: list[list[object]] = []

    async def timed(what: str, paths: list[str]) -> None:
        taken: dict[str, list[float]] = {name: [] for name in apps}
        for path in paths:
            for name, app in apps.items():
                started = time.perf_counter()
                await page(app, path)
                taken[name].append((time.perf_counter() - started) * 1000)
        row: list[object] = [what]
        for of_desk in taken.values():
            row += [round(statistics.median(of_desk), 1), round(max(of_desk), 1)]
        row.append("met" if max(map(max, taken.values())) <= LIMIT_MS else "**missed**")
        rows.append(row)
        print(*row, sep="\t", flush=True)

    for app in apps.values():
        await page(app, "/")  # the templates
    for what, path in PAGES.items():
        await timed(what, [path] * turns)
    mailbox = next(iter(desks.values())).mailbox
    ids: list[str] = []
    before = None
    while len(ids) < 20_000:
        found = mailbox.page(parse_query(""), limit=500, before=before)
        ids += [message.id for message in found.messages]
        before = found.next
        if before is None:
            break
    chosen = ids[:: max(1, len(ids) // 100)]
    await timed(f"open, {len(chosen)} messages", [f"/messages/{one}" for one in chosen])
    return rows


def main() -> None:
    """Fill, copy, measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = arguments.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
        embedded = StoreSettings(url=f"sqlite:///{folder}/desk.db", keep=KEEP)
        started = time.perf_counter()
        if not (folder / "desk.db").exists():
            fill(embedded, folder, chain(changes(arguments.messages), relayed(arguments.records)))
            print(f"filled in {time.perf_counter() - started:.0f} s", flush=True)
        is_new = not (folder / "postgresql").exists()
        url = stack.enter_context(postgresql(folder / "postgresql"))
        remote = StoreSettings(url=url, keep=KEEP)
        if is_new:
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute("CREATE EXTENSION pg_trgm")
            started = time.perf_counter()
            copy_store(embedded, remote, folder, lambda _: None)
            print(f"copied and compared in {time.perf_counter() - started:.0f} s", flush=True)
        boxes = [open_mailbox(settings, folder) for settings in (embedded, remote)]
        wait_for(lambda: indexed(folder / "desk.db-search"), arguments.messages, "SQLite")
        wait_for(lambda: searchable(url), arguments.messages, "PostgreSQL")
        for box in boxes:
            box.close()
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")
            size = connection.execute("SELECT pg_database_size(current_database())").fetchone()
        with (
            Desk.open(embedded, folder, mode="gateway") as here,
            Desk.open(remote, folder, mode="gateway") as there,
        ):
            rows = asyncio.run(times({"SQLite": here, "PostgreSQL": there}, arguments.turns))
        if arguments.write:
            files = folder / "desk.db", folder / "desk.db-search"
            store, index = (path.stat().st_size / 1e6 for path in files)
            day = time.strftime("%d %B %Y", time.gmtime())
            text = (
                f"Measured on {machine()}, {day}, with {arguments.messages:,} kept messages and "
                f"{arguments.messages + arguments.records:,} records in the journal: SQLite "
                f"{store:,.0f} MB and an index of {index:,.0f} MB, PostgreSQL {size[0] / 1e6:,.0f} MB. "
                f"Each page is to take at most {LIMIT_MS} ms.\n\n"
            )
            heads = ["page", "SQLite, ms", "worst", "PostgreSQL, ms", "worst", ""]
            put_into_page("large store", text + table(heads, rows))


if __name__ == "__main__":
    main()
