"""A request that waits is answered as soon as the message is there, and costs little until then."""

import asyncio
from urllib.parse import urlencode

import argon2
import httpx
import pytest
from gatepost.config.web import WebSettings
from gatepost.model.user import Role, User
from gatepost.store import StoreUnavailable
from gatepost.web.accounts import Accounts
from gatepost.web.app import create_app
from gatepost.web.waiting import Waiting

WAIT = "/api/v1/wait"
SOON = {"timeout": "0.2"}


def subjects(answer):
    assert answer.status_code == 200, answer.text
    return [message["subject"] for message in answer.json()["messages"]]


@pytest.fixture
def waiting(http, desk, until):
    """Begin to wait; the request is under way when it returns."""

    async def begin(**parameters):
        before = desk.waiting.waiters
        task = asyncio.create_task(http.get(WAIT, params={"timeout": "20", **parameters}))
        await until(lambda: task.done() or desk.waiting.waiters > before)
        return task

    return begin


async def test_a_message_that_is_there_already_is_answered_at_once(http, keep):
    await keep(subject="old", text="code 482913")
    await keep(subject="new")
    assert subjects(await http.get(WAIT, params={"timeout": "0"})) == ["new"]
    answer = await http.get(WAIT, params={"query": "-id:none", "count": "2", "timeout": "0"})
    assert subjects(answer) == ["old", "new"]
    assert answer.json()["messages"][0]["codes"] == ["482913"]


async def test_it_answers_when_the_message_comes(waiting, keep):
    request = await waiting(query="tag:t1")
    await keep(subject="for nobody")
    assert not request.done()
    await keep("bob+t1@example.com", subject="for t1")
    assert subjects(await request) == ["for t1"]


async def test_it_waits_for_as_many_as_were_asked_for(waiting, keep):
    request = await waiting(count="3")
    for number in range(3):
        assert not request.done()
        await keep(subject=f"Mail {number}")
    assert subjects(await request) == ["Mail 0", "Mail 1", "Mail 2"]


async def test_only_what_comes_after_a_message_counts(http, waiting, keep):
    await keep("bob+t1@example.com", subject="before")
    after = await keep("bob@example.com", subject="the last one seen")
    assert (await http.get(WAIT, params={"after": after, **SOON})).status_code == 504
    request = await waiting(query="tag:t1", after=after)
    await keep("bob+t1@example.com", subject="first")
    assert subjects(await request) == ["first"]
    await keep("bob+t1@example.com", subject="second")
    await http.delete(f"/api/v1/messages/{after}")
    assert subjects(await http.get(WAIT, params={"after": after})) == ["first"]
    both = await http.get(WAIT, params={"after": after, "count": "2"})
    assert subjects(both) == ["first", "second"]


async def test_a_loop_over_the_last_id_sees_each_message_once(http, keep):
    after = await keep()
    for number in range(3):
        await keep(subject=f"Mail {number}")
    seen = []
    while (answer := await http.get(WAIT, params={"after": after, "timeout": "0"})).status_code == 200:
        seen += subjects(answer)
        after = answer.json()["messages"][-1]["id"]
    assert seen == ["Mail 0", "Mail 1", "Mail 2"]


async def test_many_wait_and_each_gets_its_own(waiting, keep):
    requests = {f"t{number}": await waiting(query=f"tag:t{number}") for number in range(40)}
    for tag in reversed(requests):
        await keep(f"bob+{tag}@example.com", subject=tag)
    for tag, request in requests.items():
        assert subjects(await request) == [tag]


async def test_a_timeout_says_what_was_waited_for_and_what_is_there(http, keep):
    await keep(subject="another one")
    answer = await http.get(WAIT, params={"query": "tag:t1", "count": "2", **SOON})
    assert answer.status_code == 504
    problem = answer.json()
    assert problem["type"] == "/api/#problem-nothing-came"
    assert "tag:t1" in problem["detail"]
    assert {"query": "tag:t1", "timeout": 0.2, "found": 0}.items() <= problem.items()
    assert [message["subject"] for message in problem["newest"]] == ["another one"]


async def test_who_goes_away_ends_the_wait(app, desk, until):
    gone = asyncio.Event()
    sent = []

    async def receive():
        if not sent:
            sent.append("request")
            return {"type": "http.request", "body": b"", "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": WAIT,
        "query_string": urlencode({"timeout": "300"}).encode(),
        "headers": [(b"host", b"127.0.0.1:8025")],
    }
    request = asyncio.create_task(app(scope, receive, send))
    await until(lambda: desk.waiting.waiters == 1)
    gone.set()
    async with asyncio.timeout(30):
        await request
    assert desk.waiting.waiters == 0


async def test_only_so_many_may_wait(http, waiting, desk, keep):
    desk.waiting = Waiting(desk.mailbox.changes, limit=2)
    requests = [await waiting(), await waiting()]
    answer = await http.get(WAIT, params=SOON)
    assert (answer.status_code, answer.json()["type"]) == (503, "/api/#problem-too-many-wait")
    assert int(answer.headers["retry-after"])
    await keep(subject="for all")
    for request in requests:
        assert subjects(await request) == ["for all"]
    assert desk.waiting.waiters == 0


async def test_a_store_in_trouble_is_told_to_who_waits():
    waiting = Waiting(trouble)
    asked = []

    async def ask():
        asked.append(1)
        if len(asked) > 1:
            trouble()

    with pytest.raises(StoreUnavailable):
        await waiting.until(ask, 20)
    assert waiting.waiters == 0


def trouble():
    raise StoreUnavailable("the disk is gone")


async def test_the_store_is_only_asked_again_after_a_change(until):
    looks, asked = [], []
    change = 0

    def look():
        looks.append(change)
        return change

    async def ask():
        asked.append(change)
        return change or None

    waiting = Waiting(look)
    request = asyncio.create_task(waiting.until(ask, 20))
    await until(lambda: len(looks) > 3)
    assert len(asked) <= 2
    change = 7
    assert await request == 7
    assert len(asked) <= 3
    seen = len(looks)
    await asyncio.sleep(0.1)
    assert len(looks) <= seen + 1, "nobody waits, but it looks"


@pytest.mark.parametrize("comes", [True, False])
async def test_a_user_who_is_removed_meanwhile_gets_nothing(desk, keep, until, comes):
    hashed = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("reader's secret")
    known = Accounts(users=[User(name="reader", role=Role.READER)], hashes={"reader": hashed})
    transport = httpx.ASGITransport(create_app(desk, accounts=known))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8025") as client:
        asked = {"params": {"timeout": "20" if comes else "0.5"}, "auth": ("reader", "reader's secret")}
        request = asyncio.create_task(client.get(WAIT, **asked))
        await until(lambda: request.done() or desk.waiting.waiters)
        known.renew(WebSettings())
        if comes:
            await keep(subject="for others")
        answer = await request
    assert answer.status_code == 403
    assert "for others" not in answer.text
