"""Bounds in time, size and number; TLS and PROXY on the wire; the end of the server."""

import asyncio
import contextlib
import os
import socket
import ssl
import struct
import subprocess
import sys
import time
from ipaddress import ip_address
from pathlib import Path

import psutil
import pytest
import trustme


@pytest.fixture(scope="session")
def authority():
    return trustme.CA()


@pytest.fixture(scope="session")
def certificate(authority, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    issued = authority.issue_cert("mx.test")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    issued.cert_chain_pems[0].write_to_path(folder / "mx.pem")
    return {"certificate": folder / "mx.pem", "key": folder / "key.pem"}


@pytest.fixture
def trusting(authority):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


# TLS


async def test_starttls_begins_the_session_anew(start, certificate, trusting):
    """RELIABILITY 49."""
    mx = await start(listener={"tls": {**certificate, "required": True}})
    client = await mx.greeted()
    await client.send(b"EHLO c\r\n")
    assert "STARTTLS" in (await client.reply())
    await client.talk("""
        C: MAIL FROM:<a@b>
        S: 530 5.7.0
        C: STARTTLS now
        S: 501
        C: STARTTLS
        S: 220 2.0.0
    """)
    await client.start_tls(trusting)
    await client.talk("""
        C: MAIL FROM:<a@b>
        S: 503 5.5.1
        C: STARTTLS
        S: 503 5.5.1
    """)
    await client.send(b"EHLO c\r\n")
    assert "STARTTLS" not in (await client.reply())
    await client.send(
        b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n" + b"\r\n" + b"line\r\n" * 50_000 + b".\r\nQUIT\r\n"
    )
    assert [reply[:3] for reply in await client.replies()] == ["250", "250", "354", "250", "221"]
    assert mx.contents == [b"\r\n" + b"line\r\n" * 50_000]
    session = mx.script.sessions[-1]
    assert session.tls in ("TLSv1.2", "TLSv1.3")
    assert session.protocol == "ESMTPS"


async def test_commands_sent_before_the_handshake_are_not_run_after_it(start, certificate, trusting):
    """RELIABILITY 48."""
    mx = await start(listener={"tls": certificate})
    client = await mx.ready()
    await client.send(b"STARTTLS\r\nEHLO injected\r\nMAIL FROM:<evil@example.net>\r\n")
    assert (await client.reply()).startswith("220")
    await client.start_tls(trusting)
    await client.talk("""
        C: RSET
        S: 250
        C: EHLO c
        S: 250
    """)
    assert "mail" not in mx.script.calls
    assert [session.helo for session in mx.script.sessions] == ["", "client.test", "c"]


async def test_implicit_tls_greets_after_the_handshake(start, certificate, trusting):
    mx = await start(listener={"tls": {**certificate, "mode": "implicit"}})
    client = await mx.ready(tls=trusting)
    await client.talk("""
        C: MAIL FROM:<a@b>
        S: 250
        C: QUIT
        S: 221
        S: closed
    """)
    assert mx.script.sessions[0].tls


@pytest.mark.parametrize("mode", ["starttls", "implicit"])
@pytest.mark.parametrize("octets", [b"", b"\x16\x03\x01", b"EHLO plain\r\n"], ids=["silent", "half", "plain"])
async def test_a_handshake_that_stalls_or_fails_ends_the_connection(start, certificate, mode, octets):
    """RELIABILITY 50."""
    mx = await start(listener={"tls": {**certificate, "mode": mode}}, limits={"command_time": 0.2})
    if mode == "starttls":
        client = await mx.ready()
        await client.talk("""
            C: STARTTLS
            S: 220
        """)
    else:
        client = await mx.connect()
    await client.send(octets)
    async with asyncio.timeout(30):
        with contextlib.suppress(ConnectionError):
            await client.reader.read()
    assert len(mx.script.calls) <= 3


async def test_starttls_is_taken_before_ehlo_where_everything_is(start, certificate, trusting):
    mx = await start(listener={"tls": certificate}, tolerance="everything")
    client = await mx.greeted()
    await client.talk("""
        C: STARTTLS now
        S: 220
    """)
    await client.start_tls(trusting)
    await client.talk("""
        C: STARTTLS
        S: 503 5.5.1
        C: MAIL FROM:<a@b>
        S: 250
    """)
    assert mx.script.sessions[-1].tls


async def test_a_handshake_in_drips_ends_by_the_time_of_a_command(start, certificate):
    """RELIABILITY 50, 100."""
    mx = await start(listener={"tls": certificate}, limits={"command_time": 0.3})
    client = await mx.ready()
    await client.talk("""
        C: STARTTLS
        S: 220
    """)
    begun = time.monotonic()
    with contextlib.suppress(ConnectionError, RuntimeError):  # which uvloop raises on a closed connection
        await client.send(b"\x16\x03\x01\x02\x00")
        while not client.reader.at_eof() and not client.writer.is_closing() and time.monotonic() - begun < 30:
            await client.send(b"x")
            await asyncio.sleep(0.02)
    assert time.monotonic() - begun < 30
    assert "close" in mx.script.calls or await mx.script.closed.wait()


async def test_tls_before_1_2_is_refused(start, certificate, trusting):
    mx = await start(listener={"tls": {**certificate, "mode": "implicit"}})
    trusting.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        trusting.minimum_version = trusting.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(OSError):
        await mx.connect(tls=trusting)


# PROXY

V2 = b"\r\n\r\n\0\r\nQUIT\n"


def v2(version_command, family, payload, length=None):
    return (
        V2
        + struct.pack("!BBH", version_command, family, len(payload) if length is None else length)
        + payload
    )


IPV4 = bytes([192, 0, 2, 7, 192, 0, 2, 1]) + struct.pack("!HH", 4000, 25)
IPV6 = ip_address("2001:db8::7").packed * 2 + struct.pack("!HH", 4000, 25)


@pytest.mark.parametrize(
    ("header", "client", "port"),
    [
        pytest.param(b"PROXY TCP4 192.0.2.7 192.0.2.1 4000 25\r\n", "192.0.2.7", 4000, id="v1 IPv4"),
        pytest.param(b"PROXY TCP6 2001:db8::7 2001:db8::1 4000 25\r\n", "2001:db8::7", 4000, id="v1 IPv6"),
        pytest.param(b"PROXY TCP6 ::ffff:192.0.2.7 ::1 4000 25\r\n", "192.0.2.7", 4000, id="v1 mapped"),
        pytest.param(b"PROXY UNKNOWN\r\n", "127.0.0.1", None, id="v1 UNKNOWN"),
        pytest.param(v2(0x21, 0x11, IPV4), "192.0.2.7", 4000, id="v2 IPv4"),
        pytest.param(v2(0x21, 0x21, IPV6), "2001:db8::7", 4000, id="v2 IPv6"),
        pytest.param(v2(0x21, 0x11, IPV4 + b"\x04\0\x02xx"), "192.0.2.7", 4000, id="v2 with TLV"),
        pytest.param(v2(0x20, 0x00, b""), "127.0.0.1", None, id="v2 LOCAL"),
        pytest.param(v2(0x20, 0x11, IPV4), "127.0.0.1", None, id="v2 LOCAL with addresses"),
    ],
)
@pytest.mark.parametrize("size", [1, 1000])
async def test_the_client_is_whom_the_proxy_header_names(start, header, client, port, size):
    mx = await start(listener={"proxy_protocol_from": ["127.0.0.0/8"]})
    connection = await mx.connect()
    for begin in range(0, len(header), size):
        await connection.send(header[begin : begin + size])
        await asyncio.sleep(0)
    await connection.talk("""
        S: 220
        C: EHLO c
        S: 250
    """)
    session = mx.script.sessions[0]
    assert session.client == ip_address(client)
    assert session.client_port == port or connection.writer.get_extra_info("sockname")[1]


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(b"EHLO client.test\r\n", id="none"),
        pytest.param(b"PROXY TCP4 192.0.2.7 192.0.2.1 4000 25 " + b"x" * 200 + b"\r\n", id="long v1"),
        pytest.param(b"PROXY TCP4 192.0.2.7\r\n", id="short v1"),
        pytest.param(b"PROXY TCP4 192.0.2.7 192.0.2.1 4000 99999\r\n", id="port"),
        pytest.param(b"PROXY TCP4 ::1 ::1 1 1\r\n", id="wrong family"),
        pytest.param(b"PROXY\r\n", id="empty v1"),
        pytest.param(v2(0x21, 0x11, IPV4[:6]), id="truncated v2"),
        pytest.param(v2(0x21, 0x11, IPV4, length=60_000), id="v2 that promises more"),
        pytest.param(v2(0x21, 0x12, IPV4), id="v2 UDP"),
        pytest.param(v2(0x21, 0x31, b"x" * 216), id="v2 unix"),
        pytest.param(v2(0x31, 0x11, IPV4), id="v3"),
        pytest.param(b"", id="silent"),
    ],
)
async def test_a_trusted_source_without_a_valid_header_is_closed(start, octets):
    """RELIABILITY 55."""
    mx = await start(listener={"proxy_protocol_from": ["127.0.0.0/8"]}, limits={"command_time": 0.2})
    client = await mx.connect()
    await client.send(octets)
    assert await client.replies() == []
    assert mx.script.calls == []


