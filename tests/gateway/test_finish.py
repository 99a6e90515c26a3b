# ruff: noqa: E501 - the cases are one line each
"""Fields that filters put before a finished message: wherever it goes, and whatever the filter does wrong."""

import hashlib
import time

import pytest
from gatepost.config import ConfigError
from gatepost.testing import FakeUpstream, make_transaction, running_gateway

FILTERS = '''
import asyncio, hashlib, time
from gatepost import hookimpl

class Digest:
    """The hash of the message, as a field."""
    def __init__(self, name: str = "X-Digest") -> None:
        self.name = name.encode()

    @hookimpl
    async def finish_message(self, content):
        return self.name + b": " + hashlib.sha256(content).hexdigest().encode() + b"\\r\\n"

class Slow:
    @hookimpl
    def finish_message(self, transaction):
        time.sleep(5)

class Waits:
    @hookimpl
    async def filter_message(self):
        await asyncio.sleep(5)

class Answers:
    def __init__(self, answer: str, raises: bool = False) -> None:
        self.answer, self.raises = answer.encode("latin-1"), raises

    @hookimpl
    async def finish_message(self):
        if self.raises:
            raise OSError("the key is gone")
        return self.answer or None

class Text:
    @hookimpl
    async def finish_message(self):
        return "X-A: b\\r\\n"
'''
LETTER = make_transaction(recipients=["a@example.com", "b@example.com"], subject="Hello", text="Text")


def rule(name, kind="Digest", **options):
    return {"name": name, "filter": f"./filters.py:{kind}", **options}


def gateway(*rules, upstream=None, **settings):
    return running_gateway(
        {"rules": list(rules), **settings}, upstream=upstream, files={"filters.py": FILTERS}
    )


def digest_holds(content, name=b"X-Digest"):
    """True if the field is the hash of all that comes after it."""
    head, _, rest = content.partition(name + b": ")
    value, _, signed = rest.partition(b"\r\n")
    assert head.startswith(b"Received:") or name != b"X-Digest", head
    return value == hashlib.sha256(signed).hexdigest().encode()


def test_the_field_is_over_the_message_with_all_edits():
    tag = {"name": "tag", "filter": "match", "action": "tag", "tag": {"subject": "[x] ", "add": {"X-A": "b"}}}
    with FakeUpstream() as upstream, gateway(rule("digest"), tag, upstream=upstream) as running:
        assert running.send(LETTER).code == 250
        (received,) = upstream.messages
        assert b"Subject: [x] Hello" in received.content
        assert digest_holds(received.content)
        (record,) = running.journal()
        last = record.evaluations[-1]
        assert (last.rule, last.result, last.reason) == ("digest", "hit", "puts X-Digest before the message")


def test_a_later_rule_finishes_what_an_earlier_one_has_finished():
    second = rule("second", **{"with": {"name": "X-Second"}})
    with FakeUpstream() as upstream, gateway(rule("first"), second, upstream=upstream) as running:
        assert running.send(LETTER).code == 250
        (received,) = upstream.messages
        before, _, rest = received.content.partition(b"X-Second: ")
        assert before.startswith(b"Received:")
        assert b"X-Digest" not in before
        assert digest_holds(b"X-Second: " + rest, b"X-Second")


def test_each_form_of_the_message_gets_its_own():
    tag = {"name": "tag", "filter": "match", "when": {"recipient": "b@*"}, "action": "tag"}
    tag["tag"] = {"add": {"X-For": "b"}}
    with FakeUpstream() as upstream, gateway(rule("digest"), tag, upstream=upstream) as running:
        assert running.send(LETTER).code == 250
        contents = [one.content for one in upstream.messages]
        assert [b"X-For: b" in content for content in contents] == [False, True]
        assert all(map(digest_holds, contents))
        assert sum(one.rule == "digest" for one in running.journal()[0].evaluations) == 2


def test_the_inbox_and_quarantine_keep_it_and_a_release_sends_it():
    quarantine = {"name": "q", "filter": "match", "when": {"recipient": "b@*"}, "action": "quarantine"}
    with gateway(rule("digest"), quarantine) as running:
        assert running.send(LETTER).code == 250
        assert digest_holds(running.inbox()[0].delivered_form)
        (kept,) = running.quarantine()
        assert digest_holds(kept.delivered_form)


