"""``known``: who was written to is known, to those who wrote, for as long as it says."""

import asyncio
import time

import pytest
from gatepost import total_score
from gatepost.testing import make_record, make_state, make_transaction, run_all, run_filter, running_gateway
from gatepost_known import Known

DAY = 86400


@pytest.fixture
def clock():
    return [1_000_000.0]


@pytest.fixture
def state(clock):
    return make_state(clock=lambda: clock[0])


def sent(
    state, *, to=("joe@partner.example",), user="ann", mail_from="ann@example.com", disposition="relayed"
):
    message = make_transaction(mail_from=mail_from, recipients=list(to), authenticated=user)
    asyncio.run(Known(state=state).report_transaction(make_record(message, disposition=disposition)))


def received(author="joe@partner.example", to=("ann@example.com",), **options):
    return make_transaction(
        mail_from="bounces@partner.example", recipients=list(to), headers={"From": author}, **options
    )


@pytest.mark.parametrize(
    ("author", "to", "known"),
    [
        ("joe@partner.example", ["ann@example.com"], ["ann@example.com"]),
        ("Joe <JOE@Partner.example>", ["Ann@Example.com"], ["Ann@Example.com"]),
        ("joe@partner.example", ["bob@example.com"], []),
        ("joe@partner.example", ["bob@example.com", "ann@example.com"], ["ann@example.com"]),
        ("eve@partner.example", ["ann@example.com"], []),
        ("joe@partner.example, eve@partner.example", ["ann@example.com"], []),
        ("nobody", ["ann@example.com"], []),
    ],
)
def test_for_whom_an_author_is_known(state, author, to, known):
    sent(state)
    hits = run_all(Known, received(author, to), state=state)
    assert [hit.recipient for hit in hits] == known
    assert {hit.verdict.score for hit in hits} <= {-3.0}


@pytest.mark.parametrize(
    "options",
    [
        {"user": None},
        {"mail_from": ""},
        {"disposition": "refused"},
        {"disposition": "quarantined"},
        {"disposition": "discarded"},
        {"disposition": "deferred"},
        {"to": [f"r{n}@partner.example" for n in range(100)] + ["joe@partner.example"]},
    ],
)
def test_from_what_it_does_not_learn(state, options):
    sent(state, **options)
    assert not run_all(Known, received(), state=state)


def test_it_forgets(state, clock):
    sent(state)
    clock[0] += 179 * DAY
    assert run_all(Known, received(), state=state)
    sent(state)
    clock[0] += 179 * DAY
    assert run_all(Known, received(), state=state)
    clock[0] += 2 * DAY
    assert not run_all(Known, received(), state=state)


def test_our_own_users_are_not_looked_up(state):
    sent(state)
    assert not run_all(Known, received(authenticated="joe"), state=state)


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_a_score_that_is_against_the_mail_is_refused(score):
    with pytest.raises(ValueError, match="expected less than 0"):
        run_filter(Known, received(), score=score)


def until_known(gateway, offer):
    give_up = time.monotonic() + 30
    while gateway.send(offer).code != 250:
        assert time.monotonic() < give_up


def test_in_a_gateway_it_outlives_a_reload():
    known = {"name": "known", "filter": "known", "with": {"score": -2.5}}
    words = {"name": "words", "filter": "keywords", "with": {"words": ["offer"]}, "score": 4}
    spam = {"name": "spam", "filter": "match", "when": {"score": ">=3"}, "action": "reject"}
    rules = {"rules": [known, words, spam]}
    with running_gateway(rules) as gateway:
        offer = received(subject="An offer")
        assert gateway.send(offer).code == 550
        letter = make_transaction(
            mail_from="ann@example.com", recipients=["joe@partner.example"], authenticated="ann"
        )
        assert gateway.send(letter).code == 250
        gateway.reload(
            {
                "rules": [
                    *rules["rules"],
                    {"name": "more", "filter": "match", "action": "tag", "tag": {"subject": "x"}},
                ]
            }
        )
        until_known(gateway, offer)
        accepted, *_, refused = gateway.journal()
        assert total_score(accepted.evaluations, "ann@example.com") == 1.5
        assert total_score(refused.evaluations, "ann@example.com") == 4
