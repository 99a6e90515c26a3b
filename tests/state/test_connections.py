"""Connections are counted on all nodes, also when a process is killed and when the server is."""

import asyncio
import logging
import signal
import time
from contextlib import suppress
from random import Random

import pytest
from gatepost.state import connections
from gatepost.state.connections import ConnectionCounts
from gatepost.state.redis import RedisClient
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import integers

pytestmark = pytest.mark.real("redis-server")
HERE = "192.0.2.1"


async def until(condition):
    async with asyncio.timeout(60):
        while not await condition():
            await asyncio.sleep(0.02)


@pytest.fixture
async def node():
    """Start to count, as a process does; all end at the end."""
    started = []

    def start(url, *, limit=10, seconds=20.0, name="mx"):
        counts = ConnectionCounts(RedisClient(url, connections=1, seconds=seconds), node=name, limit=limit)
        counts.start()
        started.append(counts)
        return counts

    yield start
    for counts in started:
        await counts.close()


def counts_again(counts):
    async def counts_again():
        return not counts.is_failing

    return counts_again


async def kill(counts):
    """End the process without a word to the server."""
    counts._task.cancel()
    with suppress(asyncio.CancelledError):
        await counts._task


async def enter(counts, number, client=HERE):
    return sum([bool(one) for one in await asyncio.gather(*(counts.enter(client) for _ in range(number)))])


async def test_of_many_at_once_on_all_nodes_no_more_are_admitted_than_the_limit(server, node):
    nodes = [node(server.url) for _ in range(3)]
    admitted = await asyncio.gather(*(enter(nodes[number % 3], 1) for number in range(60)))
    assert sum(admitted) == 10
    assert await nodes[0].enter("2001:db8::1"), "another client"


async def test_the_end_of_a_connection_makes_room_on_the_other_node(server, node):
    one, other = node(server.url), node(server.url)
    assert await enter(one, 10) == 10
    assert await other.enter(HERE) is False
    one.leave(HERE)
    await until(lambda: other.enter(HERE))
    assert await one.enter(HERE) is False


async def test_more_clients_than_one_question_has(server, node, monkeypatch):
    monkeypatch.setattr(connections, "_AT_ONCE", 7)
    one, other = node(server.url, limit=1), node(server.url, limit=1)
    clients = [f"198.51.100.{number}" for number in range(100)]
    assert all(await asyncio.gather(*map(one.enter, clients)))
    assert not any(await asyncio.gather(*map(other.enter, clients)))


async def test_what_a_killed_process_has_counted_is_over_with_its_lease(server, node, monkeypatch):
    monkeypatch.setattr(connections, "_LEASE_SECONDS", 3)
    monkeypatch.setattr(connections, "_RENEW_SECONDS", 0.2)
    killed, living = node(server.url, name="killed"), node(server.url, name="living")
    assert await enter(killed, 4) == 4
    assert await enter(living, 6) == 6
    await kill(killed)
    assert await living.enter(HERE) is False
    await until(lambda: living.enter(HERE))
    assert await enter(living, 10) == 3, "its own are counted still"


async def test_a_process_that_ends_takes_its_counts_away(server, node):
    one = node(server.url)
    assert await enter(one, 3) == 3
    assert [key async for key in keys(server)] == [b"gatepost:%40connections:10:192.0.2.1"]
    await one.close()
    assert [key async for key in keys(server)] == []


async def keys(server):
    for key in server.client.scan_iter():
        yield key


@given(seed=integers())
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_comes_and_goes_there_are_never_more_than_the_limit(server, seed):
    """Connections, their ends, and sessions that are cut off while they wait, on three nodes."""

    async def come_and_go(counts, chance, open_now):
        for _ in range(40):
            entering = asyncio.ensure_future(counts.enter(HERE))
            if chance.random() < 0.3:
                await asyncio.sleep(chance.random() * 0.001)
                entering.cancel()
            with suppress(asyncio.CancelledError):
                if await entering:
                    open_now.append(counts)
                    assert len(open_now) <= 5
            if open_now and chance.random() < 0.5:
                open_now.pop(chance.randrange(len(open_now))).leave(HERE)

    async def play():
        server.client.flushall()
        nodes = [
            ConnectionCounts(RedisClient(server.url, connections=1, seconds=20), node=f"{number}", limit=5)
            for number in range(3)
        ]
        open_now = []
        for counts in nodes:
            counts.start()
        await asyncio.gather(*(come_and_go(counts, Random(seed), open_now) for counts in nodes))

        async def written():
            found = server.client.hgetall(f"gatepost:%40connections:10:{HERE}").values()
            return sum(int(value.split()[0]) for value in found) == len(open_now)

        await until(written)
        for counts in nodes:
            await counts.close()

    asyncio.run(play())


