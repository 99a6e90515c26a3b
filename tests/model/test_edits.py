"""Header fields are added and removed without touching anything else."""

import email
import email.policy
from email.header import decode_header, make_header

import pytest
from gatepost.mime.fields import HEADER_SECTION, field_name, split_lines
from gatepost.model.edits import (
    EDITS,
    AddHeader,
    ChangeHeader,
    Edit,
    PrefixSubject,
    RemoveHeader,
    ReplaceBody,
    apply,
)
from hypothesis import given
from hypothesis import strategies as st

MAIL = (
    b"From: a@example.com\r\nSubject: hello\r\n world\r\nX-Spam: 1\r\nx-spam : 2\r\n folded\r\n"
    b"\r\nSubject: body\r\n"
)


def edited(content: bytes, *edits: Edit) -> bytes:
    return b"".join(apply(content, edits))


def subject_shown(content: bytes) -> str:
    value = email.message_from_bytes(content, policy=email.policy.compat32)["Subject"]
    return str(make_header(decode_header(value.replace("\r\n", "")))).strip()


def test_without_edits_the_very_same_octets_leave():
    assert apply(MAIL, ())[0] is MAIL
    assert apply(MAIL, (AddHeader("X-A", "b"),))[-1] is MAIL
    assert apply(MAIL, (RemoveHeader("X-Absent"),))[0] is MAIL


def test_each_added_field_stands_before_the_ones_added_earlier():
    assert edited(MAIL, AddHeader("X-A", "1"), AddHeader("X-B", "2")) == b"X-B: 2\r\nX-A: 1\r\n" + MAIL


@pytest.mark.parametrize(
    "character", ["\r", "\n", "\r\nBcc: x@example.com", "\0", "\x0b", "\x85", "\u2028", "\ud800", "\x7f"]
)
def test_a_value_that_would_start_another_field_cannot_be_built(character):
    """RELIABILITY 74."""
    with pytest.raises(ValueError, match="control characters"):
        AddHeader("X-A", f"value{character}")
    with pytest.raises(ValueError, match="control characters"):
        PrefixSubject(f"value{character}")


@pytest.mark.parametrize("name", ["", "X A", "X:", "X\r\n", "Ü", "X\0", "a" * 77])
def test_a_name_that_is_not_a_fields_cannot_be_built(name):
    """RELIABILITY 74."""
    with pytest.raises(ValueError, match="not the name of a header field"):
        AddHeader(name, "x")
    with pytest.raises(ValueError, match="not the name of a header field"):
        RemoveHeader(name)


@given(
    st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp"))) | st.text("ab ,;=?", max_size=3000)
)
def test_any_value_comes_back_from_the_wire_on_lines_that_fit(value):
    field = edited(b"", AddHeader("X-Any", value))
    lines = field.removesuffix(b"\r\n").split(b"\r\n")
    assert field.isascii()
    assert all(len(line) <= 998 for line in lines)
    assert all(line[:1] in (b" ", b"\t") and line.strip() for line in lines[1:])
    shown = b"".join(lines).removeprefix(b"X-Any:").decode().strip()
    if "=?" not in value:
        assert str(make_header(decode_header(shown))) == " ".join(value.split())


def test_remove_takes_out_every_field_of_the_name_with_its_folds():
    assert edited(MAIL, RemoveHeader("X-SPAM")) == (
        b"From: a@example.com\r\nSubject: hello\r\n world\r\n\r\nSubject: body\r\n"
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(b"A: 1\nX: 2\r\nB: 3\r\n\r\n", b"A: 1\r\nB: 3\r\n\r\n", id="after a bare newline"),
        pytest.param(b"X: 1\nA: 2\n\nX: body", b"A: 2\n\nX: body", id="bare newlines throughout"),
        pytest.param(b"\r\nX: body\r\n", b"\r\nX: body\r\n", id="no header section"),
        pytest.param(b"A: 1\r\njunk\r\nX: 1\r\n\r\n", b"A: 1\r\njunk\r\n\r\n", id="junk within"),
        pytest.param(b"X: 1", b"", id="no line end"),
        pytest.param(b"", b"", id="empty"),
    ],
)
def test_remove_from_a_strange_header_section(before, after):
    assert edited(before, RemoveHeader("X")) == after


