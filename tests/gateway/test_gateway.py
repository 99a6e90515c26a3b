"""What the gateway does with a message: each 250 has an owner, each recipient an end in the journal."""

import email
import socket

import psutil
import pytest
from gatepost.testing import make_transaction, running_gateway
from gatepost.testing.upstream import Close, FakeUpstream, Stall, Then

A, B, C = "a@example.com", "b@example.com", "c@example.com"
HIT = {"filter": "match"}


def rule(name, **settings):
    return {"name": name, **HIT, **settings}


def to(*recipients, **settings):
    return make_transaction(recipients=recipients, **settings)


def addresses(message):
    return [recipient.address for recipient in message.recipients]


def ends(record):
    return {r.address: (str(r.disposition), r.rule) for r in record.recipients}


@pytest.fixture
def send():
    """Send one transaction through a gateway with these rules; what upstream, client and store have then."""

    def send(transaction, *rules, script=None, **settings):
        with (
            FakeUpstream(script or {}) as upstream,
            running_gateway({"rules": list(rules), **settings}, upstream=upstream) as gateway,
        ):
            reply = gateway.send(transaction)
            return reply, upstream.messages, gateway.journal(), gateway.quarantine()

    return send


def test_a_message_is_relayed_unchanged_behind_a_received_field(send):
    transaction = to(A, B)
    reply, (message,), (record,), _ = send(transaction)
    assert reply.code == 250
    assert (message.mail_from, addresses(message)) == ("sender@example.org", [A, B])
    trace, body = message.content.split(b"\r\n\t", 1)[0], message.content
    assert trace.startswith(b"Received: from client.example.org ([192.0.2.1])")
    assert body.endswith(transaction.message.content)
    assert body.count(b"\r\nReceived:") == 0
    assert ends(record) == {A: ("relayed", None), B: ("relayed", None)}
    assert record.upstream_reply == record.reply == str(reply)


@pytest.mark.parametrize(("action", "code", "end"), [("reject", 550, "refused"), ("defer", 451, "deferred")])
def test_a_refused_message_goes_nowhere(send, action, code, end):
    reply, messages, (record,), kept = send(to(A, B), rule("no", action=action, when={"size": ">1B"}))
    assert (reply.code, messages, kept) == (code, (), [])
    assert ends(record) == {A: (end, "no"), B: (end, "no")}


@pytest.mark.parametrize(
    "when", [{"size": ">1B"}, {"sender": "*"}, {"client": "192.0.2.0/24"}, {"recipient": "*"}]
)
@pytest.mark.parametrize(("action", "end"), [("discard", "discarded"), ("quarantine", "quarantined")])
def test_what_is_taken_out_is_answered_250_and_goes_nowhere(send, when, action, end):
    reply, messages, (record,), kept = send(to(A), rule("out", action=action, when=when))
    assert (reply.code, messages) == (250, ())
    assert ends(record) == {A: (end, "out")}
    assert [k.recipients for k in kept] == ([(A,)] if action == "quarantine" else [])


@pytest.mark.parametrize(("action", "end"), [("discard", "discarded"), ("quarantine", "quarantined")])
def test_one_recipient_is_taken_out_and_the_others_are_relayed(send, action, end):
    reply, (message,), (record,), kept = send(
        to(A, B, C), rule("out", action=action, when={"all": [{"recipient": B}, {"size": ">1B"}]})
    )
    assert reply.code == 250
    assert addresses(message) == [A, C]
    assert ends(record) == {A: ("relayed", None), B: (end, "out"), C: ("relayed", None)}
    assert [k.recipients for k in kept] == ([(B,)] if action == "quarantine" else [])


@pytest.mark.parametrize(
    ("mixed", "code", "recipients", "end"),
    [
        ("quarantine", 250, [A], "quarantined"),
        ("defer", 451, None, "deferred"),
        ("reject", 550, None, "refused"),
    ],
)
def test_one_reply_for_recipients_refused_and_accepted(send, mixed, code, recipients, end):
    late = {"all": [{"recipient": B}, {"size": ">1B"}]}
    reply, messages, (record,), kept = send(
        to(A, B), rule("no", action="reject", when=late), mixed_recipients=mixed
    )
    assert reply.code == code
    assert [addresses(m) for m in messages] == ([recipients] if recipients else [])
    assert ends(record)[B] == (end, "no")
    assert [k.recipients for k in kept] == ([(B,)] if mixed == "quarantine" else [])


