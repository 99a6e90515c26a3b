"""Whatever upstream does, the client hears the truth: RELIABILITY 75 to 84."""

import asyncio
import itertools
import socket

import pytest
from gatepost.relay import DeliveryState
from gatepost.testing.upstream import Close, FakeUpstream, OnConnection, OnTransaction, Reset, Stall, Usual

ACCEPTED, REFUSED, UNSENT, IN_DOUBT = (
    DeliveryState.ACCEPTED,
    DeliveryState.REFUSED,
    DeliveryState.UNSENT,
    DeliveryState.IN_DOUBT,
)
CONTENT = b"Subject: hello\r\n\r\nHello\r\n"
LARGE = b"Subject: large\r\n\r\n" + (b"x" * 998 + b"\r\n") * 12_000

REFUSALS = {"4xx": (450, "4.2.1"), "5xx": (550, "5.7.1")}
FAULTS = {
    "4xx": "450 4.2.1 Busy",
    "5xx": "550-5.7.1 No,\n550 5.7.1 really not",
    "421": "421 4.3.2 Going home",
    "close": Close(),
    "reset": Reset(),
    "stall": Stall(),
    "garbage": b"\x1b[2J Hello?\r\n",
    "8 KB line": b"250 " + b"x" * 8192 + b"\r\n",
    "endless multi-line": b"250-and more\r\n" * 5000,
    "mixed codes": b"250-yes\r\n550 no\r\n",
    "bare LF": b"250 ok\n",
    "code 150": b"150 well\r\n",
    "code 334": b"334 go on\r\n",
}
STEPS = ("mail", "rcpt", "data", "body", "dot")


def expected(step, fault, reused):
    """State of the delivery (None: no recipient was accepted) and what the client hears."""
    refusal = REFUSALS.get(fault)
    going_home = (451, "4.3.2")
    lost = (451, "4.4.2")
    if step in ("mail", "rcpt"):
        if refusal:
            return None, refusal
        if reused and fault != "stall":  # there, no time is left to connect anew
            return ACCEPTED, (250, "2.0.0")
        return None, going_home if fault == "421" else lost
    if refusal:
        return REFUSED, refusal
    if fault == "421" and step in ("body", "dot"):
        return REFUSED, going_home
    if step == "dot":
        return IN_DOUBT, lost
    if fault == "stall":
        return UNSENT, lost
    if reused:
        return ACCEPTED, (250, "2.0.0")
    return UNSENT, going_home if fault == "421" else lost


@pytest.mark.parametrize(
    ("step", "fault", "reused"),
    [
        pytest.param(*case, id=f"78-{case[0]}-{case[1]}-{'reused' if case[2] else 'first'}")
        for case in itertools.product(STEPS, FAULTS, (False, True))
    ],
)
@pytest.mark.long
async def test_a_fault_is_told_as_it_is_and_the_next_mail_goes_through(make_post, step, fault, reused):
    behaviour = FAULTS[fault]
    if step == "body":
        behaviour = [behaviour, Stall()]  # reads no more, so that there is a midst
    if reused:
        behaviour = OnConnection(1, OnTransaction(2, behaviour))
    post = make_post(connect_time=1, upstream_time=1) if fault == "stall" else make_post()
    content = LARGE if step == "body" else CONTENT
    with FakeUpstream() as upstream:
        if reused:
            assert (await post(upstream, content=b"before\r\n")).state is ACCEPTED
        upstream.script[step] = behaviour

        posted = await post(upstream, content=content)

        assert (posted.state, posted.end) == expected(step, fault, reused)
        if posted.delivered:
            assert posted.delivered.upstream_reply.isprintable()
        upstream.script.clear()
        upstream.release.set()
        connections_before = upstream.connections
        assert (await post(upstream, content=b"after\r\n")).state is ACCEPTED
        connections_of_fault = upstream.connections - connections_before
        if fault not in REFUSALS and posted.state is not ACCEPTED:
            assert connections_of_fault == 1, "the connection was used again"
        taken = [message.content for message in upstream.messages]
        # Nothing is sent twice; before the dot nothing is delivered, neither now nor later.
        times = 1 if step == "dot" or posted.state is ACCEPTED else 0
        assert taken == [b"before\r\n"] * reused + [content] * times + [b"after\r\n"]


