"""Nobody relays through the gateway, nobody loops in it, and a lost connection loses no mail."""

import socket
import struct

import pytest
from gatepost.model.record import Disposition

FOREIGN = b"PROXY TCP4 203.0.113.9 127.0.0.1 40000 25\r\n"
RELAYING = """
    listen:
      - address: 127.0.0.1:0
        proxy_protocol_from: [127.0.0.1]
    relay:
      - recipients: "*@example.com"
        to: smtp://127.0.0.1:{port}
      - recipients: "*"
        to: smtp://127.0.0.1:{port}
"""
IP = "127.0.0.1"
PAIRS = [  # https://nmap.org/nsedoc/scripts/smtp-open-relay.html
    ("", "relaytest@nmap.scanme.org"),
    ("antispam@nmap.scanme.org", "relaytest@nmap.scanme.org"),
    ("antispam@example.com", "relaytest@nmap.scanme.org"),
    (f"antispam@[{IP}]", "relaytest@nmap.scanme.org"),
    (f"antispam@[{IP}]", f"relaytest%nmap.scanme.org@[{IP}]"),
    (f"antispam@[{IP}]", "relaytest%nmap.scanme.org@example.com"),
    (f"antispam@[{IP}]", '"relaytest@nmap.scanme.org"'),
    (f"antispam@[{IP}]", '"relaytest%nmap.scanme.org"'),
    (f"antispam@[{IP}]", f"relaytest@nmap.scanme.org@[{IP}]"),
    (f"antispam@[{IP}]", f'"relaytest@nmap.scanme.org"@[{IP}]'),
    (f"antispam@[{IP}]", "relaytest@nmap.scanme.org@example.com"),
    (f"antispam@[{IP}]", f"@[{IP}]:relaytest@nmap.scanme.org"),
    (f"antispam@[{IP}]", "@example.com:relaytest@nmap.scanme.org"),
    (f"antispam@[{IP}]", "nmap.scanme.org!relaytest"),
    (f"antispam@[{IP}]", f"nmap.scanme.org!relaytest@[{IP}]"),
    (f"antispam@[{IP}]", "nmap.scanme.org!relaytest@example.com"),
]


@pytest.mark.case(*range(57, 73))
def test_a_stranger_cannot_relay(gateway, sink):
    """RELIABILITY 57-72."""
    behind = sink()
    running = gateway(RELAYING.format(port=behind.port))
    with running.client(FOREIGN) as client:
        client.say("EHLO stranger.example.org")
        for mail_from, rcpt_to in PAIRS:
            sender, recipient, end = client.say(f"MAIL FROM:<{mail_from}>", f"RCPT TO:<{rcpt_to}>", "RSET")
            assert sender.startswith("250 "), mail_from
            assert recipient.startswith(("550 5.7.1 ", "501 ", "553 ")), (rcpt_to, recipient)
            assert end.startswith("250 ")
        own = client.say(
            "MAIL FROM:<a@example.org>", "RCPT TO:<bob@example.com>", "RCPT TO:<Postmaster>", "QUIT"
        )
        assert [reply[:3] for reply in own] == ["250", "250", "250", "221"]
    assert behind.messages() == []
    records = running.journal(len(PAIRS))
    assert {record.client for record in records} == {"203.0.113.9"}


@pytest.mark.case(55)
def test_a_stranger_cannot_pretend_to_be_a_balancer(gateway, sink):
    """RELIABILITY 55: the header is no command where it is not expected."""
    behind = sink()
    running = gateway(upstream=behind.port)
    with running.client() as client:
        assert client.say("PROXY TCP4 127.0.0.1 127.0.0.1 40000 25")[0].startswith("500 5.5.")


@pytest.mark.case(73)
def test_a_mail_loop_is_broken(gateway, sink):
    """RELIABILITY 73."""
    behind = sink()
    running = gateway(upstream=behind.port)
    field = b"Received: from a by b; Mon, 23 Nov 2026 10:00:00 +0000\r\n"
    with running.smtp() as smtp:
        assert smtp.transact(field * 51 + b"\r\n").startswith("554 5.4.6 ")
        assert smtp.transact(field * 50 + b"\r\n").startswith("250 2.")
    assert len(behind.messages()) == 1


@pytest.mark.case(98)
def test_a_half_close_after_the_dot_is_still_answered(gateway, sink):
    """RELIABILITY 98."""
    behind = sink("-W", ".:1")
    running = gateway(upstream=behind.port)
    with running.client().begin("bob@example.com") as client:
        client.socket.sendall(b"Subject: x\r\n\r\n.\r\n")
        client.socket.shutdown(socket.SHUT_WR)
        assert client.reply().startswith("250 2.")
        assert client.reply() == ""
    assert [message.content for message in behind.messages()] == [b"Subject: x\r\n\r\n"]


@pytest.mark.case(99)
def test_a_reset_after_the_dot_changes_nothing_about_the_delivery(gateway, sink):
    """RELIABILITY 99."""
    behind = sink("-W", ".:1")
    running = gateway(upstream=behind.port)
    client = running.client().begin("bob@example.com")
    client.socket.sendall(b"Subject: x\r\n\r\n.\r\n")
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    (record,) = running.journal(1)
    assert record.recipients[0].disposition is Disposition.RELAYED
    assert record.reply.startswith("250 2.")
    assert [message.content for message in behind.messages()] == [b"Subject: x\r\n\r\n"]
