"""Whatever upstream does, the client hears the truth and the journal has it."""

import itertools
import smtplib
import socket
from types import SimpleNamespace

import pytest

from proxy.testing import FakeUpstream, make_transaction, running_gateway
from proxy.testing.upstream import Close, Drip, HalfClose, Reset, Stall, Then, Usual

FAULTS = {
    "450": "450 4.2.1 Busy",
    "550": "550 5.7.1 No",
    "close": Close(),
    "reset": Reset(),
    "garbage": b"Hello?\r\n",
    "endless": b"250-more\r\n" * 10_000,
    "half-close": HalfClose(),
    "too slow": Drip("250 2.0.0 " + "x" * 50, 0.02),
    "half a reply": [b"250 2.0", Close()],
    "half a reply of two": [b"250-2.0.0 one\r\n", Reset()],
}
SOON = {"limits": {"upstream_time": "600ms", "connect_time": "600ms"}}


@pytest.mark.case(75)
def test_a_refused_connection_is_temporary():
    with socket.create_server(("127.0.0.1", 0)) as unused:
        nobody = SimpleNamespace(host="127.0.0.1", port=unused.getsockname()[1])
    with running_gateway({}, upstream=nobody) as gateway:
        reply = gateway.send(make_transaction())
    assert (reply.code, reply.enhanced) == (451, "4.4.1")


@pytest.mark.case(76)
@pytest.mark.parametrize(
    "greeting", ["554 5.3.2 No mail here", "421 4.3.2 Busy", b"SSH-2.0-OpenSSH_9.9\r\n", Close()]
)
def test_a_bad_greeting_is_temporary(greeting):
    with FakeUpstream({"connect": greeting}) as upstream, running_gateway({}, upstream=upstream) as gateway:
        assert gateway.send(make_transaction()).code == 451
        assert upstream.messages == ()


@pytest.mark.case(76)
@pytest.mark.parametrize(
    "greeting", ["554 5.3.2 No mail here", "421 4.3.2 Busy", b"SSH-2.0-OpenSSH_9.9\r\n", Close(), Stall()]
)
def test_where_there_is_a_second_server_the_mail_goes_there(greeting):
    with FakeUpstream({"connect": greeting}) as first, FakeUpstream() as second:
        relay = [{"recipients": "*@example.com", "to": [first.url, second.url]}]
        limits = {"connect_time": "200ms", "upstream_time": "5s"}
        with running_gateway({"relay": relay, "limits": limits}) as gateway:
            assert gateway.send(make_transaction()).code == 250
        assert (len(first.messages), len(second.messages)) == (0, 1)


@pytest.mark.case(77)
def test_where_ehlo_is_refused_helo_is_tried():
    script = {"ehlo": "502 5.5.1 What?"}
    with FakeUpstream(script) as upstream, running_gateway({}, upstream=upstream) as gateway:
        assert gateway.send(make_transaction()).code == 250
        assert len(upstream.messages) == 1


@pytest.mark.case(78)
@pytest.mark.parametrize(
    ("step", "fault", "reused"),
    list(itertools.product(("mail", "rcpt", "data", "body", "dot"), FAULTS, (False, True))),
)
def test_a_fault_is_told_as_it_is(step, fault, reused):
    with FakeUpstream() as upstream, running_gateway(SOON, upstream=upstream) as gateway:
        if reused:
            assert gateway.send(make_transaction()).code == 250
        upstream.script[step] = [FAULTS[fault], Close()] if step == "body" else FAULTS[fault]
        assert gateway.send(make_transaction()).code == (int(fault) if fault.isdigit() else 451)
        assert len(upstream.messages) == reused + (step == "dot"), "it came to its dot at most once"
        upstream.script.clear()
        assert gateway.send(make_transaction()).code == 250


@pytest.mark.case(79)
@pytest.mark.parametrize("end", [Close(), Reset()], ids=["close", "reset"])
def test_no_answer_to_the_dot_is_doubt(end):
    with FakeUpstream({"dot": end}) as upstream, running_gateway({}, upstream=upstream) as gateway:
        assert gateway.send(make_transaction()).code == 451
        (record,) = gateway.journal()
        assert "doubt" in str(record.recipients[0].disposition)
        assert len(upstream.messages) == 1


@pytest.mark.case(80)
@pytest.mark.parametrize("step", ["connect", "ehlo", "mail", "rcpt", "data", "dot", "rset"])
def test_a_reply_that_nobody_asked_for_is_no_reply_of_ours(step):
    script = {step: [Usual(), b"250 one too many\r\n"]}
    with FakeUpstream(script) as upstream, running_gateway({}, upstream=upstream) as gateway:
        reply = gateway.send(make_transaction())
        assert reply.code in (250, 451)
        if reply.code == 250:
            assert len(upstream.messages) == 1
        upstream.script["dot"] = "554 5.6.0 Not this one"
        assert gateway.send(make_transaction()).code in (451, 554), "a stray 250 is no 250"


