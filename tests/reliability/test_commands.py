"""Commands, good and bad, are answered one by one and in their order."""

import contextlib
import re
import socket

import pytest

HELO, MAIL, RCPT = (
    b"EHLO client.example.org\r\n",
    b"MAIL FROM:<alice@example.org>\r\n",
    b"RCPT TO:<bob@example.com>\r\n",
)


def mail(arguments):
    return b"MAIL FROM:" + arguments + b"\r\n"


def case(number, name, command, expected, before=(HELO,)):
    return pytest.param(before, command, expected, id=f"{number}-{name}", marks=pytest.mark.case(number))


@pytest.mark.parametrize(
    ("before", "command", "expected"),
    [
        case(20, "bare LF", b"NOOP\n", "500 "),
        case(21, "10 MB", b"NOOP " + b"x" * (10 << 20) + b"\r\n", "500 "),
        case(22, "8-bit address", mail(b"<\xff\x80@example.org>"), "5"),
        case(22, "8-bit verb", b"\xd0\xaf\r\n", "5"),
        case(26, "no brackets", mail(b"alice@example.org"), "501 "),
        case(26, "no brackets, RCPT", b"RCPT TO:bob@example.com\r\n", "501 ", (HELO, MAIL)),
        case(27, "half a bracket", mail(b"<"), "501 "),
        case(27, "half a quote", mail(b'<"'), "501 "),
        case(27, "half a path", mail(b"<a@"), "501 "),
        case(33, "unknown parameter", mail(b"<a@example.org> FOO=bar"), "555 5.5.4"),
        case(34, "SIZE too large", mail(b"<a@example.org> SIZE=99999999999"), "552 5.3.4"),
        case(35, "superscript", mail("<a@example.org> SIZE=²".encode()), "501 5.5.4"),
        case(35, "negative", mail(b"<a@example.org> SIZE=-1"), "501 5.5.4"),
        case(35, "10^30", mail(b"<a@example.org> SIZE=1" + b"0" * 30), "501 5.5.4|552 5.3.4"),
        case(42, "no recipient", b"DATA\r\n", "503 |554 ", (HELO, MAIL)),
        case(56, "XCLIENT", b"XCLIENT ADDR=127.0.0.1\r\n", "550 |50[02] "),
        case(56, "XFORWARD", b"XFORWARD NAME=localhost\r\n", "550 |50[02] "),
    ],
)
def test_a_command_has_its_one_reply_and_the_session_goes_on(talk, before, command, expected):
    *_, reply, after = talk(*before, command, b"NOOP\r\n")
    assert re.match(expected, reply), reply
    assert after.startswith("250 ")


@pytest.mark.case(40)
def test_an_enhanced_code_is_of_the_class_of_its_code(talk):
    replies = talk(
        HELO,
        b"RCPT TO:<x>\r\n",
        MAIL,
        MAIL,
        RCPT,
        b"RCPT TO:<a@foreign.example>\r\n",
        b"FOO\r\n",
        b"RSET\r\n",
    )
    enhanced = [re.match(r"(\d)\d\d (\d)\.\d+\.\d+ ", reply) for reply in replies[1:]]
    assert all(found and found[1] == found[2] for found in enhanced), replies


@pytest.mark.case(38)
def test_what_is_asked_of_notifications_reaches_upstream(talk, upstream):
    ask = (mail(b"<alice@example.org> RET=HDRS ENVID=a+2Bb"), b"RCPT TO:<bob@example.com> NOTIFY=NEVER\r\n")
    assert talk(HELO, *ask, b"DATA\r\n", b"Subject: x\r\n\r\n.\r\n")[-1].startswith("250 ")
    message = upstream.messages[-1]
    assert {"RET=HDRS", "ENVID=a+2Bb"} <= set(message.parameters)
    assert message.recipients[0].parameters == ("NOTIFY=NEVER",)


@pytest.mark.case(36)
def test_whoever_says_nothing_sensible_is_sent_away(gateway, reply):
    with socket.create_connection((gateway.host, gateway.port), 20) as client, client.makefile("rb") as lines:
        reply(lines)
        client.sendall(b"FOO\r\n" * 20)
        said = list(iter(lambda: reply(lines), ""))
    assert said[-1].startswith("421 ")
    assert len(said) <= 21


@pytest.mark.case(37)
@pytest.mark.parametrize("verb", [b"GET", b"POST", b"CONNECT"])
def test_a_browser_is_sent_away(gateway, reply, upstream, verb):
    before = len(upstream.messages)
    with socket.create_connection((gateway.host, gateway.port), 20) as client, client.makefile("rb") as lines:
        reply(lines)
        client.sendall(verb + b" / HTTP/1.1\r\n" + HELO + MAIL + RCPT + b"DATA\r\nx\r\n.\r\n")
        said = []
        with contextlib.suppress(ConnectionError):
            said += iter(lambda: reply(lines), "")
    assert len(said) <= 1
    assert all(one[0] in "45" for one in said)
    assert len(upstream.messages) == before


@pytest.mark.case(41)
def test_a_hundred_recipients_in_one_write(gateway, reply, upstream):
    recipients = b"".join(b"RCPT TO:<r%d@example.com>\r\n" % number for number in range(100))
    with socket.create_connection((gateway.host, gateway.port), 20) as client, client.makefile("rb") as lines:
        reply(lines)
        client.sendall(HELO)
        reply(lines)
        client.sendall(MAIL + recipients + b"DATA\r\n")
        assert [reply(lines)[:3] for _ in range(102)] == ["250"] * 101 + ["354"]
        client.sendall(b"Subject: x\r\n\r\n.\r\n")
        assert reply(lines).startswith("250 ")
    assert [r.address for r in upstream.messages[-1].recipients] == [f"r{n}@example.com" for n in range(100)]


@pytest.mark.case(46)
def test_chunks_are_one_message_or_none(talk, upstream):
    before = len(upstream.messages)
    chunks = (
        (b"BDAT 14\r\n", b"Subject: x\r\n\r\n"),
        b"BDAT 0\r\n",
        (b"BDAT 3\r\n", b".\r\n"),
        b"BDAT 0 LAST\r\n",
    )
    assert [reply[:3] for reply in talk(HELO, MAIL, RCPT, *chunks)] == ["250"] * 7
    assert upstream.messages[-1].content.endswith(b"Subject: x\r\n\r\n.\r\n")
    gone = talk(HELO, MAIL, RCPT, (b"BDAT 5\r\n", b"NOOPS"), b"RSET\r\n", b"BDAT 0 LAST\r\n")
    assert [reply[:3] for reply in gone] == ["250"] * 5 + ["503"]
    assert len(upstream.messages) == before + 1
