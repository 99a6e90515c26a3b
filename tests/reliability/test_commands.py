"""Commands, good and bad, are answered one by one and in their order."""

import contextlib
import re
import socket
import struct
import time

import pytest
from gatepost.testing import FakeUpstream, running_gateway
from gatepost.testing.upstream import Close

HELO, MAIL, RCPT = (
    b"EHLO client.example.org\r\n",
    b"MAIL FROM:<alice@example.org>\r\n",
    b"RCPT TO:<bob@example.com>\r\n",
)


def mail(arguments):
    return b"MAIL FROM:" + arguments + b"\r\n"


def rcpt(arguments):
    return b"RCPT TO:" + arguments + b"\r\n"


def case(number, name, command, expected, before=(HELO,)):
    return pytest.param(before, command, expected, id=f"{number}-{name}", marks=pytest.mark.case(number))


def on_both(number, name, arguments, at_mail, at_rcpt):
    """The same at MAIL and at RCPT."""
    return [
        case(number, f"{name}, MAIL", mail(arguments), at_mail),
        case(number, f"{name}, RCPT", rcpt(arguments), at_rcpt, (HELO, MAIL)),
    ]


def path_of(octets):
    """In its brackets as long as that; RFC 5321 section 4.5.3.1.3 allows 256."""
    return b"<" + b"l" * (octets - len("<@example.com>")) + b"@example.com>"


def until(look):
    """What it sees, once that is something."""
    give_up = time.monotonic() + 30
    while not (seen := look()):
        assert time.monotonic() < give_up
        time.sleep(0.005)
    return seen


BEGUN = (HELO, MAIL, RCPT)
CHUNK = b"BDAT 3\r\nx\r\n"
LAST = b"BDAT 0 LAST\r\n"