@pytest.mark.parametrize(
    ("value", "left"),
    [
        ("one", b"X: one two\r\nX: two\r\n"),
        ("two", b"X: one\r\nX: one two\r\n"),
        ("one two", b"X: one\r\nX: two\r\n"),
        (" one\r\n\ttwo ", b"X: one\r\nX: two\r\n"),
        ("ONE", b"X: one\r\nX: one two\r\nX: two\r\n"),
        ("", b"X: one\r\nX: one two\r\nX: two\r\n"),
    ],
)
def test_remove_only_fields_with_a_value(value, left):
    message = b"X: one\r\nX:  one\r\n\t two\r\nX: two\r\n\r\nX: one\r\n"
    expected = left.replace(b"X: one two", b"X:  one\r\n\t two") + b"\r\nX: one\r\n"
    assert edited(message, RemoveHeader("x", value)) == expected


def test_remove_a_field_with_a_value_beyond_ascii():
    message = "X: ü\r\nX: v\r\n\r\n".encode() + b"body"
    assert edited(message, RemoveHeader("X", "ü")) == b"X: v\r\n\r\nbody"
    assert edited(b"X: \xfc\r\nX: v\r\n\r\nbody", RemoveHeader("X", "ü")) == b"X: v\r\n\r\nbody"


SECTIONS = {
    "field": b"Subject: x\r\n\r\nbody\r\n",
    "field without a body": b"Subject: x\r\n",
    "field without a line end": b"Subject: x",
    "empty field": b"Subject:\r\n\r\nbody\r\n",
    "blank before the colon": b"Subject \t: x\r\n\r\nbody\r\n",
    "any printable name": b"!#~^|: x\r\n\r\nbody\r\n",
    "a URL looks like a field": b"http://example.com/\r\n",
    "bare newlines": b"Subject: x\n\nbody\n",
    "a field called From": b"From : a@example.com\r\n\r\nbody\r\n",
    "mbox": b"From a@example.com Mon Jan  1 00:00:00 2024\r\nSubject: x\r\n\r\nbody\r\n",
    "mbox, quoted and twice": b">From a\r\n>>From b\r\nSubject: x\r\n\r\nbody\r\n",
    "mbox with a bare newline": b"From a\nSubject: x\n\nbody\n",
    "empty line first": b"\r\nSubject: in the body\r\n",
    "bare newline first": b"\nSubject: in the body\r\n",
    "nothing": b"",
}
NO_SECTIONS = {
    "text": b"Hello,\r\n\r\nhow are you?\r\n",
    "text with a colon": b"Dear all: lunch?\r\n",
    "text without a line end": b"Hello",
    "text, then fields": b"Hello\r\nSubject: in the body\r\n\r\nX\r\n",
    "indented": b" Subject: x\r\n\r\nbody\r\n",
    "indented with a tab": b"\tx\r\nSubject: in the body\r\n\r\nbody\r\n",
    "white space alone": b"   \r\nSubject: in the body\r\n\r\nbody\r\n",
    "no name": b": x\r\n\r\nbody\r\n",
    "name beyond ASCII": "Überschrift: x\r\n\r\nbody\r\n".encode(),
    "control character": b"Sub\x01ject: x\r\n\r\nbody\r\n",
    "a delimiter": b"--b\r\nContent-Type: text/plain\r\n\r\nx\r\n",
    "From here on": b"From here on we walk.\r\n",
    "From here on, and a paragraph": b"From here on we walk.\r\n\r\nThen we swim.\r\n",
    "mbox and text": b"From a@example.com Mon Jan  1 00:00:00 2024\r\nHello\r\n",
    "mbox and an indented line": b"From a@example.com\r\n Subject: x\r\n\r\nbody\r\n",
}


@pytest.mark.parametrize("content", SECTIONS.values(), ids=SECTIONS)
def test_fields_are_put_right_before_a_header_section(content):
    assert HEADER_SECTION.match(content)
    assert edited(content, AddHeader("X-A", "1")) == b"X-A: 1\r\n" + content


