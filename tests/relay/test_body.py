"""The message arrives as it was: octet by octet, large or small, and in time or not at all."""

import asyncio
import hashlib

import pytest
from gatepost.config.limits import Limits
from gatepost.config.relay import UpstreamServer
from gatepost.model.mail import Envelope, Recipient
from gatepost.relay import DeliveryState, Relay
from gatepost.relay.connection import Connection
from gatepost.testing.upstream import FakeUpstream, Stall
from hypothesis import given, settings
from hypothesis import strategies as st
from ports import free_port

RECIPIENT = Recipient(address="b@example.com")
LINES = st.lists(
    st.sampled_from([b".", b"\r\n", b"\r\n.", b"\r", b"\n", b"\0", b"a", b"\xff", b"..", b".\r\n"])
    | st.binary()
)


@pytest.mark.parametrize(
    ("pieces", "wire"),
    [
        ((b"",), b".\r\n"),
        ((b"x",), b"x\r\n.\r\n"),
        ((b"x\r\n", b""), b"x\r\n.\r\n"),
        ((b".\r\n",), b"..\r\n.\r\n"),
        ((b"a\r\n", b".b\r\n..c"), b"a\r\n..b\r\n...c\r\n.\r\n"),
        ((b"a\r\n.\r\nb\r\n",), b"a\r\n..\r\nb\r\n.\r\n"),
        ((b"a\n.\nb\r\n",), b"a\n.\nb\r\n.\r\n"),
        ((b"a\r",), b"a\r\r\n.\r\n"),
    ],
)
async def test_14_15_dots_are_doubled_and_the_end_is_a_line_end(post, pieces, wire):
    with FakeUpstream() as upstream:
        delivery = post.begin(upstream)
        await delivery.rcpt(RECIPIENT)
        assert (await post.send(delivery, [RECIPIENT], pieces)).state is DeliveryState.ACCEPTED
        assert upstream.messages[0].wire == wire


def test_any_octets_arrive_as_they_were():
    """A trace field in a piece of its own, then whatever hypothesis finds, made lines."""

    async def send(relay, server, pieces):
        delivery = relay.begin((server,), Envelope(mail_from="a@example.com"))
        await delivery.rcpt(RECIPIENT)
        deadline = asyncio.get_running_loop().time() + 30
        return await delivery.send((RECIPIENT,), pieces, deadline=deadline)

    with FakeUpstream() as upstream, asyncio.Runner() as runner:
        server = UpstreamServer.model_validate(upstream.url)
        relay = Relay(hostname="gateway.example", limits=Limits())

        @settings(max_examples=150)
        @given(LINES.map(b"".join))
        def check(octets):
            pieces = (b"Received: x\r\n", octets if octets.endswith(b"\r\n") else octets + b"\r\n")
            assert runner.run(send(relay, server, pieces)).state is DeliveryState.ACCEPTED
            assert upstream.messages[-1].content == b"".join(pieces)

        check()
        assert upstream.connections == 1
        runner.run(relay.close())


async def test_a_large_message_waits_for_upstream_and_not_in_memory(post, monkeypatch):
    buffered = []
    write = Connection.write

    def spy(connection, *args):
        result = write(connection, *args)
        buffered.append(connection._transport.get_write_buffer_size())
        return result

    monkeypatch.setattr(Connection, "write", spy)
    line = b".a line of eighty octets that begins with a dot, which makes it longer than it is\r\n"
    content = line * (20_000_000 // len(line))
    with FakeUpstream({"body": Stall(0.1)}, receive_buffer=64 << 10) as upstream:
        assert (await post(upstream, content=content)).state is DeliveryState.ACCEPTED
        assert hashlib.sha256(upstream.messages[0].content).digest() == hashlib.sha256(content).digest()
    assert max(buffered) < 1 << 20


@pytest.mark.parametrize("size", [10, 1_000_000])
async def test_no_message_is_sent_without_time_for_the_reply_to_its_dot(make_post, size):
    """R5: better to have it sent again than in doubt."""
    post = make_post(upstream_time=4)  # a quarter of it is kept for the reply to the dot
    with FakeUpstream() as upstream:
        delivery = post.begin(upstream)
        await delivery.rcpt(RECIPIENT)
        delivered = await post.send(delivery, [RECIPIENT], b"x\r\n" * size, seconds=0.9)
        assert (delivered.state, delivered.reply.code) == (DeliveryState.UNSENT, 451)
        assert await asyncio.to_thread(upstream.wait_until, lambda u: u.open_connections == 0)
        assert upstream.messages == ()


async def test_an_early_refusal_is_heard_while_upstream_takes_nothing(post):
    """RELIABILITY 78: upstream has said no and does not read any more."""
    with FakeUpstream({"body": ["552 5.3.4 Too much", Stall()]}, receive_buffer=4096) as upstream:
        async with asyncio.timeout(30):
            posted = await post(upstream, content=b"x" * 998 + b"\r\n" * 10_000_000)
        assert (posted.state, posted.end) == (DeliveryState.REFUSED, (552, "5.3.4"))


@pytest.mark.real("smtp-sink")
async def test_postfix_smtp_sink_takes_mail_on_few_connections(post):
    port = free_port()
    sink = await asyncio.create_subprocess_exec(
        "/usr/sbin/smtp-sink", "-u", "root", f"127.0.0.1:{port}", "100"
    )
    try:
        async with asyncio.timeout(60):
            while not post.relay.extensions([(post.server(f"smtp://127.0.0.1:{port}"),)]):
                await asyncio.sleep(0.02)
                await post.relay.probe([post.server(f"smtp://127.0.0.1:{port}")])
        content = b"Subject: hello\r\n\r\n" + b".dot\r\n" * 1000
        ends = await asyncio.gather(*(post(f"smtp://127.0.0.1:{port}", content=content) for _ in range(50)))
        assert {end.state for end in ends} == {DeliveryState.ACCEPTED}
    finally:
        sink.terminate()
        await sink.wait()
