"""A hit of a filter without a reason of its own says why its rule was asked: list, sum, earlier rules."""

from dataclasses import dataclass
from ipaddress import ip_address

import pytest
from gatepost.config import load
from gatepost.model.verdict import Action
from gatepost.testing import make_transaction, running_gateway

LISTS = "lists: {friends: friends.txt, ours: ours.txt, nets: nets.txt}\n"


@dataclass
class Found:
    score: float = 0.0
    hits: tuple[str, ...] = ()
    auth: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("when", "why"),
    [
        ("{sender: $friends}", "sender in $friends"),
        ("{sender: [$friends, '*@else.example']}", "sender in $friends"),
        ("{sender: ['*@partner.example', $ours]}", ""),
        ("{sender: [$ours, $friends]}", "sender in $friends"),
        ("{recipient: $ours}", "recipient in $ours"),
        ("{client: [$nets, 10.0.0.0/8]}", "client in $nets"),
        ("{sender: $friends, auth: {dmarc: [pass, none]}}", "sender in $friends, dmarc=pass"),
        ("{score: '>=4'}", "score 4.5"),
        ("{score: '>=4', hit: [c, b, a]}", "score 4.5, hit b, hit a"),
        ("{any: [{sender: $ours}, {recipient: $ours}, {score: '<1'}]}", "recipient in $ours"),
        ("{all: [{score: '>1'}, {score: '<9'}]}", "score 4.5"),
        ("{not: {sender: $ours}}", ""),
        ("{sender: '*@partner.example', tls: false}", ""),
    ],
)
def test_what_a_condition_says(tmp_path, when, why):
    (tmp_path / "friends.txt").write_text("joe@partner.example # a friend\n")
    (tmp_path / "ours.txt").write_text("*@example.com\n")
    (tmp_path / "nets.txt").write_text("192.0.2.0/24\n")
    rules = "".join(f"  - {{name: {name}, filter: match, score: 1}}\n" for name in "abc")
    text = f"{LISTS}rules:\n{rules}  - {{name: it, filter: match, when: {when}}}\n"
    (tmp_path / "rules.yaml").write_text(text)
    condition = load(tmp_path / "rules.yaml").config.rules[-1].when
    mail = make_transaction(mail_from="joe@partner.example", recipients=["ann@example.com"])
    assert mail.session.client == ip_address("192.0.2.1")
    found = Found(score=4.5, hits=("a", "b"), auth=("spf=fail", "dmarc=pass"))
    facts = (mail.session, mail.envelope, mail.envelope.recipients[0], mail.message, found)
    assert condition.holds(*facts)
    assert condition.why(*facts) == why


def test_each_recipient_has_its_own_sum_in_journal_and_reply():
    rules = {
        "rules": [
            {"name": "all", "filter": "match", "score": 4},
            {"name": "bob", "filter": "match", "when": {"recipient": "bob@example.com"}, "score": 1.25},
            {
                "name": "sum",
                "filter": "match",
                "when": {"score": ">=4"},
                "action": "reject",
                "reply": "550 5.7.1 No: {reason}",
            },
        ]
    }
    mail = make_transaction(
        mail_from="joe@partner.example", recipients=["bob@example.com", "ann@example.com"]
    )
    with running_gateway(rules) as gateway:
        gateway.send(mail)
        (record,) = gateway.journal()
    sums = [one for one in record.evaluations if one.rule == "sum"]
    assert [(one.recipients, one.reason, one.action) for one in sums] == [
        (("bob@example.com",), "score 5.25", Action.REJECT),
        (("ann@example.com",), "score 4", Action.REJECT),
    ]
    assert [one.reason for one in record.recipients] == ["score 5.25", "score 4"]
    assert record.reply == "550 5.7.1 No: score 5.25"
    assert [one.reason for one in record.evaluations if one.rule == "all"] == ["the rule has no when"]


def test_an_early_refusal_has_it_too_and_a_reason_of_the_settings_stays():
    rules = {
        "rules": [
            {
                "name": "own",
                "filter": "match",
                "with": {"reason": "ours"},
                "action": "tag",
                "tag": {"subject": "x"},
            },
            {"name": "early", "filter": "match", "when": {"sender": "*@partner.example"}},
        ]
    }
    with running_gateway(rules) as gateway:
        assert gateway.send(make_transaction(mail_from="joe@partner.example")).code == 550
        (record,) = gateway.journal()
    reasons = {one.rule: one.reason for one in record.evaluations}
    assert reasons == {"own": "ours", "early": "the rule's when holds"}