async def test_a_session_that_ends_before_the_answer_is_not_counted(server, node):
    one = node(server.url, limit=2)
    assert await enter(one, 1) == 1
    late = [asyncio.ensure_future(one.enter(HERE)) for _ in range(5)]
    await asyncio.sleep(0)
    for task in late:
        task.cancel()
    await asyncio.gather(*late, return_exceptions=True)
    other = node(server.url, limit=2)
    await until(lambda: other.enter(HERE))


async def test_a_session_that_ends_with_the_answer_is_not_counted(server, node):
    one = node(server.url, limit=1)
    entering = asyncio.ensure_future(one.enter(HERE))
    async with asyncio.timeout(60):
        while HERE not in one._clients or not one._clients[HERE].held:
            await asyncio.sleep(0)
    if not entering.cancel():
        one.leave(HERE)
    await asyncio.gather(entering, return_exceptions=True)
    await until(lambda: one.enter(HERE))


async def test_a_server_that_is_killed_and_comes_back_empty(make_server, node, caplog):
    caplog.set_level(logging.WARNING)
    server = make_server()
    one, other = node(server.url), node(server.url)
    assert await enter(one, 6) == 6
    assert await enter(other, 3) == 3
    server.stop()
    answers = [await counts.enter(HERE) for counts in (one, other) for _ in range(3)]
    assert answers == [None] * 6, "nobody knows"
    assert one.is_failing
    for counts in (one, other):
        for _ in range(3):
            counts.leave(HERE)
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"], "one line of each process"
    assert "limits.on_error applies: the state on unix://" in caplog.text
    server.start()
    await until(counts_again(one))
    await until(counts_again(other))
    assert [record.levelname for record in caplog.records[2:]] == ["WARNING", "WARNING"]
    assert "connections are counted on all nodes again, after" in caplog.text
    assert await enter(other, 5) == 1, "those from before are counted"


async def test_a_server_that_is_full_has_one_outage_although_it_answers_what_writes_nothing(
    make_server, node, monkeypatch, caplog
):
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(connections, "_RETRY_SECONDS", 0.02)
    server = make_server("--maxmemory-policy", "noeviction")
    counts = node(server.url)
    server.client.config_set("maxmemory", 1)
    assert await counts.enter(HERE) is None
    counts.leave(HERE)
    await asyncio.sleep(0.5)
    assert counts.is_failing
    server.client.config_set("maxmemory", 0)
    await until(counts_again(counts))
    assert ["is full" in line for line in caplog.messages] == [True, False]


async def test_a_server_that_is_not_there_at_the_start(make_server, node):
    server = make_server()
    server.stop()
    one = node(server.url)
    assert await one.enter(HERE) is None
    server.start()
    await until(counts_again(one))
    assert await one.enter(HERE)
    assert await node(server.url, limit=2).enter(HERE) is False, "both are counted"


async def test_after_a_failover_they_are_counted_on_the_new_server(make_server, node, tmp_path, monkeypatch):
    monkeypatch.setattr(connections, "_RETRY_SECONDS", 0.02)
    old, new = make_server(), make_server()
    (place := tmp_path / "redis").symlink_to(old.socket)
    counts = node(f"unix://{place}", limit=2)
    assert await counts.enter(HERE)
    place.unlink()
    place.symlink_to(new.socket)
    old.client.replicaof("127.0.0.1", "1")
    assert await counts.enter(HERE) is None, "nobody knows"
    await until(counts_again(counts))
    assert await node(new.url, limit=2).enter(HERE) is False, "both are counted"


async def test_a_server_that_hangs_makes_nobody_wait_for_long(make_server, node):
    server = make_server()
    one = node(server.url, seconds=0.5)
    assert await one.enter(HERE)
    server.process.send_signal(signal.SIGSTOP)
    begin = time.monotonic()
    assert await enter(one, 50) == 0, "nobody knows"
    assert time.monotonic() - begin < 20, "0.5 s, on an idle machine"
    begin = time.monotonic()
    for _ in range(100):
        assert await one.enter(HERE) is None
    assert time.monotonic() - begin < 20, "nothing is waited for"
    server.process.send_signal(signal.SIGCONT)
    await until(counts_again(one))
    assert await one.enter(HERE) is False, "all 151 are counted"
