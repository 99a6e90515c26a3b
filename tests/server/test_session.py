"""Commands and their order."""

import re

import pytest
from gatepost.model.verdict import Reply, ReplyTiming
from gatepost.server import hash_password


async def test_a_message_is_taken(mx):
    client = await mx.talk("""
        C: MAIL FROM:<a@example.org> BODY=8BITMIME SIZE=30
        S: 250 2.1.0 OK
        C: RCPT TO:<"B c"@Example.COM>
        S: 250 2.1.5 OK
        C: RCPT TO:<refused@example.com>
        S: 550 5.1.1 No such user
        C: DATA
        S: 354
        C: Subject: hello
        C:
        C: ..dots
        C: .
        S: 250 2.0.0 Queued
        C: QUIT
        S: 221 2.0.0
        S: closed
    """)
    assert client
    [(envelope, content)] = mx.script.messages
    assert content == b"Subject: hello\r\n\r\n.dots\r\n"
    assert envelope.mail_from == "a@example.org"
    assert envelope.parameters == ("BODY=8BITMIME", "SIZE=30")
    assert [r.address for r in envelope.recipients] == ['"B c"@Example.COM']
    assert mx.script.calls == ["connect", "helo", "mail", "rcpt", "message", "close"]
    assert mx.script.sessions[-1].helo == "client.test"
    assert mx.script.sessions[-1].protocol == "ESMTP"


async def test_ehlo_offers_what_is_kept(mx):
    client = await mx.greeted()
    mx.script.offers = frozenset({"DSN", "SMTPUTF8"})
    await client.send(b"EHLO client.test\r\n")
    assert (await client.reply()).split("\n") == [
        "250-mx.test",
        "250-SIZE 33554432",
        "250-PIPELINING",
        "250-CHUNKING",
        "250-8BITMIME",
        "250-SMTPUTF8",
        "250-DSN",
        "250 ENHANCEDSTATUSCODES",
    ]


async def test_smtputf8_needs_no_offer(mx):
    """Whether upstream can take the message is known when it is there; ASCII alone it can."""
    mx.script.offers = frozenset()
    await mx.talk("""
        C: MAIL FROM:<ü@b>
        S: 553 5.6.7
        C: MAIL FROM:<a@b> SMTPUTF8
        S: 250
        C: RSET
        S: 250
        C: MAIL FROM:<ü@b> SMTPUTF8
        S: 250
    """)


async def test_dsn_parameters_pass_where_dsn_is_offered_and_are_left_out_where_not(mx):
    """RELIABILITY 38. Postfix as a proxy passes them on in any case: a refusal would lose the mail."""
    await mx.talk("""
        C: MAIL FROM:<a@b> RET=HDRS SIZE=1 ENVID=x
        S: 250
        C: RCPT TO:<a@b> NOTIFY=NEVER ORCPT=rfc822;c@d
        S: 250
        C: DATA
        S: 354
        C: .
        S: 250
        C: MAIL FROM:<a@b> RET=NONE
        S: 501
    """)
    [(envelope, _)] = mx.script.messages
    assert (envelope.parameters, envelope.recipients[0].parameters) == (("SIZE=1",), ())
    mx.script.messages.clear()
    mx.script.offers = frozenset({"DSN"})
    await mx.talk("""
        C: MAIL FROM:<a@b> RET=HDRS ENVID=x
        S: 250
        C: RCPT TO:<c@d> NOTIFY=NEVER ORCPT=rfc822;c@d
        S: 250
        C: DATA
        S: 354
        C: .
        S: 250
    """)
    [(envelope, _)] = mx.script.messages
    assert envelope.parameters == ("RET=HDRS", "ENVID=x")
    assert envelope.recipients[0].parameters == ("NOTIFY=NEVER", "ORCPT=rfc822;c@d")


async def test_helo_begins_a_session_without_extensions(mx):
    client = await mx.greeted()
    await client.talk("""
        C: HELO client.test
        S: 250 mx.test
        C: MAIL FROM:<a@b> FOO=bar
        S: 555 5.5.4
        C: MAIL FROM:<a@b> SIZE=1 BODY=8BITMIME
        S: 250
    """)
    assert mx.script.sessions[-1].protocol == "SMTP"


