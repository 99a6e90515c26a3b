"""The API has rules learn whether a message is spam, as the buttons of the desk do."""

from pathlib import Path

import pytest
from gatepost.config import ConfigError
from gatepost.config import Problem as Mistake
from gatepost.model.learnt import Learnt
from gatepost.store import Box, State

API = "/api/v1"
GOOD = Learnt(rule="rspamd", succeeded=True, text="")
AGAIN = Learnt(rule="s", succeeded=True, text="already \ud800 learned")
FAILED = Learnt(rule="s", succeeded=False, text="no answer within 10 s")


@pytest.mark.parametrize("kind", ["spam", "ham"])
@pytest.mark.parametrize("box", [Box.QUARANTINE, Box.INBOX])
async def test_each_rule_learns_the_message_and_it_stays_where_it_is(http, keep, desk, learning, kind, box):
    kept_id = await keep(box=box)
    calls = learning(GOOD, AGAIN)
    answer = await http.post(f"{API}/messages/{kept_id}/learn", json={"kind": kind})
    assert (answer.status_code, answer.json()) == (
        200,
        {
            "kind": kind,
            "rules": [
                {"rule": "rspamd", "succeeded": True, "text": ""},
                {"rule": "s", "succeeded": True, "text": "already ? learned"},
            ],
        },
    )
    kept = desk.archive.kept_message(kept_id)
    assert calls == [(kept_id, kept.content, kind, "web desk (127.0.0.1)")]
    assert kept.state is State.HELD


async def test_a_rule_that_fails_is_a_problem_with_what_each_of_them_said(http, keep, learning):
    kept_id = await keep()
    learning(GOOD, FAILED)
    answer = await http.post(f"{API}/messages/{kept_id}/learn", json={"kind": "spam"})
    assert (answer.status_code, answer.json()) == (
        502,
        {
            "type": "/api/#problem-not-learned",
            "title": "Not every rule has learned the message",
            "status": 502,
            "detail": "s: no answer within 10 s",
            "rules": [
                {"rule": "rspamd", "succeeded": True, "text": ""},
                {"rule": "s", "succeeded": False, "text": "no answer within 10 s"},
            ],
        },
    )
    learning(ConfigError([Mistake(path=Path("rules.yaml"), what="a mistake")]))
    answer = await http.post(f"{API}/messages/{kept_id}/learn", json={"kind": "spam"})
    assert (answer.status_code, answer.json()["rules"]) == (502, [])
    assert "The settings are wrong: rules.yaml" in answer.json()["detail"]


async def test_what_cannot_be_learned_is_a_problem_and_nothing_is_learned(http, keep, desk, learning):
    kept_id = await keep()

    async def ask(of=kept_id, **body):
        answer = await http.post(f"{API}/messages/{of}/learn", json=body)
        return answer.status_code, answer.json()["type"].rpartition("-problem-")[2].partition("#problem-")[2]

    assert await ask(kind="spam") == (409, "no-learning")
    calls = learning()
    assert await ask(kind="spam") == (409, "no-learning"), "rules that are gone since"
    calls = learning(GOOD)
    for body in ({}, {"kind": "eggs"}, {"kind": None}, {"kind": "spam", "more": 1}):
        assert await ask(**body) == (400, "wrong-request")
    assert await ask(of="0000000000000000", kind="spam") == (404, "not-found")
    await desk.call(desk.mailbox.delete, [kept_id], actor="test")
    assert await ask(kind="spam") == (404, "not-found")
    assert calls == []
