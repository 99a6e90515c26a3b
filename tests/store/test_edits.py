"""Edits are stored as JSON; a kind that is not known is an error and is never left out."""

import pytest
from gatepost.model.edits import AddHeader, ChangeHeader, PrefixSubject, RemoveHeader, ReplaceBody
from gatepost.store import StoreError
from gatepost.store.edits import edits_from_json, edits_to_json
from hypothesis import given
from hypothesis import strategies as st

NAMES = st.from_regex(r"\A[!-9;-~]{1,20}\Z")
NUMBERS = st.integers(1, 1000)
RAW = st.sampled_from((b"", b" a\r\n\tb", b"\xe4\xff"))
TEXTS = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")))


@given(
    st.lists(
        st.builds(AddHeader, NAMES, TEXTS | RAW, st.none() | NUMBERS)
        | st.builds(ChangeHeader, NAMES, TEXTS | RAW, NUMBERS)
        | st.builds(RemoveHeader, NAMES, st.none() | st.text())
        | st.builds(RemoveHeader, NAMES, number=NUMBERS)
        | st.builds(ReplaceBody, st.sampled_from((b"", b"\r\n", b"\xff\x80\r\n")))
        | st.builds(PrefixSubject, TEXTS)
    )
)
def test_what_is_stored_comes_back(edits):
    text = edits_to_json(tuple(edits))
    assert text.isascii()
    assert edits_from_json(text) == tuple(edits)


def test_a_kind_that_is_not_known_is_an_error_in_either_direction():
    with pytest.raises(AssertionError):
        edits_to_json((RemoveHeader("A"), "tag"))
    for words in ('["replace","A","b"]', '["add","A"]', '["subject","a","b"]', "[]", '"remove"'):
        with pytest.raises(StoreError, match="an edit of an unknown kind"):
            edits_from_json(f"[{words}]")