@pytest.mark.parametrize(
    ("before", "command", "expected"),
    [
        case(20, "bare LF", b"NOOP\n", "500 "),
        case(21, "10 MB", b"NOOP " + b"x" * (10 << 20) + b"\r\n", "500 "),
        case(22, "8-bit verb in UTF-8", b"\xd0\xaf\r\n", "500 5.5.1"),
        *on_both(26, "no brackets", b"bob@example.com", "501 5.1.7", "501 5.1.3"),
        *on_both(27, "half a bracket", b"<", "501 5.1.7", "501 5.1.3"),
        *on_both(27, "half a quote", b'<"', "501 5.1.7", "501 5.1.3"),
        *on_both(27, "half a path", b"<a@", "501 5.1.7", "501 5.1.3"),
        *on_both(28, "comment", b"<a(c)@example.com>", "501 5.1.7", "501 5.1.3"),
        *on_both(28, "source route", b"<@relay.example:a@example.com>", "501 5.1.7", "550 5.7.1"),
        *on_both(30, "path of 257 octets", path_of(257), "501 5.1.7", "501 5.1.3"),
        *on_both(33, "unknown parameter", b"<a@example.com> FOO=bar", "555 5.5.4", "555 5.5.4"),
        *on_both(33, "that of the other", b"<a@example.com> NOTIFY=NEVER", "555 5.5.4", "250 "),
        *on_both(33, "that of another", b"<a@example.com> RET=FULL", "250 ", "555 5.5.4"),
        case(34, "SIZE too large", mail(b"<a@example.org> SIZE=99999999999"), "552 5.3.4"),
        case(35, "superscript", mail("<a@example.org> SIZE=²".encode()), "501 5.5.4"),
        case(35, "negative", mail(b"<a@example.org> SIZE=-1"), "501 5.5.4"),
        case(35, "10^30", mail(b"<a@example.org> SIZE=1" + b"0" * 30), "501 5.5.4|552 5.3.4"),
        case(42, "no recipient", b"DATA\r\n", "503 |554 ", (HELO, MAIL)),
        *(
            case(23, f"{name} {when}", command, expected, before)
            for command, name in (
                (MAIL, "MAIL"),
                (RCPT, "RCPT"),
                (b"DATA\r\n", "DATA"),
                (CHUNK, "BDAT"),
                (LAST, "BDAT LAST"),
            )
            for when, before, answered in (
                ("before EHLO", (), {}),
                ("before MAIL", (HELO,), {"MAIL": "250 "}),
                ("after RSET", (*BEGUN, b"RSET\r\n"), {"MAIL": "250 "}),
                ("before RCPT", (HELO, MAIL), {"RCPT": "250 ", "MAIL": "503 5.5.1"}),
                ("after a refused RCPT", (HELO, MAIL, b"RCPT TO:<a@foreign.example>\r\n"), {"RCPT": "250 "}),
                ("within BDAT", (*BEGUN, CHUNK), {"BDAT": "250 ", "BDAT LAST": "250 "}),
            )
            for expected in [answered.get(name, "503 5.5.1|554 5.5.1" if "RCPT" in when else "503 5.5.1")]
        ),
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
            (28, b"a..b@example.com", "250"),
            (28, b".a@example.com", "250"),
            (28, b"a.@example.com", "250"),
            (29, b"postmaster", "250"),
            (29, b"PostMaster", "250"),
            (30, b"l" * 65 + b"@example.com", "250"),
            (30, path_of(256)[1:-1], "250"),
        ]
    ],
)
def test_an_address_goes_upstream_octet_for_octet_or_not_at_all(talk, upstream, path, expected):
    _, _, said, *_ = talk(HELO, MAIL, rcpt(b"<" + path + b">"), b"RSET\r\n")
    assert re.match(expected, said), said
    heard = [line for connection in upstream.commands for line in connection]
    assert (f"RCPT TO:<{path.decode()}>" in heard) is said.startswith("250")


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.decode(), marks=pytest.mark.case(number))
        for number, path in [
            (28, b'"a b"@example.org'),
            (28, b'"a"@example.org'),
            (28, b'"a\\"<>b"@example.org'),
            (28, b"=?utf-8?q?x=40y?=@example.org"),
            (28, b"A.b+C@eXample.org"),
            (28, b".a..b.@example.org"),
            (28, b"a@example.org."),
            (30, b"l" * 65 + b"@example.org"),
            (30, path_of(256)[1:-1]),
        ]
    ],
)
def test_so_does_the_address_of_a_sender(talk, upstream, path):
    assert [one[:3] for one in talk(HELO, mail(b"<" + path + b">"), RCPT, b"RSET\r\n")] == ["250"] * 4
    heard = [line for connection in upstream.commands for line in connection]
    assert f"MAIL FROM:<{path.decode()}>" in heard


@pytest.mark.case(22)
def test_no_octet_beyond_ascii_makes_a_command(gateway, reply, upstream):
    """Alone it is no UTF-8 either; at the end of a verb, in both paths, a parameter and a name."""
    before = len(upstream.messages)
    octets = [bytes((octet,)) for octet in range(0x80, 0x100)]
    for commands, expected in (
        ([b"NOOP" + one + b"\r\n" for one in octets], "500 5.5.1"),
        ([b"NOOP " + one + b"\r\n" for one in octets], "500 5.5.2"),
        ([mail(b"<a" + one + b"@example.org>") for one in octets], "500 5.5.2"),
        ([mail(b"<a@example.org> BODY=" + one) for one in octets], "500 5.5.2"),
        ([rcpt(b"<a@" + one + b".example.com>") for one in octets], "500 5.5.2"),
        ([b"EHLO " + one + b".example.org\r\n" for one in octets], "500 5.5.2"),
    ):
        for some in (commands[n : n + 16] for n in range(0, 128, 16)):  # twenty would end the session
            with (
                socket.create_connection((gateway.host, gateway.port), 60) as client,
                client.makefile("rb") as lines,
            ):
                reply(lines)
                client.sendall(HELO)
                reply(lines)
                client.sendall(b"".join(some) + b"NOOP\r\n")
                assert [reply(lines)[:9] for _ in some] == [expected] * len(some)
                assert reply(lines).startswith("250 "), "the session goes on"
    assert len(upstream.messages) == before


