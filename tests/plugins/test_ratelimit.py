"""The filter ratelimit: what is counted, for whom, and what happens above the limit."""

import asyncio

import pytest
from gatepost import Action, Place
from gatepost.testing import ask_filter, make_message, make_state, make_transaction, run_all
from gatepost_ratelimit import Ratelimit


class Gate:
    """A gateway whose clock is set by the test."""

    def __init__(self, by="client", **settings):
        self.now = 1_700_000_000.0
        self.counted = []
        self.state = make_state(clock=lambda: self.now)
        self.place = Place(rule="r", folder=None, counter=lambda _, what: self.counted.append(what))
        self.settings = {"by": by, **settings}

    def send(self, **message):
        """The verdicts."""
        transaction = make_transaction(**message)
        hits = run_all(Ratelimit, transaction, state=self.state, place=self.place, **self.settings)
        return [hit.verdict for hit in hits]

    def accepted(self, times=10, **message):
        """How many of these messages."""
        return sum(not self.send(**message) for _ in range(times))


def test_as_many_as_the_limit_pass_and_more_when_their_time_is_over():
    gate = Gate(messages=["3/minute"])
    assert gate.accepted() == 3
    (verdict,) = gate.send()
    assert verdict.action is Action.DEFER
    assert verdict.reason == "192.0.2.1 has reached its limit: messages 3/minute"
    text, _, seconds = str(verdict.reply).removesuffix(" seconds").rpartition(" ")
    assert text == "451 4.7.1 Too many messages, please try again in"
    gate.now += int(seconds) - 1
    assert gate.send()
    gate.now += 1
    assert gate.accepted() == 3, "the time is true"


@pytest.mark.parametrize(
    ("by", "another", "the_same"),
    [
        ("client", {"client": "192.0.2.2"}, {"mail_from": "eve@example.net"}),
        ("network", {"client": "192.0.3.1"}, {"client": "192.0.2.99"}),
        ("sender", {"mail_from": "eve@example.org"}, {"mail_from": "ANN@Example.org", "client": "192.0.2.2"}),
        ("domain", {"mail_from": "ann@example.net"}, {"mail_from": "eve@example.org"}),
        ("recipient", {"recipients": ["carol@example.com"]}, {"recipients": ["BOB@example.com"]}),
        ("sender", {"mail_from": "ann@x.example"}, {"mail_from": "ann+7@example.org"}),
        ("recipient", {"recipients": ["+bob@example.com"]}, {"recipients": ["bob+list@example.com"]}),
        ("recipient", {"recipients": ["bob@example.org"]}, {"recipients": ['"bob+x y"@example.com']}),
        ("user", {"authenticated": "eve"}, {"client": "192.0.2.2", "mail_from": "x@example.net"}),
    ],
)
def test_for_whom_it_is_counted(by, another, the_same):
    gate = Gate(by, messages=["3/hour"])
    message = {"mail_from": "ann@example.org", "recipients": ["bob@example.com"], "authenticated": "ann"}
    assert gate.accepted(**message) == 3
    assert gate.accepted(**{**message, **the_same}) == 0
    assert gate.accepted(**{**message, **another}) == 3


@pytest.mark.parametrize(
    ("by", "message"),
    [("sender", {"mail_from": ""}), ("domain", {"mail_from": ""}), ("user", {"authenticated": None})],
)
def test_who_has_no_name_has_no_limit(by, message):
    assert Gate(by, messages=["1/hour"]).accepted(**message) == 10


def test_networks_are_as_large_as_the_settings_say():
    gate = Gate("network", messages=["1/hour"], ipv4_prefix=16, ipv6_prefix=48)
    assert gate.accepted(client="192.0.2.1") == 1
    assert gate.accepted(client="192.0.99.1") == 0
    assert gate.accepted(client="2001:db8:1:1::1") == 1
    assert gate.accepted(client="2001:db8:1:2::1") == 0
    assert gate.accepted(client="2001:db8:2::1") == 1


