"""A value that a filter makes checks itself: a wrong type is an error at the author's own line."""

import copy
import http
import pickle
from dataclasses import replace
from decimal import Decimal
from enum import StrEnum
from math import inf, nan

import pytest
from gatepost import (
    Action,
    AddHeader,
    AddRecipient,
    ChangeHeader,
    ChangeSender,
    Match,
    PrefixSubject,
    RemoveHeader,
    RemoveRecipient,
    ReplaceBody,
    Reply,
    ReplyTiming,
    Verdict,
)
from gatepost.model.verdict import check_again


class Word(StrEnum):
    """Text of a subclass of str, as libraries return it too."""

    SPAM = "spam"


class Unprintable:
    def __repr__(self):
        raise RuntimeError("no text")


MADE = {
    Verdict: {"reason": "r"},
    Match: {"where": "w", "text": "t"},
    Reply: {"code": 550, "text": "No"},
    ReplyTiming: {},
    AddHeader: {"name": "X-A", "value": "v"},
    ChangeHeader: {"name": "X-A", "value": "v"},
    RemoveHeader: {"name": "X-A"},
    PrefixSubject: {"text": "[A] "},
    ReplaceBody: {"body": b"Hello\r\n"},
    AddRecipient: {"address": "ann@example.com"},
    RemoveRecipient: {"address": "ann@example.com"},
    ChangeSender: {"address": "ann@example.com"},
}
NOT_TEXT = [None, 5, True, 1.5, b"bytes", ["a"], ("a",), Action, Unprintable()]
NOT_TEXT_OR_BYTES = [one for one in NOT_TEXT if not isinstance(one, bytes)]
NOT_NUMBER = ["1", b"1", 1.5, True, [1], (1,)]
NOT_SECONDS = [None, "5", b"5", True, False, [1], Decimal(1), 1j]
WRONG_TYPES = {
    (Verdict, "reason"): NOT_TEXT,
    (Verdict, "action"): ["reject", "REJECT", 1, True, b"reject", Action, Word.SPAM, (Action.REJECT,)],
    (Verdict, "reply"): ["550 no", 550, b"550 no", Reply, ("550 no",), Unprintable()],
    (Verdict, "edits"): [
        None,
        AddHeader("X", "y"),
        [AddHeader("X", "y")],
        {"X": "y"},
        "X: y",
        (None,),
        ("X: y",),
        (AddHeader,),
        (AddHeader("X", "y"), ("X", "y")),
    ],
    (Verdict, "timing"): [5, 5.0, "5s", True, ReplyTiming, {"drop": True}],
    (Verdict, "matches"): [
        None,
        Match(where="w", text="t"),
        [Match(where="w", text="t")],
        "x",
        ("x",),
        (None,),
        (Match(where="w", text="t"), ("w", "t")),
    ],
    (Verdict, "score"): [None, "5", True, (5,), b"5"],
    (Verdict, "auth"): [None, "spf=pass", ["spf=pass"], {"spf": "pass"}, (None,), (b"spf=pass",)],
    (Match, "where"): NOT_TEXT,
    (Match, "text"): NOT_TEXT,
    (Reply, "code"): [None, "550", 550.0, True, b"550", (550,)],
    (Reply, "text"): NOT_TEXT,
    (Reply, "enhanced"): [5, 5.7, b"5.7.1", ("5.7.1",), True],
    (Reply, "timing"): [5, "5s", True, ReplyTiming],
    (ReplyTiming, "delay_seconds"): NOT_SECONDS,
    (ReplyTiming, "drip_seconds"): NOT_SECONDS,
    (ReplyTiming, "drop"): [None, 1, 0, "yes", b"", ()],
    (AddHeader, "name"): NOT_TEXT,
    (AddHeader, "value"): NOT_TEXT_OR_BYTES,
    (AddHeader, "index"): NOT_NUMBER,
    (ChangeHeader, "name"): NOT_TEXT,
    (ChangeHeader, "value"): NOT_TEXT_OR_BYTES,
    (ChangeHeader, "number"): [None, *NOT_NUMBER],
    (RemoveHeader, "name"): NOT_TEXT,
    (RemoveHeader, "value"): NOT_TEXT[1:],
    (RemoveHeader, "number"): NOT_NUMBER,
    (PrefixSubject, "text"): NOT_TEXT,
    (ReplaceBody, "body"): [None, "text", 5, True, [b"a"], bytearray(b"a")],
    (AddRecipient, "address"): NOT_TEXT,
    (RemoveRecipient, "address"): NOT_TEXT,
    (ChangeSender, "address"): NOT_TEXT,
}
NAMES = ["", "X A", "X:", "X\r\n", "Ü", "X\0", "a" * 77]
VALUES = ["a\r\nBcc: x@example.com", "a\n", "a\0", "\x85", "\ud800", "x" * 8193]
RAW_VALUES = [b"a\r\nBcc: x@example.com", b"a\n b", b"a\r", b"a\0", b"a\r\n \r\n b", b"a\r\n "]
SECONDS = [-1, -0.1, inf, -inf, nan, 86_401, 10**400]
WRONG_VALUES = {
    (Verdict, "score"): [-1001, 1001, inf, -inf, nan, 10**400],
    (Reply, "code"): [0, -550, 199, 600, 10**400],
    (Reply, "enhanced"): ["", "5", "5.7", "5.7.1 ", "5.7.1\r\n", "4.7.1", "9.7.1", "5.7.1000", "\u0665.7.1"],
    (ReplyTiming, "delay_seconds"): SECONDS,
    (ReplyTiming, "drip_seconds"): SECONDS,
    (AddHeader, "name"): NAMES,
    (AddHeader, "value"): VALUES + RAW_VALUES,
    (AddHeader, "index"): [-1, 1 << 31],
    (ChangeHeader, "name"): NAMES,
    (ChangeHeader, "value"): VALUES + RAW_VALUES,
    (ChangeHeader, "number"): [0, -1, 1 << 31],
    (RemoveHeader, "name"): NAMES,
    (RemoveHeader, "number"): [0, -1, 1 << 31],
    (ReplaceBody, "body"): [b"no line end", b"a\nb\r\n", b"a\rb\r\n", b"a\0\r\n"],
    (AddRecipient, "address"): ["", "a@b\r\n", "a\0@b", "a" * 1025],
    (RemoveRecipient, "address"): ["a@b\r\n", "a\0@b", "a" * 1025],
    (ChangeSender, "address"): ["a@b\r\n", "a\0@b", "a" * 1025],
    (PrefixSubject, "text"): VALUES,
}
IN_WORDS = {"code": "reply code", "enhanced": "enhanced status code"}


