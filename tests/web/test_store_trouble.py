"""A store that the desk cannot use is two lines of the log, its beginning and its end."""

import asyncio
import logging

import pytest
from gatepost.store import StoreError
from gatepost.web import readiness as readiness_module
from gatepost.web import store_trouble
from gatepost.web.readiness import Readiness
from gatepost.web.store_trouble import StoreTrouble


async def until(condition):
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


class Store:
    """A check whose answer the test sets."""

    def __init__(self):
        self.wrong = ""
        self.asked = 0

    async def __call__(self):
        self.asked += 1
        return self.wrong


@pytest.fixture
def store():
    return Store()


@pytest.fixture
async def trouble(store, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "gatepost")
    monkeypatch.setattr(readiness_module, "_FRESH_SECONDS", 0.01)
    monkeypatch.setattr(store_trouble, "_PAUSE_SECONDS", 0.01)
    readiness = Readiness({"store": store})
    trouble = StoreTrouble(readiness)
    yield trouble
    trouble.close()
    readiness.close()


async def test_an_outage_has_two_lines_although_nobody_asks_whether_the_desk_is_ready(trouble, store, caplog):
    store.wrong = "gone"
    for _ in range(20):
        trouble.note("the API cannot answer '/api/v1/messages'", StoreError("gone"))
    await until(lambda: store.asked > 3)
    store.wrong = ""
    await until(lambda: "ready again" in caplog.text)
    assert caplog.messages == ["not ready: store: gone", "ready again"]


async def test_what_readiness_does_not_see_is_said_at_once_and_once_a_minute(trouble, store, caplog):
    for number in range(1, 4):
        asked = store.asked
        trouble.note("the API cannot answer '/api/v1/messages'", StoreError("no right"))
        await until(lambda asked=asked: store.asked > asked and trouble._looking.done())
        assert caplog.messages == ["the API cannot answer '/api/v1/messages': no right"], number


async def test_an_answer_from_before_the_failure_does_not_count(trouble, store, caplog):
    await trouble._readiness.passed()
    store.wrong = "gone"
    trouble.note("the API cannot answer '/api/v1/messages'", StoreError("gone"))
    await until(lambda: caplog.messages == ["not ready: store: gone"])
