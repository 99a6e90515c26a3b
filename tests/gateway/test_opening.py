"""A filter's open is called before the first message, and again until it succeeds."""

import pytest
from gatepost import hookimpl
from gatepost.pipeline import opening
from gatepost.testing import make_transaction, run_filter, running_gateway

FILTERS = """
import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

from gatepost import Place, Verdict, hookimpl


@dataclass
class Service:
    place: Place
    is_open: bool = False

    def look(self):
        with (self.place.folder / "events").open("a") as events:
            print("open", file=events)
        if not (self.place.folder / "up").exists():
            raise ConnectionError("the service is down")
        self.is_open = True

    async def open(self):
        await asyncio.sleep(0)
        self.look()

    @hookimpl
    async def filter_message(self, transaction):
        return Verdict(reason=f"open: {self.is_open}")


@dataclass
class InAThread(Service):
    def open(self):
        self.look()


@dataclass
class Exiting(Service):
    async def open(self):
        raise SystemExit("no")


@dataclass
class Hanging(Service):
    async def open(self):
        while not (self.place.folder / "up").exists():
            await asyncio.sleep(0.01)
        self.is_open = True


@dataclass
class HangingInAThread(Service):
    def open(self):
        while not (self.place.folder / "up").exists():
            time.sleep(0.01)
        self.is_open = True
"""
KINDS = ["Service", "InAThread", "Hanging", "HangingInAThread"]


def rules(kind, **settings):
    return {"rules": [{"name": "one", "filter": f"./filters.py:{kind}", **settings}]}


@pytest.fixture
def start():
    def start(kind, up, **settings):
        files = {"filters.py": FILTERS} | ({"up": ""} if up else {})
        return running_gateway(rules(kind, **settings), files=files)

    return start


def folder(gateway):
    return gateway._service._loaded.base


def opened(gateway):
    return (folder(gateway) / "events").read_text().split()


def reasons(gateway):
    return {evaluation.reason for record in gateway.journal() for evaluation in record.evaluations}


@pytest.mark.parametrize("kind", ["Service", "InAThread"])
def test_it_is_called_once_before_the_first_message(start, kind):
    with start(kind, up=True) as gateway:
        assert opened(gateway) == ["open"], "at the start"
        assert [gateway.send().code for _ in range(2)] == [550, 550]
        gateway.reload(rules(kind))
        assert opened(gateway) == ["open", "open"], "at a reload, before a message"
        gateway.send()
        assert reasons(gateway) == {"open: True"}
        assert opened(gateway) == ["open", "open"]


@pytest.mark.parametrize("kind", KINDS)
def test_until_it_succeeds_on_error_answers(start, kind, monkeypatch, caplog, wait_until):
    monkeypatch.setattr(opening, "_PAUSE_SECONDS", 0)
    with start(kind, up=False, timeout="0.1s") as gateway:
        assert "rule one is not ready, on_error answers until it is: 'open " in caplog.text
        assert gateway.send().code == 451
        (record,) = gateway.journal()
        expected = "open has not ended" if "Hanging" in kind else "ConnectionError: the service is down"
        assert expected in record.evaluations[0].reason
        (folder(gateway) / "up").touch()
        wait_until(lambda: gateway.send().code == 550, "it is open")
        assert "open: True" in reasons(gateway)
        assert "rule one answers again after " in caplog.text


def test_a_failing_open_is_not_called_for_each_message_and_skip_skips(start):
    with start("Service", up=False, on_error="skip") as gateway:
        assert [gateway.send().code for _ in range(5)] == [250] * 5
        assert opened(gateway) == ["open"], "none within five seconds"


def test_one_that_exits_is_a_failure_and_stops_nothing(start, caplog):
    with start("Exiting", up=True) as gateway:
        assert gateway.send().code == 451
        assert "open failed: SystemExit: no" in gateway.journal()[0].evaluations[0].reason


def test_the_kit_opens_what_it_makes():
    calls = []

    class Opening:
        async def open(self):
            calls.append("open")

        def close(self):
            calls.append("close")

        @hookimpl
        async def filter_message(self, transaction):
            calls.append("message")

    assert run_filter(Opening, make_transaction()) is None
    assert calls == ["open", "message", "close"]
