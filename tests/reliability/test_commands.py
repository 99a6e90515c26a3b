"""Commands, good and bad, are answered one by one and in their order."""

import contextlib
import re
import socket

import pytest

from proxy.testing import FakeUpstream, running_gateway

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
        case(30, "path of 257 octets", mail(b"<l@" + b".".join([b"d" * 62] * 4) + b"ooo>"), "501 5.1.7"),
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


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param(path, expected, id=path.decode(errors="replace"), marks=pytest.mark.case(number))
        for number, path, expected in [
            (28, b'"a b"@example.com', "250"),
            (28, b'"a"@example.com', "250"),
            (28, b'"a\\"<>b"@example.com', "250"),
            (28, b"=?utf-8?q?x=40y?=@example.com", "250"),
            (28, b"a(comment)@example.com", "501"),
            (28, b"(comment)a@example.com", "501"),
            (28, b"@relay.example:a@example.com", "501|550"),
            (28, b"A.b+C@eXample.com", "250"),
            (29, b"postmaster", "250"),
            (29, b"PostMaster", "250"),
            (30, b"l" * 65 + b"@example.com", "250"),
        ]
    ],
)
def test_an_address_goes_upstream_octet_for_octet_or_not_at_all(talk, upstream, path, expected):
    _, _, rcpt, *_ = talk(HELO, MAIL, b"RCPT TO:<" + path + b">\r\n", b"RSET\r\n")
    assert re.match(expected, rcpt), rcpt
    heard = [line for connection in upstream.commands for line in connection]
    assert (f"RCPT TO:<{path.decode()}>" in heard) is rcpt.startswith("250")


@pytest.mark.case(29)
def test_a_bounce_has_no_sender(talk, upstream):
    bounce = talk(HELO, mail(b"<>"), RCPT, b"DATA\r\n", b"Subject: bounce\r\n\r\n.\r\n")
    assert bounce[-1].startswith("250 ")
    assert upstream.messages[-1].mail_from == ""


@pytest.mark.case(31)
def test_who_is_past_the_limit_of_recipients_is_put_off(talk, upstream):
    recipients = [b"RCPT TO:<r%d@example.com>\r\n" % number for number in range(4)]
    with running_gateway({"limits": {"recipients": 2}}, upstream=upstream) as gateway:
        replies = talk(HELO, MAIL, *recipients, b"DATA\r\n", b"Subject: x\r\n\r\n.\r\n", to=gateway)
    assert [reply[:9] for reply in replies[2:6]] == ["250 2.1.5"] * 2 + ["452 4.5.3"] * 2
    assert replies[-1].startswith("250 ")
    assert [r.address for r in upstream.messages[-1].recipients] == ["r0@example.com", "r1@example.com"]


@pytest.mark.case(32)
def test_a_recipient_who_was_named_twice_is_named_twice_upstream(talk, upstream):
    replies = talk(HELO, MAIL, RCPT, RCPT, b"DATA\r\n", b"Subject: x\r\n\r\n.\r\n")
    assert [reply[:3] for reply in replies] == ["250"] * 4 + ["354", "250"]
    assert [r.address for r in upstream.messages[-1].recipients] == ["bob@example.com"] * 2


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


@pytest.mark.case(38)
def test_notifications_are_not_offered_where_upstream_has_none(talk):
    with FakeUpstream(extensions=()) as upstream, running_gateway({}, upstream=upstream) as gateway:
        helo, refused, rcpt, *_ = talk(
            HELO,
            mail(b"<alice@example.org> RET=HDRS"),
            MAIL,
            b"RCPT TO:<bob@example.com> NOTIFY=NEVER\r\n",
            to=gateway,
        )
    assert "DSN" not in helo
    assert refused.startswith("555 5.5.4")
    assert rcpt.startswith("250")


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


@pytest.mark.case(46)
@pytest.mark.parametrize("wire", [b"BDAT 10\r\nhalf", b"BDAT 4\r\nx\r\n\r", b"BDAT 10 LAST\r\nhalf"])
def test_half_a_message_in_chunks_is_none(gateway, reply, upstream, wire):
    before, journalled = len(upstream.messages), len(gateway.journal())
    with socket.create_connection((gateway.host, gateway.port), 20) as client, client.makefile("rb") as lines:
        reply(lines)
        for command in (HELO, MAIL, RCPT):
            client.sendall(command)
            reply(lines)
        client.sendall(wire)
        client.shutdown(socket.SHUT_WR)
        said = list(iter(lambda: reply(lines), ""))
    assert not [one for one in said if "queued" in one or "Ok: " in one], said
    assert len(upstream.messages) == before
    record, *others = gateway.journal()[: len(gateway.journal()) - journalled]
    assert (record.recipients[0].disposition, others) == ("abandoned", [])


@pytest.mark.case(46, 47)
@pytest.mark.parametrize(
    ("before", "expected"),
    [
        pytest.param((HELO, MAIL, RCPT), "552 5.3.4", id="46 over the limit"),
        pytest.param((b"HELO client.example.org\r\n", MAIL, RCPT), "503 ", id="47 not offered to HELO"),
        pytest.param((HELO,), "503 ", id="no transaction"),
    ],
)
def test_what_is_in_a_chunk_is_never_run_as_commands(talk, upstream, before, expected):
    seen = len(upstream.messages)
    chunk = b"RSET\r\n" * 1000
    with running_gateway({"limits": {"message_size": "4KiB"}}, upstream=upstream) as small:
        *_, refused, after = talk(*before, (b"BDAT %d LAST\r\n" % len(chunk), chunk), b"NOOP\r\n", to=small)
    assert refused.startswith(expected)
    assert after.startswith("250 ")
    assert len(upstream.messages) == seen


@pytest.mark.case(43, 45)
def test_two_messages_and_quit_in_one_write(gateway, reply, upstream):
    before = len(upstream.messages)
    messages = [b"Subject: one\r\n\r\nQUIT\r\n", b"Subject: two\r\n\r\nRSET\r\n"]
    with socket.create_connection((gateway.host, gateway.port), 20) as client, client.makefile("rb") as lines:
        reply(lines)
        whole = [MAIL + RCPT + b"DATA\r\n" + message + b".\r\n" for message in messages]
        client.sendall(HELO + b"".join(whole) + b"QUIT\r\n")
        said = list(iter(lambda: reply(lines), ""))
    assert [one[:3] for one in said] == ["250", *["250", "250", "354", "250"] * 2, "221"]
    arrived = upstream.messages[before:]
    assert [
        message.content[-len(sent) :] for message, sent in zip(arrived, messages, strict=True)
    ] == messages


@pytest.mark.case(44)
def test_who_talks_before_the_greeting_is_sent_away(upstream, reply):
    before = len(upstream.messages)
    slow = """
        import asyncio
        from proxy import hookimpl
        class Slow:
            @hookimpl
            async def filter_connect(self, session):
                await asyncio.sleep(0.2)
    """.replace("\n        ", "\n")
    rules = {"rules": [{"name": "slow", "filter": "./slow.py:Slow", "action": "reject"}]}
    with running_gateway(rules, upstream=upstream, files={"slow.py": slow}) as gateway:
        address = (gateway.host, gateway.port)
        with socket.create_connection(address, 20) as client, client.makefile("rb") as lines:
            client.sendall(HELO + MAIL + RCPT + b"DATA\r\nSubject: x\r\n\r\n.\r\n")
            said = []
            with contextlib.suppress(ConnectionError):
                said += iter(lambda: reply(lines), "")
    assert [one[:3] for one in said] in (["554"], ["421"])
    assert len(upstream.messages) == before