def cases(table):
    return [
        pytest.param(kind, field, value, id=f"{kind.__name__}.{field}-{number}")
        for (kind, field), values in table.items()
        for number, value in enumerate(values)
    ]


@pytest.mark.parametrize(("kind", "field", "wrong"), cases(WRONG_TYPES))
def test_a_wrong_type_names_the_field_what_was_found_and_what_was_expected(kind, field, wrong):
    with pytest.raises(TypeError, match=rf"{kind.__name__}\.{field}\S* is .*\(\w+\), expected ") as raised:
        kind(**MADE[kind] | {field: wrong})
    if isinstance(wrong, str | int):
        assert repr(wrong) in str(raised.value)
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize(("kind", "field", "wrong"), cases(WRONG_VALUES))
def test_a_wrong_value_names_what_was_found_and_what_was_expected(kind, field, wrong):
    with pytest.raises(ValueError, match=r"expected|does not fit") as raised:
        kind(**MADE[kind] | {field: wrong})
    if kind is Reply:
        assert IN_WORDS[field] in str(raised.value)


def test_every_field_is_in_the_tables():
    fields = {(kind, name) for kind in MADE for name in kind.__dataclass_fields__}
    assert fields - WRONG_TYPES.keys() == {(Reply, "positive")}, "it is not set by the caller"


