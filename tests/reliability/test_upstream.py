"""Whatever upstream does, the client hears the truth and the journal has it."""

import re
import smtplib
import socket
import time
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
from gatepost.testing import FakeUpstream, make_transaction, running_gateway
from gatepost.testing.upstream import (
    Close,
    Drip,
    HalfClose,
    OnConnection,
    OnTransaction,
    Reset,
    Stall,
    Then,
    Usual,
)

FAULTS = {
    "450": "450 4.2.1 Busy",
    "550": "550 5.7.1 No",
    "421": "421 4.3.2 Going home",
    "close": Close(),
    "reset": Reset(),
    "stall": Stall(),
    "garbage": b"Hello?\r\n",
    "8 KB line": b"250 " + b"x" * 8192 + b"\r\n",
    "endless": b"250-more\r\n" * 10_000,
    "mixed codes": b"250-yes\r\n550 no\r\n",
    "half-close": HalfClose(),
    "too slow": Drip("250 2.0.0 " + "x" * 90, 0.1),
    "half a reply": [b"250 2.0", Close()],
    "half a reply of two": [b"250-2.0.0 one\r\n", Reset()],
}
REFUSALS = {"450": (450, "4.2.1", "deferred"), "550": (550, "5.7.1", "refused")}
SILENT = ("stall", "too slow")
STEPS = ("mail", "rcpt", "data", "body", "dot")
UPSTREAM_SECONDS = 2
SOON = {"limits": {"upstream_time": f"{UPSTREAM_SECONDS}s"}}
SMALL_BUFFER = 4096
"""Octets that upstream's system takes of a message before upstream reads it."""
LINE = b"x" * 998 + b"\r\n"
LINES = 2 * int(Path("/proc/sys/net/ipv4/tcp_wmem").read_text().split()[2]) // len(LINE)
"""Twice what the gateway's system takes (tcp(7)) before upstream's does."""


def message(subject, step="dot"):
    """For a fault within it the message is so large that its dot is far away from what upstream has read."""
    lines = LINE * LINES if step == "body" else b"Hello\r\n"
    return make_transaction(b"Subject: " + subject.encode() + b"\r\n\r\n" + lines)


def subjects(upstream):
    """Of the messages that came to their dots."""
    return [
        re.search(rb"^Subject: (.*)\r$", one.content, re.MULTILINE)[1].decode() for one in upstream.messages
    ]


def behaviour(step, fault):
    return [FAULTS[fault], Stall()] if step == "body" else FAULTS[fault]  # it reads no more


def end(gateway, reply):
    return reply.code, reply.enhanced, str(gateway.journal()[0].recipients[0].disposition)


@pytest.mark.case(75)
def test_a_refused_connection_is_temporary(closed_port):
    nobody = SimpleNamespace(host="127.0.0.1", port=closed_port)
    with running_gateway({}, upstream=nobody) as gateway:
        reply = gateway.send(make_transaction())
    assert (reply.code, reply.enhanced) == (451, "4.4.1")


@pytest.mark.case(75)
def test_a_black_hole_is_temporary_within_the_time_to_connect():
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.socket() as first:
        first.connect(full.getsockname())  # from here on the system drops what comes
        hole = SimpleNamespace(host="127.0.0.1", port=full.getsockname()[1])
        with running_gateway({"limits": {"connect_time": "400ms"}}, upstream=hole) as gateway:
            begun = time.monotonic()
            reply = gateway.send(make_transaction())
            assert 0.4 <= time.monotonic() - begun < 8
            assert end(gateway, reply) == (451, "4.4.1", "deferred")


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
        limits = {"connect_time": "2s", "upstream_time": "60s"}
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
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.long
def test_a_fault_is_told_as_it_is(step, fault):
    going_home = (451, "4.3.2", "deferred")
    lost = (451, "4.4.2", "in-doubt" if step == "dot" else "deferred")
    expected = REFUSALS.get(fault) or (going_home if fault == "421" else lost)
    with (
        FakeUpstream({step: behaviour(step, fault)}, receive_buffer=SMALL_BUFFER) as upstream,
        running_gateway(SOON if fault in SILENT else {}, upstream=upstream) as gateway,
    ):
        assert end(gateway, gateway.send(message("one", step))) == expected
        upstream.script.clear()
        upstream.release.set()
        if fault not in REFUSALS:
            assert upstream.wait_until(lambda one: one.open_connections <= 1), "what has failed is closed"
        assert subjects(upstream) == ["one"] * (step == "dot"), "it came to its dot at most once"
        assert gateway.send(message("after")).code == 250
        assert subjects(upstream)[step == "dot" :] == ["after"]


