"""Live conversation lines: bounded, filtered, and on time in a browser."""

import asyncio
import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import SimpleNamespace

import httpx
import pytest
import uvicorn
from gatepost.traffic.events import event_of
from gatepost.traffic.feed import Sender, pair
from gatepost.web.app import create_app
from gatepost.web.desk import Desk
from gatepost.web.live import LiveHub, Subscription, live_events
from starlette.applications import Starlette
from starlette.routing import Route

NOW = datetime(2026, 11, 23, 18, 0, 0, 250_000, tzinfo=UTC)
AT = int(NOW.timestamp() * 1_000_000)
ANN = [
    ("*", b"connected 192.0.2.1 5000"),
    ("S", b"220 mx.example.net ESMTP\r\n"),
    ("C", b"EHLO laptop.example\r\n"),
    ("C", b"MAIL FROM:<Ann@example.com> SIZE=10\r\n"),
    ("C", b"rcpt to: <bob@example.net>\r\n"),
    ("S", b"250 2.1.5 Ok\r\n"),
    ("*", b"closed"),
]
CAROL = [
    ("*", b"connected 2001:db8::7 5001"),
    ("C", b"HELO phone\r\n"),
    ("*", b"for 198.51.100.7 5002 tablet"),
    ("C", b"MAIL FROM:<>\r\n"),
]


@pytest.fixture
def until():
    """Wait until a condition holds that another task brings about."""

    async def wait(condition):
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0.005)

    return wait


def lines(session_id, said):
    return [event_of(at=AT, session_id=session_id, direction=who, data=data) for who, data in said]


async def waiting(subscription):
    """All that waits: the texts, and how many were missed."""
    texts, missed = [], 0
    batches = subscription.batches(pause_seconds=0)
    while subscription._more.is_set():
        batch = await anext(batches)
        texts += [line.text for line in batch.lines]
        missed += batch.missed
    return texts, missed


async def test_a_new_page_begins_with_the_history_and_goes_on():
    hub = LiveHub(history=3)
    hub.put(lines("a", [("C", b"NOOP %d\r\n" % number) for number in range(5)]))
    with hub.subscribe() as subscription:
        assert await waiting(subscription) == (["NOOP 2", "NOOP 3", "NOOP 4"], 0)
        hub.put(lines("a", [("S", b"250-one\r\n250 two\r\n")]))
        assert await waiting(subscription) == (["250-one", "250 two"], 0)


@pytest.mark.parametrize(
    ("words", "sessions"),
    [
        ("", "ac"),
        ("192.0.2.1", "a"),
        ("ANN@example.com", "a"),
        ("bob@", "a"),
        ("phone", "c"),
        ("2001:db8::7 phone", "c"),
        ("198.51.100.7 tablet", "c"),
        ("192.0.2.1 phone", ""),
        ("laptop bob", "a"),
        ("250", ""),
    ],
)
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_filter_shows_whole_sessions(words, sessions, when):
    hub = LiveHub()
    said = lines("a", ANN) + lines("c", CAROL)
    if when == "before":
        hub.put(said)
    with hub.subscribe(words) as subscription:
        if when == "after":
            hub.put(said)
        texts, missed = await waiting(subscription)
    expected = [*("a" in sessions) * ANN, *("c" in sessions) * CAROL]
    assert texts == [data.decode().rstrip() for _, data in expected]
    assert missed == 0


async def test_a_slow_browser_loses_the_oldest_lines_and_is_told_how_many():
    hub = LiveHub()
    slow, quick = Subscription("", limit=4), Subscription("", limit=100)
    hub._subscriptions |= {slow, quick}
    hub.put(lines("a", [("C", b"NOOP %d\r\n" % number) for number in range(10)]))
    assert await waiting(slow) == (["NOOP 6", "NOOP 7", "NOOP 8", "NOOP 9"], 6)
    assert (await waiting(quick))[1] == 0


async def test_what_the_feed_lost_is_told():
    class Lossy:
        dropped = 3

        async def batches(self):
            yield lines("a", [("C", b"one\r\n")])
            self.dropped = 8
            yield lines("a", [("C", b"two\r\n")])

    hub = LiveHub()
    with hub.subscribe() as subscription:
        await hub.follow(Lossy())
        assert await waiting(subscription) == (["one", "two"], 5)


async def test_lines_are_sent_together_and_not_more_than_so_many_at_once():
    hub = LiveHub(history=5000)
    with hub.subscribe() as subscription:
        hub.put(lines("a", [("C", b"NOOP\r\n")] * 1200))
        batches = subscription.batches(pause_seconds=0)
        assert [len((await anext(batches)).lines) for _ in range(3)] == [500, 500, 200]


