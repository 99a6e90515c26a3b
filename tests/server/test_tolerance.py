"""A server that relays nothing takes every command it can; a lenient one takes those that Postfix takes."""

import asyncio
from base64 import b64encode

import pytest
from gatepost.server.data import LineDotReader
from gatepost.traffic.oddity import Oddity

from .test_data import LIMITS, Content, MemoryBudget
from .test_session import HELLOS

ANYBODY = {"auth": {"users": "any", "without_tls": True}}


@pytest.fixture
def told():
    """What a tap was told about the session."""
    return []


@pytest.fixture
async def taking(start, told):
    """A server that takes everything."""
    return await start(
        tolerance="everything",
        bare_newline="keep",
        listener=ANYBODY,
        tap=lambda event: event.direction == "*" and told.append(event.data.decode()),
    )


def odd(told):
    return [line.removeprefix("odd ") for line in told if line.startswith("odd ")]


def in_base64(octets):
    return b64encode(octets)


async def replies_to(client, *lines):
    """The codes of the replies to these, each said when the one before was answered."""
    codes = []
    for line in lines:
        await client.send(line)
        codes.append((await client.reply())[:3])
    return " ".join(codes)


@pytest.mark.parametrize(
    ("lines", "codes", "oddities"),
    [
        ([b"MAIL FROM:<a@b>\r\n"], "250", "command-order"),
        ([b"EHLO\r\n", b"MAIL FROM:<a@b>\r\n"], "250 250", "hello-name"),
        ([b"EHLO a b\r\n"], "250", "hello-name"),
        ([b"EHLO \xff\x1b\r\n"], "250", "command-characters hello-name"),
        ([b"EHLO a\0b\r\n"], "250", "command-characters hello-name"),
        ([b"EHLO [192.0.2.1]\r\n", b"EHLO a.example.\r\n"], "250 250", ""),
        ([b"  ehlo\t a.example \r\n"], "250", "command-spaces"),
        ([b"EHLO a.example\n", b"NOOP\n"], "250 250", "command-lf command-lf"),
        ([b"EHLO a.example\rx\r\n"], "250", "command-characters hello-name"),
        ([b"NOOP \xfc\r\n"], "250", "command-characters"),
        ([b"NOOP " + b"x" * 60_000 + b"\r\n", b"NOOP\r\n"], "500 250", ""),
        ([b"RSET now\r\n", b"QUIT now\r\n"], "250 221", "command-argument command-argument"),
        ([b"EHLO a\r\n", b"MAIL FROM:<a@b>\r\n", b"MAIL FROM:<a@b>\r\n"], "250 250 503", ""),
        ([b"RCPT TO:<a@b>\r\n", b"DATA\r\n", b"FOO\r\n", b"\r\n"], "503 503 500 500", ""),
        ([b"HELO a\r\n", b"MAIL FROM:<a@b> SIZE=1\r\n"], "250 250", "parameter"),
        ([b"EHLO a\r\n", b"MAIL FROM:<a@b> SIZE=99999999999\r\n"], "250 552", ""),
        *(
            ([b"EHLO a\r\n", b"MAIL FROM:<a@b> SIZE=" + size + b"\r\n"], "250 250", "parameter")
            for size in (b"x", b"-1", "\u00b2".encode(), b"")
        ),
        ([b"XCLIENT ADDR=192.0.2.1\r\n"], "550", ""),
    ],
)
async def test_commands_where_everything_is_taken(taking, told, lines, codes, oddities):
    client = await taking.greeted()
    assert await replies_to(client, *lines) == codes
    await client.send(b"QUIT\r\n")
    await client.replies()
    await taking.script.closed.wait()
    assert odd(told) == oddities.split()


async def test_after_a_hello_that_a_rule_refused_there_is_none(taking, told):
    client = await taking.greeted()
    assert await replies_to(client, b"EHLO\r\n") == "250"
    taking.script.answers["helo"] = "550 5.7.1 Not that name"
    assert await replies_to(client, b"EHLO x\r\n", b"MAIL FROM:<a@b>\r\n") == "550 250"
    assert odd(told) == ["hello-name", "command-order"]


