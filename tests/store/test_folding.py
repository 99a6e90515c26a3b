"""What is the same in a search."""

import unicodedata

import pytest
from gatepost.store.folding import folded, searched_for
from gatepost.store.query.messages import Words
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ""),
        (" -- ", ""),
        ("Re: [5582] a_b\r\n", " re 5582 a b "),
        ("GRÖSSE größe", " grosse grosse "),
        ("Cafe\u0301 caf\u00e9", " cafe cafe "),
        ("\uff21\uff22\uff11 \ufb01ne \u2460", " ab1 fine 1 "),
        ("İstanbul ΣΟΦΟΣ σοφος", " istanbul σοφοσ σοφοσ "),
        ("ein\u00adfach zero\u200bwidth", " einfach zerowidth "),
        ("\u0645\u064f\u062d\u064e\u0645\u064e\u0651\u062f", " \u0645\u062d\u0645\u062f "),
        ("发票号码", " 发 票 号 码 "),
        ("\uff8a\uff9e\u30d0", " \u30d0 \u30d0 "),
        ("주문 1", " 주 문 1 "),
        ("ใบเสร็จ", " ใ บ เ ส ร ็ จ "),
        ("हिन्दी", " हिन्दी "),
        ("a\0b\ud800c", " a b c "),
    ],
)
def test_a_text_is_folded_to_its_words(text, words):
    assert folded(text) == words


@pytest.mark.parametrize(
    ("text", "prefix", "wanted"),
    [
        ("rese", False, "rese"),
        ("a.b", False, "a b"),
        ("rese*", True, " rese"),
        ("to", False, " to"),
        ("a", False, " a "),
        ("a*", True, " a "),
        ("发票", False, "发 票"),
        ("票", False, " 票 "),
        ("*", False, ""),
    ],
)
def test_what_is_short_begins_a_word(text, prefix, wanted):
    assert searched_for(Words(text=text, prefix=prefix)) == wanted


@given(st.text(), st.text(), st.text())
def test_a_part_of_a_text_is_found_however_it_is_written(before, text, after):
    wanted = searched_for(Words(text=text))
    whole = folded(f"{before} {text} {after}")
    assert wanted in whole
    assert wanted in folded(f"{before} {unicodedata.normalize('NFD', text)} {after}")
    assert not wanted or len(wanted) > 2


@given(st.text())
def test_a_folded_text_is_folded(text):
    assert folded(folded(text)) == folded(text)
