"""A saved message has the envelope that its fields tell of, and its own bytes."""

import pytest
from gatepost.model import saved
from gatepost.model.saved import NOBODY, SavedError, read_saved_mbox, read_saved_message

FROM = b"From bounce@example.com Mon Jan  1 12:00:00 2024\n"
HEADERS = (
    b"From: Ann <ann@example.org>\r\nTo: Bob <bob@example.com>, carol@example.net\r\nCc: dora@example.net\r\n"
)


def envelope(fields):
    found = read_saved_message(fields + b"\r\nHello\r\n")
    return found.mail_from, found.recipients


TO = ("bob@example.com", "carol@example.net", "dora@example.net")


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        (b"", ("ann@example.org", TO)),
        (b"Return-Path: <bounce@example.org>\r\n", ("bounce@example.org", TO)),
        (b"Return-Path: <>\r\n", ("", TO)),
        (b"return-path: bounce@example.org\r\n", ("bounce@example.org", TO)),
        (b"X-Envelope-From: <x@example.org>\r\n", ("x@example.org", TO)),
        (b"Return-Path: nonsense\r\n", ("ann@example.org", TO)),
        (FROM, ("bounce@example.com", TO)),
        (FROM + b"Return-Path: <first@example.org>\r\n", ("first@example.org", TO)),
        (FROM.replace(b"bounce@example.com", b"MAILER-DAEMON"), ("", TO)),
        (FROM.replace(b"bounce@example.com", b"-"), ("ann@example.org", TO)),
        (b"X-Envelope-To: <real@example.com>\r\n", ("ann@example.org", ("real@example.com",))),
        (b"Delivered-To: real@example.com\r\n", ("ann@example.org", ("real@example.com",))),
        (b"Bcc: ann@example.org\r\n", ("ann@example.org", (*TO, "ann@example.org"))),
    ],
)
def test_the_envelope_is_that_of_the_fields(before, expected):
    assert envelope(before + HEADERS) == expected


@pytest.mark.parametrize("to", [b"", b"To: undisclosed-recipients:;\r\n", b"To: Bob\r\n"])
def test_a_message_for_nobody_has_a_recipient_that_cannot_be(to):
    assert envelope(b"Subject: x\r\n" + to) == ("", (NOBODY,))


@pytest.mark.parametrize(
    ("data", "content"),
    [
        (b"Subject: x\r\n\r\nbody\r\n", b"Subject: x\r\n\r\nbody\r\n"),
        (b"Subject: x\n\nbody\n", b"Subject: x\r\n\r\nbody\r\n"),
        (b"Subject: x\r\n\r\nbare\nLF\r\n", b"Subject: x\r\n\r\nbare\nLF\r\n"),
        (b"Subject: x\n\none\r\ntwo\n", b"Subject: x\r\n\r\none\r\ntwo\r\n"),
        (b"Subject: x\n\nbare\rCR\n", b"Subject: x\r\n\r\nbare\rCR\r\n"),
        (b"Subject: \xff\0\n\nend", b"Subject: \xff\0\r\n\r\nend"),
        (b"Subject: only", b"Subject: only"),
        (b"\r\nbody\r\nSubject: no\r\n", None),
        (b" folded\r\nSubject: x\r\n\r\n", b" folded\r\nSubject: x\r\n\r\n"),
        (FROM + b"Subject: x\n\n>From there\n", b"Subject: x\r\n\r\n>From there\r\n"),
    ],
)
def test_the_bytes_are_kept_and_lf_of_a_unix_file_becomes_crlf(data, content):
    if content is None:
        with pytest.raises(SavedError, match=r"line 1: found 'body', expected a header field"):
            read_saved_message(data)
    else:
        assert read_saved_message(data).content == content


