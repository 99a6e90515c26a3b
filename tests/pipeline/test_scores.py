# ruff: noqa: E501 - the settings of a case are one line
"""Scores, and conditions on what earlier rules have found: for each recipient, at the rule's place."""

import asyncio
from dataclasses import dataclass

import pytest
from gatepost import Evaluation, PerRecipient, Verdict, hookimpl, total_score
from gatepost.config import ConfigError, load
from gatepost.explain import explain
from gatepost.model.verdict import Action
from gatepost.pipeline import Pipeline, Threads, rehearse
from gatepost.pipeline.hooks import hooks_of
from gatepost.pipeline.rule import Rule
from gatepost.testing import make_transaction
from gatepost_match import Match

FILTERS = '''
from gatepost import Action, AddHeader, PerRecipient, Verdict, hookimpl

class Early:
    """Hits for a client, an EHLO, a sender and a recipient; each with a score of its own."""
    def __init__(self, at: str, score: float = 0.0, only: str = "", action: str = "") -> None:
        self.at, self.score, self.only = at, score, only
        self.action = Action(action) if action else None

    def hit(self, stage, text=""):
        if self.at == stage and self.only in ("", text):
            return Verdict(reason=f"at {stage}", score=self.score, action=self.action)

    @hookimpl
    async def filter_connect(self): return self.hit("connect")

    @hookimpl
    async def filter_helo(self): return self.hit("helo")

    @hookimpl
    async def filter_mail(self): return self.hit("mail")

    @hookimpl
    async def filter_rcpt(self, recipient): return self.hit("rcpt", recipient.local_part)

    @hookimpl
    async def filter_message(self): return self.hit("message")

class Each:
    """An own score for each recipient."""
    def __init__(self, scores: dict[str, float]) -> None:
        self.scores = scores

    @hookimpl
    async def filter_message(self, recipients):
        found = {one.address: self.scores.get(one.local_part) for one in recipients}
        return PerRecipient(verdicts={
            address: Verdict(reason=f"counts {score:g}", score=score)
            for address, score in found.items() if score
        })

class Says:
    """Results of authentication."""
    def __init__(self, auth: list[str]) -> None:
        self.auth = tuple(auth)

    @hookimpl
    async def filter_message(self): return Verdict(reason="said", edits=(AddHeader("X", "y"),), auth=self.auth)

class Fails:
    @hookimpl
    async def filter_message(self): raise OSError("gone")

class Strange:
    """Answers that are mistakes of their author."""
    def __init__(self, kind: str) -> None:
        self.kind = kind

    @hookimpl
    async def filter_rcpt(self, recipient):
        return PerRecipient(verdicts={recipient.address: None}) if self.kind == "early" else None

    @hookimpl
    async def filter_message(self):
        if self.kind == "stranger":
            return PerRecipient(verdicts={"somebody@example.net": Verdict(reason="x")})
        if self.kind == "nested":
            return PerRecipient(verdicts={"a@example.com": PerRecipient(verdicts={})})
        if self.kind == "text":
            return PerRecipient(verdicts={"a@example.com": "spam"})
'''
END = """
  - name: end
    filter: match
    when: {%s}
    action: reject
"""


def decided(tmp_path, rules, recipients=("a@example.com", "b@example.com"), end=""):
    """What the rules decide: the explanation, and the action for each recipient."""
    (tmp_path / "filters.py").write_text(FILTERS)
    text = (
        "hostname: mx.example.com\nrelay: [{recipients: '*', to: inbox}]\nrules:"
        + rules
        + (END % end if end else "")
    )
    (tmp_path / "rules.yaml").write_text(text.replace("FILTER", "./filters.py"))
    explanation = explain(load(tmp_path / "rules.yaml"), make_transaction(recipients=list(recipients)))
    return explanation, [f"{one.outcome.action}" for one in explanation.recipients]


def early(name, at, score, **options):
    more = "".join(f", {key}: {value}" for key, value in options.items() if key != "rule")
    return f"\n  - {{name: {name}, filter: 'FILTER:Early', with: {{at: {at}, score: {score}{more}}}{options.get('rule', '')}}}"