async def test_what_is_refused_is_not_odd(taking, told):
    client = await taking.greeted()
    assert await replies_to(client, b"EHLO a\r\n", b"RCPT TO:bob\n", b"NOOP\r\n") == "250 503 250"
    assert odd(told) == []


PLAIN, LOGIN = b"AUTH PLAIN ", b"AUTH LOGIN\r\n"
RESPONSES = {
    "PLAIN": ([PLAIN + in_base64(b"\0joe\0x")], "235", "joe", ""),
    "PLAIN with a challenge": ([PLAIN, in_base64(b"\0joe\0x")], "334 235", "joe", ""),
    "as oneself": ([PLAIN + in_base64(b"joe\0joe\0x")], "235", "joe", ""),
    "as another": ([PLAIN + in_base64(b"ann\0joe\0x")], "235", "joe", "auth-response"),
    "as another alone": ([PLAIN + in_base64(b"ann\0\0")], "235", "ann", "auth-response"),
    "nobody": ([PLAIN + in_base64(b"\0\0")], "235", "", "auth-response"),
    "nothing": ([PLAIN + b"="], "235", "", "auth-response"),
    "Latin-1": ([PLAIN + in_base64(b"\0j\xfcrgen\0x")], "235", r"j\xfcrgen", "auth-response"),
    "a control character": ([PLAIN + in_base64(b"\0j\x1b\0x")], "235", r"j\x1b", ""),
    "no NUL": ([PLAIN + in_base64(b"secret")], "235", "", "auth-response"),
    "no base64": ([PLAIN + b"secret!"], "235", "", "auth-response"),
    "8-bit for base64": ([PLAIN + b"\xff"], "235", "", "auth-response command-characters"),
    "cancelled": ([PLAIN, b"*"], "334 501", None, ""),
    "LOGIN": ([b"auth login", in_base64(b"joe"), in_base64(b"x")], "334 334 235", "joe", ""),
    "LOGIN, initial": ([b"AUTH LOGIN " + in_base64(b"joe"), b"="], "334 235", "joe", ""),
    "LOGIN, empty": ([b"AUTH LOGIN", b"", b""], "334 334 235", "", "auth-response"),
    "LOGIN, plain": ([b"AUTH LOGIN", b"joe!", b"secret!"], "334 334 235", "", "auth-response"),
    "CRAM-MD5": ([b"AUTH CRAM-MD5", in_base64(b"joe b913a602")], "334 235", "joe", ""),
    "XOAUTH2": (
        [b"AUTH XOAUTH2 " + in_base64(b"user=joe@a.example\1auth=Bearer x\1\1")],
        "235",
        "joe@a.example",
        "",
    ),
    "OAUTHBEARER": (
        [b"AUTH OAUTHBEARER " + in_base64(b"n,a=joe@a.example,\1auth=Bearer x\1\1")],
        "235",
        "joe@a.example",
        "",
    ),
    "one that nobody knows": ([b"AUTH X-FOO", b"eA=="], "334 235", "", "auth-response"),
    **{
        name: ([f"AUTH {name}".encode()], "504", None, "")
        for name in ("SCRAM-SHA-256", "DIGEST-MD5", "GSSAPI", "NTLM", "")
    },
}


@pytest.mark.parametrize("what", RESPONSES)
async def test_any_user_is_right_where_everything_is_taken(taking, told, what):
    lines, codes, user, oddities = RESPONSES[what]
    client = await taking.ready()
    said = await replies_to(client, *(line + b"\r\n" for line in lines))
    assert said == codes
    assert await replies_to(client, b"MAIL FROM:<a@b>\r\n") == "250"
    assert taking.script.sessions[-1].authenticated == user
    assert sorted(odd(told)) == oddities.split()
    assert "secret" not in "".join(told)


async def test_any_user_is_right_at_any_time_and_again(taking, told):
    client = await taking.greeted()
    joe, ann = (PLAIN + in_base64(b"\0%b\0x" % name) + b"\r\n" for name in (b"joe", b"ann"))
    said = await replies_to(
        client, joe, b"EHLO a\r\n", ann, b"MAIL FROM:<a@b>\r\n", joe, b"RCPT TO:<a@b>\r\n"
    )
    assert said == "235 250 235 250 235 250"
    assert [line for line in told if line.startswith("auth")] == [
        "authenticated joe",
        "authenticated ann",
        "authenticated joe",
    ]
    assert odd(told) == ["command-order"] * 3