@pytest.mark.case(34)
@pytest.mark.parametrize("declared", [1, 4096])
def test_a_size_that_lies_is_found_out_behind_the_dot(talk, upstream, declared):
    before = len(upstream.messages)
    lying = mail(b"<alice@example.org> SIZE=%d" % declared)
    content = b"Subject: x\r\n\r\n" + b"x" * 5000 + b"\r\n.\r\n"
    with running_gateway({"limits": {"message_size": "4KiB"}}, upstream=upstream) as small:
        honest = (MAIL, RCPT, b"DATA\r\n", b"Subject: small\r\n\r\n.\r\n")
        replies = talk(HELO, lying, RCPT, b"DATA\r\n", content, *honest, to=small)
        small_one, large_one = small.journal()
    assert [one[:3] for one in replies] == ["250", "250", "250", "354", "552", "250", "250", "354", "250"]
    assert replies[4].startswith("552 5.3.4 ")
    assert len(upstream.messages) == before + 1
    assert (large_one.recipients[0].disposition, large_one.size) == ("refused", 5016)
    assert small_one.recipients[0].disposition == "relayed"


@pytest.mark.case(56)
@pytest.mark.parametrize("claim", [b"XCLIENT ADDR=192.0.2.7 NAME=evil.example", b"XFORWARD ADDR=192.0.2.7"])
@pytest.mark.parametrize("place", range(4))
def test_who_claims_to_be_another_stays_who_it_is(talk, gateway, claim, place):
    commands = [HELO, MAIL, RCPT, b"DATA\r\n", b"Subject: x\r\n\r\n.\r\n"]
    commands.insert(place, claim + b"\r\n")
    replies = talk(*commands)
    assert replies.pop(place).startswith("550 5.7.0 ")
    assert [one[:3] for one in replies] == ["250", "250", "250", "354", "250"]
    assert gateway.journal()[0].client == "127.0.0.1"


def test_a_rule_is_asked_about_whatever_a_client_calls_itself(talk, upstream):
    rule = {"name": "no-name", "filter": "match", "when": {"helo": ["* *", "*\u00fc*"]}}
    with running_gateway({"rules": [rule]}, upstream=upstream) as gateway:
        replies = talk(b"EHLO a b\r\n", "EHLO \u00fc\r\n".encode(), HELO, to=gateway)
        assert [one[:3] for one in replies] == ["550", "550", "250"]
        assert [record.helo for record in gateway.journal()] == ["\u00fc", "a b"]


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


DATA, DOT, QUIT = b"DATA\r\n", b"Subject: x\r\n\r\n.\r\n", b"QUIT\r\n"
DIALOGUES = [
    ([b"MAIL FROM:<a@b.example>\r\n", DATA, b"AUTH PLAIN\r\n", b"STARTTLS\r\n"], "503 503 502 502"),
    (
        [b"EHLO\r\n", b"HELO \x01\r\n", b"FOO\r\n", b"NOOP\n", b"NOOP " + b"x" * 3000 + b"\r\n"],
        "501 500 500 500 500",
    ),
    ([HELO, b"HELP\r\n", b"VRFY\r\n", b"VRFY x\r\n", b"EXPN x\r\n", b"NOOP\r\n"], "250 214 501 252 502 250"),
    ([HELO, mail(b"<>"), MAIL, b"RSET x\r\n", b"RSET\r\n", b"QUIT x\r\n"], "250 250 503 501 250 501"),
    (
        [HELO, mail(b"a"), mail(b"<a>"), mail(b"<a@b.example> SIZE=x"), mail(b"<a@b.example> X=y")],
        "250 501 501 501 555",
    ),
    ([HELO, mail("<\u00fc@b.example>".encode()), mail(b"<a@b.example> SIZE=9999999")], "250 553 552"),
    (
        [HELO, MAIL, rcpt(b"<"), rcpt(b"<a@foreign.example>"), rcpt(b"<@a.example:b@example.com>"), DATA],
        "250 250 501 550 550 554",
    ),
    ([*BEGUN, RCPT, RCPT, DATA, DOT], "250 250 250 250 452 354 250"),
    ([*BEGUN, CHUNK, DATA, RCPT, LAST], "250 250 250 250 503 503 250"),
    ([*BEGUN, DATA, b"x" * 5000 + b"\r\n.\r\n"], "250 250 250 354 552"),
    ([*BEGUN, DATA, b"a\0b\r\n.\r\n"], "250 250 250 354 550"),
    ([*BEGUN, DATA, b"Received: x\r\n" * 51 + b"\r\n.\r\n"], "250 250 250 354 554"),
    ([HELO, MAIL, rcpt(b"<busy@example.com>"), rcpt(b"<lost@example.com>"), DATA], "250 250 450 451 554"),
    ([HELO, b"XCLIENT ADDR=192.0.2.1\r\n", b"AUTH X\r\n", b"STARTTLS x\r\n"], "250 550 502 502"),
    ([b"GET / HTTP/1.1\r\n"], "421"),
    ([HELO, MAIL, b"BDAT x\r\n"], "250 250 501"),
]