@pytest.mark.parametrize("content", NO_SECTIONS.values(), ids=NO_SECTIONS)
def test_what_has_no_header_section_stays_a_body(content):
    """Postfix does the same: smtpd where the first line is indented, cleanup where it is no field."""
    assert not HEADER_SECTION.match(content)
    assert apply(content, ()) == (b"\r\n", content)
    edits = AddHeader("X-A", "1"), RemoveHeader("Subject"), PrefixSubject("[A] "), AddHeader("X-B", "2")
    pieces = apply(content, edits)
    assert b"".join(pieces) == b"X-B: 2\r\nSubject: [A]\r\nX-A: 1\r\n\r\n" + content
    assert pieces[-1] is content
    shown = email.message_from_bytes(b"Received: x\r\n" + b"".join(pieces), policy=email.policy.SMTP)
    assert shown.keys() == ["Received", "X-B", "Subject", "X-A"]
    assert shown.get_payload(decode=True) == content


@pytest.mark.parametrize(
    "piece", [b"From x\r\n", b">", b"a", b" ", b"From ", b"\n", b"From \t", b">From a\n>"]
)
def test_looking_for_a_header_section_is_linear(piece, within_yardsticks):
    with within_yardsticks(200):
        HEADER_SECTION.match(piece * 200_000)


@pytest.mark.parametrize(
    ("value", "prefix", "line", "shown"),
    [
        (b" hello", "[SPAM] ", b"Subject: [SPAM] hello\r\n", "[SPAM] hello"),
        (b"hello", "[SPAM]", b"Subject: [SPAM]hello\r\n", "[SPAM]hello"),
        (b"", "[SPAM] ", b"Subject: [SPAM] \r\n", "[SPAM]"),
        (b"\r\n hello", "[SPAM] ", b"Subject: [SPAM] \r\n hello\r\n", "[SPAM]  hello"),
        (b" =?utf-8?q?h=C3=A9?=", "[SPAM]", b"Subject: [SPAM] =?utf-8?q?h=C3=A9?=\r\n", "[SPAM] hé"),
        (b" hello", "[ÄH] ", b"Subject: =?utf-8?b?W8OESF0=?= hello\r\n", "[ÄH] hello"),
        (
            b" =?utf-8?q?h=C3=A9?=",
            "[ÄH] ",
            b"Subject: =?utf-8?b?W8OESF0g?= =?utf-8?q?h=C3=A9?=\r\n",
            "[ÄH] hé",
        ),
    ],
)
def test_a_subject_keeps_its_own_octets_behind_the_prefix(value, prefix, line, shown):
    content = edited(b"A: 1\r\nSubject:" + value + b"\r\nB: 2\r\n\r\nbody", PrefixSubject(prefix))
    assert content == b"A: 1\r\n" + line + b"B: 2\r\n\r\nbody"
    assert subject_shown(content) == shown


@pytest.mark.parametrize(
    "content",
    [b"", b"A: 1\r\n\r\nSubject: body", b"\r\nSubject: body", b"A: 1\r\njunk\r\nSubject: body\r\n\r\n"],
)
def test_a_message_without_subject_gets_one(content):
    assert edited(content, PrefixSubject("[SPAM] ")) == b"Subject: [SPAM]\r\n" + content


def test_every_subject_gets_the_prefix():
    assert (
        edited(b"Subject: a\r\nsubject: b\r\n\r\n", PrefixSubject("x "))
        == b"Subject: x a\r\nsubject: x b\r\n\r\n"
    )


@given(st.binary(), st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=2000))
def test_no_message_and_no_prefix_breaks_it(content, prefix):
    result = edited(content, PrefixSubject(prefix), RemoveHeader("A"), AddHeader("A", prefix))
    assert result.startswith(b"A:")
    assert all(len(line) <= 998 + len(content) for line in result.split(b"\r\n"))


TOP = b"X-A: 1\r\n"
ADD, REMOVE, PREFIX = AddHeader("Subject", "new"), RemoveHeader("Subject"), PrefixSubject("[A] ")
OLD = b"A: 1\r\nSubject: old\r\n\r\nbody"


