"""Messages in chunks (RFC 3030) arrive as they were; whatever upstream does, the client hears the truth."""

import asyncio
import itertools
import logging
import os
import sys
import tempfile
from pathlib import Path

import pytest
from gatepost.config.limits import Limits
from gatepost.config.relay import UpstreamServer
from gatepost.model.mail import Envelope, Recipient
from gatepost.relay import DeliveryState, Relay
from gatepost.relay.connection import Connection
from gatepost.testing.upstream import (
    Close,
    FakeUpstream,
    OnConnection,
    OnTransaction,
    Reset,
    Stall,
    Then,
)
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import proxies

ACCEPTED, REFUSED, UNSENT, IN_DOUBT = (
    DeliveryState.ACCEPTED,
    DeliveryState.REFUSED,
    DeliveryState.UNSENT,
    DeliveryState.IN_DOUBT,
)
OFFERED = ("PIPELINING", "8BITMIME", "CHUNKING")
RECIPIENT = Recipient(address="b@example.com")
TRACE = b"Received: from a\r\n\tby b\r\n"
SMALL = (TRACE, b"Subject: hello\r\n\r\n.Hello\r\n..\r\n")
MEDIUM = (TRACE, b"Subject: medium\r\n\r\n" + (b"." + b"x" * 997 + b"\r\n") * 100)
"""Too much for one write."""
LARGE = (TRACE, b"Subject: large\r\n\r\n" + (b"x" * 998 + b"\r\n") * 12_000)
"""Too much for what the systems hold between the two."""
SENT = (SMALL, SMALL, MEDIUM, SMALL)
SENDER, TO = "MAIL FROM:<a@example.com>", "RCPT TO:<b@example.com>"
POSTFIX = """\
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
"""


@pytest.fixture
def upstream():
    with FakeUpstream(extensions=OFFERED) as server:
        yield server


def sizes(pieces):
    return [sum(map(len, pieces[:1])), sum(map(len, pieces[1:]))]


async def until_one_is_idle(post):
    """Upstream has replied to RSET."""
    async with asyncio.timeout(60):
        while not any(post.relay._pool._idle.values()):
            await asyncio.sleep(0.01)


async def test_the_first_message_on_a_connection_asks_with_its_first_piece_and_the_next_is_one_chunk(
    post, upstream
):
    for content in SENT:
        assert (await post(upstream, content=content)).state is ACCEPTED
    first, rest = sizes(SMALL)
    whole, large = first + rest, sizes(MEDIUM)[1]
    assert upstream.commands == (
        (
            "EHLO gateway.example",
            *(SENDER, TO, f"BDAT {first}", f"BDAT {rest} LAST"),
            *(SENDER, TO, f"BDAT {whole} LAST"),
            *(SENDER, TO, f"BDAT {first}", f"BDAT {large} LAST"),
            *(SENDER, TO, f"BDAT {whole} LAST"),
        ),
    )
    taken = [message.content for message in upstream.messages]
    assert taken == [b"".join(content) for content in SENT]


def test_any_octets_arrive_as_they_were_and_are_made_lines(make_post):
    async def send(relay, server, pieces):
        delivery = relay.begin((server,), Envelope(mail_from="a@example.com"))
        await delivery.rcpt(RECIPIENT)
        return await delivery.send((RECIPIENT,), pieces, deadline=asyncio.get_running_loop().time() + 60)

    with FakeUpstream(extensions=OFFERED) as upstream, asyncio.Runner() as runner:
        server = UpstreamServer.model_validate(upstream.url)
        relay = Relay(hostname="gateway.example", limits=Limits())
        some = st.sampled_from([b".", b"\r\n", b"\r\n.", b"\r", b"\n", b"a", b"\xff", b"BDAT 0 LAST\r\n"])

        @settings(max_examples=100)
        @given(st.lists(some | st.binary()).map(b"".join), st.sampled_from([0, 70_000]))
        def check(octets, more):
            content = b"x" * more + octets
            assert runner.run(send(relay, server, (TRACE, content))).state is ACCEPTED
            lines = content if content.endswith(b"\r\n") or not content else content + b"\r\n"
            assert upstream.messages[-1].content == TRACE + lines

        check()
        assert upstream.connections == 1
        runner.run(relay.close())


@pytest.mark.parametrize("pieces", [(b"",), (b"x\r\n",), (TRACE, b"")], ids=["empty", "one", "one is empty"])
async def test_a_message_of_one_piece_is_sent_after_data(post, upstream, pieces):
    assert (await post(upstream, content=pieces)).state is ACCEPTED
    assert upstream.commands[0][-1] == "DATA"
    assert upstream.messages[0].content == b"".join(pieces)


