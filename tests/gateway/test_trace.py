"""The Received field can be parsed, whatever the client called itself and whatever its recipient is."""

import re
from datetime import UTC, datetime
from email.headerregistry import HeaderRegistry
from ipaddress import ip_address

import pytest
from gatepost.gateway.trace import received_field
from gatepost.model.mail import Envelope, Message, Recipient, Session, Transaction
from hypothesis import given
from hypothesis import strategies as st

DOT_ATOM = r"[A-Za-z0-9_?-]+(?:\.[A-Za-z0-9_?-]+)*\.?"
FIELD = re.compile(
    rf"Received: from (?P<name>{DOT_ATOM}|\[[A-Za-z0-9.:-]+\]) \(\[192\.0\.2\.1\]\)\r\n"
    r"\tby mx\.example\.com \(Gatepost(?:, node (?P<node>[A-Za-z0-9._-]+))?\) with (?:UTF8)?E?SMTP id x"
    r"(?:\r\n\tfor <(?P<address>[^\x00-\x1f\x7f]+)>)?;\r\n"
    r"\tThu, 01 Jan 1970 00:00:00 \+0000\r\n"
)


def received(helo="", recipient="b@example.com", parameters=(), node=""):
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    transaction = Transaction(
        id="x",
        session=Session(
            id="s",
            client=ip_address("192.0.2.1"),
            client_port=1,
            listener="",
            connected_at=epoch,
            helo=helo,
            extended=True,
        ),
        envelope=Envelope(mail_from="", parameters=parameters, recipients=(Recipient(address=recipient),)),
        message=Message(content=b""),
        received_at=epoch,
    )
    return received_field(transaction, "mx.example.com", node).decode()


@pytest.mark.parametrize(
    ("helo", "name"),
    [
        ("client.example.org", "client.example.org"),
        ("client.example.org.", "client.example.org."),
        ("localhost", "localhost"),
        ("a_b", "a_b"),
        ("[192.0.2.7]", "[192.0.2.7]"),
        ("[IPv6:2001:db8::1]", "[IPv6:2001:db8::1]"),
        ("", "unknown"),
        ("a b", "a?b"),
        ("(x", "?x"),
        ("a) by evil.example; Mon, 1 Jan", "a??by?evil.example??Mon??1?Jan"),
        ("[1.2.3", "?1.2.3"),
        ("1.2.3]", "1.2.3?"),
        ("[a]b]", "?a?b?"),
        ('"q', "?q"),
        ("a..b", "a??b"),
        (".a", "?a"),
        ("bücher.example", "b?cher.example"),
        ("=?utf-8?q?x?=", "??utf-8?q?x??"),
        ("x\r\nSubject: y", "x??Subject??y"),
        ("x" * 2000, "x" * 255),
    ],
)
def test_a_name_is_as_the_client_gave_it_or_without_what_cannot_be_there(helo, name):
    assert FIELD.fullmatch(received(helo))["name"] == name


@pytest.mark.parametrize(
    ("address", "parameters", "named"),
    [
        ("b@example.com", (), True),
        ("postmaster", (), True),
        ('"b c"@example.com', (), True),
        ("b@[192.0.2.1]", (), True),
        ("ü@example.com", ("SMTPUTF8",), True),
        ("ü@example.com", (), False),
        ("a..b@example.com", (), False),
        (".a@example.com", (), False),
        ("b@example.com.", (), False),
        ("bob", (), False),
        ("", (), False),
        ("Bob Smith", (), False),
        ("a(b@example.com", (), False),
        ("@relay.example:b@example.com", (), False),
        ('"b@example.com', (), False),
        ("b@example.com> (", (), False),
        ("b@example.com\r\nX: y", (), False),
        ("PostMaster", (), True),
        ("po\u017ftmaster", ("SMTPUTF8",), False),
        ("b@[\u212a]", ("SMTPUTF8",), False),
    ],
)
def test_the_only_recipient_is_named_where_its_address_may_be_there(address, parameters, named):
    assert FIELD.fullmatch(received(recipient=address, parameters=parameters))["address"] == (
        address if named else None
    )


@given(st.text(), st.text())
def test_whatever_they_are_the_field_is_one_field(helo, address):
    field = received(helo, address)
    assert FIELD.fullmatch(field)
    parsed = HeaderRegistry()("Received", field.partition(": ")[2].replace("\r\n", ""))
    assert not parsed.defects


def test_the_node_is_in_a_comment_behind_the_name_that_all_nodes_have():
    assert FIELD.fullmatch(received(node="mx-a"))["node"] == "mx-a"
    assert FIELD.fullmatch(received())["node"] is None