def says(results):
    return f"\n  - {{name: s, filter: 'FILTER:Says', with: {{auth: [{results}]}}}}"


@pytest.mark.parametrize(
    ("rules", "end", "actions"),
    [
        # each stage counts, and the sum is that of all of them
        (early("c", "connect", 1) + early("m", "message", 2), "score: '>=3'", ["reject", "reject"]),
        (early("c", "connect", 1) + early("m", "message", 2), "score: '>3'", ["accept", "accept"]),
        (early("h", "helo", 1.5) + early("s", "mail", 1.5), "score: '>=3'", ["reject", "reject"]),
        (early("w", "message", 7) + early("f", "connect", -4), "score: '>=4'", ["accept", "accept"]),
        (early("w", "message", 7) + early("f", "connect", -4), "score: '<4'", ["reject", "reject"]),
        # tenths add up to what a person expects
        ("".join(early(f"n{n}", "message", 0.1) for n in range(3)), "score: '<=0.3'", ["reject", "reject"]),
        ("".join(early(f"n{n}", "message", 0.1) for n in range(3)), "score: '>=0.3'", ["reject", "reject"]),
        # the rule's score goes before the filter's, also zero; and it decides nothing by itself
        (early("m", "message", 1, rule=", score: 5"), "score: '>=5'", ["reject", "reject"]),
        (early("m", "message", 9, rule=", score: 0"), "score: '>0'", ["accept", "accept"]),
        (early("m", "message", 0, action="reject", rule=", score: 2"), "score: '>=3'", ["accept", "accept"]),
        (early("m", "rcpt", 0, action="reject", rule=", score: 2"), "score: '>=2'", ["reject", "reject"]),
        # for the recipients that it is about
        (early("r", "rcpt", 4, only="a"), "score: '>=4'", ["reject", "accept"]),
        (early("m", "message", 4, rule=", when: {recipient: 'b@*'}"), "score: '>=4'", ["accept", "reject"]),
        ("\n  - {name: e, filter: 'FILTER:Each', with: {scores: {a: 3, b: 1}}}", "score: '>=3'", ["reject", "accept"]),
        ("\n  - {name: e, filter: 'FILTER:Each', with: {scores: {b: 3}}}", "score: '>=3'", ["accept", "reject"]),
        ("\n  - {name: e, filter: 'FILTER:Each', with: {scores: {a: 1, b: 2}}, score: 3}", "score: '>=3'", ["reject", "reject"]),
        # a rule that only observes counts for nothing, and so does one that failed
        (early("m", "message", 4, rule=", mode: observe"), "score: '>0'", ["accept", "accept"]),
        ("\n  - {name: f, filter: 'FILTER:Fails', score: 4, on_error: skip}", "score: '>0'", ["accept", "accept"]),
        ("\n  - {name: f, filter: 'FILTER:Fails', on_error: skip}", "hit: f", ["accept", "accept"]),
        # hits by name, any of them; not those that only observe
        (early("m", "message", 1), "hit: m", ["reject", "reject"]),
        (early("m", "message", 1) + early("n", "never", 1), "hit: [n, m]", ["reject", "reject"]),
        (early("m", "message", 1) + early("n", "never", 1), "hit: n", ["accept", "accept"]),
        (early("m", "message", 1) + early("n", "never", 1), "not: {hit: n}", ["reject", "reject"]),
        (early("m", "message", 1) + early("n", "never", 1), "all: [{hit: n}, {hit: m}]", ["accept", "accept"]),
        (early("r", "rcpt", 0, action="tag", only="b"), "hit: r", ["accept", "reject"]),
        (early("m", "message", 1, rule=", mode: observe"), "hit: m", ["accept", "accept"]),
        # authentication
        ("\n  - {name: s, filter: 'FILTER:Says', with: {auth: [spf=fail, dmarc=fail, dmarc=reject]}}", "auth: {spf: [softfail, fail], dmarc: reject}", ["reject", "reject"]),
        ("\n  - {name: s, filter: 'FILTER:Says', with: {auth: [spf=pass, dmarc=fail]}}", "auth: {spf: fail, dmarc: fail}", ["accept", "accept"]),
        (early("m", "message", 1), "auth: {spf: fail}", ["accept", "accept"]),
        # who has signed: the domain or a subdomain, in any spelling
        (says("signed_by=a.lists.example"), "auth: {signed_by: [x.example, Lists.Example]}", ["reject", "reject"]),
        (says("signed_by=xn--bcher-kva.example"), "auth: {signed_by: Bücher.example.}", ["reject", "reject"]),
        (says("signed_by=evil-lists.example"), "auth: {signed_by: lists.example}", ["accept", "accept"]),
        (says("signed_by=example"), "auth: {signed_by: lists.example}", ["accept", "accept"]),
        (says("dkim=pass"), "auth: {signed_by: lists.example}", ["accept", "accept"]),
        (says("spf=fail, signed_by=lists.example"), "auth: {spf: pass, signed_by: lists.example}", ["accept", "accept"]),
        # with other conditions
        (early("m", "message", 6), "score: '>=6', recipient: 'b@*'", ["accept", "reject"]),
        (early("m", "message", 6), "any: [{score: '>9'}, {hit: m}]", ["reject", "reject"]),
    ],
)  # fmt: skip
def test_what_earlier_rules_have_found_decides_for_each_recipient(tmp_path, rules, end, actions):
    assert decided(tmp_path, rules, end=end)[1] == actions


