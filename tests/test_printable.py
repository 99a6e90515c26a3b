"""Text from outside that is safe to show."""

import pytest
from gatepost.printable import printable, text_of, without_controls


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("caf\xe9 \u20ac", "caf\xe9 \u20ac"),
        ("\x1b[31m", r"\x1b[31m"),
        ("a\r\nb\tc", r"a\r\nb\tc"),
        ("a\u202eb", r"a\u202eb"),
        ("a\xa0b", r"a\xa0b"),
        ("\ud800", r"\ud800"),
        ("\U000e0001", r"\U000e0001"),
    ],
)
def test_what_a_terminal_obeys_or_hides_becomes_an_escape(text, shown):
    assert printable(text) == shown
    assert printable(shown) == shown


def test_a_mark_may_stand_for_it_and_characters_may_stay():
    assert printable("a\tb\x00\u202ec", keep="\t") == "a\tb\\x00\\u202ec"
    assert printable("a\x00\u202eb", mark="?") == "a??b"


def test_only_controls_and_line_ends_are_taken_out_of_text_that_programs_go_on_with():
    assert without_controls("a\tb\xa0c\u202ed") == "a\tb\xa0c\u202ed"
    assert without_controls("a\x00\x9b\n\u2028\ud800b", mark="?") == "a?????b"


def test_bytes_that_are_not_utf_8_become_escapes():
    assert text_of(b"gr\xc3\xbcn gr\xfcn \x07") == "gr\xfcn gr\\xfcn \\x07"
