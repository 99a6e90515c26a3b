"""Each new message is reported once, whatever the server does, and what is given up is known."""

import asyncio
import json
import logging
from datetime import UTC, datetime, timedelta

import pytest
from gatepost.config.webhook import WebhookSettings
from gatepost.metrics import SharedCounters
from gatepost.store import StoreError
from gatepost.web import webhook as webhook_module
from gatepost.web.webhook import Webhook
from gatepost.web.webhook_server import WebhookServer

STARTED = datetime.now(UTC) - timedelta(hours=1)


class Listener:
    """A server that answers with the status of the test: one for each message id, or for all."""

    def __init__(self):
        self.seen = []
        self.status = {}
        self.usual = 200
        self.open = self.most_open = 0

    async def serve(self, reader, writer):
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:-2])
            body = json.loads(await reader.readexactly(int(fields["content-length"])))
            self.seen.append(body)
            status = self.status.get(body["id"], self.usual)
            if status is None:
                await asyncio.sleep(60)
            writer.write(f"HTTP/1.1 {status} Said\r\n\r\n".encode())
            await writer.drain()
        finally:
            self.open -= 1
            writer.close()

    @property
    def ids(self):
        return [body["id"] for body in self.seen]


@pytest.fixture
async def listener():
    opened = Listener()
    server = await asyncio.start_server(opened.serve, "127.0.0.1", 0)
    opened.url = f"http://ann:hunter2@127.0.0.1:{server.sockets[0].getsockname()[1]}/hunter3"
    yield opened
    server.close()


@pytest.fixture
def counters():
    return SharedCounters(1)


@pytest.fixture
def hurry(monkeypatch):
    """Let the times be short."""

    def set_times(**seconds):
        for name, value in seconds.items():
            monkeypatch.setattr(webhook_module, f"_{name.upper()}", value)

    set_times(pauses_seconds=(0.01, 0.02), look_seconds=0.005, trouble_seconds=0.01)
    return set_times


@pytest.fixture
async def following(desk, listener, counters, hurry, caplog):
    """Start a webhook, as a new process of the desk does; nothing secret is in the log at the end."""
    tasks = {}

    async def start(**changes):
        server = WebhookServer(WebhookSettings.model_validate(listener.url))
        given = {"started_at": STARTED, "shutdown_seconds": 5.0, **changes}
        webhook = Webhook(desk, server, counters, **given)
        tasks[webhook] = asyncio.create_task(webhook.follow(lambda *told: start.told.append(told)))
        return webhook

    async def finish(webhook):
        tasks.pop(webhook).cancel()
        await webhook.finish()

    start.finish, start.told = finish, []
    yield start
    for webhook in [*tasks]:
        await finish(webhook)
    assert "hunter" not in caplog.text


@pytest.fixture
def numbers(counters):
    """How many were delivered, given up, and wait."""

    def now():
        found = counters.totals()
        keys = (("webhook_delivered",), ("webhook_given_up",), ("webhook_backlog",))
        return tuple(found.get(key, 0) for key in keys)

    return now


async def test_each_message_is_reported_once_as_the_api_lists_it(
    following, listener, keep, http, numbers, until
):
    await following()
    ids = [await keep(subject=f"Hello {number}") for number in range(3)]
    await until(lambda: numbers() == (3, 0, 0))
    assert sorted(listener.ids) == sorted(ids)
    listed = (await http.get("/api/v1/messages")).json()["messages"]
    assert sorted(listener.seen, key=lambda one: one["id"]) == listed[::-1]
    assert listed[0]["snippet"] == "Hi Bob", "its text was read before"


async def test_what_was_there_before_is_not_new(following, listener, keep, numbers, until, counters):
    old = await keep()
    await following(started_at=datetime.now(UTC) + timedelta(seconds=30))
    await until(lambda: ("webhook_position",) in counters.desks())
    new = await keep()
    await until(lambda: numbers()[0] == 1)
    assert listener.ids == [new] != [old]


async def test_a_burst_is_sent_a_few_at_a_time(following, listener, keep, numbers, until):
    ids = [await keep() for _ in range(150)]
    await following()
    await until(lambda: numbers() == (150, 0, 0))
    assert sorted(listener.ids) == sorted(ids)
    assert 1 < listener.most_open <= 4


async def test_a_successor_goes_on_where_the_desk_ended(following, listener, keep, numbers, until):
    first = await following()
    await keep()
    await until(lambda: numbers() == (1, 0, 0))
    await following.finish(first)
    between = await keep()
    await following()
    after = await keep()
    await until(lambda: numbers() == (3, 0, 0))
    assert sorted(listener.ids[1:]) == sorted([between, after])