REFUSALS = {"4xx": ("452 4.3.1 No room", (452, "4.3.1")), "5xx": ("554 5.7.1 No", (554, "5.7.1"))}
FAULTS = {
    **{name: reply for name, (reply, _) in REFUSALS.items()},
    "503": "503 5.5.1 No recipients",
    "502": "502 5.5.2 Unknown command",
    "421": "421 4.3.2 Going home",
    "close": Close(),
    "reset": Reset(),
    "stall": Stall(),
    "garbage": b"\x1b[2J Hello?\r\n",
    "two replies": b"250 2.0.0 Ok\r\n250 2.0.0 Ok\r\n",
    "code 354": "354 Go ahead",
}
HEARD = {name: heard for name, (_, heard) in REFUSALS.items()} | {
    "503": (503, "5.5.1"),
    "502": (502, "5.5.2"),
}
LOST, GOING_HOME, TAKEN = (451, "4.4.2"), (451, "4.3.2"), (250, "2.0.0")


def expected(step, fault, reused):
    """State of the delivery, and what the client hears."""
    if (heard := HEARD.get(fault)) and (step, fault, reused) != ("bdat", "502", False):
        return REFUSED, heard
    if fault == "421" and step != "bdat":
        return REFUSED, GOING_HOME
    if step == "dot":
        return IN_DOUBT, LOST
    if fault == "stall":
        return UNSENT, LOST
    if reused:
        return ACCEPTED, TAKEN
    if step == "bdat":  # the second attempt is with DATA, but for 421, which is no reason
        return (UNSENT, GOING_HOME) if fault == "421" else (ACCEPTED, TAKEN)
    return UNSENT, LOST


@pytest.mark.case(78)
@pytest.mark.case(79)
@pytest.mark.parametrize(
    ("step", "fault", "reused"),
    [
        pytest.param(*case, id=f"{case[0]}-{case[1]}-{'reused' if case[2] else 'first'}")
        for case in itertools.product(("bdat", "body", "dot"), FAULTS, (False, True))
    ],
)
@pytest.mark.long
async def test_a_fault_is_told_as_it_is_and_nothing_is_taken_twice(make_post, upstream, step, fault, reused):
    post = make_post(connect_time=1, upstream_time=1) if fault == "stall" else make_post()
    content = {"bdat": MEDIUM, "body": LARGE, "dot": SMALL}[step]
    behaviour = [FAULTS[fault], Stall()] if step == "body" else FAULTS[fault]  # it reads no more
    if reused:
        assert (await post(upstream, content=SMALL)).state is ACCEPTED
        behaviour = OnConnection(1, OnTransaction(2, behaviour))
    upstream.script[step] = behaviour

    posted = await post(upstream, content=content)

    assert (posted.state, posted.end) == expected(step, fault, reused)
    upstream.script.clear()
    upstream.release.set()
    before = upstream.connections
    assert (await post(upstream, content=(TRACE, b"after\r\n"))).state is ACCEPTED
    if posted.state is not ACCEPTED and (fault not in HEARD or step == "body"):
        assert upstream.connections == before + 1, "the connection was used again"
    taken = [message.content for message in upstream.messages]
    times = 1 if step == "dot" or posted.state is ACCEPTED else 0
    assert taken == [b"".join(SMALL)] * reused + [b"".join(content)] * times + [TRACE + b"after\r\n"]


async def test_a_refused_chunk_is_reset_and_the_rest_is_not_sent(post, upstream):
    upstream.script["bdat"] = Then("452 4.3.1 No room")
    assert (await post(upstream, content=MEDIUM)).end == (452, "4.3.1")
    await until_one_is_idle(post)
    assert (await post(upstream, content=SMALL)).state is ACCEPTED
    assert upstream.connections == 1
    assert upstream.commands[0][3:6] == (f"BDAT {len(TRACE)}", "RSET", SENDER)


@pytest.mark.parametrize("content", [SMALL, MEDIUM], ids=["small", "medium"])
async def test_after_a_refused_message_upstream_is_ready_for_the_next(post, upstream, content):
    """Some servers take no MAIL after a chunk that they have refused, before RSET."""
    assert (await post(upstream, content=SMALL)).state is ACCEPTED
    upstream.script["dot"] = Then("554 5.7.1 No")
    assert (await post(upstream, content=content)).end == (554, "5.7.1")
    await until_one_is_idle(post)
    assert (await post(upstream, content=SMALL)).state is ACCEPTED
    assert upstream.connections == 1
    assert upstream.commands[0][-4:] == ("RSET", SENDER, TO, f"BDAT {sum(sizes(SMALL))} LAST")


async def test_chunks_can_be_turned_off(post, upstream):
    server = UpstreamServer(host=upstream.host, port=upstream.port, chunking=False)
    assert (await post(server, content=SMALL)).state is ACCEPTED
    assert upstream.commands[0][-1] == "DATA"


async def test_nothing_of_a_message_is_sent_before_a_recipient_was_accepted(post, upstream):
    upstream.script["rcpt"] = "550 5.1.1 Unknown"
    assert (await post(upstream, content=SMALL)).end == (550, "5.1.1")
    assert not any("BDAT" in line for line in upstream.commands[0])