@pytest.mark.case(78)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.long
def test_a_fault_on_a_used_connection_is_mended_or_told(until_greeted, step, fault):
    """Before the dot the message is sent once more over a fresh one, where there is time for that."""
    if fault in REFUSALS:
        expected = REFUSALS[fault]
    elif fault == "421" and step in ("body", "dot"):
        expected = (451, "4.3.2", "deferred")
    elif step == "dot":
        expected = (451, "4.4.2", "in-doubt")
    else:
        expected = (451, "4.4.2", "deferred") if fault in SILENT else (250, "2.0.0", "relayed")
    with (
        FakeUpstream(receive_buffer=SMALL_BUFFER) as upstream,
        running_gateway(SOON if fault in SILENT else {}, upstream=upstream) as gateway,
    ):
        until_greeted(gateway)
        assert gateway.send(message("before")).code == 250
        used = upstream.messages[0].connection
        upstream.script[step] = OnConnection(used, OnTransaction(2, behaviour(step, fault)))
        assert end(gateway, gateway.send(message("one", step))) == expected
        verbs = [line[:4] for line in upstream.commands[used - 1]]
        assert verbs.count("MAIL") == 2, "the connection was used again"
        upstream.release.set()
        if fault not in REFUSALS:
            assert upstream.wait_until(lambda one: one.open_connections < one.connections), "and never more"
        times = 1 if step == "dot" or expected[0] == 250 else 0
        assert subjects(upstream) == ["before"] + ["one"] * times
        assert gateway.send(message("after")).code == 250
        assert subjects(upstream) == ["before"] + ["one"] * times + ["after"]
        if fault not in REFUSALS:
            came_over = [one.connection for one in upstream.messages]
            assert came_over[0] == used
            assert used not in came_over[1 + (step == "dot") :], "what comes after it comes over a fresh one"


@pytest.mark.case(78)
@pytest.mark.parametrize("used", [False, True], ids=["first", "used"])
@pytest.mark.parametrize("ending", ["close", "reset", "421", "half a reply"])
@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.long
def test_a_whole_refusal_is_told_although_the_connection_ends_after_it(
    until_greeted, step, refusal, ending, used
):
    with (
        FakeUpstream(receive_buffer=SMALL_BUFFER) as upstream,
        running_gateway({}, upstream=upstream) as gateway,
    ):
        until_greeted(gateway)
        if used:
            assert gateway.send(message("before")).code == 250
        upstream.script[step] = OnConnection(1, [FAULTS[refusal], FAULTS[ending], Close()])
        assert end(gateway, gateway.send(message("one", step))) == REFUSALS[refusal]
        assert upstream.wait_until(lambda one: not one.open_connections)
        assert subjects(upstream) == ["before"] * used + ["one"] * (step == "dot"), "it was sent nowhere else"
        assert gateway.send(message("after")).code == 250


@pytest.mark.case(79)
@pytest.mark.parametrize("behaviour", [Close(), Reset()], ids=["close", "reset"])
def test_no_answer_to_the_dot_is_doubt(behaviour):
    with FakeUpstream({"dot": behaviour}) as upstream, running_gateway({}, upstream=upstream) as gateway:
        assert gateway.send(make_transaction()).code == 451
        (record,) = gateway.journal()
        assert "doubt" in str(record.recipients[0].disposition)
        assert len(upstream.messages) == 1


STRAY = b"250 2.0.0 One too many\r\n"
GONE = "554 5.6.0 Not this one"


