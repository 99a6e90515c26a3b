"""Filters are made without stopping the gateway, and closed once, after the last that uses them."""

import contextlib
import gc
import socket
import threading
import time

import pytest
import yaml
from gatepost.cli import app
from gatepost.config import ConfigError
from gatepost.dns import Resolver
from gatepost.pipeline import closing, loading
from gatepost.process import service
from gatepost.testing import make_transaction, running_gateway
from typer.testing import CliRunner

FILTERS = """
import asyncio
import threading
import time
from pathlib import Path

from gatepost import hookimpl


class Base:
    def __init__(self, name: str, mistaken: bool = False):
        self.name, self.mistaken = name, mistaken

    def write(self, what):
        with open(Path(__file__).with_name("events"), "a") as file:
            print(self.name, what, file=file)

    @hookimpl
    async def filter_message(self, transaction):
        await asyncio.sleep(0)
        if self.mistaken:
            raise ValueError(self.name)


class Plain(Base):
    def close(self):
        self.write(f"closed {threading.current_thread() is threading.main_thread()}")


class Async(Base):
    async def close(self):
        await asyncio.sleep(0)
        self.write("closed")


class Reporting(Async):
    @hookimpl
    async def report_transaction(self, record):
        await asyncio.sleep(0.1)
        self.write("reported")


class ReportingInAThread(Base):
    @hookimpl
    def report_transaction(self, record):
        time.sleep(0.1)
        self.write("reported")

    def close(self):
        self.write("closed")


class NeverReporting(Async):
    @hookimpl
    async def report_transaction(self, record):
        await asyncio.Event().wait()


class NeverClosing(Base):
    async def close(self):
        await asyncio.Event().wait()


class NeverClosingInAThread(Base):
    def close(self):
        threading.Event().wait()


class BadlyClosing(Base):
    def close(self):
        raise SystemExit("nothing to close")


class Hanging(Base):
    def __init__(self, name: str):
        super().__init__(name)
        while not Path(__file__).with_name("go").exists():
            time.sleep(0.01)
        self.write("made")

    def close(self):
        self.write("closed")
"""
HANGING_IMPORT = """
import time
from pathlib import Path

while not Path(__file__).with_name("go").exists():
    time.sleep(0.01)
"""


def rule(kind, name="one", **settings):
    return {"name": name, "filter": f"./filters.py:{kind}", "with": {"name": name, **settings}}


@pytest.fixture
def start(tmp_path):
    """Start a gateway with these rules; its folder stays for what is written at its end."""

    @contextlib.contextmanager
    def start(*rules, **settings):
        files = {"filters.py": FILTERS.replace("__file__", repr(f"{tmp_path}/filters.py"))}
        with running_gateway({"rules": list(rules), **settings}, files=files) as gateway:
            yield gateway

    return start


@pytest.fixture
def events(tmp_path):
    file = tmp_path / "events"
    return lambda: file.read_text().splitlines() if file.exists() else []


def wait_until(condition):
    give_up = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.005)


@pytest.mark.parametrize("kind", ["Reporting", "ReportingInAThread"])
def test_a_stop_waits_for_reports_and_then_closes_the_filters(start, events, kind):
    with start(rule(kind)) as gateway:
        assert gateway.send().code == 250
        assert events() == []
    assert events() == ["one reported", "one closed"]


def test_a_stop_waits_for_no_report_that_does_not_end(start, events, monkeypatch, caplog):
    monkeypatch.setattr(service, "_REPORTS_SECONDS", 0.05)
    with start(rule("NeverReporting"), rule("Async", "two")) as gateway:
        assert gateway.send().code == 250
    assert sorted(events()) == ["one closed", "two closed"]
    assert "reports cut off after 0.05 s: 1, of the rules one" in caplog.text