async def test_75_a_refused_connection_is_temporary(post, closed_port):
    assert (await post(f"smtp://127.0.0.1:{closed_port}")).end == (451, "4.4.1")


async def test_75_a_black_hole_is_temporary(hasty_post):
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.socket() as first:
        first.connect(full.getsockname())  # from here on the system drops what comes
        url = f"smtp://127.0.0.1:{full.getsockname()[1]}"
        assert (await hasty_post(url)).end == (451, "4.4.1")


@pytest.mark.parametrize(
    "script",
    [
        {"connect": "554 5.3.2 No mail here"},
        {"connect": "421 4.3.2 Busy"},
        {"connect": b"SSH-2.0-OpenSSH_9.9\r\n"},
        {"connect": Stall()},
        {"connect": Close()},
        {"connect": Reset()},
        {"connect": b"220 " + b"x" * 100_000},
        {"ehlo": Close()},
        {"ehlo": Stall()},
        {"ehlo": "421 4.3.2 Busy"},
        {"ehlo": b"250-mixed\r\n"},
        {"ehlo": "502 5.5.1 What?", "helo": "502 5.5.1 What?"},
        {"ehlo": b"250 fake.example\r\n250 one too many\r\n"},
    ],
    ids=str,
)
async def test_76_what_goes_wrong_in_the_greeting_is_temporary(hasty_post, script):
    with FakeUpstream(script) as upstream:
        posted = await hasty_post(upstream)
        assert posted.end == (451, "4.4.1")
        assert not any(line.startswith("MAIL") for lines in upstream.commands for line in lines)


async def test_77_helo_where_ehlo_is_refused(post):
    with FakeUpstream({"ehlo": "502 5.5.1 Not implemented"}) as upstream:
        posted = await post(upstream, parameters=("SIZE=100", "BODY=8BITMIME"))
        assert posted.state is ACCEPTED
        assert upstream.commands[0] == (
            "EHLO gateway.example",
            "HELO gateway.example",
            "MAIL FROM:<a@example.com>",
            "RCPT TO:<b@example.com>",
            "DATA",
        )


@pytest.mark.parametrize(
    ("step", "behaviour", "state"),
    [
        ("rcpt", [Usual(), b"250 one too many\r\n"], ACCEPTED),  # on a new connection, where it is not said
        ("data", b"354 go\r\n250 one too many\r\n", ACCEPTED),
        ("data", b"354 go\r\n25", ACCEPTED),
        ("dot", b"250 one too many\r\n550 5.7.1 No\r\n", IN_DOUBT),
        ("dot", b"250 2.0.0 Ok\r\n421 4.3.2 Going home\r\n", ACCEPTED),
        ("dot", b"250 2.0.0 Ok\r\n2", ACCEPTED),
    ],
)
async def test_80_a_reply_that_was_not_asked_for_ends_the_connection(post, step, behaviour, state):
    with FakeUpstream({step: OnConnection(1, behaviour)}) as upstream:
        delivery = post.begin(upstream)
        replies = [await delivery.rcpt(r) for r in post.recipients("b@example.com")]
        assert [reply.code for reply in replies] == [250] or step == "rcpt"
        await asyncio.to_thread(upstream.wait_until, lambda u: u.open_connections == 0, 0.05)
        assert (await post.send(delivery, ["b@example.com"])).state is state
        assert len(upstream.messages) == 1
        assert (await post(upstream, content=b"after\r\n")).state is ACCEPTED
        assert upstream.messages[1].connection > 1


