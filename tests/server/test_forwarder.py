"""XFORWARD and XCLIENT in a session: they count from trusted sources alone, and for one client each."""

import asyncio

import pytest
from gatepost.config.limits import Limits
from gatepost.config.listen import ListenerSettings
from gatepost.server import Server
from gatepost.traffic.events import ClientNamed
from hypothesis import example, given
from hypothesis import strategies as st

NAMED = "XFORWARD NAME=c.example ADDR=203.0.113.9 PORT=4711 HELO=c.example PROTO=ESMTP IDENT=1 SOURCE=REMOTE"
MAIL = """C: MAIL FROM:<a@example.org>
    S: 250 2.1.0"""
MESSAGE = """C: MAIL FROM:<a@example.org>
    C: RCPT TO:<b@example.com>
    C: DATA
    S: 250
    S: 250
    S: 354
    C: Subject: x
    C: .
    S: 250 2.0.0"""


@pytest.fixture
async def postfix(start):
    """A server that Postfix stands in front of."""
    return await start(listener={"xforward_from": ["127.0.0.1"]})


@pytest.fixture
async def nginx(start):
    return await start(listener={"xclient_from": ["127.0.0.0/8"]})


def facts(session):
    return str(session.client), session.client_port, session.helo, session.protocol, session.authenticated


OWN = "127.0.0.1", "client.test", "ESMTP", None
CLIENT = "203.0.113.9", 4711, "c.example", "ESMTP", None


def without_port(session):
    client, _, *others = facts(session)
    return client, *others


async def test_the_command_is_offered_to_the_listed_sources_alone(start):
    for listed, keywords in (
        ({}, set()),
        ({"xforward_from": "192.0.2.1", "xclient_from": "::1"}, set()),
        ({"xforward_from": "127.0.0.0/8"}, {"XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE"}),
        (
            {"xclient_from": "127.0.0.1"},
            {"XCLIENT NAME REVERSE_NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT"},
        ),
    ):
        mx = await start(listener=listed)
        client = await mx.greeted()
        await client.send(b"EHLO x\r\n")
        lines = {line[4:] for line in (await client.reply()).splitlines()}
        assert {line for line in lines if line.startswith("X")} == keywords


@pytest.mark.parametrize("listed", [{}, {"xclient_from": "192.0.2.1", "xforward_from": "192.0.2.1"}])
async def test_it_is_never_believed_from_others(start, listed):
    """RELIABILITY 56."""
    mx = await start(listener=listed)
    await mx.talk(f"""
        C: {NAMED}
        S: 550 5.7.0
        C: XCLIENT ADDR=203.0.113.9 LOGIN=alice
        S: 550 5.7.0
        {MESSAGE}
    """)
    assert {without_port(session) for session in mx.script.sent_by} == {OWN}


@pytest.mark.parametrize(("listed", "command"), [("xforward_from", "XCLIENT"), ("xclient_from", "XFORWARD")])
async def test_each_command_has_its_own_sources(start, listed, command):
    mx = await start(listener={listed: "127.0.0.1"})
    await mx.talk(f"""
        C: {command} ADDR=203.0.113.9
        S: 550 5.7.0
    """)


async def test_xforward_names_the_client_of_the_next_transaction(postfix):
    client = await postfix.ready()
    await client.talk(f"""
        C: {NAMED}
        S: 250
        {MESSAGE}
        {MESSAGE}
    """)
    first, second = postfix.script.sent_by
    assert facts(first) == CLIENT
    assert without_port(second) == OWN
    assert postfix.script.calls == ["introduce", "mail", "rcpt", "message"] * 2


async def test_the_rules_are_asked_about_the_client_and_never_about_the_source(postfix):
    await postfix.talk(f"""
        C: {NAMED}
        S: 250
        {MAIL}
    """)
    assert [facts(session) for session in postfix.script.sessions] == [CLIENT, CLIENT]