@pytest.mark.parametrize(
    ("before", "command", "reply"),
    [
        ([], "MAIL FROM:<a@b>", "503 5.5.1"),
        ([], "RCPT TO:<a@b>", "503 5.5.1"),
        ([], "DATA", "503 5.5.1"),
        (["EHLO c"], "RCPT TO:<a@b>", "503 5.5.1"),
        (["EHLO c"], "DATA", "503 5.5.1"),
        (["EHLO c", "MAIL FROM:<a@b>"], "DATA", "554 5.5.1"),
        (["EHLO c", "MAIL FROM:<a@b>"], "MAIL FROM:<a@b>", "503 5.5.1"),
        (["EHLO c", "MAIL FROM:<a@b>", "EHLO c"], "RCPT TO:<a@b>", "503 5.5.1"),
        (["EHLO c", "MAIL FROM:<a@b>", "HELO c"], "RCPT TO:<a@b>", "503 5.5.1"),
        (["EHLO c", "MAIL FROM:<a@b>", "RSET"], "RCPT TO:<a@b>", "503 5.5.1"),
        (["EHLO c", "MAIL FROM:<a@b>", "RSET"], "MAIL FROM:<a@b>", "250 2.1.0"),
        (["EHLO c", "MAIL FROM:<a@b>", "NOOP x"], "RCPT TO:<a@b>", "250 2.1.5"),
        (["EHLO c", "MAIL FROM:<a@b>", "RCPT TO:<a@b>"], "RCPT TO:<a@b>", "250 2.1.5"),
    ],
)
async def test_the_order_of_commands(mx, before, command, reply):
    """RELIABILITY 23, 24, 25, 32, 42."""
    client = await mx.greeted()
    for line in (*before, command):
        await client.send(f"{line}\r\n".encode())
        answer = await client.reply()
    assert answer.startswith(reply)


