"""The failures of the filter chaos as a client sees them, and what becomes of the mail then."""

import socket
import time

import pytest
from gatepost.config import load
from gatepost.explain import explain
from gatepost.testing import FakeUpstream, make_transaction, running_gateway

STAGES = ("connect", "helo", "mail", "rcpt", "message")
COMMANDS = (
    b"",
    b"EHLO client.example.org\r\n",
    b"MAIL FROM:<a@example.org>\r\n",
    b"RCPT TO:<b@example.com>\r\n",
    b"DATA\r\n",
    b"Subject: lunch\r\n\r\n.\r\n",
    b"QUIT\r\n",
)
USUAL = ["220", "250", "250", "250", "354", "250", "221"]
NOT_SENT = "(not sent, connection dropped)"
LONG = "60s"
"""Longer than any test: what waits for that is only seen to wait."""


def chaos(name="chaos", /, **settings):
    when = {"when": settings.pop("when")} if "when" in settings else {}
    return {"name": name, "filter": "chaos", "with": settings, **when}


class Client:
    """A raw SMTP client."""

    def __init__(self, gateway):
        self.socket = socket.create_connection((gateway.host, gateway.port), 60)
        self.lines = self.socket.makefile("rb")

    def reply(self):
        """One whole reply, its lines divided by newlines; empty where the connection has ended."""
        lines = []
        while line := self.lines.readline():
            assert line.endswith(b"\r\n"), "half a line"
            lines.append(line.decode().rstrip())
            if line[3:4] == b" ":
                break
        return "\n".join(lines)

    def say(self, octets):
        self.socket.sendall(octets)
        return self.reply()

    def go_on_to(self, stage):
        """Have the replies before that stage's, and say what that stage's reply is to."""
        last = COMMANDS.index(b"DATA\r\n") + 1 if stage == "message" else STAGES.index(stage)
        for command in COMMANDS[:last]:
            assert self.say(command)[:1] in "23"
        self.socket.sendall(COMMANDS[last])

    def nothing_more(self):
        """True if not an octet is waiting."""
        self.socket.settimeout(0)
        try:
            self.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        finally:
            self.socket.settimeout(60)
        return False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.lines.close()
        self.socket.close()


def session(gateway):
    """The replies to a whole session, up to its end: ``""`` where the connection was dropped."""
    replies = []
    with Client(gateway) as client:
        for command in COMMANDS:
            try:
                replies.append(client.say(command))
            except ConnectionError:
                replies.append("")
            if not replies[-1]:
                break
    return replies


def codes(replies):
    return [reply[:3] for reply in replies]


def ends(gateway):
    return [(str(r.disposition), r.reply) for record in gateway.journal() for r in record.recipients]


