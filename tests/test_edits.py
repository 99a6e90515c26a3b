"""Header fields are added and removed without touching anything else."""

import email
import email.policy
import time
from email.header import decode_header, make_header

import pytest
from gatepost.edits import AddHeader, Edit, PrefixSubject, RemoveHeader, apply
from gatepost.mime.fields import HEADER_SECTION
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
def test_a_name_that_is_none_cannot_be_built(name):
    """RELIABILITY 74."""
    with pytest.raises(ValueError, match="no header field name"):
        AddHeader(name, "x")
    with pytest.raises(ValueError, match="no header field name"):
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
    assert b"".join(pieces) == b"X-B: 2\r\nX-A: 1\r\nSubject: [A]\r\n\r\n" + content
    assert pieces[-1] is content
    shown = email.message_from_bytes(b"Received: x\r\n" + b"".join(pieces), policy=email.policy.SMTP)
    assert shown.keys() == ["Received", "X-B", "X-A", "Subject"]
    assert shown.get_payload(decode=True) == content


@pytest.mark.parametrize(
    "piece", [b"From x\r\n", b">", b"a", b" ", b"From ", b"\n", b"From \t", b">From a\n>"]
)
def test_looking_for_a_header_section_is_linear(piece):
    begun = time.perf_counter()
    HEADER_SECTION.match(piece * 200_000)
    assert time.perf_counter() - begun < 2


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


def test_edits_apply_in_their_order():
    edits = (RemoveHeader("Subject"), PrefixSubject("new"), AddHeader("X-A", "1"))
    assert edited(b"Subject: old\r\n\r\nbody", *edits) == b"X-A: 1\r\nSubject: new\r\n\r\nbody"
