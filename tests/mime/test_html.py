"""HTML taken apart, and as plain text for the full-text index."""

import pytest
from gatepost.mime.html import plain_text, tokens, visible_text


@pytest.mark.parametrize(
    ("html", "words"),
    [
        ("", ""),
        ("plain &amp; simple", "plain & simple"),
        ("<p>in<b>voi</b>ce<br>due</p>now", "invoice due now"),
        ("<STYLE>p {}</style >a<script>b</script>c<title>d</title>e", "a c e"),
        ("<style/>a", ""),
        ("a<!-- b --><!doctype html>c", "a c"),
        ("a<!-- never closed b", "a"),
        ("a<!--[if mso]><p>b</p><![endif]-->c", "a b c"),
        ("a<!--[if !mso]><!-->b<!--<![endif]-->c", "a b c"),
        ("1 < 2 &lt;b&gt; 3", "1 < 2 <b> 3"),
        ('<a href="x">link</a>ed', "linked"),
        ("İ<style>a</style>b", "İ b"),
        ("a<b", "a"),
    ],
)
def test_only_what_a_reader_sees_is_left(html, words):
    assert plain_text(html).split() == words.split()


@pytest.mark.parametrize("piece", ["<", "<style", "<!--", "<a ", "</", "&", "<b>", "&#x", "<style></style>"])
def test_hostile_markup_of_any_length_is_read(piece):
    assert len(plain_text(piece * 100_000)) <= len(piece) * 100_000


def test_a_token_is_what_the_tokeniser_of_the_standard_makes_of_it():
    html = """a<!-- > --><P title="<>" x=y>b</P ></><style media=all>p{}</style>c<i"""
    found = [
        (html[token.start : token.end], token.name, token.closing, token.attributes, token.content)
        for token in tokens(html)
    ]
    assert found == [
        ("<!-- > -->", "", False, "", None),
        ("""<P title="<>" x=y>""", "p", False, """ title="<>" x=y""", None),
        ("</P >", "p", True, " ", None),
        ("</>", "", False, "", None),
        ("<style media=all>p{}</style>", "style", False, " media=all", "p{}"),
        ("<i", "i", False, "", None),
    ]
    assert [token.complete for token in tokens(html)] == [True] * 5 + [False]


def test_a_raw_element_without_its_end_takes_the_rest_and_one_without_a_bracket_is_incomplete():
    (open_ended,) = tokens("<script>a<b>c")
    assert (open_ended.content, open_ended.complete) == ("a<b>c", True)
    (cut,) = tokens("<script a")
    assert cut.complete is False


def test_visible_text_joins_words_that_tags_split_and_parts_blocks():
    assert visible_text("in<b>voi</b>ce<p>due").split() == ["invoice", "due"]
    assert "https://x.example" in visible_text('<a href="https://x.example">x</a>')
