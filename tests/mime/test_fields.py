"""Single fields of a header section, and its lines."""

import pytest
from gatepost.mime.fields import (
    FieldFinder,
    field_name,
    header_section_end,
    is_field_name,
    split_lines,
)

SECTION = (
    b"Received-SPF: pass\r\n"
    b"RECEIVED: a\r\n"
    b"Subject-Line: no\r\n"
    b"sUBJECT \t: one\r\n two\r\n"
    b"Subject: three\r\n"
    b"Received\t: b\r\n"
    b"received: c\n"
)


def test_the_first_field_of_a_name_is_found_with_its_folds():
    fields = FieldFinder(SECTION)
    assert fields.first(b"subject") == b" one\r\n two\r"
    assert fields.first(b"subject-line") == b" no\r"
    assert fields.first(b"date") == b""


def test_only_fields_of_exactly_that_name_are_counted():
    fields = FieldFinder(SECTION)
    assert fields.count(b"received") == 3
    assert fields.count(b"received-spf") == 1
    assert fields.count(b"date") == 0


def test_a_name_within_a_line_is_no_field():
    fields = FieldFinder(b"From: subject: no\r\n subject: no\r\n")
    assert (fields.first(b"subject"), fields.count(b"subject")) == (b"", 0)


@pytest.mark.parametrize(
    ("content", "end"),
    [
        (b"A: b\n\n\r\nbody", 5),
        (b"A: b\r\n\r\nbody\n\n", 6),
        (b"A: b\n\nbody\r\n\r\n", 5),
        (b"\nbody", 0),
        (b"A: b", 4),
    ],
)
def test_a_header_section_ends_at_the_first_empty_line_of_either_kind(content, end):
    assert header_section_end(content) == end


def test_lines_keep_their_folds_and_line_ends():
    lines, end = split_lines(b"A: b\r\n c\nno field\r\n\r\nD: e\r\n")
    assert lines == [b"A: b\r\n c\n", b"no field\r\n"]
    assert end == len(b"".join(lines))
    assert [field_name(line) for line in lines] == [b"a", b""]


@pytest.mark.parametrize(
    ("text", "is_one"),
    [("X-Spam", True), ("x" * 76, True), ("x" * 77, False), ("a b", False), ("a:", False), ("\xe4", False)],
)
def test_a_field_name_is_printable_ascii_without_a_colon(text, is_one):
    assert is_field_name(text) is is_one


def test_a_section_of_names_without_a_colon_has_no_field_of_that_name():
    fields = FieldFinder(b"Subject\r\n" * 200_000)
    assert fields.first(b"subject") == b""
    assert fields.count(b"subject") == 0
