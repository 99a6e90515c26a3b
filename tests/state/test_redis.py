"""The state on a Redis server: the same counts as in a file, and an error whenever the server fails."""

import asyncio
import math
import re
import subprocess
from pathlib import Path

import pytest
import trustme
from gatepost.state import Amount, State
from gatepost.state import redis as redis_state
from gatepost.state.connections import ConnectionCounts
from gatepost.state.contract import StateError
from gatepost.state.redis import RedisClient, RedisKeys, RedisState
from gatepost.state.sqlite import SqliteState
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ports import free_port

pytestmark = pytest.mark.real("redis-server")

AMOUNTS = st.builds(
    Amount,
    key=st.sampled_from(["client", "sender"]),
    amount=st.integers(0, 4) | st.just(2**40),
    seconds=st.sampled_from([60, 90.5, 3600]),
    limit=st.sampled_from([5, 2**41]),
)
STEPS = st.lists(st.tuples(st.floats(-30, 90), st.lists(AMOUNTS, min_size=1, max_size=3)), max_size=20)


def one(number=1, limit=10**6):
    return Amount(key="all", amount=number, seconds=3600, limit=limit)


@given(steps=STEPS)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_it_counts_as_the_file_does_also_when_the_clock_is_set(server, steps):
    async def play():
        now = [1_700_000_000.25]
        server.client.flushall()
        backends = (
            RedisState(RedisClient(server.url), clock=lambda: now[0]),
            SqliteState(None, max_entries=99, clock=lambda: now[0]),
        )
        for pause, amounts in steps:
            now[0] += pause
            counted, expected = [await State(backend, "test").add(*amounts) for backend in backends]
            assert counted == expected
        for backend in backends:
            await backend.close()

    asyncio.run(play())


async def test_of_many_at_once_no_more_are_counted_than_the_limit(server, on_server):
    states = [on_server(server.url) for _ in range(3)]
    counted = await asyncio.gather(*(states[number % 3].add(one(limit=100)) for number in range(300)))
    assert sorted(found.total for (found,) in counted if not found.wait_seconds) == list(range(1, 101))
    assert len(server.client.client_list()) <= 3 * redis_state._CONNECTIONS + 1


async def test_every_name_has_the_prefix_and_an_end(server, on_server):
    server.client.set("other", "untouched")
    state = on_server(server.url, "./my filter.py:Mine")
    await state.set("a:b", 1, seconds=1e-9)
    await state.set("a:b", 1, seconds=3e9)
    await state.add(Amount(key="a:b", amount=1, seconds=90, limit=3))
    names = sorted(server.client.scan_iter())
    assert names == [
        b"gatepost:.%2Fmy%20filter.py%3AMine:0:a:b",
        b"gatepost:.%2Fmy%20filter.py%3AMine:90:a:b",
        b"other",
    ]
    assert 90_000 < server.client.pttl(names[1]) <= 97_500
    keys = RedisKeys(server.url)
    assert keys.spaces() == {"./my filter.py:Mine": 2}
    assert [(entry.key, entry.window_seconds) for entry in keys.entries("./my filter.py:Mine")] == [
        ("a:b", 0),
        ("a:b", 90),
    ]
    assert list(keys.entries("*")) == []
    keys.forget("./my filter.py:Mine", ["a:b"])
    assert keys.spaces() == {}
    keys.close()
    assert server.client.get("other") == b"untouched"


async def test_those_whose_rule_is_late_leave_nothing_behind_that_others_read(server, on_server):
    state = on_server(server.url)
    for number in range(100):
        await state.set(f"{number}", number, seconds=100)
    for turns in range(0, 30, 3):
        late = [asyncio.ensure_future(state.get("99")) for _ in range(20)]
        for _ in range(turns):
            await asyncio.sleep(0)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        numbers = range(turns, turns + 40)
        assert await asyncio.gather(*(state.get(f"{number}") for number in numbers)) == list(numbers)


