"""Whatever upstream does, the client hears the truth and the journal has it."""

import itertools
import smtplib
import socket
from types import SimpleNamespace

import pytest

from proxy.testing import FakeUpstream, make_transaction, running_gateway
from proxy.testing.upstream import Close, Reset, Usual

FAULTS = {
    "450": "450 4.2.1 Busy",
    "550": "550 5.7.1 No",
    "close": Close(),
    "reset": Reset(),
    "garbage": b"Hello?\r\n",
}


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


@pytest.mark.case(77)
def test_where_ehlo_is_refused_helo_is_tried():
    script = {"ehlo": "502 5.5.1 What?"}
    with FakeUpstream(script) as upstream, running_gateway({}, upstream=upstream) as gateway:
        assert gateway.send(make_transaction()).code == 250
        assert len(upstream.messages) == 1


@pytest.mark.case(78)
@pytest.mark.parametrize(
    ("step", "fault", "reused"),
    list(itertools.product(("mail", "rcpt", "data", "dot"), FAULTS, (False, True))),
)
def test_a_fault_is_told_as_it_is(step, fault, reused):
    with FakeUpstream() as upstream, running_gateway({}, upstream=upstream) as gateway:
        if reused:
            assert gateway.send(make_transaction()).code == 250
        upstream.script[step] = FAULTS[fault]
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
@pytest.mark.parametrize("step", ["ehlo", "mail", "rcpt", "data"])
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