@pytest.mark.parametrize(
    ("edits", "after"),
    [
        # one subject, whichever edit made it
        ((REMOVE, ADD, PREFIX), b"Subject: [A] new\r\nA: 1\r\n\r\nbody"),
        ((REMOVE, PREFIX, AddHeader("X-A", "1")), TOP + b"Subject: [A]\r\nA: 1\r\n\r\nbody"),
        ((PREFIX, REMOVE, ADD), b"Subject: new\r\nA: 1\r\n\r\nbody"),
        ((PREFIX, PREFIX), b"A: 1\r\nSubject: [A] [A] old\r\n\r\nbody"),
        ((ADD, PREFIX), b"Subject: [A] new\r\nA: 1\r\nSubject: [A] old\r\n\r\nbody"),
        ((ADD, REMOVE), b"A: 1\r\n\r\nbody"),
        ((REMOVE, REMOVE, PREFIX, PREFIX), b"Subject: [A] [A]\r\nA: 1\r\n\r\nbody"),
        # what an edit adds the next one may remove, and add again
        ((AddHeader("X-A", "0"), RemoveHeader("x-a"), AddHeader("X-A", "1")), TOP + OLD),
        ((RemoveHeader("A"), AddHeader("A", "1")), b"A: 1\r\nSubject: old\r\n\r\nbody"),
        ((AddHeader("X-A", "1"), RemoveHeader("A")), TOP + b"Subject: old\r\n\r\nbody"),
        ((AddHeader("X-A", "1"), RemoveHeader("X-B")), TOP + OLD),
        ((AddHeader("X-A", "1"), RemoveHeader("X-A")), OLD),
    ],
)
def test_an_edit_applies_to_what_earlier_ones_have_made(edits, after):
    assert edited(OLD, *edits) == after


def test_what_is_not_edited_is_not_copied_though_other_edits_found_nothing():
    pieces = apply(MAIL, (AddHeader("X-A", "1"), RemoveHeader("X-Absent"), AddHeader("X-B", "2")))
    assert pieces[-1] is MAIL
    assert apply(MAIL, (AddHeader("X-A", "1"), RemoveHeader("X-A"))) == (MAIL,)


def test_every_kind_of_edit_is_in_words():
    words = {
        AddHeader("X-A", "1"): "add X-A: 1",
        AddHeader("X-A", b" a;\r\n\tb", 3): "add X-A: a; b",
        ChangeHeader("X-A", "1"): "change X-A to: 1",
        ChangeHeader("X-A", b"\xe4", 2): "change X-A (2) to: ä",
        RemoveHeader("X-B"): "remove X-B",
        RemoveHeader("X-B", number=2): "remove X-B (2)",
        PrefixSubject("[A] "): 'put "[A] " before the subject',
        ReplaceBody(b"a\r\n"): "replace the body by 3 bytes",
    }
    edits = tuple(words)
    assert [str(edit) for edit in edits] == list(words.values())
    assert {type(edit) for edit in edits} == set(EDITS)


NAMES = st.sampled_from(["A", "a", "X-B", "Subject", "SUBJECT", "From"])
TEXTS = st.sampled_from(["", "v", "[A] ", "a b", "=?utf-8?q?=C3=A4?=", "ä", "x" * 80])
LINE_ENDS = st.sampled_from([b"\r\n", b"\n"])
VALUES = st.sampled_from(
    [b"", b" v", b" v\r\n w", b" v\n\tw", b" =?utf-8?q?=C3=A4?=", b" \xe4\xc3", b" a:b", b"\r\n "]
)
EDIT_LISTS = st.lists(
    st.builds(AddHeader, NAMES, TEXTS)
    | st.builds(AddHeader, NAMES, TEXTS, st.none() | st.integers(0, 3))
    | st.builds(ChangeHeader, NAMES, TEXTS, st.integers(1, 3))
    | st.builds(RemoveHeader, NAMES)
    | st.builds(RemoveHeader, NAMES, number=st.integers(1, 3))
    | st.builds(PrefixSubject, TEXTS),
    max_size=4,
).map(tuple)


