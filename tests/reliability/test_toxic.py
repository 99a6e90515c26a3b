"""Over a bad line, on either side of the gateway: the message arrives whole and once, or the client knows."""

import contextlib
import smtplib
import ssl

import pytest
import trustme
from gatepost.testing import FakeUpstream, Toxic, ToxicProxy, running_gateway

CONTENT = b"Subject: over a bad line\r\n\r\n" + b"".join(b"%04d .%060d\r\n" % (n, n) for n in range(600))
SLOW = {
    "latency": Toxic(latency=0.02),
    "bandwidth": Toxic(bandwidth=1 << 19),
    "octet by octet": Toxic(slices=1),
    "slices": Toxic(slices=97),
    "late close": Toxic(late_close=0.2),
}
LEGS = ["client", "upstream"]
DIRECTIONS = ["there", "back"]
PLACES = {
    (False, "new"): [1, 40, 100, 150, 200, 300, 20_000, len(CONTENT), len(CONTENT) + 150],
    (False, "used"): [1, 60, 100, 150, 20_000, len(CONTENT) + 80],
    (True, "new"): [1, 700, 1500, 2000, 20_000, len(CONTENT) + 900],
    (True, "used"): [1, 150, 20_000, len(CONTENT) + 200],
}
"""Octets after which a line breaks, over TLS or not: within a handshake (it takes some 700 there and 1,500
back), commands and replies, the message, its dot, and what is after it."""


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def certificate(authority):
    return authority.issue_cert("127.0.0.1")


@pytest.fixture
def line(authority, certificate):
    """What is sent over a line with that toxic: what the client heard, what upstream has, the journal.

    ``clean`` is how many messages go before it over the same connections, when the line is still good;
    with ``tls`` they are spoken over TLS, on either side of the gateway.
    """

    def sent(leg, direction, toxic, *, tls, clean=0, times=1):
        with contextlib.ExitStack() as stack:
            upstream = stack.enter_context(FakeUpstream(tls=context_of(certificate) if tls else None))
            behind = stack.enter_context(ToxicProxy(upstream))
            rules, files = over_tls(behind, authority, certificate) if tls else ({}, {})
            gateway = stack.enter_context(running_gateway(rules, upstream=behind, files=files))
            before = stack.enter_context(ToxicProxy(gateway))

            opened = []

            def spoil():
                opened.append(upstream.connections)
                setattr(before if leg == "client" else behind, direction, toxic)

            client = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode()) if tls else None
            heard = say(before, client, clean, times, spoil)
            journal = {record.mail_from: record for record in gateway.journal()}
            assert all(message.tls is tls for message in upstream.messages)
            if clean:
                used = range(1, opened[0] + 1)
                assert all(message.connection in used for message in upstream.messages), (
                    "a new one breaks too"
                )
        return heard, upstream.messages, journal

    return sent


def context_of(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def over_tls(behind, authority, certificate):
    """Rules and files of a gateway that offers STARTTLS and asks for it."""
    server = {"host": behind.host, "port": behind.port, "tls": "required", "ca": "ca.pem"}
    return {
        "listen": [{"address": "127.0.0.1:0", "tls": {"certificate": "mx.pem", "key": "mx.key"}}],
        "relay": [{"recipients": "*@example.com", "to": server}],
    }, {
        "ca.pem": authority.cert_pem.bytes(),
        "mx.pem": b"".join(blob.bytes() for blob in certificate.cert_chain_pems),
        "mx.key": certificate.private_key_pem.bytes(),
    }


def sender(number):
    return f"alice{number}@example.org"


def say(before, tls, clean, times, spoil):
    """The codes that ended the transactions on one connection over that line; None where it broke."""
    heard = []
    if not clean:
        spoil()
    broken = contextlib.suppress(smtplib.SMTPServerDisconnected, smtplib.SMTPConnectError, OSError)
    with broken, smtplib.SMTP(before.host, before.port, "client.example.org", timeout=60) as client:
        if tls:
            client.starttls(context=tls)
        for number in range(clean + times):
            if number == clean:
                spoil()
            heard.append(None)
            heard[-1] = one_transaction(client, number)
    return heard or [None]


def one_transaction(client, number):
    try:
        client.sendmail(sender(number), ["bob@example.com"], CONTENT)
    except smtplib.SMTPServerDisconnected:
        raise
    except smtplib.SMTPResponseException as refused:
        return refused.smtp_code
    except smtplib.SMTPRecipientsRefused as refused:
        return refused.recipients["bob@example.com"][0]
    return 250


@pytest.mark.parametrize("leg", LEGS)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(
    ("toxic", "tls"),
    [*((name, False) for name in SLOW), ("octet by octet", True), ("latency", True)],
)
@pytest.mark.long
def test_a_slow_line_changes_nothing(line, leg, direction, toxic, tls):
    heard, arrived, journal = line(leg, direction, SLOW[toxic], tls=tls, times=2)
    assert heard == [250, 250]
    assert [message.mail_from for message in arrived] == [sender(0), sender(1)]
    assert all(message.content.endswith(CONTENT) for message in arrived)
    assert [str(record.recipients[0].disposition) for record in journal.values()] == ["relayed", "relayed"]


@pytest.mark.parametrize("leg", LEGS)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(
    ("tls", "connection", "octets"), [(*how, octets) for how, places in PLACES.items() for octets in places]
)
@pytest.mark.long
def test_a_line_that_breaks_loses_nothing_and_sends_nothing_twice(
    line, leg, direction, tls, connection, octets
):
    clean = 1 if connection == "used" else 0
    heard, messages, journal = line(leg, direction, Toxic(reset_after=octets), tls=tls, clean=clean)
    assert heard[:clean] == [250] * clean, "before the line broke"
    assert all(message.content.endswith(CONTENT) for message in messages)
    arrived = [message.mail_from for message in messages]
    assert arrived[:clean] == [sender(number) for number in range(clean)]
    assert arrived[clean:] in ([], [sender(clean)])
    record = journal.get(sender(clean))
    ends = [str(recipient.disposition) for recipient in record.recipients] if record else []
    if heard[clean:] == [250]:
        assert (len(arrived), ends) == (clean + 1, ["relayed"])
    elif arrived[clean:]:
        assert ends in (["relayed"], ["in-doubt"]), "the client did not hear it, the journal says so"
    else:
        assert "relayed" not in ends
        assert leg == "client" or heard[clean:] == [451]