async def test_what_was_asked_is_finished_before_it_closes(server):
    backend = RedisState(RedisClient(server.url))
    waiting = [asyncio.ensure_future(State(backend, "test").add(one())) for _ in range(100)]
    await asyncio.sleep(0)
    await backend.close()
    await asyncio.gather(*waiting)
    assert (await State(backend, "test").add(one(0)))[0].total == 100, "and it can be used again"
    await backend.close()


def test_it_works_on_one_event_loop_after_the_other(server):
    backend = RedisState(RedisClient(server.url))

    async def count():
        (counted,) = await State(backend, "test").add(one())
        await backend.close()
        return counted.total

    assert [asyncio.run(count()) for _ in range(2)] == [1, 2]


async def works(state, value):
    await state.set("key", value, seconds=100)
    return await state.get("key") == value


async def test_a_server_that_is_not_there_and_comes_back(make_server, on_server):
    server = make_server()
    state = on_server(server.url)
    server.stop()
    for _ in range(2):
        with pytest.raises(StateError, match=rf"^the state on {server.url} cannot be reached: Error 2 "):
            await state.get("key")
    server.start()
    assert await works(state, 1)
    server.stop()
    with pytest.raises(StateError, match="cannot be reached"):
        await state.add(one())
    server.start()
    assert await state.get("key") is None
    assert await works(state, 2)
    assert (await state.add(one()))[0].total == 1, "with its script, which the server has forgotten"


async def test_a_server_that_hangs_is_late_while_the_event_loop_goes_on(make_server, on_server, monkeypatch):
    server = make_server()
    state = on_server(server.url)
    assert await works(state, 1)
    monkeypatch.setattr(redis_state, "_SECONDS", 2.0)
    server.process.send_signal(19)  # SIGSTOP
    waiting = [asyncio.ensure_future(state.set("key", 2, seconds=100)) for _ in range(50)]
    for _ in range(20):
        await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    errors = await asyncio.gather(*waiting, return_exceptions=True)
    assert {str(error) for error in errors} == {f"the state on {server.url} did not answer within 2 s"}
    server.process.send_signal(18)  # SIGCONT
    monkeypatch.setattr(redis_state, "_SECONDS", 60.0)
    assert await works(state, 3)


async def test_a_replica_that_takes_no_changes(make_server, on_server):
    state = on_server(make_server("--replicaof", "127.0.0.1", "1").url)
    refused = r"refused a command: .*read only replica"
    with pytest.raises(StateError, match=refused):
        await state.set("key", "value", seconds=60)
    with pytest.raises(StateError, match=refused):
        await state.add(Amount(key="key", amount=1, seconds=60, limit=5))
    assert await state.get("key") is None


@pytest.fixture(params=["stale", "nothing"])
def failover(request, make_server, tmp_path):
    """The URL of a server, and a function after which it leads to another one; the first is its replica.

    So do names and addresses that a failover moves: connections that are open stay where they are.
    """
    one, other = make_server(), make_server()
    if request.param == "nothing":  # it answers while its own connection is down
        one.client.config_set("replica-serve-stale-data", "no")
    place = tmp_path / "redis"
    place.symlink_to(one.socket)

    def fail_over():
        place.unlink()
        place.symlink_to(other.socket)
        one.client.replicaof("127.0.0.1", "1")

    return f"unix://{place}", fail_over, request.param


async def test_after_a_failover_the_new_server_is_asked(failover, on_server):
    url, fail_over, answers = failover
    state = on_server(url)
    await asyncio.gather(*(state.set(f"{number}", 1, seconds=60) for number in range(9)))
    fail_over()
    if answers == "stale":
        with pytest.raises(StateError, match=r"refused a command: .*read only replica"):
            await state.set("key", 1, seconds=60)
    else:
        with pytest.raises(StateError, match=r"refused a command: .*Link with MASTER is down"):
            await state.get("key")
    assert await state.get("key") is None
    assert await works(state, 2)
    assert (await state.add(one()))[0].total == 1