@pytest.mark.case(80)
@pytest.mark.parametrize(
    ("step", "behaviour", "disposition"),
    [
        ("connect", b"220 fake.example ESMTP\r\n" + STRAY, "deferred"),
        ("ehlo", b"250 fake.example\r\n" + STRAY, "deferred"),
        ("mail", [Usual(), STRAY], "deferred"),
        ("rcpt", [Usual(), STRAY], "deferred"),
        ("rcpt", [GONE, STRAY], "deferred"),
        ("data", b"354 Go ahead\r\n" + STRAY, "deferred"),
        ("body", STRAY, "deferred"),
        ("body", b"354 Go ahead\r\n", "deferred"),
        ("dot", STRAY + GONE.encode() + b"\r\n", "in-doubt"),
        ("dot", STRAY + b"2", "relayed"),
    ],
)
def test_a_reply_that_nobody_asked_for_is_no_reply_of_ours(step, behaviour, disposition):
    """At the dot upstream says 554, so there is no 250 that would be true, unless it was asked for."""
    script = {"dot": GONE, step: behaviour}
    with (
        FakeUpstream(script, receive_buffer=SMALL_BUFFER) as upstream,
        running_gateway({}, upstream=upstream) as gateway,
    ):
        code, _, became = end(gateway, gateway.send(message("one", step)))
        if behaviour == [GONE, STRAY]:
            assert (code, became) in ((554, "refused"), (451, disposition)), "it may come apart"
        else:
            assert (code, became) == (250 if disposition == "relayed" else 451, disposition)
        assert subjects(upstream) == ["one"] * (step == "dot")
        strayed = sum(any(line.startswith("MAIL") for line in lines) for lines in upstream.commands)
        dropped = upstream.wait_until(lambda one: one.connections - one.open_connections >= max(strayed, 1))
        assert dropped, "each connection that it came on"
        upstream.script.clear()
        assert gateway.send(message("after")).code == 250
        assert subjects(upstream)[step == "dot" :] == ["after"]


@pytest.mark.case(80)
@pytest.mark.parametrize("step", ["connect", "ehlo", "mail", "rcpt", "data", "body"])
def test_where_it_comes_but_once_the_message_goes_over_another_connection(until_greeted, step):
    first = {"connect": b"220 fake.example ESMTP\r\n", "ehlo": b"250 fake.example\r\n", "data": b"354 Go\r\n"}
    stray = first[step] + STRAY if step in first else STRAY if step == "body" else [Usual(), STRAY]
    with (
        FakeUpstream(receive_buffer=SMALL_BUFFER) as upstream,
        running_gateway({}, upstream=upstream) as gateway,
    ):
        until_greeted(gateway)
        used = upstream.connections
        if step in ("connect", "ehlo"):
            upstream.script["rset"] = Close()
            assert abandon(gateway).startswith("250 ")
            assert upstream.wait_until(lambda one: not one.open_connections), "so that it is to connect anew"
            used += 1
        upstream.script[step] = OnConnection(used, stray)
        reply = gateway.send(message("one", step))
        if step in ("connect", "ehlo"):
            assert reply.code == 451
            assert subjects(upstream) == []
            reply = gateway.send(message("one"))
        assert reply.code == 250
        assert subjects(upstream) == ["one"]
        assert upstream.messages[0].connection == used + 1


def abandon(gateway):
    """Begin a transaction that reaches upstream, and give it up; the reply to RCPT."""
    with smtplib.SMTP(gateway.host, gateway.port, timeout=60) as client:
        client.ehlo()
        client.mail("alice@example.org")
        code, text = client.rcpt("bob@example.com")
        client.rset()
    return f"{code} {text.decode()}"