def test_the_traceback_ends_in_the_line_that_makes_the_value():
    with pytest.raises(TypeError) as raised:
        Verdict(reason="r", action="reject")
    ours = [entry for entry in raised.traceback if str(entry.path) == __file__]
    assert 'action="reject"' in str(ours[-1].statement)
    assert str(raised.value) == (
        "Verdict.action is 'reject' (str), expected an Action like Action.REJECT, or None"
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", ""),
        ("two\r\nlines", "two lines"),
        ("ends\n", "ends"),
        ("\x1b[2Jcleared", "\\x1b[2Jcleared"),
        ("a\0b", "a\\x00b"),
        ("half \ud800", "half \\ud800"),
        ("line\u2028separator", "line separator"),
        ("tab\tstays", "tab\tstays"),
        (Word.SPAM, "spam"),
        ("x" * 1000, "x" * 1000),
        ("x" * 1001, "x" * 999 + "…"),
        ("x" * 10_000_000, "x" * 999 + "…"),
    ],
)
def test_what_mail_may_bring_into_a_text_raises_nothing(text, reason):
    """Else a sender could make a filter fail, and under ``on_error: skip`` pass it."""
    verdict = Verdict(reason=text)
    assert verdict.reason == reason
    assert type(verdict.reason) is str


def test_the_text_of_a_match_is_what_was_found_but_for_what_no_store_takes():
    match = Match(where="attachment a\r\nb\0", text="a\r\n\0\ud800" + "x" * 3000)
    assert match.where == "attachment a b\\x00"
    assert match.text == "a\r\n\ufffd\ufffd" + "x" * 1995


def test_what_is_too_much_is_cut():
    match = Match(where="w", text="t")
    reply = Reply(code=550, enhanced="5.7.1", text="x" * 5000)
    verdict = Verdict(reason="r", matches=(match,) * 2000, reply=reply)
    assert len(verdict.matches) == 1000
    assert (verdict.reply.enhanced, verdict.reply.text) == ("5.7.1", "x" * 4096)


@pytest.mark.parametrize(
    "made",
    [
        Reply(code=http.HTTPStatus.OK, text=Word.SPAM, enhanced=None),
        Reply(code=550, text="a", enhanced=type("Text", (str,), {})("5.7.1")),
        Match(where=Word.SPAM, text=Word.SPAM),
        AddHeader(type("Text", (str,), {})("X-A"), Word.SPAM),
        RemoveHeader(Word.SPAM),
        PrefixSubject(Word.SPAM),
    ],
)
def test_a_subclass_of_text_or_of_a_number_is_taken_as_what_it_says(made):
    fields = [getattr(made, name) for name in type(made).__dataclass_fields__]
    assert {type(value) for value in fields} <= {str, int, bool, type(None)}


def test_none_is_for_what_may_be_left_out():
    assert Verdict(reason="r", action=None, reply=None, timing=None) == Verdict(reason="r")
    assert Reply(code=250, text="x", enhanced=None, timing=None) == Reply(code=250, text="x")


FULL = Verdict(
    reason="r",
    action=Action.DEFER,
    reply=Reply(code=451, text="Later", enhanced="4.7.1", timing=ReplyTiming(delay_seconds=1)),
    timing=ReplyTiming(drop=True),
    edits=(RemoveHeader("X-A"), AddHeader("X-A", "ä"), PrefixSubject("[A] ")),
    matches=(Match(where="w", text="t"),),
)


def test_a_valid_verdict_is_as_it_was_made_wherever_it_comes_from():
    for verdict in (FULL, copy.copy(FULL), copy.deepcopy(FULL), pickle.loads(pickle.dumps(FULL))):
        check_again(verdict)
        assert verdict == FULL
    assert replace(FULL, reason="other").edits is FULL.edits


def got_round(kind, field, wrong):
    """A verdict that is wrong although its class checks itself."""
    made = kind(**MADE[kind])
    object.__setattr__(made, field, wrong)
    if kind is Verdict:
        return made
    parts = {Match: "matches", Reply: "reply", ReplyTiming: "timing"}
    name = parts.get(kind, "edits")
    return replace(Verdict(reason="r"), **{name: made if name in ("reply", "timing") else (made,)})


@pytest.mark.parametrize(("kind", "field", "wrong"), cases(WRONG_TYPES))
def test_what_gets_round_the_check_is_found_when_it_is_checked_again(kind, field, wrong):
    with pytest.raises((TypeError, ValueError, AttributeError)):
        check_again(got_round(kind, field, wrong))
    with pytest.raises(AttributeError):
        check_again(object.__new__(kind))