@pytest.mark.parametrize(
    ("kind", "options", "reason"),
    [
        ("Answers", {"with": {"answer": "", "raises": True}}, "OSError: the key is gone"),
        ("Slow", {"timeout": "100ms"}, "no answer within 0.1 s"),
        ("Text", {}, "TypeError: returned str, expected bytes or None"),
        *[
            ("Answers", {"with": {"answer": answer}}, "expected header fields, each line with CRLF")
            for answer in (
                "X-A: b", "X-A: b\n", "X-A: b\r\n\r\n", "\r\n", "X-A: b\r\n\r\nbody\r\n", "X-A\r\n", " X-A: b\r\n",
                "X A: b\r\n", "X-A: b\rc\r\n", "X-A: \0\r\n", ": b\r\n", "X-A: b\r\nc\r\n", "Ä: b\r\n",
                "X-A: b\n\r\n", "X-A : b\r\n",
            )
        ],
        ("Answers", {"with": {"answer": "X-A: " + "b" * 70_000 + "\r\n"}}, "expected at most 65,536"),
    ],
)  # fmt: skip
def test_a_failure_defers_unless_the_rule_says_otherwise(kind, options, reason):
    began = time.monotonic()
    for on_error, code, place in (("defer", 451, ""), ("skip", 250, "upstream"), ("quarantine", 250, "kept")):
        with (
            FakeUpstream() as upstream,
            gateway(rule("bad", kind, on_error=on_error, **options), upstream=upstream) as running,
        ):
            assert running.send(LETTER).code == code
            assert len(upstream.messages) == (place == "upstream")
            assert len(running.quarantine()) == (place == "kept")
            (record,) = running.journal()
            assert reason in record.evaluations[-1].reason
            if place != "upstream":
                assert {one.rule for one in record.recipients} == {"bad"}
                assert [one.address for one in record.recipients] == ["a@example.com", "b@example.com"]
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("late", ["decide", "finish"])
def test_all_forms_have_the_time_that_the_other_rules_leave(late):
    waiting = rule("waiting", "Waits", on_error="skip", when={"sender": "*"})
    tags = [
        {
            "name": f"tag-{one}",
            "filter": "match",
            "when": {"recipient": f"{one}@*"},
            "tag": {"add": {"X-For": one}},
        }
        | {"action": "tag"}
        for one in "ab"
    ]
    rules = [*tags, rule("slow", "Slow", on_error="skip"), *([waiting] if late == "decide" else [])]
    with (
        FakeUpstream() as upstream,
        gateway(*rules, upstream=upstream, limits={"filter_time": "2s"}) as running,
    ):
        assert running.send(LETTER).code == 250
        assert len(upstream.messages) == 2
        reasons = [one.reason for one in running.journal()[0].evaluations if one.rule == "slow"]
    first, second = [float(reason.removeprefix("no answer within ").removesuffix(" s")) for reason in reasons]
    assert second == 0.001
    assert first == 0.001 if late == "decide" else 0.001 < first <= 2


def test_folded_fields_and_no_fields_are_answers():
    fields = "X-A: b\r\n c\r\nX-B:\r\n\td\r\n"
    folded = rule("folded", "Answers", **{"with": {"answer": fields}})
    nothing = rule("nothing", "Answers", **{"with": {"answer": ""}})
    observed = rule("observed", mode="observe")
    with FakeUpstream() as upstream, gateway(folded, nothing, observed, upstream=upstream) as running:
        assert running.send(LETTER).code == 250
        (received,) = upstream.messages
        assert fields.encode() + LETTER.message.content in received.content
        assert b"X-Digest" not in received.content
        ends = [(one.rule, str(one.result), one.observed) for one in running.journal()[0].evaluations]
        assert ends == [("folded", "hit", False), ("nothing", "pass", False), ("observed", "hit", True)]


def test_when_decides_and_a_discarded_message_is_not_finished():
    authenticated = rule("digest", when={"authenticated": True})
    discard = {"name": "discard", "filter": "match", "when": {"sender": "x@*"}, "action": "discard"}
    with FakeUpstream() as upstream, gateway(authenticated, discard, upstream=upstream) as running:
        assert running.send(make_transaction(authenticated="ann")).code == 250
        assert running.send(make_transaction()).code == 250
        assert running.send(make_transaction(mail_from="x@example.org", authenticated="ann")).code == 250
        assert [b"X-Digest" in one.content for one in upstream.messages] == [True, False]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"action": "reject"}, "only finishes messages, and never hits, expected a rule without action"),
        ({"score": 1}, "expected a rule without score"),
        ({"reply": "550 5.7.1 No"}, "expected a rule without reply"),
        ({"when": {"recipient": "a@*"}}, "expected no condition on recipients, scores or hits"),
        (
            {"when": {"not": {"any": [{"score": ">1"}]}}},
            "expected no condition on recipients, scores or hits",
        ),
    ],
)
def test_settings_without_a_meaning_are_refused(options, expected):
    with pytest.raises(ConfigError, match=expected), gateway(rule("digest", **options)):
        pass