async def test_several_commands_add_up(postfix):
    await postfix.talk(f"""
        C: XFORWARD NAME=c.example ADDR=198.51.100.7 PORT=1
        C: XFORWARD HELO=c.example PROTO=ESMTP
        C: XFORWARD ADDR=203.0.113.9 PORT=4711
        S: 250
        S: 250
        S: 250
        {MESSAGE}
    """)
    assert facts(postfix.script.sent_by[0]) == CLIENT


async def test_the_longest_name_that_postfix_passes_on_is_taken(postfix):
    await postfix.talk(f"""
        C: XFORWARD ADDR=203.0.113.9
        C: XFORWARD HELO={"+C3+BC" * 1000}
        S: 250
        S: 250
        {MESSAGE}
    """)
    assert postfix.script.sent_by[0].helo == "\xfc" * 1000


@pytest.mark.parametrize("end", ["RSET", "EHLO client.test", "HELO client.test"])
async def test_what_was_said_ends_with_rset_and_ehlo(postfix, end):
    await postfix.talk(f"""
        C: {NAMED}
        S: 250
        C: {end}
        S: 250
        {MESSAGE}
    """)
    assert str(postfix.script.sent_by[0].client) == "127.0.0.1"


async def test_after_a_refused_mail_the_client_is_still_named(postfix):
    """A source that tries MAIL again must not pass for the client."""
    postfix.script.answers["mail"] = "451 4.3.0 Later"
    client = await postfix.talk(f"""
        C: {NAMED}
        S: 250
        C: MAIL FROM:<a@example.org>
        S: 451
        C: MAIL FROM:<@>
        S: 501
    """)
    del postfix.script.answers["mail"]
    await client.talk(MESSAGE)
    assert facts(postfix.script.sent_by[0]) == CLIENT


async def test_a_rule_about_the_client_refuses_its_mail(postfix):
    postfix.script.answers["introduce"] = "554 5.7.1 Listed"
    client = await postfix.talk(f"""
        C: {NAMED}
        S: 250
        C: MAIL FROM:<a@example.org>
        S: 554 5.7.1 Listed
        C: RCPT TO:<b@example.com>
        S: 503
    """)
    del postfix.script.answers["introduce"]
    await client.talk(f"""
        C: RSET
        S: 250
        {MESSAGE}
    """)


@pytest.mark.parametrize(
    "bad",
    [
        "XFORWARD",
        "XFORWARD ADDR=203.0.113",
        "XFORWARD ADDR",
        f"XFORWARD HELO={'a' * 9000}",
        "XFORWARD HELO=\x7f",
    ],
)
async def test_a_client_that_could_not_be_read_is_not_taken_for_the_source(postfix, bad):
    """After a refused XFORWARD smtp(8) of Postfix 3.7 sends MAIL, which would be believed to be its own."""
    await postfix.talk(f"""
        C: {NAMED}
        S: 250
        C: {bad}
        S: 50
        C: MAIL FROM:<a@example.org>
        S: 451 4.3.0
        C: XFORWARD HELO=c.example
        S: 250
        C: MAIL FROM:<a@example.org>
        S: 451 4.3.0
        C: RSET
        S: 250
        C: {NAMED}
        S: 250
        {MESSAGE}
    """)
    assert facts(postfix.script.sent_by[0]) == CLIENT


async def test_a_failure_of_ours_does_not_let_a_client_pass_for_the_source(postfix):
    postfix.script.answers["introduce"] = RuntimeError("broken")
    client = await postfix.talk(f"""
        C: {NAMED}
        S: 250
        C: MAIL FROM:<a@example.org>
        S: 451 4.3.0
    """)
    del postfix.script.answers["introduce"]
    await client.talk("""
        C: MAIL FROM:<a@example.org>
        S: 451 4.3.0
        C: RSET
        S: 250
        C: MAIL FROM:<a@example.org>
        S: 250
    """)