def test_the_sum_is_that_of_the_rules_before_the_place(tmp_path):
    rules = early("one", "message", 2) + END % "score: '>=3'" + early("late", "connect", 2)[1:]
    assert decided(tmp_path, rules)[1] == ["accept", "accept"]


@pytest.mark.parametrize(
    ("rules", "total"),
    [
        (early("r", "rcpt", -4, only="a") + early("m", "message", 7), 3),
        (early("m", "message", 3, rule=", when: {recipient: '*'}"), 3),
        ("\n  - {name: w, filter: match, when: {recipient: 'a@*'}, score: -4}" + early("m", "message", 7), 3),
    ],
)
def test_a_recipient_that_is_named_again_counts_once(tmp_path, rules, total):
    explanation, actions = decided(tmp_path, rules, ["a@example.com"] * 3, "score: '>=3'")
    assert actions == ["reject"] * 3
    assert total_score(explanation.evaluations, "a@example.com") == total


def test_explain_and_record_show_the_sum_and_what_made_it(tmp_path):
    rules = (
        early("c", "connect", 1.5)
        + early("r", "rcpt", 2, only="a")
        + early("o", "message", 9, rule=", mode: observe")
    )
    explanation, _ = decided(tmp_path, rules)
    scores = [(one.rule, one.score, str(one.action or "")) for one in explanation.evaluations if one.score]
    assert scores == [("c", 1.5, "score"), ("r", 2.0, "score"), ("o", 9.0, "score")]
    assert total_score(explanation.evaluations, "a@example.com") == 3.5
    assert total_score(explanation.evaluations, "b@example.com") == 1.5


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("early", "returned PerRecipient at rcpt, expected it at message"),
        ("stranger", "returned PerRecipient with 'somebody@example.net', which is not a recipient"),
        ("nested", "TypeError: returned PerRecipient in PerRecipient, expected Verdict or None"),
        ("text", "TypeError: returned str, expected Verdict or None"),
    ],
)
def test_a_wrong_answer_for_recipients_is_a_failure_of_the_filter(tmp_path, kind, reason):
    explanation, actions = decided(
        tmp_path, f"\n  - {{name: s, filter: 'FILTER:Strange', with: {{kind: {kind}}}}}"
    )
    assert {one.reason for one in explanation.evaluations if one.result == "error"} == {reason}
    assert actions == ["defer", "defer"]


