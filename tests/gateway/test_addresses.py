"""Addresses are compared by mailbox, and go out octet for octet as they came in."""

import socket
import time
from contextlib import contextmanager

import pytest
from gatepost.testing import running_gateway
from gatepost.testing.upstream import FakeUpstream

STRANGER = "PROXY TCP4 203.0.113.9 127.0.0.1 40000 25"
FOLLOWING = '"S\\end\\er"@BÜCHER\u3002example'


def settings(upstream, *rules):
    return {
        "listen": [{"address": "127.0.0.1:0", "proxy_protocol_from": ["127.0.0.1"]}],
        "relay": [{"recipients": ["*@bücher.example"], "to": f"smtp://{upstream.host}:{upstream.port}"}],
        "rules": list(rules),
    }


@contextmanager
def stranger(gateway):
    """Says a command and returns the reply's last line; SMTPUTF8 is offered from the beginning."""
    with (
        socket.create_connection((gateway.host, gateway.port), timeout=30) as connection,
        connection.makefile("r", encoding="utf-8", newline="\r\n") as replies,
    ):

        def ask(command):
            connection.sendall(f"{command}\r\n".encode())
            lines = [replies.readline()]
            while lines[-1][3:4] == "-":
                lines.append(replies.readline())
            return lines

        def say(command):
            return ask(command)[-1]

        say(STRANGER)
        give_up = time.monotonic() + 60
        while "250-SMTPUTF8\r\n" not in ask("EHLO client.example.net"):
            assert time.monotonic() < give_up, "the server behind was never greeted"
            time.sleep(0.01)
        yield say


@pytest.mark.parametrize(
    "recipient", ["bob@XN--Bcher-kva.example", '"b\\ob"@bu\u0308cher\uff0eEXAMPLE', "JÜRGEN@bücher.example"]
)
def test_a_recipient_goes_upstream_as_it_was_spelt(recipient):
    with FakeUpstream() as upstream, running_gateway(settings(upstream)) as gateway:
        with stranger(gateway) as say:
            assert say(f"MAIL FROM:<{FOLLOWING}> SMTPUTF8").startswith("250 ")
            assert say(f"RCPT TO:<{recipient}>").startswith("250 ")
            assert say("DATA").startswith("354 ")
            assert say("Subject: x\r\n\r\nx\r\n.").startswith("250 ")
        (message,) = upstream.messages
        assert message.mail_from == FOLLOWING
        assert [one.address for one in message.recipients] == [recipient]
        (record,) = gateway.journal()
        assert (record.mail_from, record.recipients[0].address) == (FOLLOWING, recipient)


@pytest.mark.parametrize(
    "recipient",
    [
        '"user@elsewhere.example"@bücher.example',
        "user\uff05elsewhere.example@xn--bcher-kva.example",
        "user@elsewhere.example\uff20bücher.example",
        "user@bücher.example.net",
    ],
)
def test_no_spelling_lets_a_stranger_relay(recipient):
    with FakeUpstream() as upstream, running_gateway(settings(upstream)) as gateway:
        with stranger(gateway) as say:
            assert say("MAIL FROM:<a@example.net> SMTPUTF8").startswith("250 ")
            assert say(f"RCPT TO:<{recipient}>").startswith("550 5.7.1 ")
        assert not upstream.messages


def test_a_blocked_sender_is_blocked_in_another_spelling():
    rule = {"name": "no", "filter": "match", "when": {"sender": "sender@xn--bcher-kva.example"}}
    with (
        FakeUpstream() as upstream,
        running_gateway(settings(upstream, rule)) as gateway,
        stranger(gateway) as say,
    ):
        assert say(f"MAIL FROM:<{FOLLOWING}> SMTPUTF8").startswith("550 5.7.1 ")