async def test_a_proxy_header_may_come_before_tls(start, certificate, trusting):
    mx = await start(
        listener={"proxy_protocol_from": ["127.0.0.0/8"], "tls": {**certificate, "mode": "implicit"}}
    )
    client = await mx.connect()
    await client.send(b"PROXY TCP4 192.0.2.7 192.0.2.1 4000 25\r\n")
    await client.start_tls(trusting)
    await client.talk("""
        S: 220
    """)
    assert mx.script.sessions[0].client == ip_address("192.0.2.7")


async def test_connections_are_limited_by_the_named_client(start):
    mx = await start(listener={"proxy_protocol_from": ["127.0.0.0/8"]}, limits={"connections_per_client": 1})
    for address, reply in (("192.0.2.1", "220"), ("192.0.2.2", "220"), ("192.0.2.1", "421 4.7.0")):
        client = await mx.connect()
        await client.send(f"PROXY TCP4 {address} 192.0.2.9 1 25\r\n".encode())
        assert (await client.reply()).startswith(reply)


# Number


@pytest.mark.parametrize("limit", ["connections", "connections_per_client"])
async def test_connections_past_the_limit_are_told_so(start, limit):
    """RELIABILITY 102."""
    mx = await start(limits={limit: 3})
    clients = [await mx.greeted() for _ in range(3)]
    for _ in range(20):
        client = await mx.connect()
        await client.talk("""
            S: 421 4.7.0
            S: closed
        """)
    clients[0].close()
    async with asyncio.timeout(30):
        await mx.script.closed.wait()
        while not (await (await mx.connect()).reply()).startswith("220"):
            await asyncio.sleep(0.01)


