"""Text that flows is joined as mail programs join it."""

import pytest
from gatepost.mime.flowed import unflowed
from hypothesis import given
from hypothesis import strategies as st

ROWS = {
    "one line": ("viagra", "viagra"),
    "two lines": ("via \r\ngra\r\n", "viagra\n"),
    "of bare LF": ("via \ngra\n", "viagra\n"),
    "three lines": ("vi \r\nag \r\nra", "viagra"),
    "fixed lines": ("via\r\ngra\r\n", "via\ngra\n"),
    "a space that is text": ("wire  \r\ntransfer", "wire transfer"),
    "a stuffed line": ("via \r\n gra", "viagra"),
    "stuffed lines": (" via \r\n gra", "viagra"),
    "a line stuffed once": ("via \r\n  gra", "via gra"),
    "a fixed line, stuffed": (" > a\r\n From b", "> a\nFrom b"),
    "quoted": ("> via \r\n> gra\r\n", "> viagra\n"),
    "quoted without a space": (">via \r\n>gra", "> viagra"),
    "quoted twice": (">> via \r\n>> gra", ">> viagra"),
    "quoted, then not": ("> via \r\ngra", "> via\ngra"),
    "not quoted, then quoted": ("via \r\n> gra", "via\n> gra"),
    "deeper": ("> via \r\n>> gra", "> via\n>> gra"),
    "a signature": ("via \r\n-- \r\ngra", "via\n-- \ngra"),
    "a quoted signature": ("> -- \r\n> gra", "> -- \n> gra"),
    "an empty line": ("via \r\n\r\ngra", "via\ngra"),
    "only spaces": (" \r\n \r\ngra", "\n\ngra"),
    "no end": ("via ", "via "),
    "an end": ("via \r\n", "via"),
    "other line breaks": ("via\x85gra\u2028 \r\nx", "via\x85gra\u2028x"),
    "nothing": ("", ""),
}


@pytest.mark.parametrize(("text", "joined"), ROWS.values(), ids=ROWS)
def test_lines_that_flow_are_joined(text, joined):
    assert unflowed(text, delsp=True) == joined


@pytest.mark.parametrize(
    ("text", "joined"),
    [
        ("wire \r\ntransfer", "wire transfer"),
        ("> wire \r\n> transfer", "> wire transfer"),
        ("wire \r\n transfer", "wire transfer"),
        ("wire\r\ntransfer", "wire\ntransfer"),
    ],
)
def test_the_space_between_stays_without_delsp(text, joined):
    assert unflowed(text, delsp=False) == joined


@given(st.text(alphabet="a >-\r\n", max_size=60))
def test_nothing_but_spaces_quotes_and_line_breaks_is_left_out(text):
    letters = [character for character in text if character in "a-"]
    for delsp in (True, False):
        assert [character for character in unflowed(text, delsp=delsp) if character in "a-"] == letters


MIB = 1 << 20


@pytest.mark.parametrize("piece", [" \n", ">", ">\n", "> \n", ">\n>>\n", "a \n", "\n", "\r", "-- \n", " "])
def test_the_time_stays_linear_on_hostile_text(piece, within_yardsticks):
    with within_yardsticks(500):
        unflowed(piece * (MIB // len(piece)), delsp=True)
