"""A whole 4xx or 5xx reply is valid, whatever becomes of the connection after it."""

import asyncio
import itertools
import logging
import ssl

import pytest
import trustme
from gatepost.config.relay import UpstreamAuth, UpstreamServer
from gatepost.relay import DeliveryState
from gatepost.testing.upstream import (
    Close,
    FakeUpstream,
    HalfClose,
    OnConnection,
    OnTransaction,
    Reset,
    Stall,
    Then,
    Usual,
)

ACCEPTED, REFUSED, UNSENT = DeliveryState.ACCEPTED, DeliveryState.REFUSED, DeliveryState.UNSENT
REFUSALS = {"4xx": "450 4.7.1 Greylisted", "5xx": "554-5.7.1 You are\n554 5.7.1 listed"}
ENDS = {
    "close": Close(),
    "reset": Reset(),
    "half-close": [HalfClose(), Stall()],
    "421": ["421 4.3.2 Going home", Close()],
    "half a reply": [b"250-2.0", Close()],
    "garbage": b"\0\0\r\n",
    "silence": Stall(),
}
OFFERS = {"pipelining": ("PIPELINING", "8BITMIME"), "one by one": ("8BITMIME",)}
STEPS = ("mail", "rcpt", "data", "body", "dot")
CONTENT = b"Subject: hello\r\n\r\nHello\r\n"
LARGE = b"Subject: large\r\n\r\n" + (b"x" * 998 + b"\r\n") * 12_000


@pytest.mark.parametrize(
    ("step", "refusal", "ending", "offer", "reused"),
    [
        pytest.param(*case, id="-".join((*case[:4], "reused" if case[4] else "first")))
        for case in itertools.product(STEPS, REFUSALS, ENDS, OFFERS, (False, True))
    ],
)
async def test_it_reaches_the_client_and_no_other_server_is_asked(
    make_post, step, refusal, ending, offer, reused
):
    waits = (step, ending, offer) == ("mail", "silence", "pipelining")
    post = make_post(upstream_time=2) if waits else make_post()
    behaviour = [REFUSALS[refusal], ENDS[ending]]
    with FakeUpstream(extensions=OFFERS[offer]) as upstream, FakeUpstream() as second:
        if reused:
            assert (await post(upstream, second)).state is ACCEPTED
        upstream.script[step] = OnConnection(1, OnTransaction(1 + reused, behaviour))

        posted = await post(upstream, second, content=LARGE if step == "body" else CONTENT)

        code, enhanced = {"4xx": (450, "4.7.1"), "5xx": (554, "5.7.1")}[refusal]
        assert posted.end == (code, enhanced)
        assert posted.state is (None if step in ("mail", "rcpt") else REFUSED)
        assert (upstream.connections, second.connections) == (1, 0)
        if ending != "silence":  # a server that is silent after its refusal is only not known to be
            upstream.release.set()
            assert await asyncio.to_thread(upstream.wait_until, lambda u: not u.open_connections)
            assert (await post(upstream, second)).state is ACCEPTED
            assert upstream.messages[-1].connection == 2


@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("ending", ENDS)
async def test_a_refused_mail_answers_every_recipient_of_the_transaction(make_post, ending, offer):
    post = make_post(upstream_time=2) if ending == "silence" else make_post()
    script = {"mail": OnConnection(1, ["554 5.7.1 You are listed", ENDS[ending]])}
    with FakeUpstream(script, extensions=OFFERS[offer]) as upstream:
        posted = await post(upstream, recipients=[f"{name}@example.com" for name in "bcd"])
        assert [str(reply) for reply in posted.replies] == ["554 5.7.1 You are listed"] * 3
        assert upstream.connections == 1


@pytest.mark.parametrize("ending", ["close", "reset", "421"])
@pytest.mark.parametrize("step", ["mail", "rcpt"])
async def test_a_positive_reply_promises_nothing_before_the_dot(post, step, ending):
    with FakeUpstream({step: OnConnection(1, [Usual(), ENDS[ending]])}) as first, FakeUpstream() as second:
        first.script["connect"] = Then(Usual(), "421 4.3.2 Busy")
        posted = await post(first, second)
        assert posted.state is ACCEPTED
        assert (len(first.messages), len(second.messages)) == (0, 1)