# Time


async def test_a_client_that_says_nothing_is_told_and_closed(start):
    mx = await start(limits={"command_time": 0.1})
    client = await mx.greeted()
    await client.talk("""
        S: 421 4.4.2
        S: closed
    """)


async def test_one_octet_after_the_other_does_not_hold_a_session(start):
    """RELIABILITY 100."""
    mx = await start(limits={"command_time": 0.2})
    client = await mx.greeted()
    begun = time.monotonic()
    reply = asyncio.ensure_future(client.reply())
    while not reply.done() and time.monotonic() - begun < 30:
        await client.send(b"x")
        await asyncio.sleep(0.02)
    assert (await reply).startswith("421 4.4.2")


@pytest.mark.parametrize("limits", [{"data_time": 0.1}, {"message_time": 0.1}, {"session_time": 1.0}])
@pytest.mark.parametrize("command", ["DATA", "BDAT 1000 LAST"])
async def test_a_message_that_does_not_come_ends_the_session(start, limits, command):
    mx = await start(limits=limits)
    client = await mx.in_transaction()
    await client.send(f"{command}\r\nx".encode())
    assert (await client.replies())[-1].startswith("421 4.4.2")
    assert mx.script.calls[-2:] == ["reset", "close"]


async def test_an_endless_stream_of_commands_ends_with_the_session_time(start):
    mx = await start(limits={"session_time": 0.2})
    client = await mx.greeted()
    sender = asyncio.ensure_future(send_endlessly(client, b"NOOP\r\n" * 100))
    last = (await client.replies())[-1]
    sender.cancel()
    assert last.startswith("421 4.4.2")


