"""A node without its store: what goes on, what is deferred, and what is known afterwards."""

import json
import re
import smtplib
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from gatepost.config.store import StoreSettings
from gatepost.store import JournalQuery, StoreUnavailable, open_archive, open_store
from gatepost.store.sql.store import SqlStore
from gatepost.testing import FakeUpstream

RULES = """\
hostname: mx.example.com
listen: ["127.0.0.1:0"]
web: {{address: "127.0.0.1:0", password_file: password}}
store: {{url: "{url}", required: {required}}}
relay:
  - {{recipients: "*@example.net", to: "{upstream}"}}
  - {{recipients: "*@inbox.example", to: inbox}}
  - {{recipients: "*@discard.example", to: discard}}
rules: [{{name: hold, filter: keywords, with: {{words: [virus]}}, action: quarantine}}]
"""
PATIENCE_SECONDS = 60


def wait_until(condition):
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.05)


class Node:
    """`gatepost serve`, as it is run."""

    def __init__(self, folder, url, upstream, *, required):
        (folder / "password").write_text("secret\n")
        rules = RULES.format(url=url, upstream=upstream.url, required="true" if required else "false")
        (folder / "rules.yaml").write_text(rules)
        self.log_file = folder / "log"
        with self.log_file.open("wb") as log:
            command = [sys.executable, "-m", "gatepost", "serve"]
            self.process = subprocess.Popen(command, cwd=folder, stderr=log)
        wait_until(lambda: "gatepost listens on" in self.log or self.process.poll() is not None)
        if found := re.search(r"listens on .*127\.0\.0\.1:(\d+); web desk: (http\S+?)/?\n", self.log):
            self.port, self.desk = int(found[1]), found[2]

    @property
    def log(self):
        return self.log_file.read_text()

    def send(self, name, recipient="bob@example.net", text="Hi"):
        """The code of the reply."""
        with smtplib.SMTP("127.0.0.1", self.port, timeout=PATIENCE_SECONDS) as client:
            client.ehlo()
            client.mail(f"{name}@example.com")
            client.rcpt(recipient)
            return client.data(f"Subject: {name}\r\n\r\n{text}\r\n")[0]

    def ready(self):
        """Status and answer of /readyz."""
        try:
            with urllib.request.urlopen(f"{self.desk}/readyz", timeout=PATIENCE_SECONDS) as found:
                return found.status, json.load(found)["status"]
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)["status"]

    def close(self):
        self.process.terminate()
        self.process.wait(PATIENCE_SECONDS)


@pytest.fixture
def start(tmp_path):
    nodes = []

    def start(*arguments, **options):
        nodes.append(Node(tmp_path, *arguments, **options))
        return nodes[-1]

    yield start
    for node in nodes:
        node.close()


@pytest.fixture
def upstream():
    with FakeUpstream() as server:
        yield server


def senders(archive):
    return sorted(
        (one.mail_from or "").partition("@")[0] for one in archive.records(JournalQuery(), limit=99)
    )


def test_a_store_that_is_not_required_may_be_gone_at_the_start_and_later(
    make_postgresql, start, upstream, tmp_path
):
    server = make_postgresql()
    settings = StoreSettings(url=server.new_schema())
    server.stop()
    node = start(settings.url, upstream, required=False)
    needs_store = [
        ("q", "bob@example.net", "virus"),
        ("i", "bob@inbox.example"),
        ("d", "bob@discard.example"),
    ]
    assert node.send("first") == 250
    assert [node.send(*one) for one in needs_store] == [451, 451, 451]
    wait_until(lambda: node.ready() == (200, "degraded"))
    server.start()
    wait_until(lambda: "is written again, after" in node.log)
    wait_until(lambda: node.ready() == (200, "ready"))
    assert [node.send(*one) for one in needs_store] == [250, 250, 250]
    time.sleep(0.6)  # a connection that was idle is asked first: nothing is in doubt for 20 seconds
    server.stop()
    assert [node.send(f"later-{number}") for number in range(3)] == [250, 250, 250]
    assert node.send(*needs_store[0]) == 451
    wait_until(lambda: node.ready() == (200, "degraded"))
    server.start()
    assert node.send("last") == 250
    wait_until(lambda: node.log.count("is written again, after") == 2)
    relayed = ["first", "last", *(f"later-{number}" for number in range(3))]
    with open_archive(settings, tmp_path) as archive:
        deferred = ["d", "i", "q", "q"]
        wait_until(lambda: senders(archive) == sorted([*relayed, *deferred, "d", "i", "q"]))
    assert sorted(one.mail_from.partition("@")[0] for one in upstream.messages) == sorted(relayed)
    assert node.log.count("cannot write: ") == 2
    assert node.log.count("it is used as soon as it answers") <= 2, "the worker and the desk"


def test_a_store_that_is_required_is_there_at_the_start_or_there_is_none(make_postgresql, start, upstream):
    server = make_postgresql()
    url = server.new_schema()
    node = start(url, upstream, required=True)
    assert node.ready() == (200, "ready")
    server.stop()
    assert node.send("first") == 250
    assert node.send("q", text="virus") == 451
    wait_until(lambda: node.ready() == (503, "not ready"))
    node.close()
    node = start(url, upstream, required=True)
    assert node.process.wait(PATIENCE_SECONDS) == 1
    assert "cannot be reached" in node.log


async def test_from_many_waiting_records_on_only_a_required_store_defers_and_the_lost_are_counted(
    make_postgresql, tmp_path, make_record, make_kept, monkeypatch, until
):
    monkeypatch.setattr(SqlStore, "BACKLOG_LIMIT", 10)
    monkeypatch.setattr(SqlStore, "JOURNAL_LIMIT", 20)
    server = make_postgresql()
    url = server.new_schema()
    stores = [open_store(StoreSettings(url=url, required=required), tmp_path) for required in (True, False)]
    server.stop()
    for store in stores:
        for _ in range(25):
            store.journal(make_record())
    assert [store.overloaded for store in stores] == [True, False]
    assert [store.lost for store in stores] == [5, 5]
    with pytest.raises(StoreUnavailable, match="the store cannot keep up"):
        await stores[1].commit(make_record(), [make_kept()])
    server.start()
    await until(lambda: not any(store.backlog for store in stores))
    assert len(stores[0].archive.records(JournalQuery(), limit=99)) == 40
    for store in stores:
        await store.close()


async def test_a_late_store_that_is_of_no_use_is_used_once_it_is_mended(
    make_postgresql, tmp_path, make_record, until
):
    server = make_postgresql()
    server.execute("CREATE DATABASE late")
    server.execute("CREATE TABLE letters (text text)", database="late")
    server.stop()
    store = open_store(StoreSettings(url=server.url("late"), required=False), tmp_path)
    server.start()
    with pytest.raises(StoreUnavailable, match="is a database, but not one of Gatepost's"):
        await store.commit(make_record())
    server.execute("DROP TABLE letters", database="late")
    await store.commit(record := make_record())
    assert store.archive.record(record.id) == record
    await store.close()