async def test_no_command_is_taken_in_a_transaction(start):
    mx = await start(listener={"xforward_from": "127.0.0.1", "xclient_from": "127.0.0.1"})
    await mx.talk(f"""
        {MAIL}
        C: XFORWARD ADDR=203.0.113.9
        S: 503 5.5.1
        C: XCLIENT ADDR=203.0.113.9
        S: 503 5.5.1
        C: RCPT TO:<b@example.com>
        S: 250
    """)


async def test_a_client_is_counted_while_the_source_speaks_for_it(start):
    mx = await start(limits={"connections_per_client": 2}, listener={"xforward_from": "127.0.0.1"})
    clients = [await mx.ready() for _ in range(4)]  # more than one client may have
    for client in clients[:2]:
        await client.talk(f"""
            C: {NAMED}
            S: 250
            {MAIL}
        """)
    await clients[2].talk(f"""
        C: {NAMED}
        S: 250
        C: MAIL FROM:<a@example.org>
        S: 451 4.7.0
        C: XFORWARD ADDR=203.0.113.10
        S: 250
        {MAIL}
    """)
    clients[0].reset()
    await mx.script.closed.wait()
    await clients[3].talk(f"""
        C: {NAMED}
        S: 250
        {MAIL}
    """)


async def test_a_client_is_counted_no_longer_than_the_source_speaks_for_it(start):
    mx = await start(limits={"connections_per_client": 1}, listener={"xforward_from": "127.0.0.1"})
    first, second = [await mx.ready() for _ in range(2)]
    for client, address in ((first, "203.0.113.9"), (first, "203.0.113.10"), (second, "203.0.113.9")):
        await client.talk(f"""
            C: XFORWARD ADDR={address}
            S: 250
            {MESSAGE}
        """)
    await second.talk("""
        C: XFORWARD ADDR=203.0.113.10
        S: 250
        C: MAIL FROM:<a@example.org>
        S: 451 4.7.0
    """)
    assert mx.server.connections.open == 2


async def test_xclient_begins_the_session_anew(nginx):
    client = await nginx.ready()
    assert nginx.script.calls == []
    await client.talk(f"""
        C: XCLIENT NAME=c.example ADDR=203.0.113.9 PORT=4711 LOGIN=alice
        S: 220 mx.test
        C: MAIL FROM:<a@example.org>
        S: 503 5.5.1
        C: EHLO c.example
        S: 250
        {MESSAGE}
        {MESSAGE}
    """)
    assert nginx.script.calls == ["connect", "helo", *["mail", "rcpt", "message"] * 2]
    assert [facts(session) for session in nginx.script.sent_by] == [(*CLIENT[:3], "ESMTPA", "alice")] * 2


async def test_what_xclient_says_of_helo_and_protocol_counts_more_than_the_proxys_own_ehlo(nginx):
    await nginx.talk(f"""
        C: XCLIENT ADDR=203.0.113.9 PORT=4711 HELO=c.example PROTO=SMTP
        S: 220
        C: EHLO proxy.example.net
        S: 250
        {MESSAGE}
    """)
    assert facts(nginx.script.sent_by[0]) == (*CLIENT[:3], "SMTP", None)


async def test_with_the_helo_of_xclient_the_rules_are_asked_about_it_without_ehlo_too(nginx):
    await nginx.talk(f"""
        C: XCLIENT ADDR=203.0.113.9 PORT=4711 HELO=c.example PROTO=ESMTP
        S: 220
        {MESSAGE}
    """)
    assert nginx.script.calls == ["connect", "introduce", "mail", "rcpt", "message"]
    assert facts(nginx.script.sent_by[0]) == CLIENT


async def test_a_rule_about_the_client_answers_xclient(nginx):
    nginx.script.answers["connect"] = "554 5.7.1 Listed"
    await nginx.talk("""
        C: XCLIENT ADDR=203.0.113.9
        S: 554 5.7.1 Listed
        S: closed
    """)