@pytest.mark.parametrize("reused", [False, True], ids=["first", "reused"])
@pytest.mark.parametrize("ending", ["close", "reset", "421", "half a reply", "half-close"])
async def test_a_positive_reply_to_the_dot_is_valid(post, ending, reused):
    with FakeUpstream() as upstream:
        if reused:
            assert (await post(upstream)).state is ACCEPTED
        upstream.script["dot"] = OnConnection(1, [Usual(), ENDS[ending]])
        posted = await post(upstream)
        assert (posted.state, posted.end) == (ACCEPTED, (250, "2.0.0"))
        assert len(upstream.messages) == 1 + reused


@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("ending", ["close", "reset", "421"])
async def test_of_recipients_asked_together_who_was_refused_stays_refused(post, ending, offer):
    """Nobody else is asked: one of them has been refused, so that one reply cannot be true for all."""
    recipients = [f"{name}@example.com" for name in "bcd"]
    replies = Then(Usual(), ["550 5.1.1 Unknown", ENDS[ending]])
    with FakeUpstream(extensions=OFFERS[offer]) as first, FakeUpstream() as second:
        delivery = post.begin(first, second)
        for recipient in post.recipients("a@example.com", *recipients):
            assert (await delivery.rcpt(recipient)).positive
        first.script["rcpt"] = replies
        delivered = await post.send(delivery, recipients)
        assert (delivered.state, delivered.reply.code) == (UNSENT, 451)
        assert delivered.upstream_reply == "550 5.1.1 Unknown"
        assert (first.connections, second.connections) == (1, 0)
        assert first.messages == second.messages == ()


@pytest.mark.parametrize(
    "replies",
    [
        b"250 ok\r\n550 5.7.1 Whose?\r\n550 5.1.1 And whose?\r\n",
        [b"550 5.7.1 Whose?\r\n", Stall(0.1), b"250 ok\r\n550 5.1.1 And whose?\r\n"],
    ],
    ids=["at once", "in two pieces"],
)
async def test_what_may_be_the_reply_to_something_else_is_no_refusal(post, replies):
    """RELIABILITY 80: of three replies to two commands none is known to be the right one."""
    script = {"mail": OnConnection(1, replies)}
    with FakeUpstream(script) as first, FakeUpstream() as second:
        first.script["connect"] = Then(Usual(), "421 4.3.2 Busy")
        assert (await post(first, second)).state is ACCEPTED
        assert len(second.messages) == 1


@pytest.fixture
def opening(tmp_path):
    """A server's certificate, and its settings for TLS and AUTH."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    (tmp_path / "password").write_text("word\n")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    settings = {
        "tls": "required",
        "ca": tmp_path / "ca.pem",
        "auth": UpstreamAuth(username="gateway", password_file=tmp_path / "password"),
    }
    return context, settings


@pytest.mark.parametrize("ending", ["close", "reset", "421", "garbage", "silence"])
@pytest.mark.parametrize("refusal", ["450 4.7.1 Not you now", "554 5.7.1 You are listed"])
@pytest.mark.parametrize("step", ["connect", "ehlo", "starttls", "auth"])
@pytest.mark.long
async def test_before_mail_it_is_about_the_gateway_and_not_the_message(
    make_post, opening, caplog, step, refusal, ending
):
    """So that the next server is asked, the client is told to try again, and the log has the words."""
    post = make_post(connect_time=1, upstream_time=2) if ending == "silence" else make_post()
    context, settings = opening
    script = {step: [refusal, ENDS[ending]]}
    with (
        caplog.at_level(logging.WARNING, "gatepost.relay.pool"),
        FakeUpstream(script, tls=context, users={"gateway": "word"}) as first,
        FakeUpstream() as second,
    ):
        server = UpstreamServer(host=first.host, port=first.port, **settings)
        posted = await post(server)
        assert posted.end == (451, "4.4.1")
        assert (await post(server, second)).state is ACCEPTED
        assert not any(line.startswith("MAIL") for lines in first.commands for line in lines)
    if ending == "close" and step != "auth":  # there the next mechanism is tried
        assert refusal[4:] in caplog.text
