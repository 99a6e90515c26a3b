"""Filters add and remove recipients and change the sender: what upstream and quarantine then have."""

import pytest
from gatepost.config import Config
from gatepost.gateway.release import release
from gatepost.testing import FakeUpstream, make_transaction, running_gateway
from gatepost.testing.upstream import Then

FILTERS = """\
from gatepost import *

KINDS = {"add": AddRecipient, "remove": RemoveRecipient, "from": ChangeSender}


class Change:
    def __init__(self, edits: list[list[str]], early: bool = False):
        self.edits = tuple(KINDS[kind](address) for kind, address in edits)
        if early:
            self.filter_message = None
        else:
            self.filter_rcpt = None

    @hookimpl
    async def filter_message(self, transaction):
        return Verdict(reason="change", edits=self.edits)

    @hookimpl
    async def filter_rcpt(self, recipient):
        return Verdict(reason="change", edits=self.edits)


class Hit:
    @hookimpl
    async def filter_message(self, transaction):
        return Verdict(reason="hit")
"""
A, B, C, D = (f"{name}@example.com" for name in "abcd")
SENDER, OTHER = "s@example.org", "bounce+1@example.net"


def rules(*listed, port=25):
    relay = [
        {"recipients": "*@example.com", "to": f"smtp://127.0.0.1:{port}"},
        {"recipients": "*@inbox.example", "to": "inbox"},
    ]
    return {"relay": relay, "rules": list(listed), "limits": {"recipients": 4}}


def change(*edits, name="change", **rule):
    return {"name": name, "filter": "./f.py:Change", "with": {"edits": [list(one) for one in edits]}} | rule


def hit(action, recipient):
    return {"name": action, "filter": "./f.py:Hit", "action": action, "when": {"recipient": recipient}}


@pytest.fixture(scope="module")
def send():
    """Sends a message through a gateway with these rules.

    Returns the reply, the messages at upstream, and what the journal says of each recipient, the copies in
    quarantine, and the journal's record.
    """
    with (
        FakeUpstream() as upstream,
        running_gateway(rules(port=upstream.port), files={"f.py": FILTERS}) as gateway,
    ):

        def send(listed):
            gateway.reload(rules(*listed, port=upstream.port))
            before = len(upstream.messages), len(gateway.quarantine())
            reply = gateway.send(make_transaction(mail_from=SENDER, recipients=[A, B]))
            record = gateway.journal()[0]
            messages = [
                (one.mail_from, tuple(to.address for to in one.recipients))
                for one in upstream.messages[before[0] :]
            ]
            ends = {one.address: str(one.disposition) for one in record.recipients}
            kept = gateway.quarantine()
            held = [(one.mail_from, one.recipients) for one in kept[: len(kept) - before[1]]]
            return str(reply), messages, ends, held, record

        yield send


@pytest.mark.parametrize(
    ("listed", "expected", "ends"),
    [
        ([change(("add", C))], [(SENDER, (A, B, C))], {A: "relayed", B: "relayed", C: "relayed"}),
        ([change(("add", "B@EXAMPLE.com"))], [(SENDER, (A, B))], {A: "relayed", B: "relayed"}),
        ([change(("remove", '"a"@Example.com'))], [(SENDER, (B,))], {A: "discarded", B: "relayed"}),
        ([change(("remove", D))], [(SENDER, (A, B))], {A: "relayed", B: "relayed"}),
        (
            [change(("remove", A), ("remove", B), ("add", C))],
            [(SENDER, (C,))],
            {A: "discarded", B: "discarded", C: "relayed"},
        ),
        ([change(("remove", A), ("add", A))], [(SENDER, (A, B))], {A: "relayed", B: "relayed"}),
        ([change(("add", C), ("remove", C))], [(SENDER, (A, B))], {A: "relayed", B: "relayed"}),
        ([change(("remove", A), ("remove", B))], [], {A: "discarded", B: "discarded"}),
        ([change(("from", OTHER))], [(OTHER, (A, B))], {A: "relayed", B: "relayed"}),
        ([change(("from", ""))], [("", (A, B))], {A: "relayed", B: "relayed"}),
        (
            [change(("from", OTHER), ("add", C), when={"recipient": A})],
            [(OTHER, (A, C)), (SENDER, (B,))],
            {A: "relayed", B: "relayed", C: "relayed"},
        ),
        (
            [change(("add", C)), change(("add", D), ("remove", C), name="second")],
            [(SENDER, (A, B, D))],
            {A: "relayed", B: "relayed", D: "relayed"},
        ),
        (
            [change(("add", C)), hit("discard", A)],
            [(SENDER, (B, C))],
            {A: "discarded", B: "relayed", C: "relayed"},
        ),
        (
            [change(("add", C), when={"recipient": A}), hit("discard", A)],
            [(SENDER, (B,))],
            {A: "discarded", B: "relayed"},
        ),
        ([change(("add", C), mode="observe")], [(SENDER, (A, B))], {A: "relayed", B: "relayed"}),
    ],
)
def test_upstream_gets_the_changed_envelope_and_the_journal_shows_it(send, listed, expected, ends):
    reply, messages, found, _, record = send(listed)
    assert reply.startswith("250")
    assert sorted(messages) == sorted(expected)
    assert found == ends
    assert record.mail_from == SENDER, "as the client has sent it"
    assert next(one.reason for one in record.evaluations if one.rule == "change").startswith("change")


