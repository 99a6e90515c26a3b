"""What people write to find messages."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from gatepost.store.query import (
    After,
    Before,
    Fact,
    Has,
    Is,
    Larger,
    Mark,
    Named,
    Query,
    QueryError,
    Smaller,
    Where,
    Words,
    parse_query,
    toggled,
)
from hypothesis import example, given
from hypothesis import strategies as st

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=timezone(timedelta(hours=2)))


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("", []),
        ("  \t ", []),
        ("invoice", [Words(text="invoice")]),
        ('"net 30" x', [Words(text="net 30"), Words(text="x")]),
        ("“net 30”", [Words(text="net 30")]),
        ("invo*", [Words(text="invo*", prefix=True)]),
        ("-draft", [Words(text="draft", negated=True)]),
        ('-"a b"', [Words(text="a b", negated=True)]),
        ("from:ann@example.com", [Words(text="ann@example.com", where=Where.FROM)]),
        ("TO: bob", [Words(text="bob", where=Where.TO)]),
        ('-subject:"the end"', [Words(text="the end", where=Where.SUBJECT, negated=True)]),
        ("has:attachment -has:attachments", [Has(), Has(negated=True)]),
        *((f"is:{mark}", [Is(mark=mark)]) for mark in Mark),
        *((f"{fact}:Some-1", [Named(fact=fact, value="Some-1")]) for fact in Fact),
        ("client:2001:db8::1", [Named(fact=Fact.CLIENT, value="2001:db8::1")]),
        ('rule:"two words"', [Named(fact=Fact.RULE, value="two words")]),
        ("before:2026-11-23", [Before(moment=datetime(2026, 11, 22, 22, tzinfo=UTC))]),
        ("after:2026-11-23T08:00Z", [After(moment=datetime(2026, 11, 23, 8, tzinfo=UTC))]),
        ("after:2h", [After(moment=datetime(2026, 11, 23, 8, tzinfo=UTC))]),
        ("-before:1W", [Before(moment=datetime(2026, 11, 16, 10, tzinfo=UTC), negated=True)]),
        ("larger:1MB smaller:3kib", [Larger(octets=10**6), Smaller(octets=3072)]),
        ("larger:5", [Larger(octets=5)]),
        ("larger:2k", [Larger(octets=2000)]),
        ("\u017fubject:x", [Words(text="\u017fubject:x")]),
        ("東*", [Words(text="東*", prefix=True)]),
        ("http://example.com/a?b", [Words(text="http://example.com/a?b")]),
        ("12:30 Re: ::1", [Words(text="12:30"), Words(text="Re:"), Words(text="::1")]),
        ('"from:ann"', [Words(text="from:ann")]),
        ("Invoice - 2026 ...", [Words(text="Invoice"), Words(text="2026")]),
    ],
    ids=repr,
)
def test_a_query_is_read_as_its_terms(text, terms):
    assert parse_query(text, now=NOW) == Query(terms=tuple(terms))


@pytest.mark.parametrize(
    ("text", "says", "position"),
    [
        ("a sender:bob", "there is no sender: to look for, expected one of from:, to:, subject:", 2),
        ('a "b', "a quotation mark without a second one", 2),
        ("is:open", "'is:open' is not understood, expected is: with one of unread, read", 0),
        ("x has:virus", "expected has:attachment", 2),
        ("before:soon", "expected a time like 2h, 7d, 2026-11-30", 0),
        ("before:99999999w", "expected a time", 0),
        ("after:0001-01-01", "expected a time", 0),
        ("larger:1234567890", "expected a size", 0),
        ("larger:big", "expected a size like 500KB", 0),
        ("a from:", "there is nothing after from:", 7),
        ('rule:""', "there is nothing after rule:", 7),
        ("a i*", "expected at least 2 letters or digits before *", 2),
        ("from:!!", "expected letters or digits", 0),
        ("???", "'???' has no letter or digit to look for", 0),
        ("- -", "has no letter or digit", 0),
        ("a " * 60, "more than 50 terms", 0),
        ("a" * 3000, "longer than 2000 characters", 2000),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_an_error_says_what_was_found_where_and_what_was_expected(text, says, position):
    with pytest.raises(QueryError) as caught:
        parse_query(text, now=NOW)
    assert says in str(caught.value)
    assert caught.value.position == position


PIECES = st.one_of(
    st.text(max_size=12),
    st.sampled_from([*'-":* \t“', "from:", "is:", "before:", "larger:", "id:", "2h", "1MB", "\ud800", "\0"]),
)


@given(st.lists(PIECES, max_size=20).map("".join))
@example("before:9999-12-31T23:59:59-23:59")
@example("after:0001-01-01T00:00:00+23:59")
def test_whatever_is_written_only_a_query_error_is_raised(text):
    for now in (None, NOW):
        try:
            assert parse_query(text, now=now).terms or not text.strip()
        except QueryError as error:
            assert 0 <= error.position <= len(text)  # noqa: PT017 - there may be none


@pytest.mark.parametrize(
    ("text", "key", "value", "after"),
    [
        ("", "mailbox", "t1", "mailbox:t1"),
        ("  order  -draft ", "mailbox", "t1", "order -draft mailbox:t1"),
        ('"two  words" mailbox:t1 x', "mailbox", "t1", '"two  words" x'),
        ("MAILBOX: T1 x", "mailbox", "t1", "x"),
        ("mailbox:t2 x", "mailbox", "t1", "x mailbox:t1"),
        ("-mailbox:t1", "mailbox", "t1", "-mailbox:t1 mailbox:t1"),
        ("x", "mailbox", "a b", 'x mailbox:"a b"'),
        ('mailbox:"a b" x', "mailbox", "a b", "x"),
        ("x", "recipient", 'o"b@x', 'x recipient:o"b@x'),
    ],
)
def test_a_term_is_put_in_and_taken_out(text, key, value, after):
    assert toggled(text, key, value) == after
    parse_query(after)


@pytest.mark.parametrize("value", ['"a b"@x', 'a "b', "", '"'])
def test_a_value_that_no_query_can_hold_is_not_put_in(value):
    with pytest.raises(QueryError):
        toggled("x", "recipient", value)