async def test_what_the_proxy_passes_on_from_its_client_names_no_other(start):
    mx = await start(listener={"xclient_from": "127.0.0.1", "xforward_from": "127.0.0.1"})
    client = await mx.ready()
    await client.talk("""
        C: XCLIENT ADDR=203.0.113.9
        S: 220
        C: EHLO evil.example
        S: 250
        C: XCLIENT ADDR=127.0.0.1 LOGIN=alice
        S: 550 5.7.0
        C: XCLIENT LOGIN=alice
        S: 550 5.7.0
        C: XFORWARD ADDR=127.0.0.1
        S: 550 5.7.0
    """)
    await client.send(b"EHLO evil.example\r\n")
    assert "\n250-X" not in await client.reply()


async def test_a_listed_source_behind_a_proxy_may_name_its_clients(start):
    mx = await start(listener={"xclient_from": "127.0.0.1", "xforward_from": "192.0.2.25"})
    await mx.talk(f"""
        C: XCLIENT ADDR=192.0.2.25
        S: 220
        C: EHLO postfix.example.net
        S: 250
        C: {NAMED}
        S: 250
        {MESSAGE}
    """)
    assert facts(mx.script.sent_by[0]) == CLIENT


async def test_the_address_in_a_proxy_header_is_the_one_that_may_name_clients(start):
    mx = await start(listener={"proxy_protocol_from": "127.0.0.1", "xforward_from": "192.0.2.25"})
    for source, code in ((b"192.0.2.25", "250"), (b"192.0.2.26", "550"), (b"127.0.0.1", "550")):
        client = await mx.connect()
        await client.send(b"PROXY TCP4 " + source + b" 127.0.0.1 40000 25\r\n")
        await client.talk(f"""
            S: 220
            C: EHLO x
            S: 250
            C: {NAMED}
            S: {code}
        """)


@pytest.mark.parametrize(
    "bad", ["XCLIENT", "XCLIENT ADDR=[UNAVAILABLE]", "XCLIENT ADDR=203.0.113", f"XCLIENT NAME={'a' * 9000}"]
)
async def test_a_proxy_that_goes_on_after_a_bad_xclient_is_not_taken_for_the_client(nginx, bad):
    await nginx.talk(f"""
        C: {bad}
        S: 50
        C: EHLO c.example
        S: 250
        C: MAIL FROM:<a@example.org>
        S: 451 4.3.0
        C: RSET
        S: 250
        C: MAIL FROM:<a@example.org>
        S: 451 4.3.0
        C: XCLIENT ADDR=203.0.113.9
        S: 220
        C: EHLO c.example
        S: 250
        {MAIL}
    """)


async def test_a_client_with_too_many_connections_is_sent_away(start):
    mx = await start(limits={"connections_per_client": 1}, listener={"xclient_from": "127.0.0.1"})
    first = await mx.talk("""
        C: XCLIENT ADDR=203.0.113.9
        S: 220
    """)
    await mx.talk("""
        C: XCLIENT ADDR=203.0.113.9
        S: 421 4.7.0
        S: closed
    """)
    mx.script.closed.clear()
    first.reset()
    await mx.script.closed.wait()
    await mx.talk("""
        C: XCLIENT ADDR=203.0.113.9
        S: 220
    """)


async def test_tls_and_auth_that_the_listener_requires_are_those_of_the_connection(start):
    mx = await start(listener={"auth": {"users": "any", "required": True}, "xforward_from": "127.0.0.1"})
    await mx.talk(f"""
        C: {NAMED}
        S: 250
        C: MAIL FROM:<a@example.org>
        S: 530 5.7.0
    """)


async def test_a_login_from_xclient_is_one_that_the_listener_requires(start):
    mx = await start(listener={"auth": {"users": "any", "required": True}, "xclient_from": "127.0.0.1"})
    await mx.talk(f"""
        C: XCLIENT ADDR=203.0.113.9 LOGIN=alice
        S: 220
        C: EHLO c.example
        S: 250
        {MAIL}
    """)