async def test_it_is_sent_again_until_it_is_accepted(following, listener, keep, numbers, until, caplog):
    listener.usual = 503
    await following()
    kept_id = await keep()
    await until(lambda: len(listener.seen) >= 4)
    assert numbers() == (0, 0, 1)
    listener.usual = 200
    await until(lambda: numbers() == (1, 0, 0))
    assert {*listener.ids} == {kept_id}
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert line.endswith(f": 503 Said; message {kept_id} is sent again"), "once a minute"


async def test_one_that_is_never_accepted_is_given_up_and_does_not_delay_others(
    following, listener, keep, numbers, until, caplog, hurry
):
    hurry(give_up_seconds=1)
    refused = await keep(subject="refused")
    listener.status[refused] = 400
    await following()
    await until(lambda: listener.seen)
    hurry(give_up_seconds=60)
    others = [await keep() for _ in range(3)]
    await until(lambda: numbers() == (3, 1, 0))
    assert {*others} < {*listener.ids}
    assert f"message {refused} was not reported: 400 Said" in caplog.text


async def test_a_server_that_hangs_leaves_room_for_the_others(
    following, listener, keep, numbers, until, hurry
):
    hanging = await keep()
    listener.status[hanging] = None
    await following()
    others = [await keep() for _ in range(5)]
    await until(lambda: numbers() == (5, 0, 1))
    assert {*listener.ids} == {hanging, *others}
    hurry(stop_seconds=0.1)


async def test_the_queue_is_bounded(following, listener, keep, numbers, until, caplog, hurry):
    listener.usual = None
    hurry(queue_bytes=2000, stop_seconds=0.05)
    await following()
    for _ in range(5):
        await keep()
    await until(lambda: sum(numbers()) == 5)
    delivered, given_up, waiting = numbers()
    assert (delivered, waiting + given_up) == (0, 5)
    assert 1 <= waiting <= 4
    assert "too many messages wait" in caplog.text


async def test_at_the_end_what_waits_is_tried_once_more(following, listener, keep, numbers, until, hurry):
    hurry(pauses_seconds=(60.0,))
    listener.usual = 503
    webhook = await following()
    accepted, refused = await keep(), await keep()
    await until(lambda: len(listener.seen) == 2)
    listener.status[accepted] = 200
    await following.finish(webhook)
    assert (listener.ids[2:].count(accepted), listener.ids[2:].count(refused)) == (1, 1)
    assert numbers() == (1, 1, 0)


async def test_the_end_does_not_wait_for_a_server_that_hangs(
    following, listener, keep, numbers, until, hurry, caplog
):
    hurry(stop_seconds=0.05)
    listener.usual = None
    webhook = await following()
    ids = [await keep() for _ in range(6)]
    await until(lambda: len(listener.seen) == 4 and numbers() == (0, 0, 6))
    async with asyncio.timeout(30):
        await following.finish(webhook)
    assert numbers() == (0, 6, 0)
    assert "was not reported: not accepted in time" in caplog.text
    assert {*listener.ids} < {*ids}


async def test_what_workers_store_while_all_end_is_reported(following, listener, keep, numbers, counters):
    worker = counters.take()
    webhook = await following()
    counters.stop()
    finishing = asyncio.create_task(following.finish(webhook))
    await asyncio.sleep(0.05)
    last = await keep()
    counters.leave(worker)
    async with asyncio.timeout(30):
        await finishing
    assert (listener.ids, numbers()) == ([last], (1, 0, 0))


async def test_workers_that_do_not_end_are_not_waited_for_without_end(following, counters, hurry):
    hurry(workers_seconds=0.1)
    webhook = await following(shutdown_seconds=0.1)
    counters.take()
    counters.stop()
    async with asyncio.timeout(30):
        await following.finish(webhook)


async def test_what_a_killed_desk_had_not_reported_is_counted_and_logged(
    following, counters, numbers, until, caplog
):
    counters.publish_desks({("webhook_delivered",): 7, ("webhook_backlog",): 3})
    await following()
    await until(lambda: numbers() == (7, 3, 0))
    assert "3 messages were not reported: the web desk was killed" in caplog.text


async def test_trouble_with_the_store_ends(following, desk, listener, keep, until, monkeypatch):
    def fails():
        raise StoreError("locked")

    with monkeypatch.context() as patch:
        patch.setattr(desk.mailbox, "changes", fails)
        await following()
        await until(lambda: following.told)
        what, error = following.told[0]
        assert (what, str(error)) == ("the webhook cannot look for new messages", "locked")
        kept_id = await keep()
    await until(lambda: listener.ids == [kept_id])