async def send_endlessly(client, octets):
    try:
        while True:
            await client.send(octets)
            await asyncio.sleep(0)
    except ConnectionError:
        pass


async def test_a_client_that_never_reads_costs_little_and_is_cut_off(start):
    """RELIABILITY 101."""
    mx = await start(limits={"command_time": 0.3})
    client = await mx.ready(limit=1024)
    client.writer.transport.pause_reading()
    client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    [session] = mx.server._sessions
    sender = asyncio.ensure_future(send_endlessly(client, b"HELP\r\n" * 10_000))
    unread, unsent = [], []
    async with asyncio.timeout(30):
        while not mx.script.closed.is_set():
            unread.append(len(session.wire._input))
            unsent.append(session.wire.transport.get_write_buffer_size())
            await asyncio.sleep(0.01)
    assert max(unread) <= 320 << 10  # 64 KiB, and then the 256 KiB that one read may give
    assert 0 < max(unsent) <= 1 << 18
    sender.cancel()


@pytest.mark.alone
async def test_without_descriptors_left_the_server_neither_spins_nor_dies(start, tmp_path):
    """RELIABILITY 103."""
    program = tmp_path / "server.py"
    program.write_text(
        "import asyncio, resource, sys, uvloop\n"
        "from gatepost.config.limits import Limits\nfrom gatepost.config.listen import ListenerSettings\n"
        "from gatepost.server import Server\n"
        "class SessionHandler:\n"
        "    def __init__(self, left): pass\n"
        "    async def connect(self, session): pass\n"
        "    async def reset(self): pass\n"
        "    async def close(self, session): pass\n"
        "class Gateway:\n"
        "    session_handler = SessionHandler\n"
        "    def extensions(self): return frozenset()\n"
        "async def main():\n"
        "    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n"
        "    server = Server(Gateway(), hostname='mx.test', limits=Limits(), bare_newline='reject',\n"
        "                    listeners=[ListenerSettings(address='127.0.0.1:0')])\n"
        "    await server.start()\n"
        "    print(server.addresses[0][1], flush=True)\n"
        "    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)\n"
        "    await server.stop(0)\n"
        f"{'uvloop' if 'uvloop' in type(asyncio.get_running_loop()).__module__ else 'asyncio'}.run(main())\n"
    )
    process = subprocess.Popen(  # noqa: ASYNC220 - its start is not what is tested
        [sys.executable, program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "proxy")},
    )
    with process:
        port = int(process.stdout.readline())
        sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(90)]
        await asyncio.sleep(0.2)
        before = psutil.Process(process.pid).cpu_times().user
        await asyncio.sleep(0.3)
        assert psutil.Process(process.pid).cpu_times().user - before < 0.15
        for connection in sockets:
            connection.close()
        deadline = time.monotonic() + 30
        greeting = b""
        while not greeting.startswith(b"220") and time.monotonic() < deadline:
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.settimeout(10)
                try:
                    greeting = connection.recv(100)
                except OSError:
                    await asyncio.sleep(0.05)
        process.stdin.close()
    assert greeting.startswith(b"220")
    assert process.returncode == 0