@st.composite
def messages(draw):
    """A message with a header section, maybe an empty one, of which readers differ in places."""
    lines = draw(st.lists(st.tuples(NAMES.map(str.encode), VALUES, LINE_ENDS), max_size=5))
    section = b"".join(name + b":" + value + end for name, value, end in lines)
    if section:
        section = draw(st.sampled_from([b"", b"From a@example.com\r\n", b">From a\n>>From b\n"])) + section
        section += draw(st.sampled_from([b"", b"no field\r\nA: 2\r\n"]))
    end = draw(st.sampled_from([b"\r\nbody\r\n", b"\nSubject: body", b"\r\n", b"", None]))
    return section.removesuffix(b"\n").removesuffix(b"\r") if end is None else section + end


@given(messages(), EDIT_LISTS, EDIT_LISTS)
def test_all_edits_together_are_the_same_as_one_after_another(content, first, second):
    halfway = edited(content, *first)
    if HEADER_SECTION.match(halfway):  # else nothing but a line that is no field is left of it
        assert edited(halfway, *second) == edited(content, *first, *second)


def fields_of(content):
    lines, end = split_lines(content)
    return lines, content[end:]


@given(messages(), EDIT_LISTS)
def test_what_no_edit_is_about_stays_byte_for_byte(content, edits):
    names = {edit.name.lower().encode() for edit in edits if not isinstance(edit, PrefixSubject)}
    if any(isinstance(edit, PrefixSubject) for edit in edits):
        names.add(b"subject")
    (before, body), (after, body_after) = fields_of(content), fields_of(edited(content, *edits))
    assert body_after == body

    def others(lines):
        return [line for line in lines if field_name(line) not in names]

    # a bare LF before a field that is removed becomes CRLF, so that the next field is not joined to it
    assert [line.rstrip(b"\r\n") for line in others(after)] == [
        line.rstrip(b"\r\n") for line in others(before)
    ]
    if b"\n" not in content.replace(b"\r\n", b""):
        assert others(after) == others(before)


def test_edits_apply_in_their_order():
    edits = (RemoveHeader("Subject"), PrefixSubject("new"), AddHeader("X-A", "1"))
    assert edited(b"Subject: old\r\n\r\nbody", *edits) == b"X-A: 1\r\nSubject: new\r\n\r\nbody"


def test_an_edit_of_no_known_kind_is_not_passed_over():
    with pytest.raises(AssertionError):
        apply(b"A: b\r\n\r\nx\r\n", ("tag",))


FIELDS = b"From: a@example.com\r\nX-A: 1\r\n one\r\nx-a : 2\r\nSubject: hello\r\n"
BODY = b"\r\nX-A: body\r\n"
LETTER = FIELDS + BODY


@pytest.mark.parametrize(
    ("edit", "fields"),
    [
        (AddHeader("N", "v", 0), b"N: v\r\n" + FIELDS),
        (AddHeader("N", "v", 1), FIELDS.replace(b"X-A", b"N: v\r\nX-A")),
        (AddHeader("N", "v", 2), FIELDS.replace(b"x-a", b"N: v\r\nx-a")),
        (AddHeader("N", "v", 4), FIELDS + b"N: v\r\n"),
        (AddHeader("N", "v", 99), FIELDS + b"N: v\r\n"),
        (AddHeader("N", "v", None), FIELDS + b"N: v\r\n"),
        (AddHeader("N", b"v;\r\n\tw  x", None), FIELDS + b"N:v;\r\n\tw  x\r\n"),
        (ChangeHeader("X-A", "new"), FIELDS.replace(b"X-A: 1\r\n one", b"X-A: new")),
        (ChangeHeader("x-A", b"  new", 2), FIELDS.replace(b"x-a : 2", b"x-A:  new")),
        (ChangeHeader("X-A", "new", 3), FIELDS + b"X-A: new\r\n"),
        (ChangeHeader("To", "b@example.com"), FIELDS + b"To: b@example.com\r\n"),
        (RemoveHeader("X-A", number=1), FIELDS.replace(b"X-A: 1\r\n one\r\n", b"")),
        (RemoveHeader("X-A", number=2), FIELDS.replace(b"x-a : 2\r\n", b"")),
        (RemoveHeader("X-A", number=3), FIELDS),
    ],
)
def test_a_field_is_placed_changed_and_removed_by_number_and_all_else_stays(edit, fields):
    assert edited(LETTER, edit) == fields + BODY
    assert edited(FIELDS, edit) == fields, "a message without an empty line"
    assert edited(FIELDS.removesuffix(b"\r\n"), edit).removesuffix(b"\r\n") == fields.removesuffix(b"\r\n")


