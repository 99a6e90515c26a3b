"""Readiness is asked rarely however often it is wanted, within a bounded time, and logged when it changes."""

import asyncio
import logging

import pytest
from gatepost.web import readiness as readiness_module
from gatepost.web.readiness import Readiness


class Checked:
    """A check whose answer the test sets; `asked` counts."""

    def __init__(self, wrong=""):
        self.wrong = wrong
        self.asked = 0
        self.answers = asyncio.Event()
        self.answers.set()

    async def __call__(self):
        self.asked += 1
        await self.answers.wait()
        if isinstance(self.wrong, Exception):
            raise self.wrong
        return self.wrong


@pytest.fixture
async def make():
    made = []

    def make_one(**checks):
        made.append(Readiness(checks))
        return made[-1]

    yield make_one
    for one in made:
        one.close()


async def test_callers_at_the_same_time_and_within_a_second_share_one_round(make):
    store, upstreams = Checked(), Checked()
    store.answers.clear()
    readiness = make(store=store, upstreams=upstreams)
    asking = [asyncio.create_task(readiness.passed()) for _ in range(200)]
    await asyncio.sleep(0)
    store.answers.set()
    assert await asyncio.gather(*asking) == [{"store": True, "upstreams": True}] * 200
    await readiness.passed()
    assert (store.asked, upstreams.asked) == (1, 1)


async def test_after_that_it_is_asked_again(make, monkeypatch):
    monkeypatch.setattr(readiness_module, "_FRESH_SECONDS", 0)
    store = Checked("locked")
    readiness = make(store=store)
    assert await readiness.passed() == {"store": False}
    store.wrong = ""
    assert await readiness.passed() == {"store": True}


async def test_a_caller_that_leaves_takes_nothing_from_the_others(make):
    store = Checked()
    store.answers.clear()
    readiness = make(store=store)
    leaving, staying = (asyncio.create_task(readiness.passed()) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.sleep(0)
    store.answers.set()
    assert await staying == {"store": True}


async def test_a_check_without_an_answer_fails_in_time_and_is_not_begun_again(make, monkeypatch):
    monkeypatch.setattr(readiness_module, "_FRESH_SECONDS", 0)
    monkeypatch.setattr(readiness_module, "_DEADLINE_SECONDS", 0.01)
    store, upstreams = Checked(), Checked()
    store.answers.clear()
    readiness = make(store=store, upstreams=upstreams)
    for _ in range(3):
        assert await readiness.passed() == {"store": False, "upstreams": True}
    assert (store.asked, upstreams.asked) == (1, 3)
    store.answers.set()
    await asyncio.sleep(0)
    assert await readiness.passed() == {"store": True, "upstreams": True}


async def test_an_error_in_a_check_is_a_failed_check(make):
    assert await make(store=Checked(RuntimeError("x"))).passed() == {"store": False}


async def test_a_change_is_logged_once_with_its_reasons(make, monkeypatch, caplog):
    monkeypatch.setattr(readiness_module, "_FRESH_SECONDS", 0)
    caplog.set_level(logging.INFO, "gatepost")
    store, upstreams = Checked(), Checked("mail.example.com:25: refused")
    readiness = make(store=store, upstreams=upstreams)
    for _ in range(3):
        await readiness.passed()
    store.wrong = "full"
    await readiness.passed()
    store.wrong = upstreams.wrong = ""
    for _ in range(2):
        await readiness.passed()
    assert caplog.messages == [
        "not ready: upstreams: mail.example.com:25: refused",
        "not ready: store: full; upstreams: mail.example.com:25: refused",
        "ready again",
    ]


async def test_without_what_is_optional_it_is_degraded_and_not_unready(caplog):
    store, upstreams = Checked("gone"), Checked()
    readiness = Readiness({"store": store, "upstreams": upstreams}, optional=frozenset({"store"}))
    assert readiness.status(await readiness.passed()) == "degraded"
    assert "degraded: store: gone" in caplog.text
    assert readiness.status({"store": True, "upstreams": True}) == "ready"
    assert readiness.status({"store": False, "upstreams": False}) == "not ready"
    assert readiness.status({"store": True, "upstreams": False}) == "not ready"
    readiness.close()