HEADER = "expected a header field like 'Subject: Hello'"
SEPARATOR = "expected a line like 'From bob@example.com Mon Jan  1 12:00:00 2024'"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", f"line 1: found nothing, {HEADER}"),
        (b"\n\n \n", "line 1: found nothing"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", r"line 1: found '\x89PNG', expected a header"),
        (b"\0" * 10_000_000, r"line 1: found '\x00\x00\x00"),
        (b"<!doctype html>\n<title>x</title>", "line 1: found '<!doctype html>'"),
        (b'{"to":"bob@example.com"}', """line 1: found '{"to":"bob@example.com"}'"""),
        (b"PK\3\4" + bytes(range(256)), r"line 1: found 'PK\x03\x04"),
        (FROM, "line 2: found nothing"),
        (b"a: b\n" * 2_000_000, "line 1: found a header section of 10,000,000 bytes"),
    ],
)
def test_what_is_no_message_is_named_with_its_line(data, says):
    with pytest.raises(SavedError) as caught:
        read_saved_message(data)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", f"line 1: found nothing, {SEPARATOR}"),
        (b"Subject: x\n\n", f"line 1: found 'Subject: x', {SEPARATOR}"),
        (b"\xff\xd8\xff\xe0", f"line 1: found '\\xff\\xd8\\xff\\xe0', {SEPARATOR}"),
        ((FROM + b"a: b\n\n") * 10_001, "line 30001: found more than 10,000 messages"),
    ],
)
def test_what_is_no_mbox_is_named_with_its_line(data, says):
    with pytest.raises(SavedError) as caught:
        read_saved_mbox(data)
    assert says in str(caught.value)


def test_the_others_of_an_mbox_are_read_if_one_is_no_message():
    page = FROM + b"<html>\n\n"
    read = [*read_saved_mbox(page + FROM + b"a: b\n\n" + page + FROM)]
    assert [str(one) if isinstance(one, SavedError) else one.line for one in read] == [
        f"line 2: found '<html>', {HEADER}",
        4,
        f"line 8: found '<html>', {HEADER}",
        f"line 11: found nothing, {HEADER}",
    ]


def test_a_message_that_is_too_large_is_not_read(monkeypatch):
    monkeypatch.setattr(saved, "MESSAGE_OCTETS", 30)
    small, large = FROM + b"a: b\n\n\n", FROM + b"a: b\n\n" + b"x" * 25 + b"\n\n"
    first, second = read_saved_mbox(large + small)
    assert str(first) == "line 1: found a message of 32 bytes, expected at most 30 bytes"
    assert second.content == b"a: b\r\n\r\n"


def test_the_envelope_of_many_addresses_is_bounded():
    many = b"To: " + b",\r\n ".join(b"a%d@example.com" % number for number in range(20_000)) + b"\r\n"
    cc = many.replace(b"To", b"Cc").replace(b"a", b"b")
    recipients = envelope(many + cc + b"Bcc: " + b"x" * 2_000 + b"@example.com\r\n")[1]
    assert len(recipients) == 10_000
    assert recipients[0] == "a0@example.com"


@pytest.mark.parametrize(("length", "is_read"), [(988, True), (989, False)])
@pytest.mark.parametrize("letter", ["a", "é", "発"])
def test_an_address_has_a_length_that_the_index_of_every_store_takes(letter, length, is_read):
    """Counted in bytes: PostgreSQL takes 2,704 of them, of text that cannot be compressed."""
    octets = len(letter.encode())
    local_part = letter * (length // octets) + "a" * (length % octets)
    recipients = envelope(f"To: {local_part}@example.com\r\n".encode())[1]
    assert recipients == ((f"{local_part}@example.com",) if is_read else (NOBODY,))


def test_an_mbox_has_its_messages_with_their_envelopes():
    data = FROM + HEADERS.replace(b"\r\n", b"\n") + b"\none\n\n" + FROM + b"Subject: two\n\n>From x\n"
    first, second = read_saved_mbox(data)
    assert (first.mail_from, first.recipients, first.content) == (
        "bounce@example.com",
        TO,
        HEADERS + b"\r\none\r\n",
    )
    assert (second.recipients, second.content) == ((NOBODY,), b"Subject: two\r\n\r\nFrom x\r\n")


def test_the_time_is_linear(within_yardsticks):
    with within_yardsticks(1000):
        read_saved_message(b"a: b\n\n" + b"x" * 20_000_000)
        for opened in (b"<", b"(", b"a "):
            read_saved_message(b"To: " + opened * 1_000_000 + b"\n\n")
