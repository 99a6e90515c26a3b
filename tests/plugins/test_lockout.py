"""The filter lockout: which clients are refused, for how long, and who is never locked out by others."""

import asyncio
import base64
import re
import smtplib
import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from argon2 import PasswordHasher
from gatepost import Action, Place, SessionRecord
from gatepost.testing import ask_filter, make_state, make_transaction, running_gateway
from gatepost_lockout import Lockout

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
SESSION = make_transaction().session
RECORD = SessionRecord(
    id=SESSION.id,
    client="192.0.2.1",
    listener=SESSION.listener,
    connected_at=datetime.now(UTC),
)


class Gate:
    """A gateway whose clock is set by the test."""

    def __init__(self, **settings):
        self.now = 1_700_000_000.0
        self.counted = []
        state = make_state(clock=lambda: self.now)
        self.place = Place(rule="r", folder=None, counter=lambda _, what: self.counted.append(what))
        self.settings = {"state": state, "place": self.place, **settings}
        self.filter = Lockout(**{"failed_auth": "6/hour", "bad_commands": None, "lock": 600, **self.settings})

    def end(self, **facts):
        asyncio.run(self.filter.report_session(replace(RECORD, **facts)))

    def verdict(self, **facts):
        transaction = make_transaction(**{"client": "192.0.2.1", **facts})
        return asyncio.run(ask_filter(self.filter, transaction))

    def wait(self, **facts):
        """The seconds in the reply; None: it is let pass."""
        verdict = self.verdict(**facts)
        if verdict is None:
            return None
        assert verdict.action is Action.DEFER
        assert str(verdict.reply).startswith(
            "421 4.7.0 Too many failures from your address, please try again in "
        )
        return int(str(verdict.reply).split()[-2])


def test_a_client_that_has_failed_too_often_is_refused_for_a_time_that_is_true():
    gate = Gate()
    gate.end(failed_auth=3)
    assert gate.wait() is None
    gate.end(failed_auth=3)
    assert gate.wait() == 600
    gate.now += 599
    assert gate.wait() == 1
    gate.now += 1
    assert gate.wait() is None
    assert gate.counted == ["locked", "refused", "refused"]


def test_what_is_older_than_the_time_of_the_rate_does_not_count():
    gate = Gate()
    gate.end(failed_auth=5)
    gate.now += 3600 * 13 / 12
    gate.end(failed_auth=1)
    assert gate.wait() is None
    gate.end(failed_auth=5)
    assert gate.wait()


def test_one_session_may_be_too_much_and_failures_during_the_lock_prolong_it():
    gate = Gate()
    gate.end(failed_auth=100)
    gate.now += 500
    gate.end(failed_auth=1)  # of a session that was open already
    assert gate.wait() == 600
    assert gate.counted.count("locked") == 1


@pytest.mark.parametrize("what", ["failed_auth", "bad_commands", "refused_recipients"])
def test_each_kind_has_its_own_rate(what):
    kinds = dict.fromkeys(["failed_auth", "bad_commands", "refused_recipients"])
    gate = Gate(**{**kinds, what: "2/minute"})
    for other in kinds.keys() - {what}:
        gate.end(**{other: 50})
    gate.end(messages=50, early_talker=True)
    assert gate.wait() is None
    gate.end(**{what: 2})
    assert gate.wait()


@pytest.mark.parametrize(
    ("failed", "asked", "is_refused"),
    [
        ({"client": "192.0.2.1"}, {"client": "192.0.2.2"}, False),
        ({"client": "2001:db8::1"}, {"client": "2001:db8::ffff:2"}, True),
        ({"client": "2001:db8::1"}, {"client": "2001:db8:0:1::1"}, False),
        ({"listener": "[::1]:587"}, {}, False),
        ({}, {"authenticated": "alice"}, True),  # asked at connect, where no user is known
    ],
)
def test_who_is_refused_with_a_client_that_fails(failed, asked, is_refused):
    gate = Gate()
    gate.end(failed_auth=9, **failed)
    assert bool(gate.wait(**asked)) == is_refused


def test_an_address_from_which_a_user_has_authenticated_is_not_locked_out(caplog):
    gate = Gate(trust=86400)
    gate.end(authenticated="alice", failed_auth=2)
    for _ in range(5):
        gate.end(failed_auth=3)
    assert gate.wait() is None
    assert gate.counted == ["locked", "trusted"]
    (line,) = caplog.messages
    assert line == (
        "rule r: 192.0.2.1 has reached failed_auth 6/hour: "
        "not locked out, since a user has authenticated from there"
    )
    gate.now += 86401
    gate.end(failed_auth=6)
    assert gate.wait(), "trust ends"