@pytest.mark.case(111)
async def test_a_server_that_only_announces_chunking_gets_data_and_no_line_of_the_message(post, caplog):
    """What a server that does not know BDAT reads as commands is what the gateway has written."""
    with FakeUpstream({"ehlo": "250-fake.example\n250 CHUNKING"}) as upstream:
        with caplog.at_level(logging.WARNING):
            for _ in range(3):
                assert (await post(upstream, content=SMALL)).state is ACCEPTED
        assert [message.content for message in upstream.messages] == [b"".join(SMALL)] * 3
        one, other = upstream.commands
        assert one[: one.index(f"BDAT {len(TRACE)}")] == ("EHLO gateway.example", SENDER, TO)
        assert not any("Subject" in line for line in one)
        assert [line for line in other if "DAT" in line] == ["DATA"] * 3
        (record,) = caplog.records
        assert "announces CHUNKING, but fails at BDAT; it gets DATA for an hour" in record.getMessage()
        assert "500 5.5.1 Unknown command" in record.getMessage()


async def test_after_an_hour_chunks_are_tried_again(post, monkeypatch):
    monkeypatch.setattr("gatepost.relay.pool._WITHOUT_CHUNKS_SECONDS", 0.0)
    with FakeUpstream({"bdat": Then(Close())}, extensions=OFFERED) as upstream:
        assert (await post(upstream, content=SMALL)).state is ACCEPTED
        assert [line.split()[0] for lines in upstream.commands for line in lines if "DAT" in line] == [
            "BDAT"
        ] * 3


async def test_a_connection_that_was_silent_for_long_is_asked_first(post, upstream, monkeypatch):
    """It may have been lost without notice: after the end of data the message would be in doubt."""
    assert (await post(upstream, content=SMALL)).state is ACCEPTED
    monkeypatch.setattr("gatepost.relay.delivery._AT_ONCE_SECONDS", -1.0)
    upstream.script["bdat"] = OnConnection(1, Reset())
    assert (await post(upstream, content=SMALL)).state is ACCEPTED
    assert [message.connection for message in upstream.messages] == [1, 2]


@pytest.mark.parametrize("content", [SMALL, MEDIUM], ids=["small", "medium"])
async def test_the_last_octets_are_not_sent_without_time_for_the_reply(make_post, upstream, content):
    """R5: better to have it sent again than in doubt."""
    post = make_post(upstream_time=4)  # a quarter of it is kept for the reply
    assert (await post(upstream, content=SMALL)).state is ACCEPTED
    delivery = post.begin(upstream)
    await delivery.rcpt(RECIPIENT)
    delivered = await post.send(delivery, [RECIPIENT], content, seconds=0.9)
    assert (delivered.state, delivered.reply.code) == (UNSENT, 451)
    assert await asyncio.to_thread(upstream.wait_until, lambda u: u.open_connections == 0)
    assert len(upstream.messages) == 1


async def test_a_cancelled_message_is_not_delivered(post, upstream):
    upstream.script["body"] = Stall()
    delivery = post.begin(upstream)
    await delivery.rcpt(RECIPIENT)
    sending = asyncio.ensure_future(post.send(delivery, [RECIPIENT], LARGE))
    last = f"BDAT {sizes(LARGE)[1]} LAST"
    assert await asyncio.to_thread(upstream.wait_until, lambda u: last in u.commands[0])
    sending.cancel()
    await asyncio.wait([sending])
    upstream.release.set()
    assert await asyncio.to_thread(upstream.wait_until, lambda u: u.open_connections == 0)
    assert upstream.messages == ()


@pytest.mark.real("postfix")
@pytest.mark.skipif(os.geteuid() != 0, reason="Postfix can be started by root alone")
async def test_postfix_takes_chunks_and_passes_on_what_was_sent(post, monkeypatch):
    written = []
    write = Connection.write

    def spy(connection, octets, deadline):
        written.append(bytes(octets))
        write(connection, octets, deadline)

    monkeypatch.setattr(Connection, "write", spy)
    with (
        tempfile.TemporaryDirectory(
            ignore_cleanup_errors=True
        ) as folder,  # where Postfix's own user may look
        FakeUpstream() as behind,
        proxies.postfix(behind.port, Path(folder), processes=5, who_may=POSTFIX) as mx,
    ):
        there = f"smtp://127.0.0.1:{mx.port}"
        for content in SENT:
            assert (await post(there, content=content)).state is ACCEPTED
        asked = [octets.split(b"\r\n")[0] for octets in written if octets.startswith((b"BDAT", b"DATA"))]
        first, rest, whole, large = *sizes(SMALL), sum(sizes(SMALL)), sizes(MEDIUM)[1]
        assert asked == [
            *(b"BDAT %d" % first, b"BDAT %d LAST" % rest),
            b"BDAT %d LAST" % whole,
            *(b"BDAT %d" % first, b"BDAT %d LAST" % large),
            b"BDAT %d LAST" % whole,
        ]
        taken = [message.content for message in behind.messages]
        assert [content[content.index(TRACE) :] for content in taken] == [
            b"".join(content) for content in SENT
        ]
        behind.script["dot"] = Then("554 5.7.1 No")
        assert (await post(there, content=SMALL)).end == (554, "5.7.1")
        assert (await post(there, content=SMALL)).state is ACCEPTED