@pytest.mark.parametrize("command", ["RSET", "EHLO c", "HELO c", "QUIT"])
async def test_a_transaction_that_is_given_up_is_reset_once(mx, command):
    client = await mx.in_transaction()
    await client.talk(f"""
        C: {command}
        S: 2
        C: {command}
    """)
    client.close()
    await mx.script.closed.wait()
    assert mx.script.calls.count("reset") == 1
    assert mx.script.calls[-1] == "close"


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        pytest.param(b"EHLO\r\n", "501 5.5.4", id="no name"),
        pytest.param(b"EHLO  \r\n", "501 5.5.4", id="blanks for a name"),
        pytest.param(b"ehlo [127.0.0.1]\r\n", "250", id="literal"),
        pytest.param(b"Ehlo a_b\r\n", "250", id="underscore"),
        pytest.param(b"EHLO c  \r\n", "250", id="trailing space"),
        pytest.param(b"EHLO \xff\r\n", "500 5.5.2", id="22 not UTF-8 in EHLO"),
        pytest.param(b"HELO a\tb\r\n", "500 5.5.2", id="tab in HELO"),
        pytest.param(b"HELO a\x1b[31m\r\n", "500 5.5.2", id="escape in HELO"),
        pytest.param(b"HELO a\xe2\x80\xaeb\r\n", "500 5.5.2", id="right-to-left override in HELO"),
        pytest.param(b"\x80\xff\r\n", "500 5.5.1", id="22 8-bit"),
        pytest.param(b"NOOP \xff\r\n", "500 5.5.2", id="22 8-bit argument"),
        pytest.param(b"MAIL FROM:<\xff@b>\r\n", "500 5.5.2", id="22 not UTF-8"),
        pytest.param(b"NOOP a\0b\r\n", "500 5.5.2", id="NUL"),
        pytest.param(b"\r\n", "500 5.5.1", id="empty"),
        pytest.param(b" NOOP\r\n", "500 5.5.1", id="space first"),
        pytest.param(b"EHLO c\n", "500 5.5.2", id="20 bare LF"),
        pytest.param(b"EHLO c\rNOOP\r\n", "500 5.5.2", id="20 bare CR"),
        pytest.param(b"NOOP " + b"x" * 10_000_000 + b"\r\n", "500 5.5.2", id="21"),
        pytest.param(b"NOOP " + b"x" * 2041 + b"\r\n", "250 2.0.0", id="2048 octets"),
        pytest.param(b"NOOP " + b"x" * 2042 + b"\r\n", "500 5.5.2", id="2049 octets"),
        pytest.param(b"RSET x\r\n", "501 5.5.4", id="RSET argument"),
        pytest.param(b"QUIT x\r\n", "501 5.5.4", id="QUIT argument"),
        pytest.param(b"VRFY postmaster\r\n", "252 2.1.5", id="39 VRFY"),
        pytest.param(b"VRFY\r\n", "501 5.5.4", id="39 VRFY alone"),
        pytest.param(b"EXPN list\r\n", "502 5.5.1", id="39 EXPN"),
        pytest.param(b"HELP\r\n", "214 2.0.0", id="HELP"),
        pytest.param(b"XCLIENT ADDR=1.2.3.4\r\n", "550 5.7.0", id="56 XCLIENT"),
        pytest.param(b"XFORWARD ADDR=1.2.3.4\r\n", "550 5.7.0", id="56 XFORWARD"),
        pytest.param(b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1\r\n", "500 5.5.1", id="55 untrusted"),
        pytest.param(b"AUTH PLAIN\r\n", "502 5.5.1", id="AUTH not configured"),
        pytest.param(b"STARTTLS\r\n", "502 5.5.1", id="STARTTLS not configured"),
    ],
)
async def test_one_command_has_one_reply(mx, line, reply):
    """RELIABILITY 20, 21, 22, 39, 55, 56."""
    client = await mx.greeted()
    await client.send(line + b"NOOP\r\nQUIT\r\n")
    replies = await client.replies()
    assert len(replies) == 3
    assert replies[0].startswith(reply)
    assert replies[1:] == ["250 2.0.0 OK, nothing done", "221 2.0.0 Bye"]


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        ("MAIL FROM:a@b", "501 5.1.7"),
        ("MAIL FROM:<", "501 5.1.7"),
        ('MAIL FROM:<"', "501 5.1.7"),
        ("MAIL FROM:<a@", "501 5.1.7"),
        ("MAIL FROM:<a@b> SIZE=²", "501 5.5.4"),
        ("MAIL FROM:<a@b> SIZE=-1", "501 5.5.4"),
        ("MAIL FROM:<a@b> SIZE=1" + "0" * 30, "501 5.5.4"),
        ("MAIL FROM:<a@b> SIZE=99999999", "552 5.3.4"),
        ("MAIL FROM:<a@b> XFOO", "555 5.5.4"),
        ("MAIL FROM:<ü@b>", "553 5.6.7"),
        ("MAIL FROM:<ü@b> SMTPUTF8", "250 2.1.0"),
        ("MAIL", "501 5.5.4"),
        ("RCPT TO:<@a:b@c>", "550 5.7.1"),
        ("RCPT TO:<ü@b>", "553 5.6.7"),
    ],
)
async def test_paths_and_parameters_on_the_wire(mx, command, reply):
    """RELIABILITY 26, 27, 28, 33, 34, 35."""
    client = await (mx.in_transaction() if command.startswith("RCPT") else mx.ready())
    await client.talk(f"""
        C: {command}
        S: {reply}
    """)


async def test_recipients_past_the_limit_are_put_off(start):
    """RELIABILITY 31."""
    mx = await start(limits={"recipients": 2})
    client = await mx.in_transaction()
    await client.talk("""
        C: RCPT TO:<refused@x>
        C: RCPT TO:<2@x>
        C: RCPT TO:<3@x>
        C: DATA
        S: 550
        S: 250
        S: 452 4.5.3
        S: 354
        C: .
        S: 250
    """)
    assert len(mx.script.messages[0][0].recipients) == 2


HELLOS = [
    "a b",
    "<x>",
    "(x",
    "a,b;c",
    '"q',
    "\\",
    "a@b",
    "..",
    "-a-",
    "[1.2.3",
    "a: b",
    "%s%n",
    "=?utf-8?q?x?=",
    "localhost",
    "bücher.example",
    "x" * 1500,
]