@pytest.mark.case(40)
@pytest.mark.parametrize(("pieces", "codes"), DIALOGUES, ids=[codes for _, codes in DIALOGUES])
def test_an_enhanced_code_is_of_the_class_of_its_code(moody, reply, pieces, codes):
    with socket.create_connection((moody.host, moody.port), 60) as client, client.makefile("rb") as lines:
        replies = [reply(lines)]
        for piece in (*pieces, QUIT):
            with contextlib.suppress(ConnectionError):  # it was closed with the reply before
                client.sendall(piece)
                replies.append(reply(lines))
    said = [one for one in replies[1:] if one]
    assert " ".join(one[:3] for one in said) in (codes, f"{codes} 221")
    without = ("250-gateway.example.net", "354 ")
    for line in "\n".join(one for one in said if not one.startswith(without)).splitlines():
        found = re.match(r"([245])\d\d[ -]([245])\.\d{1,3}\.\d{1,3} ", line)
        assert found, line
        assert found[1] == found[2], line


@pytest.fixture(scope="module")
def moody():
    """A gateway with small limits, whose upstream has moods."""
    answers = {"busy": "450 4.2.1 Busy", "lost": Close()}
    script = {"rcpt": lambda path: answers.get(path[4:8])}
    limits = {"message_size": "4KiB", "recipients": 2}
    with FakeUpstream(script) as upstream, running_gateway({"limits": limits}, upstream=upstream) as running:
        yield running


@pytest.mark.case(40)
@pytest.mark.parametrize("step", ["mail", "rcpt", "data", "dot"])
@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ("550 4.1.1 x", "550 5.0.0 4.1.1 x"),
        ("550 2.1.1 x", "550 5.0.0 2.1.1 x"),
        ("450 5.1.1 x", "450 4.0.0 5.1.1 x"),
        ("550-4.1.1 x\n550 4.1.1 y", "550-5.0.0 4.1.1 x\n550 5.0.0 4.1.1 y"),
        ("550-5.1.1 x\n550 4.1.1 y", "550-5.1.1 x\n550 5.1.1 4.1.1 y"),
        ("550 x", "550 5.0.0 x"),
        ("550", "550 5.0.0"),
        ("421 5.3.2 x", "451 4.4.2 5.3.2 x"),
    ],
)
def test_what_upstream_contradicts_itself_in_does_not_leave_as_it_came(talk, step, said, heard):
    with FakeUpstream({step: said}) as upstream, running_gateway({}, upstream=upstream) as gateway:
        replies = talk(*BEGUN, DATA, DOT, to=gateway)
    refused = next(one for one in replies if one[0] in "45")
    assert refused.rstrip() == heard


