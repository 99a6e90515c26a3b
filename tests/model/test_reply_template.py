import pytest
from gatepost.model.reply_template import FIELDS, check, fill
from hypothesis import given
from hypothesis import strategies as st

TEMPLATE = "550 5.7.1 No: {rule} {reason} {id} {sender} {recipient} {client}"


def test_fields_are_filled_and_those_without_a_value_are_empty():
    assert (
        str(fill("451 4.3.0 {rule}: {reason}", rule="words", reason="saw 'x'")) == "451 4.3.0 words: saw 'x'"
    )
    assert str(fill("550 <{sender}> ({rule})", rule="words")) == "550 <> (words)"


def test_a_value_cannot_change_the_code_add_lines_or_open_fields():
    reply = fill("550 {reason}", reason="5.7.1\r\n250 2.0.0 ok {rule}\n", rule="x")
    assert (reply.code, reply.enhanced, reply.text) == (550, None, "5.7.1 250 2.0.0 ok {rule}")


def test_a_value_is_bounded():
    assert len(fill(TEMPLATE, **dict.fromkeys(FIELDS, "x" * 10_000_000)).text) == 1024


@given(values=st.fixed_dictionaries({field: st.text() for field in FIELDS}), utf8=st.booleans())
def test_whatever_the_values_hold_it_is_one_safe_reply(values, utf8):
    wire = fill(TEMPLATE, **values).to_bytes(utf8=utf8)
    lines = wire.split(b"\r\n")
    assert lines.pop() == b""
    assert all(line.startswith((b"550-5.7.1", b"550 5.7.1")) and len(line) <= 2000 for line in lines)
    assert not set(wire.replace(b"\r\n", b"")) & {0, 10, 13, 127}


@pytest.mark.parametrize(
    "template", ["", "550{rule}", "{rule}", "999 x", "550 {Rule}", "550 {}", "550 {rule", "550 {rule.x}"]
)
def test_what_is_no_template_is_refused(template):
    with pytest.raises(ValueError):
        check(template)