def test_a_recipient_refused_at_rcpt_does_not_hold_the_others_up(send):
    reply, (message,), (record,), _ = send(to(A, B), rule("no", action="reject", when={"recipient": A}))
    assert reply.code == 250
    assert addresses(message) == [B]
    assert ends(record) == {A: ("refused", "no"), B: ("relayed", None)}


def test_recipients_whose_edits_differ_get_their_own_octets(send):
    tag = rule("mark", action="tag", tag={"add": {"X-Mark": "yes"}}, when={"recipient": B})
    reply, messages, _, kept = send(to(A, B), tag)
    assert reply.code == 250
    assert {tuple(addresses(m)): b"X-Mark: yes\r\n" in m.content for m in messages} == {
        (A,): False,
        (B,): True,
    }
    assert kept == []


def test_what_cannot_follow_an_accepted_part_stays_in_quarantine(send):
    tag = rule("mark", action="tag", tag={"add": {"X-Mark": "yes"}}, when={"recipient": B})
    script = {"dot": Then(None, "550 5.7.1 not the second")}
    reply, messages, (record,), kept = send(to(A, B), tag, script=script)
    assert (reply.code, len(messages)) == (250, 2)
    assert ends(record)[B] == ("quarantined", None)
    assert [k.recipients for k in kept] == [(B,)]


@pytest.mark.parametrize("answer", ["451 4.2.0 later", "550 5.7.1 never"])
def test_nothing_stays_in_quarantine_of_a_message_that_upstream_refused(send, answer):
    late = {"all": [{"recipient": B}, {"size": ">1B"}]}
    reply, messages, (record,), kept = send(
        to(A, B), rule("hold", action="quarantine", when=late), script={"dot": answer}
    )
    assert (str(reply), len(messages), kept) == (answer, 1, [])
    assert {end for end, _ in ends(record).values()} == {"deferred" if answer[0] == "4" else "refused"}


@pytest.mark.case(83)
def test_each_recipient_gets_upstreams_own_answer(send):
    """RELIABILITY 83."""
    script = {"rcpt": lambda line: "550 5.1.1 No such user" if "b@" in line else None}
    reply, (message,), (record,), _ = send(to(A, B), script=script)
    assert reply.code == 250
    assert addresses(message) == [A]
    assert (record.recipients[0].address, record.recipients[0].reply) == (B, "550 5.1.1 No such user")


@pytest.mark.case(79)
def test_without_an_answer_after_the_dot_the_message_is_in_doubt(send):
    """RELIABILITY 79."""
    reply, _, (record,), _ = send(to(A), script={"dot": Close()})
    assert reply.code == 451
    assert ends(record) == {A: ("in-doubt", None)}


@pytest.mark.case(75)
def test_an_upstream_that_is_down_is_451_and_the_next_try_is_delivered_once(send):
    """RELIABILITY 75."""
    with FakeUpstream() as upstream:
        pass
    with running_gateway({}, upstream=upstream) as gateway:
        assert gateway.send(to(A)).code == 451
        with FakeUpstream(port=upstream.port) as back:
            assert gateway.send(to(A)).code == 250
            assert len(back.messages) == 1


def test_recipients_of_different_routes_are_asked_for_in_a_transaction_of_their_own(send):
    routes = [
        {"recipients": "*@inbox.example", "to": "inbox"},
        {"recipients": "*@drop.example", "to": "discard"},
    ]
    with running_gateway({"relay": routes}) as gateway:
        reply = gateway.send(to("x@inbox.example", "y@drop.example"))
        assert reply.code == 250
        (record,) = gateway.journal()
        assert [(r.address, str(r.disposition), r.reply[:9]) for r in record.recipients] == [
            ("y@drop.example", "deferred", "452 4.5.3"),
            ("x@inbox.example", "inbox", "250 2.0.0"),
        ]


@pytest.mark.case(73)
@pytest.mark.parametrize("name", [b"Received:", b"RECEIVED \t:"])
def test_a_mail_loop_is_refused(send, name):
    """RELIABILITY 73."""
    looped = b"".join(name + b" from x by y; Mon, 1 Jan 2026 00:00:00 +0000\r\n" for _ in range(51))
    reply, messages, _, _ = send(make_transaction(looped + b"\r\nx\r\n", recipients=(A,)))
    assert (str(reply)[:9], messages) == ("554 5.4.6", ())


def test_fields_that_are_only_called_alike_make_no_mail_loop(send):
    alike = b"Received-SPF: pass\r\n" * 51 + b"Received: from x by y; Mon, 1 Jan 2026 00:00:00 +0000\r\n"
    assert send(make_transaction(alike + b"\r\nx\r\n", recipients=(A,)))[0].code == 250


