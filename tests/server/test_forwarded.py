"""The attributes of XFORWARD and XCLIENT, read strictly, and the session that they make."""

from datetime import UTC, datetime
from ipaddress import ip_address

import pytest
from gatepost.model.mail import Session
from gatepost.server.forwarded import XCLIENT, XFORWARD, forwarded, parse_facts, replaced
from gatepost.server.replies import Refusal
from hypothesis import example, given
from hypothesis import strategies as st

OWN = Session(
    id="01",
    client=ip_address("10.0.0.1"),
    client_port=1234,
    listener="mx:25",
    connected_at=datetime.now(UTC),
    helo="postfix.example.net",
    extended=True,
    tls="TLSv1.3",
    authenticated="postfix",
)


@pytest.mark.parametrize(
    ("argument", "facts"),
    [
        ("ADDR=192.0.2.1", {"ADDR": "192.0.2.1"}),
        ("addr=192.0.2.1", {"ADDR": "192.0.2.1"}),
        ("ADDR=IPV6:2001:db8::1", {"ADDR": "IPV6:2001:db8::1"}),
        ("ADDR=ipv6:2001:db8::1", {"ADDR": "ipv6:2001:db8::1"}),
        ("ADDR=2001:db8::1", {"ADDR": "2001:db8::1"}),
        ("ADDR=IPV6:::ffff:192.0.2.1", {"ADDR": "IPV6:::ffff:192.0.2.1"}),
        ("ADDR=[UNAVAILABLE] PORT=[unavailable]", {"ADDR": None, "PORT": None}),
        ("NAME=[TEMPUNAVAIL]", {"NAME": None}),
        ("NAME=a.example PORT=0 PROTO=ESMTP", {"NAME": "a.example", "PORT": "0", "PROTO": "ESMTP"}),
        ("PORT=65535 SOURCE=remote", {"PORT": "65535", "SOURCE": "remote"}),
        ("HELO=a=b", {"HELO": "a=b"}),
        ("HELO=a+3Db+2Bc", {"HELO": "a=b+c"}),
        ("HELO=a+20b", {"HELO": "a b"}),
        ("HELO=b+c3+BCcher.example", {"HELO": "bücher.example"}),
        ("HELO=+E2+80+AEevil", {"HELO": "?evil"}),
        ("HELO=x+E2+80+A8", {"HELO": "x?"}),
        ("IDENT=4Tn+2F1", {"IDENT": "4Tn/1"}),
        (f"HELO={'a' * 1000}", {"HELO": "a" * 1000}),
    ],
)
def test_attributes_are_read_as_postfix_writes_them(argument, facts):
    assert parse_facts(argument, XFORWARD) == facts


BAD = (
    "",
    " ",
    "ADDR",
    "ADDR=",
    "=",
    "=x",
    "ADDR 192.0.2.1",
    "ADDR= 192.0.2.1",
    " ADDR=192.0.2.1",
    "ADDR=192.0.2.1 ",
    "ADDR=192.0.2.1  PORT=1",
    "ADDR=192.0.2.1 ADDR=192.0.2.2",
    "ADDR=192.0.2.1 addr=192.0.2.1",
    "ADDR=192.0.2.256",
    "ADDR=192.0.2",
    "ADDR=192.0.2.01",
    "ADDR=[192.0.2.1]",
    "ADDR=192.0.2.1/32",
    "ADDR=192.0.2.1+0D+0A",
    "ADDR=+31",
    "ADDR=3221225985",
    "ADDR=IPV6:192.0.2.1",
    "ADDR=IPV6:",
    "ADDR=IPV6:2001:db8::1%eth0",
    "ADDR=fe80::1%eth0",
    "ADDR=IPV6:IPV6:::1",
    "ADDR=:::1",
    "ADDR=localhost",
    "ADDR=\uff1192.0.2.1",
    "PORT=-1",
    "PORT=65536",
    "PORT=1e3",
    "PORT=000025",
    "PORT=\u0662\u0665",
    "PORT=+32+35.",
    "PROTO=E SMTP",
    "PROTO=E+20SMTP",
    f"PROTO={'E' * 65}",
    "PROTO=ESMTP+0A",
    "SOURCE=OTHER",
    "HELO=a+",
    "HELO=a+2",
    "HELO=a+GG",
    "HELO=+00",
    "HELO=a+0D+0Ab",
    "HELO=a+09b",
    "HELO=a+7Fb",
    "HELO=+C2+85",
    "NAME=+E2+80+A8",
    "IDENT=+E2+80+AE",
    "HELO=+FF",
    "HELO=+C3",
    "HELO=\xfc",
    "LOGIN=alice",
    "DESTADDR=192.0.2.1",
    "FOO=bar",
    "FOO=bar ADDR=192.0.2.1",
    "ADDR=192.0.2.1 FOO=bar",
)


