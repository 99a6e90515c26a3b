"""Buttons of a message: the rules that learn are told that it is spam, or not."""

import json
import re
from pathlib import Path

import pytest
from gatepost.config import ConfigError, Problem
from gatepost.model.learnt import Learnt
from gatepost.store import Box
from gatepost.web.learning import Learning

HX = {"hx-request": "true"}


@pytest.fixture
def learning(desk):
    """Let these rules learn; gives the calls."""

    def by(*answers):
        calls = []

        def learn(kept, kind, actor):
            calls.append((kept.id, kind, actor))
            if isinstance(answers[0], Exception):
                raise answers[0]
            return answers

        names = [one.rule for one in answers if isinstance(one, Learnt)] or ["r"]
        desk.learning = Learning(rules=lambda: names, learn=learn)
        return calls

    return by


def words(html):
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


async def test_there_are_buttons_where_a_rule_learns(http, keep, learning):
    kept_id = await keep("Hello", box=Box.QUARANTINE)
    page = (await http.get(f"/messages/{kept_id}", headers=HX)).text
    assert "/learn" not in page
    learning(Learnt(rule="rspamd", succeeded=True, text=""), Learnt(rule="s<b>", succeeded=True, text=""))
    page = (await http.get(f"/messages/{kept_id}", headers=HX)).text
    assert re.findall(r'name="kind" value="(\w+)"', page) == ["spam", "ham"]
    assert 'title="rspamd, s&lt;b&gt; learns that this is spam"' in page


@pytest.mark.parametrize("kind", ["spam", "ham"])
async def test_a_click_has_the_rules_learn_it_and_the_page_shows_what_came_of_it(http, keep, learning, kind):
    kept_id = await keep("Hello", box=Box.QUARANTINE)
    calls = learning(
        Learnt(rule="rspamd", succeeded=True, text=""),
        Learnt(rule="s", succeeded=True, text="already learned"),
    )
    answer = await http.post(f"/messages/{kept_id}/learn?tab=source", data={"kind": kind}, headers=HX)
    assert calls == [(kept_id, kind, "web desk (127.0.0.1)")]
    notice = json.loads(answer.headers["hx-trigger"])["desk:notice"]["text"]
    assert notice == {"spam": "Learned as spam.", "ham": "Learned as no spam."}[kind]
    assert "learned by rspamd learned by s: already learned" in words(answer.text)
    assert re.search(r'id="tab-source"[^>]* aria-current="true"', answer.text), "the tab stays"


async def test_a_failure_is_shown_and_without_scripts_the_whole_page_is_the_answer(http, keep, learning):
    kept_id = await keep("Hello", box=Box.INBOX)
    learning(Learnt(rule="r", succeeded=False, text="no <answer>"))
    answer = await http.post(f"/messages/{kept_id}/learn", data={"kind": "spam"})
    assert answer.text.startswith("<!doctype html>")
    assert "hx-trigger" not in answer.headers
    assert "not learned by r: no &lt;answer&gt;" in words(answer.text)
    learning(ConfigError([Problem(path=Path("rules.yaml"), what="a mistake")]))
    answer = await http.post(f"/messages/{kept_id}/learn", data={"kind": "spam"}, headers=HX)
    assert "Nothing was learned: the settings are wrong" in words(answer.text)


async def test_what_cannot_be_learned_is_not_found(http, keep, desk, learning):
    kept_id = await keep("Hello", box=Box.QUARANTINE)
    assert (await http.post(f"/messages/{kept_id}/learn", data={"kind": "spam"})).status_code == 404
    calls = learning(Learnt(rule="r", succeeded=True, text=""))
    for form in ({}, {"kind": "eggs"}, {"kind": ""}):
        assert (await http.post(f"/messages/{kept_id}/learn", data=form)).status_code == 404
    assert (await http.post("/messages/0000000000000000/learn", data={"kind": "spam"})).status_code == 404
    await desk.call(desk.mailbox.delete, [kept_id], actor="test")
    assert (await http.post(f"/messages/{kept_id}/learn", data={"kind": "spam"})).status_code == 404
    assert calls == []