@pytest.mark.parametrize("name", HELLOS)
@pytest.mark.parametrize("verb", ["EHLO", "HELO"])
async def test_a_client_may_call_itself_anything_that_is_printable(mx, verb, name):
    client = await mx.greeted()
    await client.talk(f"""
        C: {verb}   {name}
        S: 250
        C: MAIL FROM:<a@b>
        S: 250
    """)
    assert {session.helo for session in mx.script.sessions[1:]} == {name}


@pytest.mark.parametrize(
    "bogus", ["BOGUS", "EHLO", "NOOP \xff", "MAIL FROM:<", "AUTH PLAIN ?", "VRFY", "DATA x"]
)
async def test_the_command_that_is_one_too_many_has_421_for_its_reply_and_no_other(start, bogus):
    """RELIABILITY 36."""
    mx = await start(limits={"invalid_commands": 3}, listener={"auth": {"users": "any", "without_tls": True}})
    client = await mx.ready()
    await client.send(bogus.encode("latin-1") + b"\r\n")
    own = await client.reply()
    assert own.startswith("50")
    await client.send((bogus.encode("latin-1") + b"\r\n") * 30)
    assert await client.replies() == [own, "421 4.7.0 Too many errors, closing the connection"]


async def test_twenty_bogus_commands_have_twenty_replies(mx):
    """RELIABILITY 36."""
    client = await mx.ready()
    await client.send(b"BOGUS\r\n" * 30)
    replies = await client.replies()
    assert [reply[:3] for reply in replies] == ["500"] * 19 + ["421"]


ONE_TOO_MANY = {
    "recipients": ({"recipients": 1}, ["MAIL FROM:<>", *["RCPT TO:<a@b>"] * 3], "250 250 452 452"),
    "AUTH": ({"auth_failures": 2}, ["AUTH PLAIN AGFsaWNlAHg="] * 4, "535 535 421"),
    "a command line": ({}, [f"NOOP {'x' * 3000}", "NOOP"], "500 250"),
    "a size": ({}, ["BDAT x", "NOOP"], "501"),
    "another protocol": ({}, ["NOOP", "GET / HTTP/1.1", "NOOP"], "250 421"),
}


@pytest.mark.parametrize("what", ONE_TOO_MANY)
async def test_what_is_past_a_limit_has_one_reply(start, tmp_path, what):
    """RELIABILITY 21, 31, 37, 54."""
    limits, commands, codes = ONE_TOO_MANY[what]
    users = tmp_path / "users.yaml"
    users.write_text(f'alice: "{hash_password("right")}"\n')
    mx = await start(limits=limits, listener={"auth": {"users": users, "without_tls": True}})
    client = await mx.ready()
    await client.send("".join(f"{command}\r\n" for command in (*commands, "QUIT")).encode())
    replies = [reply[:3] for reply in await client.replies()]
    assert " ".join(replies).removesuffix(" 221") == codes


async def test_a_taken_message_forgives_errors(start):
    mx = await start(limits={"invalid_commands": 2})
    client = await mx.in_transaction()
    for _ in range(3):
        await client.talk("""
            C: BOGUS
            S: 500
            C: RSET
            C: MAIL FROM:<>
            C: RCPT TO:<a@b>
            C: DATA
            C: .
            S: 250
            S: 250
            S: 250
            S: 354
            S: 250
        """)


@pytest.mark.parametrize("request_line", ["GET / HTTP/1.1", "POST / HTTP/1.1", "CONNECT mx.test:25 HTTP/1.0"])
async def test_a_web_client_is_shown_the_door(mx, request_line):
    """RELIABILITY 37."""
    client = await mx.greeted()
    await client.send(f"{request_line}\r\nHost: x\r\n\r\nEHLO x\r\nMAIL FROM:<a@b>\r\n".encode())
    [reply] = await client.replies()
    assert reply.startswith("421 4.7.0")
    assert "mail" not in mx.script.calls


async def test_enhanced_codes_agree_with_their_codes(mx):
    """RELIABILITY 40."""
    mx.script.answers["rcpt"] = "451 Upstream gave no enhanced code"
    client = await mx.ready()
    commands = "MAIL FROM:<a@b>,RCPT TO:<c@d>,NOOP,VRFY x,EXPN,HELP,X,DATA,RSET,BDAT 0,QUIT,"
    await client.send(commands.replace(",", "\r\n").encode())
    replies = await client.replies()
    assert len(replies) == 11
    assert all(re.match(r"([245])\d\d \1\.\d{1,3}\.\d{1,3} ", reply) for reply in replies)
    assert "451 4.0.0 Upstream gave no enhanced code" in replies