@pytest.mark.parametrize("argument", BAD)
def test_anything_else_is_refused(argument):
    with pytest.raises(Refusal, match=r"^501 5\.5\.4 "):
        parse_facts(argument, XFORWARD)


@pytest.mark.parametrize("argument", ["IDENT=1", "SOURCE=LOCAL", "DESTADDR=x", "DESTPORT=x", "LOGIN="])
def test_xclient_has_its_own_attributes(argument):
    assert parse_facts("LOGIN=al+20ice DESTADDR=192.0.2.9 DESTPORT=25", XCLIENT)["LOGIN"] == "al ice"
    with pytest.raises(Refusal, match=r"^501 "):
        parse_facts(argument, XCLIENT)


@given(st.text())
@example("HELO=+0D+0A")
@example("HELO=\u2028")
def test_no_value_ever_holds_what_ends_or_hides_a_line(argument):
    for attributes in (XFORWARD, XCLIENT):
        try:
            facts = parse_facts(argument, attributes)
        except Refusal:
            continue
        assert all(value is None or value.isprintable() for value in facts.values())


def test_no_fact_of_the_source_is_mixed_with_those_of_the_client():
    session = forwarded(OWN, {"ADDR": "192.0.2.1"})
    assert str(session.client) == "192.0.2.1"
    assert (session.client_port, session.helo, session.extended) == (0, "", False)
    assert session.tls is None
    assert session.authenticated is None
    assert (session.id, session.listener, session.connected_at) == (OWN.id, OWN.listener, OWN.connected_at)


@pytest.mark.parametrize(
    "facts", [{}, {"ADDR": None, "HELO": "x"}, {"HELO": "x"}, {"NAME": "x", "PORT": "1"}]
)
def test_without_an_address_the_source_itself_is_the_client(facts):
    """XFORWARD_README: such a message is a local submission, and other attributes are ignored."""
    assert forwarded(OWN, facts) is OWN


@pytest.mark.parametrize(
    ("said", "protocol"),
    [
        ("SMTP", "SMTP"),
        ("ESMTP", "ESMTP"),
        ("esmtp", "ESMTP"),
        ("ESMTPS", "ESMTPS"),
        ("ESMTPA", "ESMTP"),  # by whom is not said, and only a name counts as a login
        ("ESMTPSA", "ESMTPS"),
        ("UTF8SMTPS", "ESMTPS"),
        ("LMTP", "ESMTP"),
        ("QMQP", "SMTP"),
        ("HTTP", "SMTP"),
        ("SMTPX", "SMTP"),
        (None, "SMTP"),
    ],
)
def test_the_protocol_is_the_clients(said, protocol):
    assert forwarded(OWN, {"ADDR": "192.0.2.1", "PROTO": said}).protocol == protocol


def test_a_mapped_address_is_the_address_that_it_maps():
    assert forwarded(OWN, {"ADDR": "IPV6:::ffff:192.0.2.1"}).client == ip_address("192.0.2.1")
    assert forwarded(OWN, {"ADDR": "ipv6:2001:DB8::1"}).client == ip_address("2001:db8::1")


def test_xclient_replaces_all_but_the_connection_itself():
    facts = {"ADDR": "192.0.2.1", "PORT": "40000", "HELO": "c.example", "PROTO": "ESMTP", "LOGIN": "alice"}
    session = replaced(OWN, facts)
    assert (str(session.client), session.client_port, session.helo) == ("192.0.2.1", 40000, "c.example")
    assert (session.authenticated, session.tls, session.protocol) == ("alice", "TLSv1.3", "ESMTPSA")
    assert replaced(OWN, {"ADDR": "192.0.2.1"}).authenticated is None