def test_several_windows_and_what_is_refused_does_not_count():
    gate = Gate(messages=["2/minute", "5/day"])
    accepted = []
    for _ in range(5):
        accepted.append(gate.accepted(5))
        gate.now += 70
    assert accepted == [2, 2, 1, 0, 0]
    (verdict,) = gate.send()
    assert "5/day" in verdict.reason
    assert 80_000 < int(str(verdict.reply).split()[-2]) < 95_000


def test_recipients_are_counted_one_by_one():
    gate = Gate("sender", recipients=["5/hour"])
    verdicts = gate.send(recipients=[f"{name}@example.com" for name in "abcdefg"])
    assert [verdict.reply.text.split(", ")[0] for verdict in verdicts] == ["Too many recipients"] * 2


def test_bytes_are_counted_and_a_message_that_never_fits_is_refused():
    gate = Gate("user", bytes=["10KB/hour"])
    small, large = (make_message(subject="x", text="y" * size) for size in (2700, 11_000))
    assert gate.accepted(content=small, authenticated="ann") == 3
    (verdict,) = gate.send(content=small, authenticated="ann")
    assert verdict.action is Action.DEFER
    (verdict,) = gate.send(content=large, authenticated="eve")
    assert verdict.action is Action.REJECT
    assert str(verdict.reply) == "552 5.3.4 Message is larger than the limit of 10KB/hour"
    assert gate.accepted(content=small, authenticated="eve") == 3


def test_messages_and_recipients_have_limits_of_their_own():
    gate = Gate("recipient", messages=["2/hour"], recipients=["3/hour"])
    assert gate.accepted() == 2
    gate = Gate("sender", messages=["2/hour"], recipients=["2/hour"])
    assert gate.accepted() == 2


def test_it_is_told_once_in_the_time_of_the_window(caplog):
    gate = Gate(messages=["1/hour"])
    assert gate.accepted(5) == 1
    told = [(record.name, record.getMessage()) for record in caplog.records]
    assert told == [("gatepost.filter.r", "rule r: 192.0.2.1 has reached its limit: messages 1/hour")]
    assert gate.counted == ["limited"] * 4
    gate.now += 3901
    gate.accepted(2)
    assert len(caplog.records) == 2


def test_it_is_told_once_also_of_many_that_are_refused_at_the_same_time(caplog):
    gate = Gate(messages=["1/hour"])
    limit = Ratelimit(state=gate.state, place=gate.place, **gate.settings)

    async def ask_all():
        asked = (ask_filter(limit, make_transaction()) for _ in range(20))
        return await asyncio.gather(*asked)

    assert sum(one is not None for one in asyncio.run(ask_all())) == 19
    assert len(caplog.records) == 1


def test_rules_do_not_share_their_counts():
    gate = Gate(messages=["1/hour"])
    assert gate.accepted() == 1
    gate.place = Place(rule="other", folder=None)
    assert gate.accepted() == 1


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "nothing is limited: expected messages, recipients or bytes"),
        ({"messages": ["many"]}, "'many', expected a rate like 100/hour or 20/15m"),
        ({"messages": ["0/hour"]}, "'0/hour', expected a rate like"),
        ({"messages": ["1.5/hour"]}, "expected a rate like"),
        ({"messages": ["10/fortnight"]}, "expected a rate like"),
        ({"messages": ["10MiB/hour"]}, "expected a rate like 100/hour"),
        ({"bytes": ["10 tons/hour"]}, "expected a rate like 50MiB/hour"),
        ({"by": "recipient", "bytes": ["1MB/hour"]}, "bytes cannot be counted by recipient"),
        ({"by": "moon", "messages": ["1/hour"]}, "by: 'moon', expected"),
    ],
)
def test_settings_that_make_no_sense(settings, expected):
    with pytest.raises(ValueError, match=expected):
        Gate(**settings).send()


@pytest.mark.parametrize("rate", ["2/hour", "2 / 1h", "2/60m", "2/3600"])
def test_spellings_of_a_rate(rate):
    assert Gate(messages=[rate]).accepted() == 2
