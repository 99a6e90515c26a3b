"""Clients that do not wait for the greeting (RELIABILITY 44), where they are accepted and noted."""

import asyncio
import ssl

import pytest
import trustme
from gatepost.model.verdict import ReplyTiming

MESSAGE = b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n"
DRIPPING = ReplyTiming(drip_seconds=0.02)
DELAYED = ReplyTiming(delay_seconds=0.3)


async def slow_rules():
    await asyncio.sleep(0.2)


async def send(mx, early, **options):
    """A message; the codes of all replies."""
    client = await mx.connect(**options)
    greeting = [] if early else [await client.reply()]
    await client.send(b"EHLO client.test\r\n" + MESSAGE)
    return [reply[:3] for reply in [*greeting, *await client.replies()]]


@pytest.mark.parametrize("connect", [slow_rules, DRIPPING, DELAYED], ids=["rules", "dripping", "delayed"])
@pytest.mark.parametrize("is_early", [True, False])
async def test_the_session_says_so_from_ehlo_to_its_end(start, connect, is_early):
    mx = await start(accepts_early_talkers=True)
    mx.script.answers["connect"] = connect
    assert await send(mx, is_early) == ["220", "250", "250", "250", "354", "250", "221"]
    await mx.script.closed.wait()
    at_connect, *later = [session.early_talker for session in mx.script.sessions]
    assert not at_connect
    assert set(later) == {is_early}
    assert mx.script.sent_by[0].early_talker is is_early
    assert mx.script.ended_as.early_talker is is_early


async def test_a_client_that_is_refused_was_one_too(start):
    mx = await start()
    mx.script.answers["connect"] = slow_rules
    assert await send(mx, early=True) == ["421"]
    await mx.script.closed.wait()
    assert mx.script.ended_as.early_talker


@pytest.mark.parametrize("command", [b"XFORWARD ADDR=192.0.2.1\r\n", b"XCLIENT ADDR=192.0.2.1\r\n", b""])
async def test_a_source_that_speaks_for_clients_is_none_of_them(start, command):
    trusted = {"xforward_from": "10.0.0.1", "xclient_from": "10.0.0.1", "proxy_protocol_from": "127.0.0.1"}
    mx = await start(accepts_early_talkers=True, listener=trusted)
    client = await mx.connect()
    front = b"PROXY TCP4 10.0.0.1 127.0.0.1 4000 25\r\nEHLO front\r\n"
    await client.send(front + command + b"EHLO client.test\r\n" + MESSAGE)
    await client.replies()
    assert mx.script.sent_by
    assert not any(session.early_talker for session in [*mx.script.sessions, *mx.script.sent_by])


async def test_starttls_does_not_wash_it_off(start, tmp_path):
    authority, context = trustme.CA(), ssl.create_default_context()
    authority.configure_trust(context)
    issued = authority.issue_cert("mx.test")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "mx.pem")
    certificate = {"certificate": tmp_path / "mx.pem", "key": tmp_path / "mx.pem"}
    mx = await start(accepts_early_talkers=True, listener={"tls": certificate})
    mx.script.answers["connect"] = slow_rules
    client = await mx.connect()
    await client.send(b"EHLO client.test\r\n")
    await client.talk("""
        S: 220
        S: 250
        C: STARTTLS
        S: 220
    """)
    await client.start_tls(context)
    await client.send(b"EHLO client.test\r\n" + MESSAGE)
    assert [reply[:3] for reply in await client.replies()] == ["250", "250", "250", "354", "250", "221"]
    assert mx.script.sent_by[0].early_talker


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY TCP4 192.0.2.1 192.0.2.2 40000 25\r\n",
        b"PROXY UNKNOWN\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\2\1\xc0\0\2\2\x9c\x40\0\x19",
    ],
)
@pytest.mark.parametrize("is_early", [True, False])
async def test_a_load_balancer_that_is_not_listed_is_named_once_in_the_log(start, caplog, header, is_early):
    mx = await start()
    if is_early:
        mx.script.answers["connect"] = slow_rules
    for _ in range(3):
        client = await mx.connect()
        if not is_early:
            assert (await client.reply())[:3] == "220"
        await client.send(header + (b"" if is_early else b"\r\nQUIT\r\n"))
        codes = [reply[:3] for reply in await client.replies()]
        assert codes == ["421"] if is_early else "500" in codes
    [line] = caplog.messages
    assert "a PROXY header from 127.0.0.1, which is not in proxy_protocol_from" in line


async def test_an_early_talker_without_a_header_is_no_load_balancer(start, caplog):
    mx = await start()
    mx.script.answers["connect"] = slow_rules
    assert await send(mx, early=True) == ["421"]
    assert caplog.messages == []
