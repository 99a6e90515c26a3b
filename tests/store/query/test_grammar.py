"""Both languages are read by one grammar: the same terms, the same errors."""

import pytest
from gatepost.store.query import QueryError, parse_journal_query, parse_query
from gatepost.store.query.grammar import Grammar, Written
from hypothesis import given
from hypothesis import strategies as st

LANGUAGES = [parse_query, parse_journal_query]
PIECES = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        [*'-":* \t“<>', "from:", "is:", "before:", "session:", "id:", "2h", "::1", "\ud800", "\0"]
    ),
)


def written(text):
    return [
        (term.key, term.text, term.is_phrase, term.negated, term.position)
        for term in Grammar(("from", "to")).read(text)
    ]


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        (" a  b ", [("", "a", False, False, 1), ("", "b", False, False, 4)]),
        ('from:"a b"', [("from", "a b", True, False, 0)]),
        ('-FROM: x"y', [("from", 'x"y', False, True, 0)]),
        ("“a” -", [("", "a", True, False, 0), ("", "", False, True, 4)]),
        ("cc:a a:from:b", [("", "cc:a", False, False, 0), ("", "a:from:b", False, False, 5)]),
        ('"from:a"to:b', [("", "from:a", True, False, 0), ("to", "b", False, False, 8)]),
    ],
    ids=repr,
)
def test_a_term_has_a_key_a_text_and_a_place(text, terms):
    assert written(text) == terms


@pytest.mark.parametrize("parse", LANGUAGES)
@pytest.mark.parametrize(
    ("text", "says", "position"),
    [
        ('x "b', "a quotation mark without a second one", 2),
        ("from: ", "there is nothing after from:", 6),
        ("x mine:bob", "there is no mine: to look for, expected one of from:, to:", 2),
        ("a" * 3000, "longer than 2000 characters", 2000),
        ("before:soon", "'before:soon' is not understood, expected a time like 2h", 0),
        ("is:open", "'is:open' is not understood, expected is: with one of", 0),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_an_error_is_the_same_in_both_languages(parse, text, says, position):
    with pytest.raises(QueryError) as caught:
        parse(text)
    assert says in str(caught.value)
    assert caught.value.position == position


@given(st.lists(PIECES, max_size=20).map("".join))
def test_whatever_is_written_to_the_journal_only_a_query_error_is_raised(text):
    try:
        parse_journal_query(text)
    except QueryError as error:
        assert 0 <= error.position <= len(text)  # noqa: PT017 - there may be none


def test_an_error_shows_a_part_of_a_long_term():
    term = Written(key="to", text="x" * 500, is_phrase=False, negated=True, position=3)
    assert len(str(term.refused("no"))) < 60
