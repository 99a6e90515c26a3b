"""Nodes with one store and the same webhook report each message once, whichever of them is there."""

import asyncio
import contextlib
import json
import re
import signal
import smtplib
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from gatepost.config.store import StoreSettings
from gatepost.config.webhook import WebhookSettings
from gatepost.metrics import SharedCounters
from gatepost.store import StoreError, open_reporting, open_store
from gatepost.store.postgresql.database import Database
from gatepost.web import webhook as module
from gatepost.web.desk import Desk
from gatepost.web.webhook import Webhook
from gatepost.web.webhook_server import WebhookServer

RULES = """\
node: {name}
listen: [127.0.0.1:0]
store: {{url: "{url}"}}
relay: [{{recipients: "*@example.net", to: inbox}}]
web: {{address: "127.0.0.1:0", webhook: "{webhook}"}}
"""


@pytest.fixture
def listener():
    """A server with the ids of the messages that were reported to it, in their order."""
    ids = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            ids.append(json.loads(self.rfile.read(int(self.headers["content-length"])))["id"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        server.ids = ids
        server.url = f"http://127.0.0.1:{server.server_port}/"
        yield server
        server.shutdown()
        thread.join()


class Node:
    """The webhook of a node, in this process."""

    def __init__(self, settings, folder, url, started_at):
        self.opened = contextlib.ExitStack()
        self.reporting = open_reporting(settings)
        self.told = []
        self.webhook = Webhook(
            self.opened.enter_context(Desk.open(settings, folder, mode="gateway")),
            WebhookServer(WebhookSettings.model_validate(url)),
            SharedCounters(1),
            started_at=started_at,
            shutdown_seconds=5.0,
            reporting=self.reporting,
        )
        self.task = asyncio.create_task(self.webhook.follow(lambda *told: self.told.append(told)))

    @property
    def reports(self):
        return self.webhook._is_ours

    async def end(self):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.webhook.finish()
        self.opened.close()

    async def kill(self):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        self.reporting.close()
        self.opened.close()


@pytest.fixture
async def node(settings, tmp_path, listener, monkeypatch):
    for name, seconds in (("_TURN_SECONDS", 0.02), ("_LOOK_SECONDS", 0.01), ("_TROUBLE_SECONDS", 0.1)):
        monkeypatch.setattr(module, name, seconds)
    Database.create(settings).close()
    started = []

    def start(settings=settings, started_at=None):
        since = started_at or datetime.now(UTC) - timedelta(hours=1)
        started.append(Node(settings, tmp_path, listener.url, since))
        return started[-1]

    yield start
    for one in started:
        if not one.task.done():
            await one.end()


@pytest.fixture
def keep(store, make_record, make_kept):
    """Keep messages that were received so long ago; returns their ids."""

    async def keep(number, ago=timedelta(0)):
        kept = [make_kept() for _ in range(number)]
        for one in kept:
            await store.commit(make_record(received_at=datetime.now(UTC) - ago), [one])
        return [one.id for one in kept]

    return keep


async def test_of_several_nodes_one_reports(node, listener, keep, until):
    nodes = [node() for _ in range(3)]
    ids = await keep(20)
    await until(lambda: len(listener.ids) >= 20)
    await asyncio.sleep(0.3)
    assert sorted(listener.ids) == sorted(ids)
    assert [one.reports for one in nodes].count(True) == 1


@pytest.mark.parametrize("how", ["end", "kill"])
async def test_when_it_is_gone_another_one_goes_on_where_it_was(node, listener, keep, until, how):
    one = node()
    await until(lambda: one.reports)
    other = node()
    before = await keep(5)
    await until(lambda: len(listener.ids) == 5)
    await until(lambda: other.reporting.reached() == 5)  # else the last ones may be reported twice
    await getattr(one, how)()
    after = await keep(5)
    await until(lambda: len(listener.ids) >= 10)
    await asyncio.sleep(0.3)
    assert sorted(listener.ids) == sorted(before + after)
    assert other.reports


async def test_what_came_while_no_node_was_there_is_reported_unless_it_is_older_than_five_minutes(
    node, listener, keep, until
):
    """As that is what a node gives up that was there."""
    one = node()
    first = await keep(1)
    await until(lambda: listener.ids == first and one.reporting.reached() == 1)
    await one.end()
    await keep(2, ago=timedelta(minutes=6))
    recent = await keep(2, ago=timedelta(minutes=4))
    node(started_at=datetime.now(UTC))
    await until(lambda: len(listener.ids) >= 3)
    await asyncio.sleep(0.3)
    assert sorted(listener.ids) == sorted(first + recent)


async def test_after_a_restart_of_the_server_one_goes_on(
    make_postgresql, node, listener, tmp_path, make_record, make_kept, until, monkeypatch
):
    server = make_postgresql()
    settings = StoreSettings(url=server.url())
    store = open_store(settings, tmp_path)
    nodes = [node(settings), node(settings)]
    ids = []
    for restarts in (True, False):
        kept = make_kept()
        await store.commit(make_record(received_at=datetime.now(UTC)), [kept])
        ids.append(kept.id)
        await until(lambda: listener.ids[-1:] == ids[-1:])
        if restarts:
            await until(lambda: nodes[0].reporting.reached() == 1)
            server.stop()
            await until(lambda: all(one.told for one in nodes))
            server.start()
    await asyncio.sleep(0.3)
    assert listener.ids == ids
    assert [one.reports for one in nodes].count(True) == 1
    await store.close()


def test_the_turn_is_one_nodes_until_it_lets_go_or_the_server_ends_its_connection(postgresql, settings):
    Database.create(settings).close()
    one, other = open_reporting(settings), open_reporting(settings)
    assert [one.is_ours(), one.is_ours(), other.is_ours()] == [True, True, False]
    assert other.reached() is None
    one.reach(7)
    one.reach(9)
    assert other.reached() == 9
    one.close()
    held = "SELECT 1 FROM pg_locks WHERE objid = 6 AND locktype = 'advisory'"
    until_true(lambda: not postgresql.execute(held), lambda: "the server has not noticed yet")
    assert [other.is_ours(), one.is_ours()] == [True, False]
    ends = "SELECT pg_terminate_backend(pid, 30000) FROM pg_locks WHERE objid = 6 AND locktype = 'advisory'"
    postgresql.execute(ends)
    with pytest.raises(StoreError, match="terminating connection"):
        other.is_ours()
    assert [one.is_ours(), other.is_ours()] == [True, False]
    for each in (one, other):
        each.close()


def until_true(condition, what=lambda: ""):
    give_up = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < give_up, what()
        time.sleep(0.05)


class Gateway:
    """A running `gatepost serve`."""

    def __init__(self, folder, name, **given):
        folder.mkdir()
        (folder / "rules.yaml").write_text(RULES.format(name=name, **given))
        self.errors = folder / "stderr"
        with self.errors.open("wb") as errors:
            command = [sys.executable, "-m", "gatepost", "serve"]
            self.process = subprocess.Popen(command, cwd=folder, stderr=errors)
        until_true(lambda: "gatepost listens on" in self.log, lambda: self.log)
        self.port = int(re.search(r"listens on 127\.0\.0\.1:([0-9]+)", self.log)[1])

    @property
    def log(self):
        return self.errors.read_text()

    def send(self, number):
        with smtplib.SMTP("127.0.0.1", self.port, timeout=60) as client:
            for _ in range(number):
                client.sendmail("ann@example.com", ["bob@example.net"], "Subject: Hello\r\n\r\nHi\r\n")


def test_two_gateways_with_the_same_settings_report_each_message_once(settings, listener, tmp_path):
    Database.create(settings).close()
    gateways = [Gateway(tmp_path / name, name, url=settings.url, webhook=listener.url) for name in ("a", "b")]
    try:
        for gateway in gateways:
            gateway.send(5)
        until_true(lambda: len(listener.ids) >= 10)
        time.sleep(1)
        assert len(listener.ids) == len({*listener.ids}) == 10
        gateways[0].process.send_signal(signal.SIGKILL)
        gateways[0].process.wait(60)
        gateways[1].send(5)
        until_true(lambda: len({*listener.ids}) == 15, lambda: gateways[1].log)
    finally:
        for gateway in gateways:
            gateway.process.terminate()
        for gateway in gateways:
            gateway.process.wait(60)