async def test_a_client_that_does_not_wait_for_the_greeting_is_served(taking, told):
    async def once_something_came():
        [session] = taking.server._sessions
        while not session.wire.has_input():
            await asyncio.sleep(0)

    taking.script.answers["connect"] = once_something_came
    client = await taking.connect()
    await client.send(b"EHLO a\r\nMAIL FROM:<a@b>\r\n")
    replies = [await client.reply() for _ in range(3)]
    assert [reply[:3] for reply in replies] == ["220", "250", "250"]
    assert odd(told) == ["early-talker"]


@pytest.mark.parametrize("end", [b"\n.\n", b"\r\n.\r\n", b"\n.\r\n", b"\r\n.\n"])
async def test_a_client_that_ends_its_lines_with_lf_ends_its_message_so(taking, end):
    client = await taking.greeted()
    envelope = (b"EHLO a\n", b"MAIL FROM:<a@b>\n", b"RCPT TO:<a@b>\n")
    assert (
        await replies_to(client, *envelope, b"DATA\n", b"Subject: x\n\n..dot\n.x" + end)
        == "250 250 250 354 250"
    )
    assert taking.contents == [b"Subject: x\n\n.dot\nx" + end[: end.index(b".")]]
    assert await replies_to(client, b"NOOP\n") == "250"


async def test_a_client_that_ends_its_commands_with_crlf_ends_its_message_so(taking):
    client = await taking.in_transaction()
    assert await replies_to(client, b"DATA\r\n", b"a\n.\nb\r\n.\r\n") == "354 250"
    assert taking.contents == [b"a\n.\nb\r\n"]


@pytest.mark.parametrize(
    ("wire", "content"),
    [
        (b".\n", b""),
        (b".\r\n", b""),
        (b"a\n.\n", b"a\n"),
        (b"..\n.\n", b".\n"),
        (b"a\r\n..\r\n.b\n.\r\n", b"a\r\n.\r\nb\n"),
        (b"\n\n.\n", b"\n\n"),
        (b"a.\n.\r.\n\n.\n", b"a.\n\r.\n\n"),
    ],
)
def test_lines_split_anywhere_are_the_same_lines(wire, content):
    stream = wire + b"QUIT\n"
    for first in range(len(stream) + 1):
        for second in range(first, len(stream) + 1):
            message = Content(LIMITS, MemoryBudget(LIMITS.memory), "keep")
            reader = LineDotReader(message)
            fed = 0
            for piece in filter(None, (stream[:first], stream[first:second], stream[second:])):
                used = reader.feed(piece)
                if used is not None:
                    fed += used
                    break
                fed += len(piece)
            assert (message.finish(), stream[fed:]) == (content, b"QUIT\n")


@pytest.mark.parametrize(
    ("lines", "codes"),
    [
        ([b"  NOOP\r\n", b"NOOP\t\r\n"], "250 250"),
        ([b"EHLO a\r\n", b"MAIL   FROM:<a@b>\r\n"], "250 250"),
        ([b"EHLO a\r\n", b"mail\tfrom:a@b\r\n"], "250 250"),
        ([b"EHLO a\r\n", b"MAIL FROM <a@b>\r\n", b"MAIL FROM :<a@b>\r\n", b"MAIL\r\n"], "250 501 501 501"),
        ([b"MAIL FROM:<a@b>\r\n", b"EHLO\r\n", b"NOOP\n", b"NOOP \xff\r\n"], "503 501 500 500"),
        ([b"AUTH PLAIN AAAA\r\n", b"RSET x\r\n"], "503 501"),
    ],
)
async def test_a_lenient_server_takes_white_space_and_nothing_else(start, lines, codes):
    mx = await start(tolerance="lenient", listener=ANYBODY)
    client = await mx.greeted()
    assert await replies_to(client, *lines) == codes


@pytest.mark.parametrize("name", HELLOS)
async def test_what_a_client_calls_itself_is_odd_unless_it_is_a_name(taking, told, name):
    client = await taking.greeted()
    assert await replies_to(client, f"EHLO {name}\r\n".encode()) == "250"
    assert odd(told) == ([] if name in ("localhost", "bücher.example") else [Oddity.HELLO])
