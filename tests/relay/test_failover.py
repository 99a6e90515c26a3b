"""Servers in order, and connections that are used again."""

import asyncio

import pytest
from gatepost.relay import DeliveryState
from gatepost.testing.upstream import (
    Close,
    FakeUpstream,
    OnConnection,
    OnTransaction,
    Reset,
    Stall,
    Then,
    Usual,
)

ACCEPTED, UNSENT = DeliveryState.ACCEPTED, DeliveryState.UNSENT
GOING_HOME = "421 4.3.2 Going home"


@pytest.mark.parametrize(
    "script",
    [
        {"connect": "554 5.3.2 No mail here"},
        {"connect": Reset()},
        {"ehlo": Close()},
        {"mail": GOING_HOME},
        {"mail": Reset()},
        {"rcpt": b"garbage\r\n"},
    ],
    ids=str,
)
async def test_trouble_before_an_answer_leads_to_the_next_server(post, script):
    with FakeUpstream(script) as first, FakeUpstream() as second:
        posted = await post(first, second)
        assert posted.state is ACCEPTED
        assert posted.delivered.server == f"127.0.0.1:{second.port}"
        assert (len(first.messages), len(second.messages)) == (0, 1)


@pytest.mark.parametrize("step", ["mail", "rcpt"])
@pytest.mark.parametrize("reply", ["450 4.2.0 Greylisted", "550 5.1.1 Unknown"])
async def test_an_answer_is_an_answer_and_the_next_server_is_not_asked(post, step, reply):
    with FakeUpstream({step: reply}) as first, FakeUpstream() as second:
        posted = await post(first, second)
        assert [str(answer) for answer in posted.replies] == [reply]
        assert second.connections == 0


async def test_a_server_that_is_down_is_asked_last_for_a_while(post, monkeypatch):
    with (
        FakeUpstream({"connect": Then("421 4.3.2 Busy", "421 4.3.2 Busy")}) as first,
        FakeUpstream() as second,
    ):
        for _ in range(3):
            delivery = post.begin(first, second)
            assert (await delivery.rcpt(*post.recipients("b@example.com"))).positive
        assert (first.connections, second.connections) == (1, 3)
        second.script["mail"] = GOING_HOME
        assert (await post(first, second)).state is None  # asked again, and busy again
        assert first.connections == 2
        assert (await post(first, second)).state is ACCEPTED
        assert len(first.messages) == 1


async def test_the_first_server_is_asked_first_again_after_a_while(post, monkeypatch):
    monkeypatch.setattr("gatepost.relay.pool._DOWN_SECONDS", 0.0)
    with FakeUpstream({"connect": Then("421 4.3.2 Busy")}) as first, FakeUpstream() as second:
        assert (await post(first, second)).state is ACCEPTED
        assert (await post(first, second)).state is ACCEPTED
        assert (len(first.messages), len(second.messages)) == (1, 1)


@pytest.mark.parametrize("fault", [Close(), Reset(), GOING_HOME, b"garbage\r\n"], ids=str)
async def test_a_transaction_that_breaks_before_the_dot_is_done_again_elsewhere(post, fault):
    with FakeUpstream({"data": fault}) as first, FakeUpstream() as second:
        first.script["mail"] = OnConnection(2, Close())
        posted = await post(first, second, recipients=["b@example.com", "c@example.com"])
        assert posted.state is ACCEPTED
        (message,) = second.messages
        assert [recipient.address for recipient in message.recipients] == ["b@example.com", "c@example.com"]
        assert first.messages == ()


async def test_a_transaction_that_breaks_between_rcpts_is_completed_on_another_connection(post):
    with FakeUpstream({"rcpt": OnConnection(1, Then(Usual(), Close()))}) as upstream:
        posted = await post(upstream, recipients=[f"{name}@example.com" for name in "bcd"])
        assert posted.codes == [250, 451, 250]
        assert posted.state is ACCEPTED
        (message,) = upstream.messages
        assert [recipient.address for recipient in message.recipients] == ["b@example.com", "d@example.com"]


