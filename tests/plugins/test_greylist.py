"""The filter greylist: who is deferred, and who passes."""

import asyncio
from dataclasses import replace

import pytest
from gatepost import Action, DnsStatus
from gatepost.testing import ask_filter, make_resolver, make_state, make_transaction, running_gateway
from gatepost_greylist import Greylist, _sender

DAY = 86400


class Gate:
    """A gateway whose clock is set by the test."""

    def __init__(self, records=None, **settings):
        self.now = 1_700_000_000.0
        self.state = make_state(clock=lambda: self.now)
        self.settings = {"resolver": make_resolver(records), "delay": "300s", **settings}

    def send(self, mail_from="ann@example.org", to="bob@example.com", client="192.0.2.1", **more):
        """The number of seconds in the reply; None: it is let pass."""
        transaction = make_transaction(mail_from=mail_from, recipients=[to], client=client, **more)
        verdict = asyncio.run(ask_filter(Greylist, transaction, state=self.state, **self.settings))
        if verdict is None:
            return None
        assert verdict.action is Action.DEFER
        words = str(verdict.reply).split()
        assert words[:2] == ["451", "4.7.1"]
        return int(words[-2])

    def passes(self, **message):
        """Send it, and again after ten minutes."""
        assert self.send(**message) == 300
        self.now += 600
        assert self.send(**message) is None


def test_a_first_message_is_deferred_and_passes_when_it_is_tried_again():
    gate = Gate()
    assert gate.send() == 300
    gate.now += 100.5
    assert gate.send() == 200, "the time that is left"
    gate.now += 199.5
    assert gate.send() is None
    gate.now += 34 * DAY
    assert gate.send() is None, "it is remembered"
    gate.now += 34 * DAY
    assert gate.send() is None, "from the last time on"
    gate.now += 36 * DAY
    assert gate.send() == 300, "but not without end"


def test_a_retry_that_comes_too_late_is_a_first_one():
    gate = Gate(retry_within="1h")
    gate.send()
    gate.now += 3602
    assert gate.send() == 300


@pytest.mark.parametrize(
    ("changed", "is_same"),
    [
        ({"to": "carol@example.com"}, False),
        ({"to": "Bob@EXAMPLE.com"}, True),
        ({"to": "bob+news@example.com"}, True),
        ({"mail_from": "eve@example.org"}, False),
        ({"mail_from": "ann@example.net"}, False),
        ({"mail_from": "ANN+x@Example.org"}, True),
        ({"mail_from": ""}, False),
        ({"client": "192.0.2.200"}, True),
        ({"client": "192.0.3.1"}, False),
        ({"authenticated": "ann"}, True),
    ],
)
def test_what_is_the_same_client_sender_and_recipient(changed, is_same):
    gate = Gate(known_after=0)
    gate.passes()
    assert (gate.send(**changed) is None) == is_same


def test_a_network_is_as_large_as_the_settings_say():
    gate = Gate(known_after=0, ipv4_prefix=32, ipv6_prefix=48)
    gate.passes()
    assert gate.send(client="192.0.2.2") == 300
    gate.passes(client="2001:db8:1:2::1")
    assert gate.send(client="2001:db8:1:ffff::1") is None
    assert gate.send(client="2001:db8:2::1") == 300


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("prvs=1234567890=ann@example.org", "prvs=abc4567899=ann@example.org"),
        ("SRS0=4f3C=KX=example.net=ann@fwd.example", "SRS0=9aaa=LY=example.net=ann@fwd.example"),
        (
            "SRS1=4f3C=a.example==HHH=TT=example.net=ann@fwd.example",
            "SRS1=xyz1=a.example==JJJ=UU=example.net=ann@fwd.example",
        ),
        ("list-bounces-12-bob=example.com@l.example", "list-bounces-13-bob=example.com@l.example"),
        ("0102018c-a1b2c3d4-000000@ses.example", "0102019d-e5f6a7b8-000001@ses.example"),
        ("bounces+123-ab@send.example", "bounces+999-zz@send.example"),
    ],
)
def test_a_sender_that_changes_for_each_message_is_one(one, other):
    assert _sender(one) == _sender(other)


@pytest.mark.parametrize(
    "other", ["", "anne@example.org", "ann@example.net", "SRS0=4f3C=KX=example.net=eve@fwd.example", "a1@b.c"]
)
def test_others_are_others(other):
    known = ["ann@example.org", "SRS0=4f3C=KX=example.net=ann@fwd.example", "b1@b.c"]
    assert _sender(other) not in map(_sender, known)