@pytest.mark.case(80)
@pytest.mark.parametrize("step", ["rset", "dot"])
def test_it_ends_a_connection_that_waits(until_greeted, step):
    with (
        FakeUpstream({step: [Usual(), STRAY]}) as upstream,
        running_gateway({}, upstream=upstream) as gateway,
    ):
        until_greeted(gateway)
        if step == "rset":
            assert abandon(gateway).startswith("250 ")
        else:
            reply = gateway.send(message("one"))
            # both may come at once, and then which of them is the answer is not known
            assert end(gateway, reply) in ((250, "2.0.0", "relayed"), (451, "4.4.2", "in-doubt"))
        assert upstream.wait_until(lambda one: not one.open_connections)
        upstream.script.clear()
        upstream.script["dot"] = GONE
        assert gateway.send(message("two")).code == 554
        assert upstream.messages[-1].connection == upstream.connections == 2


@pytest.mark.case(81)
@pytest.mark.parametrize("behaviour", ["500 5.0.0 No", Close(), Reset()], ids=["500", "close", "reset"])
def test_what_comes_after_the_250_changes_nothing(behaviour):
    with (
        FakeUpstream({"quit": behaviour, "rset": behaviour}) as upstream,
        running_gateway({}, upstream=upstream) as gateway,
    ):
        assert [gateway.send(make_transaction()).code for _ in range(3)] == [250, 250, 250]
        assert len(upstream.messages) == 3


@pytest.mark.case(83)
def test_each_recipient_has_an_answer_of_its_own():
    script = {"rcpt": lambda path: "550 5.1.1 No such user" if "bob@" in path else None}
    with FakeUpstream(script) as upstream, running_gateway({}, upstream=upstream) as gateway:
        with smtplib.SMTP(gateway.host, gateway.port, timeout=60) as client:
            to = ["bob@example.com", "carol@example.com"]
            refused = client.sendmail("alice@example.org", to, "Subject: both\r\n\r\nx\r\n")
        assert {address: code for address, (code, _) in refused.items()} == {"bob@example.com": 550}
        (message,) = upstream.messages
        assert [recipient.address for recipient in message.recipients] == ["carol@example.com"]


@pytest.mark.case(76, 79, 84)
@pytest.mark.parametrize(
    ("step", "used"),
    [
        *((step, False) for step in ("connect", "ehlo", *STEPS)),
        *((step, True) for step in STEPS),
    ],
)
@pytest.mark.long
def test_who_stalls_is_left_and_nothing_is_delivered_later(step, used):
    early = step in ("connect", "ehlo")
    with FakeUpstream({step: Stall()} if early else {}, receive_buffer=SMALL_BUFFER) as upstream:
        with running_gateway(SOON, upstream=upstream) as gateway:
            if used:
                assert gateway.send(message("before")).code == 250
            upstream.script[step] = [Stall(), Usual()]
            reply = gateway.send(message("one", step))
            doubt = "in-doubt" if step == "dot" else "deferred"
            assert end(gateway, reply) == (451, "4.4.1" if early else "4.4.2", doubt)
            delivered = ["before"] * used + ["one"] * (step == "dot")
            assert subjects(upstream) == delivered
            upstream.script.clear()
            upstream.release.set()
            let_go = upstream.wait_until(lambda one: one.open_connections < one.connections)
            assert let_go, "of the one that stalled; who was only idle may stay"
            assert subjects(upstream) == delivered, "it has read all that came, and no more was delivered"
            assert gateway.send(message("after")).code == 250
        assert upstream.wait_until(lambda one: not one.open_connections)
        assert subjects(upstream) == [*delivered, "after"]


@pytest.mark.case(84)
def test_a_dot_that_is_still_on_its_way_is_called_back():
    """The message has left in one write, but upstream's system takes no more than a part of it."""
    content = b"Subject: one\r\n\r\n" + (b"x" * 998 + b"\r\n") * 60
    with FakeUpstream({"body": Stall()}, receive_buffer=SMALL_BUFFER) as upstream:
        with running_gateway(SOON, upstream=upstream) as gateway:
            assert end(gateway, gateway.send(make_transaction(content))) == (451, "4.4.2", "in-doubt")
            upstream.script.clear()
            upstream.release.set()
            assert upstream.wait_until(lambda one: one.open_connections < one.connections)
            assert gateway.send(message("after")).code == 250
        assert subjects(upstream) == ["after"]