def test_a_stop_waits_for_no_close_that_does_not_end_and_one_that_fails_harms_no_other(
    start, events, monkeypatch, caplog
):
    monkeypatch.setattr(closing, "_CLOSE_SECONDS", 1.0)
    kinds = ("NeverClosing", "NeverClosingInAThread", "BadlyClosing", "Plain", "Async")
    with start(*(rule(kind, kind) for kind in kinds)):
        pass
    assert sorted(events()) == ["Async closed", "Plain closed False"], "a plain def has a thread of its own"
    assert "rule NeverClosing: close has not ended within 1 s" in caplog.text
    assert "rule NeverClosingInAThread: close has not ended within 1 s" in caplog.text
    assert "rule BadlyClosing cannot be closed: 'SystemExit: nothing to close'" in caplog.text


@pytest.mark.parametrize("kind", ["Plain", "Async"])
@pytest.mark.parametrize("mistaken", [False, True], ids=["working", "failing"])
def test_after_a_reload_the_old_filters_are_closed_as_soon_as_nothing_uses_them(
    start, events, kind, mistaken
):
    closed = "closed False" if kind == "Plain" else "closed"
    with start(rule(kind, "old", mistaken=mistaken)) as gateway:
        gateway.send()
        collects = gc.isenabled()
        gc.disable()  # what failed must leave no circle of references either
        try:
            gateway.reload({"rules": [rule("Plain", "new")]})
            wait_until(events)
        finally:
            if collects:
                gc.enable()
        assert events() == [f"old {closed}"]
    assert events() == [f"old {closed}", "new closed False"], "each once"


def test_an_open_transaction_keeps_its_filters_until_it_ends(start, events):
    with start(rule("Async", "old")) as gateway:
        with socket.create_connection((gateway.host, gateway.port)) as client, client.makefile("rb") as lines:
            lines.readline()  # the greeting
            for command in ("EHLO x", "MAIL FROM:<a@example.org>", "RCPT TO:<b@example.com>", "DATA"):
                client.sendall(f"{command}\r\n".encode())
                while lines.readline()[3:4] == b"-":
                    pass
            gateway.reload({"rules": [rule("Async", "new")]})
            assert gateway.send().code == 250, "with the new rules"
            client.sendall(b"Subject: x\r\n\r\nx\r\n.\r\n")
            while not lines.readline().startswith(b"250 2.0.0"):
                pass
            asked = [e.rule for record in gateway.journal() for e in record.evaluations]
            assert asked == ["old", "new"]
            assert events() == [], "the session has not begun another transaction"
        wait_until(events)
        assert events() == ["old closed"]


def test_a_constructor_that_hangs_leaves_the_old_rules_and_stops_nobody(start, events, tmp_path):
    with start(rule("Async", "old"), limits={"reload_time": "1s"}) as gateway:
        replies, reloading = [], threading.Event()

        def send():
            reloading.wait()
            while not replies or reloading.is_set():
                replies.append(gateway.send().code)

        thread = threading.Thread(target=send)
        thread.start()
        reloading.set()
        with pytest.raises(ConfigError) as caught:
            gateway.reload({"rules": [rule("Async", "new"), rule("Hanging", "hangs")]})
        reloading.clear()
        thread.join()
        assert set(replies) == {250}
        (problem,) = caught.value.problems
        assert problem.what.startswith("filter './filters.py:Hanging' was not imported and made within 1 s")
        assert "filters.py:" in problem.what.rpartition("it is at ")[2]
        assert problem.line > 1
        assert problem.expected == "a constructor that ends: its thread cannot be stopped before a restart"
        gateway.send()
        assert {e.rule for record in gateway.journal() for e in record.evaluations} == {"old"}
        assert events() == []
        (tmp_path / "go").touch()  # it ends after all: what it made is of no use any more
        wait_until(lambda: len(events()) == 3)
        assert sorted(events()) == ["hangs closed", "hangs made", "new closed"]