async def test_80_a_yes_before_the_dot_is_no_yes(post):
    with FakeUpstream({"body": ["250 2.0.0 Ok", Stall()]}) as upstream:
        posted = await post(upstream, content=LARGE)
        assert (posted.state, posted.end) == (UNSENT, (451, "4.4.2"))
        assert upstream.messages == ()


@pytest.mark.parametrize("behaviour", ["554 5.0.0 No", Close(), Reset(), b"garbage", Stall()], ids=str)
async def test_81_trouble_at_quit_changes_nothing(post, behaviour, monkeypatch):
    monkeypatch.setattr("gatepost.relay.connection._QUIT_SECONDS", 0.1)
    with FakeUpstream({"quit": behaviour}) as upstream:
        assert (await post(upstream)).state is ACCEPTED
        async with asyncio.timeout(30):
            await post.relay.close()


async def test_82_a_late_reply_never_answers_the_next_mail(hasty_post):
    with FakeUpstream({"dot": OnConnection(1, [Stall(), "550 5.7.1 Late"])}) as upstream:
        assert (await hasty_post(upstream)).state is IN_DOUBT
        upstream.release.set()
        assert (await hasty_post(upstream)).state is ACCEPTED
        assert upstream.connections == 2


async def test_82_what_upstream_says_while_a_connection_waits_ends_it(post):
    farewell = [Usual(), Stall(0.02), "421 4.4.2 You are too slow", Close()]
    with FakeUpstream({"dot": OnConnection(1, farewell)}) as upstream:
        assert (await post(upstream)).state is ACCEPTED
        await asyncio.to_thread(upstream.wait_until, lambda u: u.open_connections == 0)
        await asyncio.sleep(0.02)
        assert (await post(upstream)).state is ACCEPTED
        assert [message.connection for message in upstream.messages] == [1, 2]


async def test_83_each_refused_recipient_hears_its_own_code(post):
    answers = {"<b@": "550 5.1.1 Unknown", "<c@": "452-4.2.2 Mailbox\n452 4.2.2 full"}

    with FakeUpstream({"rcpt": lambda path: answers.get(path[3:6])}) as upstream:
        posted = await post(upstream, recipients=[f"{name}@example.com" for name in "abc"])
        assert [str(reply) for reply in posted.replies] == [
            "250 2.1.5 Recipient ok",
            "550 5.1.1 Unknown",
            "452 4.2.2 Mailbox / full",
        ]
        assert [recipient.address for recipient in upstream.messages[0].recipients] == ["a@example.com"]


@pytest.mark.parametrize("step", ["data", "body", "dot"])
async def test_84_nothing_is_delivered_after_the_client_heard_that_it_failed(hasty_post, step):
    with FakeUpstream({step: [Stall(), Usual()]}, receive_buffer=4096) as upstream:
        posted = await hasty_post(upstream, content=LARGE if step == "body" else CONTENT)
        assert posted.state is (IN_DOUBT if step == "dot" else UNSENT)
        before = len(upstream.messages)
        upstream.script.clear()
        upstream.release.set()
        assert await asyncio.to_thread(upstream.wait_until, lambda u: u.open_connections == 0)
        assert len(upstream.messages) == before == (1 if step == "dot" else 0)


async def test_replies_may_come_in_pieces(post):
    pieces = [b"2", Stall(0.01), b"50-2.1.5 Fine\r", Stall(0.01), b"\n250 2.1.5 with me\r\n"]
    with FakeUpstream({"rcpt": pieces}) as upstream:
        delivery = post.begin(upstream)
        (recipient,) = post.recipients("b@example.com")
        assert str(await delivery.rcpt(recipient)) == "250 2.1.5 Fine / with me"
        await delivery.abandon()


async def test_what_went_wrong_is_one_printable_line_for_the_journal(post):
    with FakeUpstream({"dot": b"\x1b[31m\xff\r\n"}) as upstream:
        delivered = (await post(upstream)).delivered
        assert delivered.upstream_reply.isprintable()
        assert delivered.server == f"127.0.0.1:{upstream.port}"
        assert "x1b" not in delivered.reply.text
