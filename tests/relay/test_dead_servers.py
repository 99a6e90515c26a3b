"""Servers that do not answer: what each step may take, and that a transaction waits for each of them once."""

import asyncio
import ssl

import pytest
import trustme
from gatepost.config.relay import UpstreamAuth, UpstreamServer
from gatepost.model.mail import Envelope
from gatepost.relay import DeliveryState
from gatepost.testing.upstream import Close, FakeUpstream, OnConnection, OnTransaction, Stall, Then, Usual

ACCEPTED = DeliveryState.ACCEPTED
FOUR = [f"{name}@example.com" for name in "bcde"]


@pytest.fixture
def guarded(tmp_path):
    """Starts a server with TLS and AUTH; settings for it."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    (tmp_path / "password").write_text("word\n")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    def start(script):
        return FakeUpstream(script, tls=context, users={"gateway": "word"})

    def server(upstream):
        auth = UpstreamAuth(username="gateway", password_file=tmp_path / "password")
        return UpstreamServer(
            host=upstream.host, port=upstream.port, tls="required", ca=tmp_path / "ca.pem", auth=auth
        )

    return start, server


@pytest.mark.parametrize("step", ["ehlo", "starttls", "auth"])
@pytest.mark.long
async def test_the_time_to_connect_ends_with_the_greeting(make_post, guarded, step):
    """RFC 5321 section 4.5.3.2: what comes after it has the time of a command."""
    start, server = guarded
    post = make_post(connect_time=1)
    with start({step: Then([Stall(1.2), Usual()])}) as upstream:
        assert (await post(server(upstream))).state is ACCEPTED
        assert upstream.connections == 1


@pytest.mark.parametrize("step", ["ehlo", "starttls", "auth"])
@pytest.mark.long
async def test_each_command_after_the_greeting_has_its_own_time(
    make_post, guarded, step, monkeypatch, caplog
):
    monkeypatch.setattr("gatepost.relay.pool.COMMAND_SECONDS", 1.0)
    start, server = guarded
    with start({step: Stall()}) as upstream:
        posted = await make_post()(server(upstream))
        assert posted.end == (451, "4.4.1")
        assert f"no reply to {step.upper()} in time" in caplog.text


async def test_all_steps_together_end_with_the_time_for_upstream(make_post, guarded):
    """R5."""
    start, server = guarded
    slow = [Stall(0.6), Usual()]
    post = make_post(upstream_time=1.5)
    with start({"ehlo": slow, "starttls": slow, "auth": slow, "mail": slow}) as upstream:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        assert (await post(server(upstream))).end == (451, "4.4.1")
        assert 1.4 < loop.time() - begun < 2.4
        assert len(upstream.commands[0]) < 5, "MAIL is not sent: the steps before take longer"


@pytest.mark.parametrize("step", ["connect", "ehlo", "mail", "rcpt"])
@pytest.mark.long
async def test_a_silent_server_is_waited_for_once_in_a_transaction(make_post, step):
    post = make_post(connect_time=0.5, upstream_time=1)
    with FakeUpstream({step: Stall()}) as upstream:
        posted = await post(upstream, recipients=FOUR)
        assert posted.codes == [451] * 4
        assert len({reply.enhanced for reply in posted.replies}) == 1
        assert upstream.connections == 1

        upstream.script.clear()
        assert (await post(upstream)).state is ACCEPTED, "the next transaction finds it recovered at once"


@pytest.mark.parametrize("step", ["mail", "rcpt"])
async def test_so_is_one_on_a_connection_that_is_used_again(make_post, step):
    post = make_post(connect_time=0.5, upstream_time=1)
    with FakeUpstream({step: OnTransaction(2, Stall())}) as upstream:
        assert (await post(upstream)).state is ACCEPTED
        posted = await post(upstream, recipients=FOUR)
        assert posted.codes == [451] * 4
        assert upstream.connections == 1


@pytest.mark.parametrize("step", ["connect", "ehlo", "mail", "rcpt"])
@pytest.mark.long
async def test_a_healthy_server_of_the_list_is_used_at_once(make_post, step):
    post = make_post(connect_time=0.5, upstream_time=1)
    with FakeUpstream({step: Stall()}) as dead, FakeUpstream() as healthy:
        posted = await post(dead, healthy, recipients=FOUR)
        assert posted.state is ACCEPTED
        assert posted.codes[1:] == [250] * 3
        assert posted.codes[0] == (250 if step in ("connect", "ehlo") else 451), "all its time was used up"
        assert (dead.connections, healthy.connections) == (1, 1)
        assert (await post(dead, healthy, recipients=FOUR)).codes == [250] * 4
        assert dead.connections == 1, "who was silent is asked last for a while"


@pytest.mark.parametrize("fault", ["554 5.7.1 Not you", "421 4.3.2 Busy", Close()], ids=str)
async def test_a_server_that_cannot_be_used_is_tried_once_in_a_transaction(post, fault):
    with FakeUpstream({"connect": fault}) as upstream:
        assert (await post(upstream, recipients=FOUR)).codes == [451] * 4
        assert upstream.connections == 1


async def test_when_the_message_is_sent_a_server_that_failed_before_is_tried_again(post):
    script = {"connect": OnConnection(1, Close())}
    with FakeUpstream(script) as first, FakeUpstream() as second:
        second.script.update({"data": Close(), "connect": Then(Usual(), Close())})
        posted = await post(first, second)
        assert posted.state is ACCEPTED
        assert (len(first.messages), len(second.messages)) == (1, 0)


async def test_an_attempt_with_other_servers_knows_who_failed(make_post):
    """As for a recipient whose route is another one."""
    post = make_post(connect_time=0.5)
    with FakeUpstream({"connect": Stall()}) as dead, FakeUpstream() as healthy:
        delivery = post.begin(dead)
        (recipient,) = post.recipients("b@example.com")
        assert (await delivery.rcpt(recipient)).code == 451
        for upstreams, code in (((dead,), 451), ((dead, healthy), 250)):
            servers = tuple(map(post.server, upstreams))
            delivery = post.relay.begin(servers, Envelope(mail_from=""), after=delivery)
            assert (await delivery.rcpt(recipient)).code == code
        await delivery.abandon()
        assert dead.connections == 1