def test_the_journal_tells_what_changed_the_envelope(send):
    *_, record = send([change(("remove", A), ("add", C), ("from", OTHER))])
    assert record.evaluations[0].reason == (
        f"change; remove recipient <{A}>, add recipient <{C}>, change sender to <{OTHER}>"
    )
    assert {one.address: one.reason for one in record.recipients}[A].startswith("removed from the recipients")


@pytest.mark.parametrize(
    ("edit", "fault"),
    [
        (("add", "x@elsewhere.example"), "the recipient 'x@elsewhere.example' has no route"),
        (("add", "x@inbox.example"), "has another destination than the other recipients"),
        (("add", "no address"), "is not an address"),
        (("add", "<c@example.com>"), "is not an address"),
        (("add", "c@example.com> NOTIFY=NEVER"), "is not an address"),
        (("add", "x%elsewhere.example@example.com"), "has no route"),
        (("add", "ü@example.com"), "since the client did not ask for SMTPUTF8"),
        (("from", "ü@example.com"), "since the client did not ask for SMTPUTF8"),
        (("from", "x"), "is not an address"),
    ],
)
@pytest.mark.parametrize("on_error", ["defer", "skip", "quarantine"])
def test_a_change_that_cannot_be_carried_out_is_a_failure_of_its_rule(send, edit, fault, on_error):
    reply, messages, ends, kept, record = send([change(("add", C), edit, on_error=on_error)])
    (evaluation,) = record.evaluations
    assert (evaluation.result, fault in evaluation.reason) == ("error", True), evaluation.reason
    assert reply.startswith({"defer": "451 4.3.0", "skip": "250", "quarantine": "250"}[on_error])
    assert messages == ([(SENDER, (A, B))] if on_error == "skip" else [])
    assert kept == ([(SENDER, (A, B))] if on_error == "quarantine" else [])
    assert ends.keys() == {A, B}


def test_the_limit_of_recipients_holds_over_all_rules(send):
    listed = [change(("add", C)), change(("add", D), name="second")]
    assert send(listed)[1] == [(SENDER, (A, B, C, D))]
    reply, messages, *_, record = send([*listed, change(("add", "e@example.com"), name="third")])
    assert (reply[:3], messages) == ("451", [])
    assert record.evaluations[-1].reason == "5 recipients, expected at most 4"


def test_before_the_message_the_envelope_cannot_be_changed():
    early = change(("add", C))
    early["with"]["early"] = True
    with running_gateway(rules(early), files={"f.py": FILTERS}) as gateway:
        assert str(gateway.send(make_transaction(recipients=["x@inbox.example"]))).startswith("451 4.3.0")
        (record,) = gateway.journal()
    reason = record.evaluations[0].reason
    assert reason == "returned AddRecipient before the message, expected it of filter_message"


def test_a_recipient_that_upstream_does_not_want_defers_the_message():
    ok = "250 2.1.5 ok"
    with FakeUpstream({"rcpt": Then(ok, ok, ok, ok, "550 5.1.1 no")}) as upstream:
        settings = rules(change(("add", C)), port=upstream.port)
        with running_gateway(settings, files={"f.py": FILTERS}) as gateway:
            reply = gateway.send(make_transaction(mail_from=SENDER, recipients=[A, B]))
            assert (reply.code, upstream.messages) == (451, ())


def test_quarantine_has_the_changed_envelope_and_releases_to_it(send, tmp_path):
    listed = [change(("from", OTHER), ("remove", A), ("add", C)), hit("quarantine", "*@example.com")]
    with FakeUpstream() as upstream:
        settings = rules(*listed, port=upstream.port)
        with running_gateway(settings, files={"f.py": FILTERS}) as gateway:
            gateway.send(make_transaction(mail_from=SENDER, recipients=[A, B]))
            (kept,) = gateway.quarantine()
            (record,) = gateway.journal()
        assert (kept.mail_from, kept.recipients) == (OTHER, (B, C))
        ends = {one.address: str(one.disposition) for one in record.recipients}
        assert ends == {A: "discarded", B: "quarantined", C: "quarantined"}
        assert release(Config.model_validate({"relay": settings["relay"]}), tmp_path, kept, None).positive
        (message,) = upstream.messages
    assert (message.mail_from, [one.address for one in message.recipients]) == (OTHER, [B, C])