@dataclass
class Sees:
    """Reports what it is offered."""

    seen: list

    @hookimpl
    async def filter_connect(self, earlier: tuple[Evaluation, ...]) -> None:
        self.seen.append(("connect", tuple(one.rule for one in earlier)))

    @hookimpl
    async def filter_rcpt(self, recipient, earlier) -> None:
        self.seen.append((recipient.local_part, tuple(one.rule for one in earlier)))

    @hookimpl
    async def filter_message(self, recipients, earlier) -> Verdict | PerRecipient | None:
        self.seen.append((tuple(one.local_part for one in recipients), tuple(one.rule for one in earlier)))
        return PerRecipient(verdicts={recipients[0].address: Verdict(reason="x", action=Action.DISCARD)})


def test_a_filter_sees_the_evaluations_before_it_and_the_recipients_that_are_left():
    seen: list = []
    always = hooks_of(Match()).stages
    sees = hooks_of(Sees(seen=seen)).stages
    rules = [
        Rule(name="first", hooks=always, action=Action.SCORE, score=1),
        Rule(name="sees", hooks=sees),
        Rule(name="last", hooks=sees, observe=True),
    ]
    pipeline = Pipeline(rules, filter_seconds=10, threads=Threads())

    async def play():
        return [
            step
            async for step in rehearse(pipeline, make_transaction(recipients=["a@x.example", "b@x.example"]))
        ]

    *_, last = asyncio.run(play())
    connect = ("first", "sees", "last")
    a = (*connect, "sees", "last")
    ab = (*a, "sees", "last")
    assert seen == [
        ("connect", ("first",)),
        ("connect", ("first", "sees")),
        ("a", connect),
        ("a", (*connect, "sees")),
        ("b", a),
        ("b", (*a, "sees")),
        (("a", "b"), ab),
        (("b",), (*ab, "sees", "sees")),
    ]
    assert [str(outcome.action) for _, outcome in last.decided] == ["discard", "accept"]


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("{score: 6}", "expected a comparison like '>=6' or '<0.5'"),
        ("{score: '6'}", "expected a comparison"),
        ("{score: '>=six'}", "expected a comparison"),
        ("{score: '>=nan'}", "expected a comparison"),
        ("{score: '>inf'}", "expected a comparison"),
        ("{hit: 5}", "expected the name of a rule"),
        (
            "{hit: nobody}",
            "hit asks for the rule 'nobody', which does not come before this one, expected the name",
        ),
        (
            "{not: {any: [{hit: [m, end]}]}}",
            "hit asks for the rule 'end', which does not come before this one",
        ),
        ("{auth: {spf: bad}}", "expected one of pass, fail, softfail, neutral, none, temperror, permerror"),
        ("{auth: {spfx: pass}}", "unknown key 'spfx' (did you mean 'spf'?)"),
        ("{auth: {signed_bye: a.example}}", "unknown key 'signed_bye' (did you mean 'signed_by'?)"),
        ("{auth: {signed_by: '*.example'}}", "'*.example', expected a domain like lists.example.org"),
        ("{auth: {signed_by: [a.example, ann@b.example]}}", "'ann@b.example', expected a domain like"),
        ("{auth: {signed_by: 7}}", "expected a domain like lists.example.org"),
        ("{auth: fail}", "expected a mapping of methods"),
        ("{auth: {}}", "expected a mapping of methods"),
    ],
)
def test_a_condition_that_cannot_hold_is_refused_with_its_place(tmp_path, when, expected):
    with pytest.raises(ConfigError) as raised:
        decided(tmp_path, early("m", "message", 1), end=when[1:-1])
    assert expected in str(raised.value)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("score: 1, action: reject", "score with action: reject, after which no rule would look at it"),
        ("score: 1, action: accept", "score with action: accept"),
        ("score: '1'", "expected"),
        ("score: 1001", "expected"),
        ("score: .nan", "expected"),
    ],
)
def test_a_score_that_is_no_score_is_refused(tmp_path, options, expected):
    with pytest.raises(ConfigError) as raised:
        decided(tmp_path, f"\n  - {{name: m, filter: match, {options}}}")
    assert expected in str(raised.value)