def test_numbers_count_what_earlier_edits_have_left():
    gone = (RemoveHeader("X-A", number=1), RemoveHeader("X-A", number=1))
    assert edited(LETTER, *gone) == b"From: a@example.com\r\nSubject: hello\r\n" + BODY
    assert edited(LETTER, AddHeader("X-A", "0"), ChangeHeader("X-A", "n")) == b"X-A: n\r\n" + LETTER


def test_a_field_at_the_end_is_before_a_line_that_ends_the_header_section_for_many_readers():
    junk = b"From: a@example.com\r\nno field\r\nSubject: hello\r\n\r\nbody\r\n"
    assert edited(junk, AddHeader("N", "v", None)) == junk.replace(b"no field", b"N: v\r\nno field")
    mbox = b"From a@example.com Sat\r\nSubject: hello\r\n\r\n"
    assert edited(mbox, AddHeader("N", "v", 1)) == mbox.replace(b"hello\r\n", b"hello\r\nN: v\r\n")


@pytest.mark.parametrize("body", [b"", b"\r\n", b".\r\nnew\r\n", b"\xff\r\n" * 1000])
def test_a_body_is_replaced_and_the_header_section_stays(body):
    assert edited(LETTER, ReplaceBody(b"first\r\n"), ReplaceBody(body)) == FIELDS + b"\r\n" + body
    assert edited(FIELDS, ReplaceBody(body)) == FIELDS + b"\r\n" + body
    assert edited(FIELDS.removesuffix(b"\r\n"), ReplaceBody(body)) == FIELDS + b"\r\n" + body
    assert edited(b"\r\nall body\r\n", ReplaceBody(body)) == b"\r\n" + body
    assert edited(b"all body\r\n", ReplaceBody(body)) == b"\r\n" + body
    both = edited(b"all body\r\n", AddHeader("N", "v", None), ReplaceBody(body))
    assert both == b"N: v\r\n\r\n" + body
    both = edited(LETTER, AddHeader("N", "v"), ReplaceBody(body), AddHeader("O", "w", None))
    assert both == b"N: v\r\n" + FIELDS + b"O: w\r\n\r\n" + body


@pytest.mark.parametrize("body", [b"x", b"x\n", b"x\r", b"a\rb\r\n", b"a\nb\r\n", b"\0\r\n", b"\r\r\n"])
def test_a_body_whose_end_could_be_read_in_two_ways_cannot_be_built(body):
    with pytest.raises(ValueError, match="lines that end with CRLF"):
        ReplaceBody(body)


@pytest.mark.parametrize(
    "value",
    [b"\r\n", b"a\r\nBcc: x", b"a\nb", b"a\rb", b"\0", b"a\r\n \r\n b", b"a\r\n\t", b"a\r\n \r\nX: y"],
)
def test_bytes_that_would_end_the_field_cannot_be_a_value(value):
    for kind in (AddHeader, ChangeHeader):
        with pytest.raises(ValueError, match="not allowed in a header field"):
            kind("X-A", value)


def test_what_makes_no_sense_cannot_be_built():
    for wrong in (
        lambda: AddHeader("A", "b", -1),
        lambda: ChangeHeader("A", "b", 0),
        lambda: RemoveHeader("A", number=0),
        lambda: RemoveHeader("A", "value", 1),
        lambda: AddHeader("A", b"x" * (64 << 10) + b"y"),
    ):
        with pytest.raises(ValueError, match="expected"):
            wrong()
    for wrong in (lambda: AddHeader("A", "b", index=True), lambda: ReplaceBody("text")):
        with pytest.raises(TypeError, match="expected"):
            wrong()