def test_a_lock_is_told_once_although_many_sessions_end_at_the_same_time(caplog):
    gate = Gate()

    async def end_all():
        await asyncio.gather(*(gate.filter.report_session(replace(RECORD, failed_auth=6)) for _ in range(20)))

    asyncio.run(end_all())
    assert (gate.counted, len(caplog.records)) == (["locked"], 1)
    gate.now += 600
    assert gate.wait() is None, "the lock is over"
    asyncio.run(end_all())
    assert (gate.counted, len(caplog.records)) == (["locked"] * 2, 2), "and the next one is told too"


def test_a_client_with_a_user_is_let_pass_where_the_rule_is_asked_after_auth():
    gate = Gate()
    gate.end(failed_auth=9)
    known = replace(SESSION, authenticated="alice")
    assert asyncio.run(gate.filter.filter_connect(known)) is None


def test_a_clock_that_was_set_back_does_not_make_a_lock_longer():
    gate = Gate()
    gate.end(failed_auth=9)
    gate.now -= 86400
    assert gate.wait() is None


def test_rules_count_for_themselves():
    gate = Gate()
    gate.end(failed_auth=9)
    other = Lockout(**{**gate.settings, "place": Place(rule="other", folder=None)})
    assert asyncio.run(ask_filter(other, make_transaction(client="192.0.2.1"))) is None


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"failed_auth": None, "bad_commands": None}, "nothing is counted"),
        ({"failed_auth": "10"}, "failed_auth: '10', expected a rate like 100/hour or 20/15m"),
        ({"bad_commands": "0/hour"}, "bad_commands: '0/hour', expected a rate"),
        ({"ipv4_prefix": 0}, "ipv4_prefix"),
        ({"lock": "0s"}, "lock"),
    ],
)
def test_settings_that_are_wrong_are_named(settings, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        asyncio.run(ask_filter(Lockout, make_transaction(), **settings))


@pytest.fixture
def gateway():
    """Two listeners behind a proxy, one of which users know."""
    listen = [
        {"address": "127.0.0.1:0", "xclient_from": "127.0.0.1"},
        {
            "address": "localhost:0",
            "xclient_from": "127.0.0.1",
            "auth": {"users": "users.yaml", "without_tls": True},
        },
    ]
    with_ = {"failed_auth": "3/hour", "bad_commands": "3/hour"}
    rules = {"listen": listen, "rules": [{"name": "guessers", "filter": "lockout", "with": with_}]}
    users = f'alice: "{CHEAP.hash("wonder land")}"'
    with running_gateway(rules, files={"users.yaml": users}) as running:
        yield running


class Guest(smtplib.SMTP):
    """A client of that address, behind the proxy."""

    def __init__(self, gateway, client, listener=1):
        super().__init__(*gateway.addresses[listener], timeout=30)
        self.greeting = self.docmd(f"XCLIENT ADDR={client}")[0]

    def guess(self, password):
        self.ehlo("guest.example")
        response = base64.b64encode(f"\0alice\0{password}".encode()).decode()
        return self.docmd(f"AUTH PLAIN {response}")[0]


def greeting(gateway, client, listener=1):
    """The code of the reply to the client's connection."""
    guest = Guest(gateway, client, listener)
    guest.close()
    return guest.greeting


def locked_out(gateway, client):
    """True as soon as it is: reports are made after the end of a session."""
    give_up = time.monotonic() + 30
    while time.monotonic() < give_up:
        if greeting(gateway, client) == 421:
            return True
        time.sleep(0.02)
    return False


def test_guessers_are_locked_out_and_nobody_else(gateway):
    with Guest(gateway, "192.0.2.7") as alice:
        assert alice.guess("wonder land") == 235
    for client in ("192.0.2.66", "192.0.2.7"):
        guest = Guest(gateway, client)
        assert [guest.guess(password) for password in "abc"] == [535] * 3
        guest.close()  # without QUIT
    assert locked_out(gateway, "192.0.2.66")
    (refused, *_) = gateway.journal()
    assert refused.client == "192.0.2.66"
    assert re.fullmatch(r"421 4\.7\.0 .* try again in 3[56]\d\d seconds", refused.reply)
    assert greeting(gateway, "192.0.2.67") == 220, "a neighbour"
    assert greeting(gateway, "192.0.2.66", listener=0) == 220, "mail comes to another listener"
    with Guest(gateway, "192.0.2.7") as alice:  # a guesser shares her address
        assert alice.greeting == 220
        assert alice.guess("wonder land") == 235
    with smtplib.SMTP(*gateway.addresses[1], timeout=30) as proxy:
        assert proxy.noop()[0] == 250, "the proxy has failed at nothing"


def test_bad_commands_count_whoever_ends_the_session(gateway):
    guest = Guest(gateway, "192.0.2.68")
    assert [guest.docmd("X")[0] for _ in range(3)] == [500] * 3
    assert guest.quit()[0] == 221
    assert locked_out(gateway, "192.0.2.68")
