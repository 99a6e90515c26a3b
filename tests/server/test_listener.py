"""Starting and stopping."""

import asyncio

import pytest
from gatepost.config.limits import Limits
from gatepost.config.listen import ListenerSettings
from gatepost.server import Server


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"address": "192.0.2.1:0"}, OSError, r"cannot listen on 192\.0\.2\.1:0: "),
        ({"tls": {"certificate": "missing.pem", "key": "missing.key"}}, OSError, r"missing\.pem"),
        ({"tls": {"certificate": __file__, "key": __file__}}, ValueError, "expected a PEM certificate chain"),
        ({"auth": {"users": "missing.yaml"}}, OSError, r"missing\.yaml"),
    ],
)
async def test_a_listener_that_cannot_be_is_named_and_none_is_left_open(start, settings, error, words):
    good = ListenerSettings(address="127.0.0.1:0")
    bad = ListenerSettings(**{"address": "127.0.0.1:0", **settings})
    server = Server(None, hostname="x", limits=Limits(), listeners=[good, bad], bare_newline="reject")
    with pytest.raises(error, match=words):
        await server.start()
    assert server.addresses == ()


async def test_an_address_in_use_is_named(start):
    mx = await start()
    _, port = mx.server.addresses[0]
    with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}: "):
        await start(listener={"address": f"127.0.0.1:{port}"})


async def test_each_listener_has_its_sessions(start):
    mx = await start()
    both = Server(
        mx.script,
        hostname="mx.test",
        limits=Limits(),
        listeners=[ListenerSettings(address="127.0.0.1:0"), ListenerSettings(address="[::1]:0")],
        bare_newline="reject",
    )
    await both.start()
    mx.server, old = both, mx.server
    await old.stop(0)
    for number in range(2):
        await (await mx.ready(listener=number)).talk("""
            C: QUIT
            S: 221
        """)
    assert {session.listener for session in mx.script.sessions} == {"127.0.0.1:0", "[::1]:0"}
    assert {str(session.client) for session in mx.script.sessions} == {"127.0.0.1", "::1"}


async def test_stopping_ends_idle_sessions_and_lets_transactions_finish(mx):
    """RELIABILITY 107."""
    idle, busy, in_data = await mx.ready(), await mx.in_transaction(), await mx.in_transaction()
    await in_data.send(b"DATA\r\nhalf")
    assert (await in_data.reply()).startswith("354")
    stopping = asyncio.ensure_future(mx.server.stop(5))
    await idle.talk("""
        S: 421 4.3.2
        S: closed
    """)
    with pytest.raises(OSError):
        await mx.connect()
    await in_data.send(b"\r\n.\r\n")
    await in_data.talk("""
        S: 250
        S: 421 4.3.2
        S: closed
    """)
    assert not stopping.done()
    await busy.talk("""
        C: DATA
        S: 354
        C: x
        C: .
        S: 250
        S: 421 4.3.2
        S: closed
    """)
    async with asyncio.timeout(30):
        await stopping
    assert mx.contents == [b"half\r\n", b"x\r\n"]


async def test_after_the_grace_period_everybody_is_told(mx):
    """RELIABILITY 107."""
    cancelled = asyncio.Event()

    async def endless():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    waiting, in_data, deciding = [await mx.in_transaction() for _ in range(3)]
    mx.script.answers["message"] = endless
    await in_data.send(b"DATA\r\nhalf")
    await deciding.send(b"DATA\r\n.\r\n")
    assert (await in_data.reply()).startswith("354")
    assert (await deciding.reply()).startswith("354")
    async with asyncio.timeout(30):
        await mx.server.stop(0.1)
        assert cancelled.is_set()
    for client in (waiting, in_data, deciding):
        await client.talk("""
            S: 421 4.3.2
            S: closed
        """)
    assert mx.script.messages == []
    assert mx.script.calls.count("close") == 3


async def test_a_server_without_sessions_stops_at_once(mx):
    async with asyncio.timeout(30):
        await mx.server.stop(60)
        await mx.server.stop(60)