@pytest.mark.parametrize(
    ("replies", "state", "end"),
    [
        (("550 5.1.1 b", "250 c"), UNSENT, (451, "4.5.0")),
        (("550 5.1.1 b", "450 4.2.0 c"), UNSENT, (451, "4.5.0")),
        (("550 5.1.1 b", "550 5.1.1 c"), DeliveryState.REFUSED, (550, "5.1.1")),
    ],
    ids=["one", "differently", "all"],
)
async def test_when_done_again_other_answers_are_told_and_nothing_is_sent(post, replies, state, end):
    script = {"data": OnConnection(1, Close()), "rcpt": OnConnection(2, Then(*replies))}
    with FakeUpstream(script) as upstream:
        posted = await post(upstream, recipients=["b@example.com", "c@example.com"])
        assert (posted.codes, posted.state, posted.end) == ([250, 250], state, end)
        assert upstream.messages == ()
        assert upstream.connections == 2


async def test_a_server_that_was_started_again_is_not_asked_on_every_dead_connection(post):
    """Connections that died silently while they waited cost one attempt, not one each."""
    with FakeUpstream({"mail": OnTransaction(2, Reset())}) as upstream:
        deliveries = [post.begin(upstream) for _ in range(5)]
        await asyncio.gather(*(d.rcpt(*post.recipients("b@example.com")) for d in deliveries))
        await asyncio.gather(*(post.send(d, ["b@example.com"]) for d in deliveries))
        assert upstream.connections == 5
        assert (await post(upstream)).state is ACCEPTED
        assert upstream.connections == 6


async def test_connections_are_used_again_without_rset_after_a_message(post):
    with FakeUpstream() as upstream:
        for _ in range(3):
            assert (await post(upstream)).state is ACCEPTED
        assert upstream.commands == (
            ("EHLO gateway.example", *("MAIL FROM:<a@example.com>", "RCPT TO:<b@example.com>", "DATA") * 3),
        )


@pytest.mark.parametrize("step", ["mail", "rcpt", "data"])
async def test_connections_are_used_again_after_a_refusal(post, step):
    with FakeUpstream({step: Then("550 5.7.1 No")}) as upstream:
        assert (await post(upstream)).end == (550, "5.7.1")
        if step != "mail":  # then there is nothing to reset
            await asyncio.to_thread(upstream.wait_until, lambda u: "RSET" in u.commands[0])
            await asyncio.sleep(0.02)
        assert (await post(upstream)).state is ACCEPTED
        assert upstream.connections == 1
        assert ("RSET" in upstream.commands[0]) == (step != "mail")


async def test_an_abandoned_transaction_is_reset_and_its_connection_used_again(post):
    with FakeUpstream() as upstream:
        delivery = post.begin(upstream)
        await delivery.abandon()  # before anything was said: nothing to do
        assert upstream.connections == 0
        await delivery.rcpt(*post.recipients("b@example.com"))
        await delivery.abandon()
        await delivery.abandon()
        await asyncio.to_thread(upstream.wait_until, lambda u: "RSET" in u.commands[0])
        await asyncio.sleep(0.02)
        assert (await post(upstream)).state is ACCEPTED
        assert upstream.commands[0].count("RSET") == 1
        assert upstream.connections == 1


@pytest.mark.parametrize("behaviour", ["550 5.0.0 No", Close(), b"250 ok\r\n250 ok\r\n", Stall()], ids=str)
async def test_a_connection_that_cannot_be_reset_is_not_used_again(post, behaviour):
    with FakeUpstream({"rset": behaviour}) as upstream:
        delivery = post.begin(upstream)
        await delivery.rcpt(*post.recipients("b@example.com"))
        await delivery.abandon()
        await asyncio.to_thread(upstream.wait_until, lambda u: "RSET" in u.commands[0])
        await asyncio.sleep(0.02)
        assert (await post(upstream)).state is ACCEPTED
        assert upstream.messages[0].connection == 2