async def test_smtputf8_replies_are_utf8_only_where_it_was_asked_for(mx):
    mx.script.answers["rcpt"] = "550 5.1.1 ungültig"
    await mx.talk("""
        C: MAIL FROM:<ü@b> SMTPUTF8
        S: 250
        C: RCPT TO:<ü@b>
        S: 550 5.1.1 ungültig
        C: RSET
        S: 250
        C: MAIL FROM:<a@b>
        S: 250
        C: RCPT TO:<a@b>
        S: 550 5.1.1 ung?ltig
    """)


@pytest.mark.parametrize(
    "error", [RuntimeError("/secret/path"), UnicodeError("ü"), ValueError("a\r\n250 OK")]
)
@pytest.mark.parametrize("hook", ["helo", "mail", "rcpt", "message", "refused", "reset"])
async def test_a_fault_of_the_gateway_is_a_451_and_the_session_goes_on(mx, hook, error, caplog):
    mx.script.answers[hook] = error
    client = await mx.greeted()
    dialogue = {
        "EHLO c": "helo",
        "MAIL FROM:<a@b>": "mail",
        "RCPT TO:<a@b>": "rcpt",
        "DATA": None,
        "bare\n\r\n." if hook == "refused" else ".": "refused" if hook == "refused" else "message",
    }
    for command, asked in dialogue.items():
        await client.send(command.encode() + b"\r\n")
        reply = await client.reply()
        if asked == hook:
            assert reply == "451 4.3.0 Temporary failure, try again later"
            break
    mx.script.answers.clear()
    await client.talk("""
        C: RCPT TO:<other@b>
        S: 503
        C: EHLO c
        S: 250
        C: MAIL FROM:<>
        S: 250
        C: QUIT
        S: 221
        S: closed
    """)
    assert (hook == "reset") or any(record.exc_info for record in caplog.records)
    assert mx.script.calls[-1] == "close"


async def test_a_fault_when_connecting_is_a_421(mx):
    mx.script.answers["connect"] = RuntimeError("secret")
    client = await mx.connect()
    await client.talk("""
        S: 421 4.3.0 Temporary failure
        S: closed
    """)


async def test_a_refused_connection_is_told_why_and_closed(mx):
    mx.script.answers["connect"] = "554 5.7.1 Not you"
    client = await mx.connect()
    await client.talk("""
        S: 554 5.7.1 Not you
        S: closed
    """)
    assert mx.script.calls == ["connect", "close"]


async def test_after_a_refused_helo_there_is_none(mx):
    client = await mx.ready()
    mx.script.answers["helo"] = "550 5.7.1 Not that name"
    await client.talk("""
        C: EHLO other
        S: 550 5.7.1
        C: MAIL FROM:<a@b>
        S: 503 5.5.1
    """)


@pytest.mark.parametrize("hook", ["mail", "rcpt", "message"])
async def test_a_421_of_the_gateway_ends_the_session(mx, hook):
    mx.script.answers[hook] = "421 4.3.2 Upstream is going down"
    client = await mx.ready()
    await client.send(b"MAIL FROM:<a@b>\r\nRCPT TO:<a@b>\r\nDATA\r\n.\r\nNOOP\r\n")
    replies = await client.replies()
    assert replies[-1] == "421 4.3.2 Upstream is going down"
    assert ("reset" in mx.script.calls) == (hook == "rcpt")