async def test_a_password_that_was_changed_is_read_again(make_server, on_server, tmp_path):
    server = make_server("--requirepass", "old")
    file = tmp_path / "password"
    file.write_text("old")
    state = on_server(server.url, password=file.read_text)
    assert await works(state, 1)
    administrator = server.client.__class__.from_url(server.url, password="old")
    administrator.config_set("requirepass", "new")
    file.write_text("new")
    assert await works(state, 2), "its connections are known"
    administrator.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    administrator.close()
    errors = []
    while len(errors) < 20:  # the first one may be that of a connection that has ended
        try:
            assert await works(state, 3)
            break
        except StateError as error:
            errors.append(str(error))
    assert "refused the password" in errors[-1]
    assert len(errors) < 20


@pytest.mark.parametrize("password", [None, "wrong"])
async def test_a_wrong_password(make_server, on_server, password, tmp_path):
    server = make_server("--requirepass", "right")
    wrong, right = (on_server(server.url, password=lambda one=one: one) for one in (password, "right"))
    with pytest.raises(StateError, match=r"refused the password: ") as raised:
        await wrong.get("key")
    assert "right" not in str(raised.value)
    assert await works(right, 1)
    unread = on_server(server.url, password=(tmp_path / "none").read_text)
    with pytest.raises(
        StateError, match=r"the password of the state's server cannot be read: .*No such file"
    ):
        await unread.get("key")
    keys = RedisKeys(server.url, password=lambda: password)
    with pytest.raises(StateError, match=r"refused the password: "):
        keys.spaces()
    keys.close()


async def test_the_rights_that_docs_rules_md_names_are_enough(make_server, on_server):
    server = make_server()
    page = (Path(__file__).parents[2] / "docs" / "rules.md").read_text()
    needed = re.search(r"needs `(~gatepost.*?)`, .*?`(\+select)`, .*?`(\+scan.*?)`", page, re.DOTALL)
    rights = " ".join(needed.groups()).split()
    server.client.execute_command("ACL", "SETUSER", "default", "reset", "on", "nopass", *rights)
    url = f"{server.url}?db=3"
    state, keys = on_server(url), RedisKeys(url)
    assert await works(state, 1)
    assert (await state.add(one()))[0].total == 1
    assert [entry.key for entry in keys.entries("test")] == ["all", "key"]
    keys.forget("test", ["all", "key"])
    assert keys.spaces() == {}
    keys.close()
    counts = ConnectionCounts(RedisClient(url), node="mx", limit=1)
    counts.start()
    assert [await counts.enter("192.0.2.1") for _ in range(2)] == [True, False]
    await counts.close()


async def test_a_full_server_counts_nothing_in_part_and_still_answers(make_server, on_server, clock):
    server = make_server("--maxmemory-policy", "noeviction")
    state = on_server(server.url)
    assert await works(state, 1)
    await state.add(one())
    clock.now += 7200  # the slice is over, and would be deleted
    server.client.config_set("maxmemory", 1)
    before = server.client.hgetall("gatepost:test:3600:all")
    for refused in (state.set("key", 2, seconds=100), state.add(one()), state.add(one(), one(0))):
        with pytest.raises(StateError, match=r"is full: .*command not allowed when used memory"):
            await refused
    assert server.client.hgetall("gatepost:test:3600:all") == before
    assert await state.get("key") == 1
    server.client.config_set("maxmemory", 0)
    assert await works(state, 3)
    assert (await state.add(one()))[0].total == 1


async def test_what_ends_first_goes_first_from_a_server_that_may_evict(make_server, on_server):
    server = make_server("--maxmemory-policy", "volatile-ttl", "--maxmemory-samples", "64")
    state = on_server(server.url)
    for number in range(50):
        await state.set(f"{number}", b"x" * 50_000, seconds=1000 + number)
    server.client.config_set("maxmemory", server.client.info("memory")["used_memory"])
    for number in range(50, 70):
        await state.set(f"{number}", b"x" * 50_000, seconds=1000 + number)
    left = [number for number in range(70) if await state.get(f"{number}") is not None]
    assert 30 < len(left) < 60
    assert set(range(60, 70)) <= set(left)
    assert 0 not in left