@pytest.mark.case(82)
@pytest.mark.parametrize("step", ["mail", "rcpt", "data", "dot"])
@pytest.mark.long
def test_a_late_reply_answers_nothing_else(step):
    script = {step: Then([Stall(UPSTREAM_SECONDS + 0.5), Usual()])}
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
def test_an_address_that_upstream_cannot_take_is_refused(talk, until_greeted):
    """Upstream had SMTPUTF8 when it was greeted, and has it no longer."""
    offered = ["DSN", "SMTPUTF8"]
    with (
        FakeUpstream({"rset": Close()}, extensions=lambda _: offered) as upstream,
        running_gateway({}, upstream=upstream) as gateway,
    ):
        until_greeted(gateway)
        offered.remove("SMTPUTF8")
        abandon(gateway)  # so that it is greeted anew
        assert upstream.wait_until(lambda one: not one.open_connections)
        mail = "MAIL FROM:<\u00fc@example.org> SMTPUTF8\r\n".encode()
        ehlo, mailed, rcpt = talk(
            b"EHLO client.example.org\r\n", mail, b"RCPT TO:<a@example.com>\r\n", to=gateway
        )
        assert "SMTPUTF8" in ehlo
        assert mailed.startswith("250 "), "who knows where it goes"
        assert rcpt.startswith("550 5.6.7 ")
        (ehlo,) = talk(b"EHLO client.example.org\r\n", to=gateway)
        assert "SMTPUTF8" not in ehlo


@pytest.mark.case(85)
@pytest.mark.parametrize(
    ("extensions", "routes", "offered"),
    [
        ([("SMTPUTF8", "DSN"), ("SMTPUTF8",)], [], True),
        ([("SMTPUTF8", "DSN"), ("DSN",)], [], False),
        ([("SMTPUTF8", "DSN")], ["inbox", "discard"], True),
        ([("DSN",)], ["inbox"], False),
        ([], ["inbox"], True),
        ([], ["discard"], True),
    ],
)
def test_smtputf8_is_offered_where_every_route_keeps_it(talk, wait_until, extensions, routes, offered):
    """As DSN is, but no local route keeps that."""
    with ExitStack() as stack:
        servers = [stack.enter_context(FakeUpstream(extensions=offer)) for offer in extensions]
        relay = [
            {"recipients": f"*@{number}.example", "to": to}
            for number, to in enumerate([*[server.url for server in servers], *routes])
        ]
        gateway = stack.enter_context(running_gateway({"relay": relay}))

        def is_offered(extension="SMTPUTF8"):
            (ehlo,) = talk(b"EHLO client.example.org\r\n", to=gateway)
            return extension in ehlo

        for server in servers:
            assert server.wait_until(lambda one: one.commands)
        if offered:
            wait_until(is_offered, "it is offered once all are greeted")
        assert is_offered() is offered
        assert not is_offered("DSN") or not routes


@pytest.mark.case(85)
def test_what_was_asked_for_in_vain_is_dropped_and_the_mail_goes_through(talk, until_greeted):
    offered = ["DSN", "SMTPUTF8", "8BITMIME"]
    with (
        FakeUpstream({"rset": Close()}, extensions=lambda _: offered) as upstream,
        running_gateway({}, upstream=upstream) as gateway,
    ):
        until_greeted(gateway)
        offered.remove("SMTPUTF8")
        abandon(gateway)
        assert upstream.wait_until(lambda one: not one.open_connections)
        *_, ended = talk(
            b"EHLO client.example.org\r\n",
            b"MAIL FROM:<a@example.org> SMTPUTF8\r\n",
            "RCPT TO:<b@example.com> ORCPT=utf-8;\u00fc@example.com\r\n".encode(),
            b"DATA\r\n",
            EIGHT_BITS + b".\r\n",
            to=gateway,
        )
        assert ended.startswith("250 ")
        (message,) = upstream.messages
        assert message.parameters == ()
        assert message.recipients[0].parameters == (r"ORCPT=utf-8;\x{FC}@example.com",)


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
