"""The nouns."""

import os
from itertools import pairwise

import pytest
from gatepost.model.mail import Envelope, Message, Recipient, new_id


def test_identifiers_sort_by_time_and_none_comes_twice():
    ids = [new_id() for _ in range(5000)]
    assert len(set(ids)) == len(ids)
    assert all(len(i) == 16 for i in ids)
    assert all(a[:10] <= b[:10] for a, b in pairwise(ids))


def test_a_forked_process_counts_from_elsewhere():
    read, write = os.pipe()
    if os.fork() == 0:
        os.write(write, "".join(new_id()[10:] for _ in range(100)).encode())
        os._exit(0)
    os.wait()
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    theirs = {text[start : start + 6] for start in range(0, len(text), 6)}
    assert len(theirs) == 100
    assert not theirs & {new_id()[10:] for _ in range(100)}


@pytest.mark.parametrize(
    ("content", "header"),
    [
        (b"A: b\r\nC: d\r\n\r\nbody\r\n", b"A: b\r\nC: d\r\n"),
        (b"\r\nbody\r\n", b""),
        (b"A: b\r\n", b"A: b\r\n"),
        (b"A: b\n\nbody\r\n\r\n", b"A: b\n"),
        (b"", b""),
    ],
)
def test_the_header_section_ends_at_the_first_empty_line(content, header):
    assert Message(content=content).header_section == header


@pytest.mark.parametrize(
    ("address", "local_part", "domain"),
    [
        ("a@B.Example", "a", "b.example"),
        ("postmaster", "postmaster", ""),
        ('"x@y"@z', '"x@y"', "z"),
        ("A@Bücher.Example.", "A", "xn--bcher-kva.example"),
    ],
)
def test_a_recipient_has_a_local_part_and_a_domain(address, local_part, domain):
    recipient = Recipient(address=address)
    assert (recipient.local_part, recipient.domain) == (local_part, domain)


@pytest.mark.parametrize("size", ["", "x", "\u00b2", "1" * 5000])
def test_a_size_that_is_no_number_is_none(size):
    assert Envelope(mail_from="", parameters=(f"SIZE={size}",)).declared_size is None


def test_mail_parameters_are_found_without_regard_to_case():
    envelope = Envelope(mail_from="a@b", parameters=("size=10", "SMTPUTF8"))
    assert (envelope.declared_size, envelope.smtputf8, envelope.parameter("BODY")) == (10, True, None)