PROVIDER = {
    ("1.2.0.192.in-addr.arpa", "PTR"): ["out1.mail.provider.example"],
    ("out1.mail.provider.example", "A"): ["192.0.2.1"],
    ("9.100.51.198.in-addr.arpa", "PTR"): ["out9.mail.provider.example"],
    ("out9.mail.provider.example", "A"): ["198.51.100.9"],
}


def test_the_servers_of_a_provider_are_one_client_if_dns_confirms_their_names():
    gate = Gate(PROVIDER, known_after=0)
    gate.send()
    gate.now += 600
    assert gate.send(client="198.51.100.9") is None, "another server tries again"
    assert gate.send(client="192.0.2.1") is None
    plain = Gate(PROVIDER, known_after=0, by_name=False)
    plain.passes()
    assert plain.send(client="198.51.100.9") == 300


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("out9.mail.provider.example", DnsStatus.FAILED),
        ("out9.mail.provider.example", ["203.0.113.1"]),
        ("198-51-100-9.mail.provider.example", ["198.51.100.9"]),
        ("x6409.mail.provider.example", ["198.51.100.9"]),
    ],
    ids=["unknown", "of another", "made of numbers", "made of hex"],
)
def test_a_name_that_is_not_confirmed_or_made_of_the_address_does_not_count(name, address):
    records = {**PROVIDER, ("9.100.51.198.in-addr.arpa", "PTR"): [name], (name, "A"): address}
    gate = Gate(records, known_after=0)
    gate.passes()
    assert gate.send(client="198.51.100.9") == 300


def test_what_was_begun_while_dns_was_down_is_continued_when_it_is_up():
    gate = Gate({("1.2.0.192.in-addr.arpa", "PTR"): DnsStatus.TIMED_OUT})
    gate.send()
    gate.settings["resolver"] = make_resolver(PROVIDER)
    gate.now += 600
    assert gate.send() is None


@pytest.mark.parametrize(
    ("host", "other", "is_one"),
    [
        ("a.example.com", "b.example.com", True),
        ("example.com", "example.org", False),
        ("one.com", "two.com", False),
        ("one.co.uk", "two.co.uk", False),
        ("a.one.co.uk", "b.one.co.uk", True),
    ],
)
def test_a_public_suffix_is_no_provider(host, other, is_one):
    records = {
        ("1.2.0.192.in-addr.arpa", "PTR"): [host],
        (host, "A"): ["192.0.2.1"],
        ("9.100.51.198.in-addr.arpa", "PTR"): [other],
        (other, "A"): ["198.51.100.9"],
    }
    gate = Gate(records, known_after=0)
    gate.passes()
    assert (gate.send(client="198.51.100.9") is None) == is_one


def test_a_client_of_which_enough_has_passed_is_known():
    gate = Gate(known_after=3)
    for number in range(3):
        gate.passes(mail_from=f"{'xyz'[number]}@example.org")
        gate.now += 3600
    assert gate.send(mail_from="new@example.net", to="new@example.com") is None
    assert gate.send(client="198.51.100.1") == 300
    gate.now += 30 * DAY
    assert gate.send(mail_from="newer@example.net") is None
    gate.now += 30 * DAY
    assert gate.send(mail_from="newest@example.net") is None, "remembered from the last time on"


def test_one_message_to_many_counts_once():
    gate = Gate(known_after=2)
    for number in range(3):
        gate.send(to=f"{'xyz'[number]}@example.com")
    gate.now += 600
    for number in range(3):
        assert gate.send(to=f"{'xyz'[number]}@example.com") is None
    assert gate.send(to="new@example.com") == 300


@pytest.mark.parametrize("jump", [-DAY * 365, -DAY, DAY])
def test_a_clock_that_is_set_locks_nobody_out(jump):
    gate = Gate()
    gate.send()
    gate.now += jump
    gate.send()
    gate.now += 301
    assert gate.send() is None


def test_retry_within_must_be_longer_than_the_delay():
    transaction = replace(make_transaction())
    with pytest.raises(ValueError, match="retry_within is 60 s, expected more than delay"):
        asyncio.run(ask_filter(Greylist, transaction, retry_within="60s"))


def test_only_what_is_suspicious_at_rcpt_is_greylisted_if_asked():
    helo = {"name": "helo", "filter": "helo", "with": {"scores": {"unknown": 0, "bare": 2}}}
    greylist = {"name": "greylist", "filter": "greylist", "with": {"from_score": 2, "by_name": False}}
    with running_gateway({"rules": [helo, greylist]}) as gateway:
        assert gateway.send(make_transaction(helo="friend")).code == 451
        assert gateway.send(make_transaction(helo="mx.example.org")).code == 250
        with_less = {**helo, "score": 1.9}
        gateway.reload({"rules": [with_less, greylist]})
        assert gateway.send(make_transaction(helo="friend")).code == 250