@pytest.mark.case(40)
def test_nor_does_a_yes(talk):
    with FakeUpstream({"dot": "250 5.0.0 Ok"}) as upstream, running_gateway({}, upstream=upstream) as gateway:
        assert talk(*BEGUN, DATA, DOT, to=gateway)[-1] == "250 2.0.0 5.0.0 Ok"


@pytest.mark.case(38)
def test_what_is_asked_of_notifications_reaches_upstream(talk, upstream):
    ask = (
        mail(b"<alice@example.org> RET=HDRS ENVID=a+2Bb"),
        b"RCPT TO:<bob@example.com> NOTIFY=NEVER ORCPT=rfc822;B+2Bob@example.net\r\n",
    )
    assert talk(HELO, *ask, b"DATA\r\n", b"Subject: x\r\n\r\n.\r\n")[-1].startswith("250 ")
    message = upstream.messages[-1]
    assert {"RET=HDRS", "ENVID=a+2Bb"} <= set(message.parameters)
    assert message.recipients[0].parameters == ("NOTIFY=NEVER", "ORCPT=rfc822;B+2Bob@example.net")


@pytest.mark.case(38)
def test_notifications_are_not_offered_where_upstream_has_none(talk):
    with FakeUpstream(extensions=()) as upstream, running_gateway({}, upstream=upstream) as gateway:
        helo, *replies = talk(
            HELO,
            mail(b"<alice@example.org> RET=HDRS"),
            b"RCPT TO:<bob@example.com> NOTIFY=NEVER\r\n",
            b"RCPT TO:<carol@example.com> ORCPT=rfc822;bob@example.net\r\n",
            to=gateway,
        )
        asked = [command for commands in upstream.commands for command in commands]
    assert "DSN" not in helo
    assert [one[:4] for one in replies] == ["250 "] * 3
    assert "RET" not in str(asked)
    assert "NOTIFY" not in str(asked)
    assert "RCPT TO:<carol@example.com>" in asked


@pytest.mark.case(36)
def test_whoever_says_nothing_sensible_is_sent_away(gateway, reply):
    with socket.create_connection((gateway.host, gateway.port), 60) as client, client.makefile("rb") as lines:
        reply(lines)
        client.sendall(b"FOO\r\n" * 19 + b"NOOP\r\n")
        assert [reply(lines)[:3] for _ in range(20)] == ["500"] * 19 + ["250"], "not before the limit"
        client.sendall(b"FOO\r\nNOOP\r\n")
        said = list(iter(lambda: reply(lines), ""))
    assert [one[:9] for one in said] == ["421 4.7.0"], "one reply, and it is the last"


@pytest.mark.case(37)
@pytest.mark.parametrize("verb", [b"GET", b"POST", b"CONNECT"])
def test_a_browser_is_sent_away(gateway, reply, upstream, verb):
    before = len(upstream.messages)
    with socket.create_connection((gateway.host, gateway.port), 60) as client, client.makefile("rb") as lines:
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
    with socket.create_connection((gateway.host, gateway.port), 60) as client, client.makefile("rb") as lines:
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
@pytest.mark.parametrize("end", ["half-close", "reset"])
def test_half_a_message_in_chunks_is_none(gateway, reply, upstream, wire, end):
    before, journalled = len(upstream.messages), len(gateway.journal())
    with socket.create_connection((gateway.host, gateway.port), 60) as client, client.makefile("rb") as lines:
        reply(lines)
        for command in (HELO, MAIL, RCPT):
            client.sendall(command)
            reply(lines)
        client.sendall(wire)
        if end == "half-close":
            client.shutdown(socket.SHUT_WR)
        else:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            lines.close()
        said = [] if end == "reset" else list(iter(lambda: reply(lines), ""))
    assert not [one for one in said if "queued" in one or "Ok: " in one], said
    record, *others = until(lambda: gateway.journal()[: len(gateway.journal()) - journalled])
    assert (record.recipients[0].disposition, others) == ("abandoned", [])
    assert len(upstream.messages) == before


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
    with socket.create_connection((gateway.host, gateway.port), 60) as client, client.makefile("rb") as lines:
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
        from gatepost import hookimpl
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