@pytest.mark.parametrize("recipients", [(A,), (A, B)])
def test_a_copy_in_quarantine_says_which_rule_put_it_there(send, recipients):
    _, messages, _, (kept,) = send(to(*recipients), rule("hold", action="quarantine", when={"size": ">1B"}))
    assert (messages, kept.recipients, kept.rule) == ((), recipients, "hold")
    assert kept.reason


HEADLESS = {
    "text": b"Hello\r\nX-Spam: no\r\n\r\nbye\r\n",
    "indented": b" Hello\r\nX-Spam: no\r\n\r\nbye\r\n",
    "empty line first": b"\r\nX-Spam: no\r\n\r\nbye\r\n",
}
TAGGED = {
    "when": {"size": ">1B"},
    "action": "tag",
    "tag": {"add": {"X-Tag": "yes"}, "remove": ["X-Spam"], "subject": "[tag] "},
}


@pytest.mark.parametrize("content", HEADLESS.values(), ids=HEADLESS)
@pytest.mark.parametrize(
    ("settings", "fields"), [(None, ["Received"]), (TAGGED, ["Received", "Subject", "X-Tag"])]
)
def test_the_body_of_a_message_without_a_header_section_stays_its_body(send, content, settings, fields):
    """For each reader after the gateway, wherever the message goes; the journal tells no subject of it."""
    rules = [rule("tag", **settings)] if settings else []
    hold = rule("hold", action="quarantine", when={"recipient": B})
    _, (relayed,), (record,), (kept,) = send(make_transaction(content, recipients=(A, B)), *rules, hold)
    for delivered in (relayed.content, kept.delivered_form):
        read = email.message_from_bytes(delivered)
        assert read.keys() == fields
        assert read.get_payload(decode=True) == content.removeprefix(b"\r\n")
    assert record.subject == ""


def test_what_such_a_message_says_of_itself_is_not_journalled_as_its_fields(send):
    content = b"Hello\r\nSubject: no\r\nMessage-ID: <no@example.com>\r\n\r\nx\r\n"
    _, (message,), (record,), _ = send(make_transaction(content, recipients=(A,)))
    assert message.content.endswith(b"\r\n\r\n" + content)
    assert (record.subject, record.message_id) == ("", "")


def connections_to(upstream):
    """What this process, the gateway, has open to it; a server that is silent does not look."""
    found = psutil.Process().net_connections("tcp")
    return [one for one in found if one.raddr and one.raddr.port == upstream.port]


@pytest.mark.parametrize("route", ["one", "another"])
def test_four_recipients_wait_once_for_a_server_that_is_silent(wait_until, route):
    """Whether their routes are the same or not."""
    to_all = ["a@one.example", *(f"{name}@{route}.example" for name in "bcd")]
    limits = {"connect_time": "500ms"}
    with FakeUpstream({"connect": Stall()}) as silent:
        relay = [{"recipients": f"*@{name}.example", "to": [silent.url]} for name in ("one", "another")]
        with running_gateway({"relay": relay, "limits": limits}) as gateway:
            assert silent.wait_until(lambda one: one.connections == 2), "each route is probed at the start"
            wait_until(lambda: not connections_to(silent), "and given up")
            reply = gateway.send(make_transaction(recipients=tuple(to_all)))
            assert (reply.code, reply.enhanced) == (451, "4.4.1")
            assert [r.reply[:9] for r in gateway.journal()[0].recipients] == ["451 4.4.1"] * 4
            assert silent.connections == 3


def test_a_refused_mail_is_told_to_each_recipient_and_asked_once(send):
    """Where upstream closes after it, and the replies to RCPT never come."""
    script = {"mail": ["554 5.7.1 You are listed", Close()]}
    with FakeUpstream(script) as upstream, running_gateway({}, upstream=upstream) as gateway:
        assert str(gateway.send(to(A, B, C))) == "554 5.7.1 You are listed"
        (record,) = gateway.journal()
        assert [r.reply for r in record.recipients] == ["554 5.7.1 You are listed"] * 3
        said = [line for lines in upstream.commands for line in lines if line.startswith("MAIL")]
        assert len(said) == 1


def test_recipients_who_are_refused_first_are_asked_in_the_same_transaction_upstream(send):
    script = {"rcpt": Then("550 5.1.1 Unknown", "450 4.2.1 Busy")}
    with FakeUpstream(script) as upstream, running_gateway({}, upstream=upstream) as gateway:
        assert gateway.send(to(A, B, C)).code == 250
        (message,) = upstream.messages
        assert addresses(message) == [C]
        verbs = [line.partition(" ")[0] for line in upstream.commands[message.connection - 1]]
        assert verbs == ["EHLO", "MAIL", "RCPT", "RCPT", "RCPT", "DATA"]