async def test_memory_is_bounded_whatever_clients_do():
    hub = LiveHub(history=10)
    for number in range(100):
        hub.put(lines(f"s{number}", [("C", b"RCPT TO:<%d@example.com>\r\n" % n) for n in range(200)]))
    hub.put(lines("big", [("D", b"x" * 100_000 + b"\r\n" + b"line\r\n" * 5000)] * 3))
    assert len(hub._sessions) <= 11
    assert all(len(session.names) <= 100 for session in hub._sessions.values())
    assert sum(len(line.text) for line in hub._history) < 10 * 600


async def test_of_a_message_the_beginning_is_shown_and_control_characters_are_escaped():
    hub = LiveHub()
    body = b"\x1b]0;owned\x07<b>\xff\r\n" + b"line\r\n" * 30
    with hub.subscribe() as subscription:
        hub.put(lines("a", [("D", body), ("S", b"250 2.0.0 Ok\r\n")]))
        texts, _ = await waiting(subscription)
    assert texts[0] == r"\x1b]0;owned\x07<b>\xff"
    assert texts[1:] == ["line"] * 19 + ["... 11 more lines or more", "250 2.0.0 Ok"]


def live_app(hub):
    async def events(request):
        return await live_events(hub, request)

    return Starlette(routes=[Route("/live/events", events)])


@asynccontextmanager
async def served(app):
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", timeout_graceful_shutdown=1))
    serving = asyncio.create_task(server._serve())
    while not server.started:
        await asyncio.sleep(0.005)
    host, port = server.servers[0].sockets[0].getsockname()
    try:
        async with httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=30) as client:
            yield client
    finally:
        server.should_exit = True
        await serving


async def events(response):
    """The id and the data of each event ``lines``."""
    name = number = ""
    async for line in response.aiter_lines():
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "id":
            number = value
        elif field == "data" and name == "lines":
            yield number, json.loads(value)


async def test_a_browser_gets_lines_as_they_are_said_and_goes_on_where_it_was():
    hub = LiveHub()
    async with served(live_app(hub)) as client:
        async with client.stream("GET", "/live/events") as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            received = events(response)
            hub.put(lines("a", ANN[:2]))
            last_id, event = await anext(received)
            assert event == {
                "missed": 0,
                "sessions": {"a": ["192.0.2.1", "", ""]},
                "lines": [
                    ["a", 1795456800250, "*", "connected 192.0.2.1 5000"],
                    ["a", 1795456800250, "S", "220 mx.example.net ESMTP"],
                ],
            }
        hub.put(lines("a", ANN[2:3]))
        for stale, expected in [(last_id, 1), (f"1{last_id}", 3), ("nonsense", 3), ("", 3)]:
            for told in ({"headers": {"Last-Event-ID": stale}}, {"params": {"after": stale}}):
                async with client.stream("GET", "/live/events", **told) as response:
                    _, event = await anext(events(response))
                    assert len(event["lines"]) == expected


async def test_a_browser_that_leaves_is_forgotten(until):
    hub = LiveHub(subscribers=1)
    async with served(live_app(hub)) as client:
        async with client.stream("GET", "/live/events") as response:
            await until(lambda: hub.full)
            assert (await client.get("/live/events")).status_code == 503
            assert response.status_code == 200
        await until(lambda: not hub.full)


@pytest.mark.long
async def test_a_browser_that_reads_nothing_makes_nobody_wait(until):
    hub = LiveHub()
    async with served(live_app(hub)) as client:
        reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
        writer.write(b"GET /live/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await until(lambda: hub._subscriptions)
        (stuck,) = hub._subscriptions
        async with client.stream("GET", "/live/events") as response:
            received = events(response)
            for number in range(60):
                hub.put(lines("a", [("C", b"%0480d\r\n" % number)] * 500))
                await asyncio.sleep(0)
            _, event = await anext(received)
            assert event["lines"]
        assert len(stuck._waiting) <= 2_000
        writer.close()
        reader.feed_eof()


async def test_what_the_smtp_processes_tap_reaches_a_browser():
    nothing = SimpleNamespace(changes=lambda: 1, counts=lambda: None, statistics=lambda: None)
    desk = Desk(mailbox=nothing, archive=nothing, conversations=None)
    sending, receiving = pair()
    with sending, receiving:
        app = create_app(desk, feed=receiving)
        async with served(app) as client:
            sender = Sender(sending)
            async with client.stream("GET", "/live/events?q=ann@") as response:
                for event in lines("c", CAROL) + lines("a", ANN):
                    sender.tap(event)
                received = []
                async for _, event in events(response):
                    received += event["lines"]
                    if len(received) == len(ANN):
                        break
            sender.close()
    assert [(who, text) for _, _, who, text in received] == [
        (who, data.decode().rstrip()) for who, data in ANN
    ]
