"""Text that others choose stays text: in a reply, in a field that we add, in the log."""

import re

import pytest
from gatepost.testing import FakeUpstream, running_gateway

FOOLED = """\
from gatepost import Verdict, hookimpl

class Fooled:
    @hookimpl
    def filter_message(self, transaction):
        return Verdict(reason="x\\r\\n250 2.0.0 Ok: forged\\r\\n\\x1b[31m")
"""
RULE = {
    "name": "fooled",
    "filter": "./fooled.py:Fooled",
    "action": "reject",
    "reply": "550 5.7.1 No: {reason}",
}
BEGIN = [b"HELO c.example\r\n", b"MAIL FROM:<a@example.org>\r\n", b"RCPT TO:<b@example.com>\r\n"]


def test_what_a_filter_found_is_one_line_of_one_reply(talk):
    with (
        FakeUpstream() as upstream,
        running_gateway({"rules": [RULE]}, upstream=upstream, files={"fooled.py": FOOLED}) as gateway,
    ):
        replies = talk(*BEGIN, b"DATA\r\n", b"a: b\r\n\r\n.\r\n", to=gateway)
    assert replies[-1] == "550 5.7.1 No: x 250 2.0.0 Ok: forged \\x1b[31m"
    assert len(replies) == 5
    assert upstream.messages == ()


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        (b"550 5.7.1 a\rb\r\n", "550 5.7.1 a?b"),
        (b"550 5.7.1 \x1b[31m\0\r\n", "550 5.7.1 ?[31m?"),
    ],
    ids=["CR", "controls"],
)
def test_what_upstream_says_has_no_controls_for_the_client(talk, said, heard):
    with FakeUpstream({"dot": said}) as upstream, running_gateway({}, upstream=upstream) as gateway:
        replies = talk(*BEGIN, b"DATA\r\n", b"a: b\r\n\r\n.\r\n", to=gateway)
    assert replies[-1] == heard
    assert len(replies) == 5


NAMES = [
    "c.example) by evil (x",
    "a;b",
    "c(d",
    "a b",
    "<x>",
    '"q',
    "b\u00fccher.example",
    "[1.2.3",
    "%s%n",
    "x" * 400,
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("verb", ["EHLO", "HELO"])
def test_no_greeting_writes_into_the_field_that_we_add_and_the_journal_has_it_as_given(
    talk, gateway, upstream, verb, name
):
    said = [f"{verb} {name}\r\n".encode(), *BEGIN[1:], b"DATA\r\n", b"Subject: x\r\n\r\n.\r\n"]
    assert talk(*said)[-1].startswith("250 ")
    assert gateway.journal()[0].helo == name
    trace, _, _ = upstream.messages[-1].content.partition(b"\r\nSubject: x")
    assert re.fullmatch(
        rb"Received: from [A-Za-z0-9._?-]{1,255} \(\[127\.0\.0\.1\]\)\r\n"
        rb"\tby \S+ \(Gatepost\) with E?SMTP id \w+\r\n\tfor <[a-z@.]+>;\r\n\t[\w,: +]+",
        trace,
    ), trace