@pytest.mark.parametrize("step", ["connect", "ehlo", "mail", "rcpt", "data", "dot"])
async def test_a_cancelled_delivery_leaves_no_connection_behind(post, step):
    with FakeUpstream({step: Stall()}) as upstream:
        task = asyncio.create_task(post(upstream))
        said = {"connect": "", "ehlo": "EHLO", "mail": "MAIL", "rcpt": "RCPT"}.get(step, "DATA")
        await asyncio.to_thread(
            upstream.wait_until,
            lambda u: u.commands and said in "".join(u.commands[0]) and (step != "dot" or u.messages),
        )
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        upstream.release.set()
        assert await asyncio.to_thread(upstream.wait_until, lambda u: u.open_connections == 0)
        assert len(upstream.messages) == (1 if step == "dot" else 0)


async def test_a_connection_that_waited_long_enough_is_closed_politely(make_post):
    post = make_post(idle_time=0.05)
    with FakeUpstream() as upstream:
        assert (await post(upstream)).state is ACCEPTED
        assert await asyncio.to_thread(upstream.wait_until, lambda u: u.open_connections == 0)
        assert upstream.commands[0][-1] == "QUIT"


async def test_connections_wait_while_the_next_one_to_close_has_no_half_a_millisecond_left(make_post):
    """The handle of uvloop's ``call_at`` does not know its time then."""
    post = make_post(idle_time=0.0004)
    with FakeUpstream() as upstream:
        server, pool = post.server(upstream), post.relay._pool
        deadline = asyncio.get_running_loop().time() + 60
        for connection in [await pool.fresh(server, deadline) for _ in range(2)]:
            pool.give_back(server, connection)
        assert await asyncio.to_thread(upstream.wait_until, lambda u: u.open_connections == 0)
        assert [lines[-1] for lines in upstream.commands] == ["QUIT", "QUIT"]


async def test_few_connections_wait(post, monkeypatch):
    monkeypatch.setattr("gatepost.relay.pool._IDLE_LIMIT", 2)
    with FakeUpstream() as upstream:
        deliveries = [post.begin(upstream) for _ in range(4)]
        await asyncio.gather(*(d.rcpt(*post.recipients("b@example.com")) for d in deliveries))
        await asyncio.gather(*(post.send(d, ["b@example.com"]) for d in deliveries))
        assert await asyncio.to_thread(upstream.wait_until, lambda u: u.open_connections == 2)
        assert sorted(lines[-1] for lines in upstream.commands) == ["DATA", "DATA", "QUIT", "QUIT"]


async def test_close_says_goodbye_and_ends_what_is_under_way(post):
    with FakeUpstream() as upstream:
        delivery = post.begin(upstream)
        await delivery.rcpt(*post.recipients("b@example.com"))
        assert (await post(upstream)).state is ACCEPTED
        await post.relay.close()
        assert await asyncio.to_thread(upstream.wait_until, lambda u: u.open_connections == 0)
        assert [lines[-1] for lines in upstream.commands] == ["RCPT TO:<b@example.com>", "QUIT"]
        await delivery.abandon()


async def test_extensions_are_what_every_server_was_last_seen_to_offer(post):
    """RELIABILITY 86."""

    def offered(number):
        return ("DSN", "8BITMIME") if number == 1 else ("8bitmime",)

    with (
        FakeUpstream(extensions=("DSN", "SIZE 1000", "8BITMIME")) as first,
        FakeUpstream(extensions=offered) as second,
    ):
        servers = post.server(first), post.server(second)
        assert post.relay.extensions([]) == frozenset()
        assert post.relay.extensions([servers]) == frozenset()
        await post.relay.probe(servers[:1])
        assert post.relay.extensions([servers]) == frozenset()
        assert post.relay.extensions([servers[:1]]) == {"DSN", "SIZE", "8BITMIME"}
        await post.relay.probe(servers)
        assert post.relay.extensions([servers[:1], servers[1:]]) == {"DSN", "8BITMIME"}
        await post.relay.probe(servers)
        assert post.relay.extensions([servers]) == {"8BITMIME"}
    await post.relay.probe(servers)  # both are down: nothing is raised, and what was seen is still known
    assert post.relay.extensions([servers]) == {"8BITMIME"}


async def test_probing_what_is_down_raises_nothing(post, closed_port):
    await post.relay.probe([post.server(f"smtp://127.0.0.1:{closed_port}")])
