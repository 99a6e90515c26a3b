"""HTML as plain text, for the full-text index."""

import pytest
from gatepost.mime.markup import plain_text


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