async def test_the_tap_sees_the_conversation(start):
    seen = []
    mx = await start(tap=lambda event: seen.append((event.session_id, event.direction, event.data)))
    client = await mx.in_transaction()
    await client.send(b"DATA\r\nsecret plans\r\n.\r\nAUTH PLAIN AGEAYg==\r\nQUIT\r\n")
    await client.replies()
    assert len({session_id for session_id, _, _ in seen}) == 1
    port = client.writer.get_extra_info("sockname")[1]
    told = [data.decode() for _, direction, data in seen if direction == "*"]
    assert told == [f"connected 127.0.0.1 {port} to 127.0.0.1:0", "transaction 01m84vek4zzmkmvx", "closed"]
    assert [data for _, direction, data in seen if direction == "D"] == [b"secret plans\r\n.\r\n"]
    assert [data for _, direction, data in seen if direction == "C"] == [
        b"EHLO client.test\r\n",
        b"MAIL FROM:<a@example.org>\r\n",
        b"RCPT TO:<b@example.com>\r\n",
        b"DATA\r\n",
        b"AUTH PLAIN ********\r\n",
        b"QUIT\r\n",
    ]
    assert seen[1] == (seen[0][0], "S", b"220 mx.test ESMTP Gatepost\r\n")
    assert seen[-2][1:] == ("S", b"221 2.0.0 Bye\r\n")
    assert seen[-1][1:] == ("*", b"closed")


SIX_STEPS = """
    C: EHLO client.test
    S: 250-mx.test
    C: MAIL FROM:<a@example.org>
    S: 250
    C: RCPT TO:<b@example.com>
    S: 250
    C: DATA
    S: 354
    C: Subject: lunch
    C:
    C: .
    S: 250
    C: QUIT
    S: 221
    S: closed
"""


async def given(answer):
    return answer


@pytest.mark.parametrize(
    ("hook", "steps"),
    [("connect", 0), ("helo", 1), ("mail", 2), ("rcpt", 3), ("message", 5)],
)
@pytest.mark.parametrize("timing", [ReplyTiming(drip_seconds=0.001), ReplyTiming(delay_seconds=0.01)])
async def test_a_slow_reply_is_the_same_reply(start, hook, steps, timing):
    seen = []
    mx = await start(tap=lambda event: seen.append(event.data) if event.direction == "S" else None)
    positive = Reply.parse("250 2.0.0 Slowly").with_timing(timing)
    mx.script.answers[hook] = lambda: given(timing if hook in ("connect", "helo") else positive)
    client = await mx.greeted()
    await client.talk(SIX_STEPS)
    assert len(seen) == 7, "a reply that is sent octet by octet is one line of the conversation"
    assert (seen[steps] == b"250 2.0.0 Slowly\r\n") == (steps > 1)


@pytest.mark.parametrize("hook", ["connect", "helo", "mail", "rcpt", "message"])
async def test_a_reply_that_is_not_sent_is_seen_by_the_tap_alone(start, hook):
    seen = []
    mx = await start(tap=lambda event: seen.append((event.direction, event.data)))
    refusal = Reply.parse("550 5.7.1 Not said").with_timing(ReplyTiming(drop=True))
    mx.script.answers[hook] = lambda: given(refusal)
    client = await (mx.connect() if hook == "connect" else mx.greeted())
    await client.send(b"".join(f"{line[7:]}\r\n".encode() for line in SIX_STEPS.splitlines() if "C:" in line))
    assert not any("550" in reply for reply in await client.replies())
    await mx.script.closed.wait()
    assert seen[-2:] == [("*", b"not sent 550 5.7.1 Not said"), ("*", b"closed")]


async def test_a_client_that_has_closed_its_side_gets_the_rest_of_a_slow_reply_at_once(mx):
    """RELIABILITY 98."""
    mx.script.answers["message"] = lambda: given(
        Reply.parse("250 2.0.0 Slow").with_timing(ReplyTiming(drip_seconds=60))
    )
    client = await mx.in_transaction()
    await client.send(b"DATA\r\n.\r\n")
    assert await client.reply() == "354 End data with <CR><LF>.<CR><LF>"
    assert await client.reader.readexactly(1) == b"2"
    client.half_close()
    assert await client.replies() == ["50 2.0.0 Slow"]


async def test_a_slow_reply_does_not_outlast_the_session(start):
    mx = await start(limits={"session_time": 0.5})
    mx.script.answers["mail"] = lambda: given(
        Reply.parse("250 2.0.0 Slow").with_timing(ReplyTiming(delay_seconds=60))
    )
    client = await mx.ready()
    await client.talk("""
        C: MAIL FROM:<a@example.org>
        S: 250 2.0.0 Slow
        S: 421 4.4.2
        S: closed
    """)