def test_an_endless_header_section_is_refused(send):
    big = b"X-Big: " + b"x" * 900 + b"\r\n"
    reply, messages, _, _ = send(make_transaction(big * 200 + b"\r\nx\r\n", recipients=(A,)))
    assert (str(reply)[:9], messages) == ("552 5.3.4", ())


@pytest.mark.parametrize("newline", [b"\r\n", b"\n"])
@pytest.mark.parametrize(("length", "code"), [(97, 250), (98, 552)])
def test_the_header_section_has_a_limit_whatever_its_line_ends_are(send, newline, length, code):
    field = b"A: " + b"x" * (length - 2 - len(newline)) + newline
    transaction = make_transaction(field + newline + b"y" * 500 + newline, recipients=(A,))
    settings = {"limits": {"header_size": 98}, "bare_newline": "accept"}
    assert send(transaction, **settings)[0].code == code


def test_a_client_that_leaves_before_its_message_is_journalled_as_that():
    with running_gateway({}) as gateway:
        with socket.create_connection((gateway.host, gateway.port)) as client:
            client.recv(1000)
            client.sendall(b"EHLO x\r\n")
            client.recv(1000)
            client.sendall(f"MAIL FROM:<x@example.org>\r\nRCPT TO:<{A}>\r\n".encode())
            client.recv(1000)
            client.sendall(b"RSET\r\nNOOP\r\n")
            client.recv(1000)
        (record,) = gateway.journal()
        assert (ends(record), record.reply) == ({A: ("abandoned", None)}, "")


def test_a_client_that_is_turned_away_is_journalled_with_the_rule():
    with running_gateway(
        {"rules": [rule("go-away", action="reject", when={"client": "192.0.2.1"})]}
    ) as gateway:
        assert gateway.send(to(A)).code in (550, 554)
        (record,) = gateway.journal()
        assert [(e.rule, str(e.action)) for e in record.evaluations] == [("go-away", "reject")]
        assert record.mail_from is None


def test_a_reload_takes_effect_with_the_next_transaction_of_an_open_session():
    with running_gateway({}) as gateway, socket.create_connection((gateway.host, gateway.port)) as client:
        client.recv(1000)
        client.sendall(b"EHLO x\r\n")
        client.recv(1000)
        gateway.reload(
            {"rules": [rule("new", action="reject", reply="550 5.7.1 New rules", when={"sender": "*"})]}
        )
        client.sendall(b"MAIL FROM:<x@example.org>\r\n")
        assert client.recv(1000) == b"550 5.7.1 New rules\r\n"


def test_a_client_that_a_reload_refuses_is_refused_again_at_its_next_mail():
    with running_gateway({}) as gateway, socket.create_connection((gateway.host, gateway.port)) as client:
        client.recv(1000)
        client.sendall(b"EHLO x\r\n")
        client.recv(1000)
        gateway.reload({"rules": [rule("blocked", action="reject", when={"client": "127.0.0.1"})]})
        for _ in range(2):
            client.sendall(b"MAIL FROM:<x@example.org>\r\n")
            assert client.recv(1000).startswith(b"550 5.7.1")
        assert [[e.rule for e in record.evaluations] for record in gateway.journal()] == [["blocked"]] * 2


def test_where_one_recipient_is_only_deferred_the_message_is(send):
    late = {"size": ">1B"}
    rules = [
        rule("never", action="reject", when={"all": [{"recipient": A}, late]}),
        rule("later", action="defer", when={"all": [{"recipient": B}, late]}),
    ]
    reply, messages, (record,), _ = send(to(A, B), *rules)
    assert (reply.code, messages) == (451, ())
    assert ends(record) == {A: ("deferred", "never"), B: ("deferred", "later")}


def test_what_a_reload_does_not_change_is_said(caplog):
    with running_gateway({}) as gateway:
        gateway.reload({"limits": {"recipients": 1}})
        assert "limits has changed: it takes effect at the next start" in caplog.text
        assert gateway.send(to(A, B)).code == 250


def test_a_reload_does_not_show_the_name_of_the_machine():
    with FakeUpstream() as upstream, running_gateway({}, upstream=upstream) as gateway:
        gateway.reload({"node": "mx-a"})
        assert gateway.send(to(A)).code == 250
        assert b" (Gatepost) with ESMTP " in upstream.messages[0].content