@pytest.mark.parametrize(
    "content",
    [
        {"kind": "hash"},
        {"kind": "string", "value": b""},
        {"kind": "string", "value": b"x1"},
        {"kind": "string", "value": b"ione"},
    ],
    ids=str,
)
async def test_what_others_have_written_under_its_names(server, on_server, content):
    state = on_server(server.url)
    if content["kind"] == "hash":
        server.client.hset("gatepost:test:0:key", "a", "b")
        server.client.set("gatepost:test:3600:all", "text")
    else:
        server.client.set("gatepost:test:0:key", content["value"])
        server.client.hset("gatepost:test:3600:all", "1", "many")
    with pytest.raises(StateError, match=r"refused a command|answered what is no answer"):
        await state.get("key")
    with pytest.raises(StateError, match=r"refused a command|answered what is no answer"):
        await state.add(one())
    assert await works(state, 1)


@pytest.mark.parametrize(
    "reply",
    [
        b"220 mx.example.com ESMTP\r\n",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\0\xff" * 100_000,
        b"$5\r\n",
        b"",
    ],
    ids=["smtp", "http", "bytes", "half an answer", "closes"],
)
async def test_a_server_that_is_no_redis(on_server, reply, monkeypatch):
    monkeypatch.setattr(redis_state, "_SECONDS", 0.3)

    async def serve(reader, writer):
        writer.write(reply)
        if reply:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    state = on_server(f"redis://{host}:{port}/0")
    for ask in (state.get("key"), state.set("key", 1, seconds=10), state.add(one())):
        with pytest.raises(StateError, match=rf"^the state on redis://127.0.0.1:{port}/0 \w+ "):
            await ask
    server.close()


async def test_over_tls_only_a_server_whose_authority_is_trusted(make_server, on_server, tmp_path):
    authority, other = trustme.CA(), trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    for name, one_of_both in (("ca.pem", authority), ("other.pem", other)):
        one_of_both.cert_pem.write_to_path(tmp_path / name)
    port = free_port()
    pem = str(tmp_path / "server.pem")
    make_server(
        "--tls-port",
        str(port),
        "--tls-cert-file",
        pem,
        "--tls-key-file",
        pem,
        "--tls-auth-clients",
        "no",
        "--tls-ca-cert-file",
        str(tmp_path / "ca.pem"),
        "--bind",
        "127.0.0.1",
    )
    url = f"rediss://127.0.0.1:{port}/0"
    assert await works(on_server(url, ca=tmp_path / "ca.pem"), 1)
    with pytest.raises(StateError, match=r"cannot be reached: .*certificate verify failed"):
        await on_server(url, ca=tmp_path / "other.pem").get("key")
    with pytest.raises(StateError, match=r"cannot be reached: .*certificate verify failed"):
        await on_server(url).get("key")


async def test_an_amount_above_the_limit_never_has_room(server, on_server):
    assert (await on_server(server.url).add(one(11, limit=10)))[0].wait_seconds == math.inf


def test_a_server_as_it_is_installed_says_that_it_refuses_other_machines(own_network, make_server):
    """As in docs/cluster.md: without a password it answers its own machine alone."""

    async def add():
        client = RedisClient("redis://192.0.2.31:6379")
        try:
            await client.run_script("return redis.call('get', KEYS[1])", ["gatepost:test:0:a"], [])
        finally:
            await client.close()

    def ask():
        command = ["ip", "address", "add", "192.0.2.31/32", "dev", "lo"]
        subprocess.run(command, check=True, timeout=60)
        make_server("--port", "6379", "--bind", "192.0.2.31")
        with pytest.raises(StateError) as raised:
            asyncio.run(add())
        return str(raised.value)

    assert own_network(ask) == (
        "the state on redis://192.0.2.31:6379 refused a command: DENIED Redis is running in protected mode"
        " because protected mode is enabled and no password is set for the default user"
    )