@pytest.mark.parametrize("do", ["drop", "drop-before-reply"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_dropped_connection_has_all_replies_but_the_one(stage, do):
    with running_gateway({"rules": [chaos(at=stage, do=do, first=1)]}) as gateway:
        replies = session(gateway)
        usual = USUAL[: {"message": 5}.get(stage, STAGES.index(stage))]
        assert codes(replies) == [*usual, ""]
        stored = stage == "message" and do == "drop-before-reply"
        assert len(gateway.inbox()) == stored
        assert codes(session(gateway)) == USUAL, "the next session is fine"
        assert len(gateway.inbox()) == stored + 1


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("reply", ["450 4.2.0 Try again", "550 5.7.1 No", "421 4.3.2 Bye"])
def test_a_refusal_is_the_one_asked_for(stage, reply):
    with running_gateway({"rules": [chaos(at=stage, reply=reply, first=1)]}) as gateway:
        place = USUAL.index("354") + 1 if stage == "message" else STAGES.index(stage)
        replies = session(gateway)
        assert replies[place] == reply
        if stage == "connect" or reply.startswith("421"):
            assert replies[place + 1 :] == [""]
        assert gateway.inbox() == []
        assert codes(session(gateway)) == USUAL


@pytest.mark.parametrize("stage", STAGES)
def test_a_slow_reply_is_the_usual_one_octet_by_octet(stage):
    with running_gateway({"rules": [chaos(at=stage, delay="10ms", drip="1ms", first=1)]}) as gateway:
        slow, usual = session(gateway), session(gateway)
        assert codes(slow) == codes(usual) == USUAL
        assert slow[:4] == usual[:4]
        assert len(gateway.inbox()) == 2


@pytest.mark.parametrize("stage", STAGES)
def test_the_first_octet_of_a_dripped_reply_comes_alone(stage):
    with (
        running_gateway({"rules": [chaos(at=stage, drip=LONG, first=1)]}) as gateway,
        Client(gateway) as client,
    ):
        client.go_on_to(stage)
        assert client.socket.recv(1000) == b"2"
        assert client.nothing_more()
        assert codes(session(gateway)) == USUAL, "meanwhile others are served"
        assert client.nothing_more()


def test_a_delayed_reply_waits_for_a_message_that_is_kept_already():
    rules = [chaos(at="message", delay=LONG, first=1)]
    with running_gateway({"rules": rules}) as gateway, Client(gateway) as client:
        client.go_on_to("message")
        while not gateway.journal():
            time.sleep(0.005)
        assert [message.subject for message in gateway.inbox()] == ["lunch"]
        ((end, reply),) = ends(gateway)
        assert (end, reply[:10], reply[-12:]) == ("inbox", "250 2.0.0 ", "(after 60 s)")
        assert client.nothing_more()


@pytest.mark.case(107)
@pytest.mark.parametrize("how", [{"delay": LONG}, {"drip": LONG}])
def test_the_end_of_the_gateway_does_not_cut_a_slow_reply_off(how):
    """RELIABILITY 107: the message was taken, so its client must not be told anything else."""
    rules = {"rules": [chaos(at="message", **how)], "limits": {"shutdown_time": "50ms"}}
    with running_gateway(rules) as gateway:
        client = Client(gateway)
        client.go_on_to("message")
        while not gateway.journal():
            time.sleep(0.005)
    with client:
        assert codes([client.reply(), client.reply(), client.reply()]) == ["250", "421", ""]


@pytest.mark.case(99)
def test_a_client_that_does_not_wait_for_its_slow_reply_holds_nothing_up():
    """RELIABILITY 99."""
    rules = {"rules": [chaos(at="message", delay=LONG, first=1)], "limits": {"connections": 1}}
    with running_gateway(rules) as gateway:
        with Client(gateway) as client:
            client.go_on_to("message")
            while not gateway.journal():
                time.sleep(0.005)
        give_up = time.monotonic() + 60
        while (replies := codes(session(gateway))) != USUAL:
            assert replies == ["421", ""]
            assert time.monotonic() < give_up
        assert len(gateway.inbox()) == 2


def test_replies_before_a_dropped_one_in_a_batch_still_leave():
    rules = [chaos(at="rcpt", do="drop", when={"recipient": "c@*"})]
    with running_gateway({"rules": rules}) as gateway, Client(gateway) as client:
        client.go_on_to("helo")
        client.reply()
        client.socket.sendall(
            b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nRCPT TO:<c@example.com>\r\nDATA\r\n"
        )
        assert codes([client.reply() for _ in range(3)]) == ["250", "250", ""]


def test_a_relayed_message_whose_reply_is_dropped_is_upstream_once_and_journalled_as_relayed():
    rules = {"rules": [chaos(at="message", do="drop-before-reply", first=1)]}
    with FakeUpstream() as upstream, running_gateway(rules, upstream=upstream) as gateway:
        assert codes(session(gateway))[-1] == ""
        ((end, reply),) = ends(gateway)
        assert end == "relayed"
        assert reply == gateway.journal()[0].reply
        assert reply.startswith("250 ")
        assert reply.endswith(NOT_SENT)
        assert len(upstream.messages) == 1
        assert codes(session(gateway)) == USUAL
        assert len(upstream.messages) == 2


def test_a_message_that_is_dropped_unkept_is_deferred_and_never_goes_upstream():
    rules = {"rules": [chaos(at="message", do="drop")]}
    with FakeUpstream() as upstream, running_gateway(rules, upstream=upstream) as gateway:
        assert codes(session(gateway))[-1] == ""
        assert ends(gateway) == [("deferred", f"421 4.3.2 Connection dropped on purpose {NOT_SENT}")]
        assert not upstream.messages


def test_later_rules_decide_about_a_message_whose_reply_is_dropped():
    rules = [
        chaos(at="message", do="drop-before-reply"),
        {"name": "keep", "filter": "match", "action": "quarantine", "when": {"header": {"Subject": "lunch"}}},
    ]
    with running_gateway({"rules": rules}) as gateway:
        assert codes(session(gateway))[-1] == ""
        assert [kept.subject for kept in gateway.quarantine()] == ["lunch"]
        assert gateway.inbox() == []
        ((end, reply),) = ends(gateway)
        assert (end, reply.endswith(NOT_SENT)) == ("quarantined", True)


def test_a_refusal_of_a_later_rule_is_dropped_too():
    rules = [
        chaos(at="rcpt", do="drop-before-reply"),
        {"name": "no", "filter": "match", "when": {"recipient": "b@*"}},
    ]
    with running_gateway({"rules": rules}) as gateway:
        assert codes(session(gateway)) == ["220", "250", "250", ""]
        assert ends(gateway) == [("refused", f"550 5.7.1 Refused by policy {NOT_SENT}")]


def test_two_rules_about_one_reply_hold_both():
    rules = [
        chaos("slow", at="message", delay="10ms", drip=LONG),
        chaos("lost", at="message", do="drop-before-reply"),
    ]
    with running_gateway({"rules": rules}) as gateway:
        assert codes(session(gateway)) == [*USUAL[:5], ""]
        ((_, reply),) = ends(gateway)
        assert reply.endswith("(after 0.01 s, not sent, connection dropped)")
        assert len(gateway.inbox()) == 1


def test_one_lost_recipient_of_two_follows_mixed():
    rules = {"rules": [chaos(at="message", do="drop", when={"recipient": "b@*"})]}
    both = make_transaction(recipients=["b@example.com", "c@example.com"])
    with running_gateway(rules) as gateway, Client(gateway) as client:
        client.go_on_to("rcpt")
        for command in (b"RCPT TO:<c@example.com>\r\n", b"DATA\r\n"):
            client.say(command)
        client.reply()
        assert client.say(both.message.content + b".\r\n") == ""
        assert [(end, reply[-len(NOT_SENT) :]) for end, reply in ends(gateway)] == [
            ("quarantined", NOT_SENT),
            ("inbox", NOT_SENT),
        ]


def test_greylisting_makes_a_client_that_tries_again_arrive_once():
    rules = {"rules": [chaos(at="rcpt", reply="450 4.2.0 Try again", first=2, when={"recipient": "retry@*"})]}
    with running_gateway(rules) as gateway:
        replies = [gateway.send(make_transaction(recipients="retry@example.com")).code for _ in range(3)]
        assert replies == [450, 450, 250]
        assert gateway.send(make_transaction(recipients="b@example.com")).code == 250
        assert len(gateway.inbox()) == 2


def test_a_rule_that_observes_fails_nothing_and_says_what_it_would_have_done():
    rules = {"rules": [chaos(at="message", do="drop-before-reply") | {"mode": "observe"}]}
    with running_gateway(rules) as gateway:
        assert codes(session(gateway)) == USUAL
        (evaluation,) = gateway.journal()[0].evaluations
        assert (evaluation.observed, evaluation.reason) == (
            True,
            "the reply: not sent, connection dropped",
        )


def test_a_session_goes_on_after_a_reload_to_rules_that_slow_its_beginning():
    with running_gateway({}) as gateway, Client(gateway) as client:
        client.go_on_to("helo")
        assert client.reply().startswith("250-")
        rules = [chaos("a", at="connect", drip=LONG), chaos("b", at="helo", do="drop-before-reply")]
        gateway.reload({"rules": rules})
        assert client.say(b"MAIL FROM:<a@example.org>\r\n").startswith("250")
        gateway.reload({"rules": [chaos(at="helo", do="drop")]})
        client.say(b"RSET\r\n")
        assert client.say(b"MAIL FROM:<a@example.org>\r\n") == ""


def test_explain_says_what_would_become_of_the_first_attempt(tmp_path):
    (tmp_path / "rules.yaml").write_text("""
relay: [{recipients: "*", clients: 0.0.0.0/0, to: inbox}]
rules:
  - {name: slow, filter: chaos, with: {at: rcpt, drip: 1s}}
  - {name: lost, filter: chaos, with: {at: message, do: drop-before-reply, first: 1}}
""")
    loaded = load(tmp_path / "rules.yaml")
    for _ in range(2):
        explanation = explain(loaded, make_transaction())
        assert [(e.rule, e.result, e.action, e.reason) for e in explanation.evaluations] == [
            ("slow", "hit", "tag", "the reply: one byte every 1 s"),
            ("lost", "hit", "tag", "the reply: not sent, connection dropped"),
        ]
        (recipient,) = explanation.recipients
        assert (recipient.outcome.action, str(recipient.outcome.timing)) == (
            "accept",
            "not sent, connection dropped",
        )