async def test_a_source_that_names_nobody_is_the_client(nginx, postfix):
    for mx in (nginx, postfix):
        await mx.talk(f"{MESSAGE}\n{MESSAGE}")
        assert [without_port(session) for session in mx.script.sent_by] == [OWN, OWN]
        assert mx.script.calls[:4] == ["introduce", "mail", "rcpt", "message"]
        assert mx.script.calls[4:] == ["mail", "rcpt", "message"]


async def test_the_client_is_an_event_of_the_session(start):
    events = []
    listed = {"xforward_from": "127.0.0.1", "xclient_from": "127.0.0.1"}
    mx = await start(listener=listed, tap=events.append)
    client = await mx.talk(f"""
        C: {NAMED}
        S: 250
        {MESSAGE}
        C: XCLIENT ADDR=198.51.100.7 HELO=b.example
        S: 220
        C: EHLO proxy.example
        S: 250
    """)
    named = [event.data for event in events if isinstance(event, ClientNamed)]
    assert named == [b"for 203.0.113.9 4711 c.example", *[b"for 198.51.100.7 0 b.example"] * 2]
    client.close()


STEPS = {
    "a": (b"XFORWARD ADDR=203.0.113.1 HELO=a.example\r\n", "250"),
    "b": (b"XFORWARD ADDR=IPV6:2001:db8::2\r\n", "250"),
    "name": (b"XFORWARD NAME=c.example PORT=5\r\n", "250"),
    "local": (b"XFORWARD ADDR=[UNAVAILABLE]\r\n", "250"),
    "bad": (b"XFORWARD ADDR=203.0.113\r\n", "501"),
    "rset": (b"RSET\r\n", "250"),
    "noop": (b"NOOP\r\n", "250"),
    "mail": (b"MAIL FROM:<@>\r\n", "501"),
    "abandon": (b"MAIL FROM:<a@example.org>\r\nRSET\r\n", None),
    "message": (b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\nx\r\n.\r\n", None),
}


@given(steps=st.lists(st.sampled_from(sorted(STEPS)), max_size=15))
@example(steps=["a", "message", "message"])
@example(steps=["a", "bad", "b", "message", "rset", "message"])
@example(steps=["a", "local", "message"])
def test_each_message_is_of_the_client_that_was_named_last_for_it(script_class, steps):
    async def play():
        script = script_class()
        listener = ListenerSettings(address="127.0.0.1:0", xforward_from=("127.0.0.1",))
        server = Server(
            script,
            hostname="mx.test",
            limits=Limits(invalid_commands=100),
            listeners=[listener],
            bare_newline="reject",
        )
        await server.start()
        reader, writer = await asyncio.open_connection(*server.addresses[0])
        await reader.readline()
        client, unclear, expected = "127.0.0.1", False, []
        writer.write(b"HELO x\r\n")
        await reader.readline()
        for step in steps:
            octets, code = STEPS[step]
            ends = step in ("message", "abandon")
            if ends and unclear:  # MAIL is refused, and so is all that would follow
                writer.write(b"MAIL FROM:<a@example.org>\r\n")
                assert (await reader.readline()).startswith(b"451 4.3.0")
                continue
            writer.write(octets)
            for one in [code] if code else ["250"] * 2 if step == "abandon" else ["250", "250", "354", "250"]:
                assert (await reader.readline()).startswith(one.encode()), step
            if step == "message":
                expected.append(client)
            if step == "bad":
                unclear = True
            if step == "rset" or ends:
                client, unclear = "127.0.0.1", False
            client = {"a": "203.0.113.1", "b": "2001:db8::2", "local": "127.0.0.1"}.get(step, client)
        writer.close()
        await server.stop(1)
        return [str(session.client) for session in script.sent_by], expected

    seen, expected = asyncio.run(play())
    assert seen == expected