def test_an_import_that_hangs_is_named_too(tmp_path):
    files = {"hanging.py": HANGING_IMPORT.replace("__file__", repr(f"{tmp_path}/hanging.py"))}
    with running_gateway({"limits": {"reload_time": "100ms"}}, files=files) as gateway:
        with pytest.raises(ConfigError, match=r"filter './hanging.py:A' was not .* within 0.1 s; it is at "):
            gateway.reload({"rules": [{"name": "a", "filter": "./hanging.py:A"}]})
        assert gateway.send().code == 250
        (tmp_path / "go").touch()


def test_reloads_that_hang_are_not_tried_without_end(start, tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "_HANGING_LIMIT", 2)
    hanging = {"rules": [rule("Hanging", "hangs")]}
    with start(limits={"reload_time": "50ms"}) as gateway:
        for _ in range(2):
            with pytest.raises(ConfigError, match="was not imported and made within"):
                gateway.reload(hanging)
        threads = threading.active_count()
        for _ in range(3):
            with pytest.raises(ConfigError, match=r"2 earlier reloads have not ended, .* expected a restart"):
                gateway.reload({"rules": [rule("Async")]})
        assert threading.active_count() == threads
        (tmp_path / "go").touch()
        wait_until(lambda: reloaded(gateway))


def reloaded(gateway):
    with contextlib.suppress(ConfigError):
        gateway.reload({"rules": [rule("Async")]})
        return True


@pytest.mark.parametrize("command", ["check", "explain"])
def test_commands_that_make_filters_close_them(events, tmp_path, command):
    (tmp_path / "filters.py").write_text(FILTERS)
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"rules": [rule("Async"), rule("Plain", "two")]}))
    (tmp_path / "message.eml").write_text("Subject: x\n\nx\n")
    message = [f"{tmp_path}/message.eml"] if command == "explain" else []
    done = CliRunner().invoke(app, [command, *message, "-c", f"{tmp_path}/rules.yaml"])
    assert done.exit_code == 0, done.output
    assert sorted(events()) == ["one closed", "two closed False"]


def test_a_reload_that_fails_closes_what_it_had_made(start, events):
    with start(rule("Async", "old")) as gateway:
        with pytest.raises(ConfigError, match="unknown filter"):
            gateway.reload({"rules": [rule("Async", "new"), {"name": "a", "filter": "nonesuch"}]})
        assert events() == ["new closed"]
        assert gateway.send(make_transaction()).code == 250
    assert events() == ["new closed", "old closed"]


ASKING = """
from gatepost import Resolver, hookimpl


class Asking:
    def __init__(self, resolver: Resolver):
        self.resolver = resolver

    @hookimpl
    async def filter_message(self, transaction):
        await self.resolver.look_up("example.org", "A")
"""


def test_after_a_reload_with_other_name_servers_the_old_resolver_is_closed(monkeypatch):
    closed, close = [], Resolver.close

    async def note(resolver):
        closed.append(resolver._servers)
        await close(resolver)

    monkeypatch.setattr(Resolver, "close", note)

    def rules(port):
        asking = {"name": "asking", "filter": "./asking.py:Asking", "on_error": "skip"}
        return {"rules": [asking], "dns": {"servers": [f"127.0.0.1:{port}"], "timeout": "0.1s"}}

    with running_gateway(rules(1), files={"asking.py": ASKING}) as gateway:
        assert gateway.send().code == 250
        gateway.reload(rules(1))
        assert gateway.send().code == 250
        with socket.create_connection((gateway.host, gateway.port)) as client, client.makefile("rb") as lines:
            lines.readline()  # the greeting
            client.sendall(b"EHLO x\r\n")
            while lines.readline()[3:4] == b"-":
                pass
            client.sendall(b"MAIL FROM:<a@example.org>\r\n")
            lines.readline()
            gateway.reload(rules(2))
            assert gateway.send().code == 250
            gc.collect()
            assert closed == [], "a transaction still uses it"
        wait_until(lambda: gc.collect() is not None and closed)
        assert closed == [("127.0.0.1:1",)]
    assert closed == [("127.0.0.1:1",), ("127.0.0.1:2",)]