@pytest.mark.case(81)
@pytest.mark.parametrize("end", ["500 5.0.0 No", Close(), Reset()], ids=["500", "close", "reset"])
def test_what_comes_after_the_250_changes_nothing(end):
    with (
        FakeUpstream({"quit": end, "rset": end}) as upstream,
        running_gateway({}, upstream=upstream) as gateway,
    ):
        assert [gateway.send(make_transaction()).code for _ in range(3)] == [250, 250, 250]
        assert len(upstream.messages) == 3


@pytest.mark.case(83)
def test_each_recipient_has_an_answer_of_its_own():
    script = {"rcpt": lambda path: "550 5.1.1 No such user" if "bob@" in path else None}
    with FakeUpstream(script) as upstream, running_gateway({}, upstream=upstream) as gateway:
        with smtplib.SMTP(gateway.host, gateway.port, timeout=20) as client:
            to = ["bob@example.com", "carol@example.com"]
            refused = client.sendmail("alice@example.org", to, "Subject: both\r\n\r\nx\r\n")
        assert {address: code for address, (code, _) in refused.items()} == {"bob@example.com": 550}
        (message,) = upstream.messages
        assert [recipient.address for recipient in message.recipients] == ["carol@example.com"]


@pytest.mark.case(76, 78, 79, 84)
@pytest.mark.parametrize(
    ("step", "used"),
    [
        *((step, False) for step in ("connect", "ehlo", "mail", "rcpt", "data", "body", "dot")),
        *((step, True) for step in ("mail", "rcpt", "data", "body", "dot")),
    ],
)
def test_who_stalls_is_left_and_nothing_is_delivered_later(step, used):
    early = {step: Stall()} if step in ("connect", "ehlo") else {}
    with FakeUpstream(early) as upstream:
        with running_gateway(SOON, upstream=upstream) as gateway:
            if used:
                assert gateway.send(make_transaction()).code == 250
            upstream.script[step] = [Stall(), Usual()]
            assert gateway.send(make_transaction()).code == 451
            disposition = str(gateway.journal()[0].recipients[0].disposition)
            upstream.script.clear()
            upstream.release.set()
            let_go = upstream.wait_until(lambda one: one.open_connections < one.connections)
            assert let_go, "of the one that stalled; who was only idle may stay"
            assert gateway.send(make_transaction()).code == 250
        assert upstream.wait_until(lambda one: not one.open_connections)
        if step in ("body", "dot"):
            assert disposition == "in-doubt"
        else:
            assert disposition == "deferred"
            assert len(upstream.messages) == used + 1


@pytest.mark.case(82)
@pytest.mark.parametrize("step", ["mail", "rcpt", "data", "dot"])
def test_a_late_reply_answers_nothing_else(step):
    script = {step: Then([Stall(1.0), Usual()])}
    with FakeUpstream(script) as upstream, running_gateway(SOON, upstream=upstream) as gateway:
        assert gateway.send(make_transaction()).code == 451
        upstream.script["dot"] = "554 5.6.0 Not this one"
        late = upstream.wait_until(lambda one: one.open_connections < one.connections)
        assert late
        assert gateway.send(make_transaction()).code == 554
        assert upstream.connections == 2


EIGHT_BITS = "Subject: x\r\n\r\n\u00fc\r\n".encode()


@pytest.mark.case(85)
@pytest.mark.parametrize(
    ("extensions", "transaction", "expected"),
    [
        (["PIPELINING"], {"content": EIGHT_BITS}, "554 5.6.3"),
        (["SIZE 100"], {"content": b"Subject: x\r\n\r\n" + b"x" * 200 + b"\r\n"}, "552 5.3.4"),
    ],
    ids=["8BITMIME", "SIZE"],
)
def test_what_upstream_cannot_take_is_refused_rather_than_damaged(extensions, transaction, expected):
    with (
        FakeUpstream(extensions=extensions) as upstream,
        running_gateway({}, upstream=upstream) as gateway,
    ):
        assert str(gateway.send(make_transaction(**transaction))).startswith(expected)
        assert upstream.messages == ()


@pytest.mark.case(85)
def test_an_address_that_upstream_cannot_take_is_refused(talk):
    with FakeUpstream(extensions=["8BITMIME"]) as upstream, running_gateway({}, upstream=upstream) as gateway:
        mail = "MAIL FROM:<\u00fc@example.org> SMTPUTF8\r\n".encode()
        _, mailed, rcpt = talk(
            b"EHLO client.example.org\r\n", mail, b"RCPT TO:<a@example.com>\r\n", to=gateway
        )
    assert mailed.startswith("250 "), "who knows where it goes"
    assert rcpt.startswith("550 5.6.7 ")


@pytest.mark.case(86)
def test_what_the_connection_that_is_used_offers_is_what_counts(until_greeted):
    offered = ["8BITMIME", "DSN"]
    script = {"dot": [Usual(), Close()], "rset": Close()}
    said = []
    with (
        FakeUpstream(script, extensions=lambda _: offered) as upstream,
        running_gateway({}, upstream=upstream) as gateway,
    ):
        until_greeted(gateway)
        for now in ([], ["8BITMIME"], []):
            said.append(str(gateway.send(make_transaction(EIGHT_BITS)))[:9])
            assert upstream.wait_until(lambda one: not one.open_connections)
            offered[:] = now
    assert said == ["250 2.0.0", "554 5.6.3", "250 2.0.0"]
