"""One request of the webhook: what is sent, and what every kind of server makes of it."""

import asyncio
import base64
import hmac
import json
import socket
import ssl
import struct

import pytest
from gatepost.config.webhook import WebhookSettings
from gatepost.web import webhook_server
from gatepost.web.webhook_server import WebhookServer

BODY = json.dumps({"subject": "Hello"}).encode()
SECRET = bytes(range(32))


@pytest.fixture
async def scripted():
    """Serve with a function of reader and writer; returns the port, and counts the connections."""
    servers = []

    async def start(serve, **options):
        async def connected(reader, writer):
            start.connections += 1
            try:
                await serve(reader, writer)
            except ConnectionError:
                pass
            finally:
                writer.close()

        servers.append(await asyncio.start_server(connected, "127.0.0.1", 0, **options))
        return servers[-1].sockets[0].getsockname()[1]

    start.connections = 0
    yield start
    for server in servers:
        server.close()


async def request_of(reader):
    """The head as lines and the body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
    fields = dict(line.split(": ", 1) for line in head[1:])
    return head[0], fields, await reader.readexactly(int(fields["content-length"]))


def saying(*octets, wait=False):
    """A server that reads the request, and answers with these pieces; perhaps it stays then."""

    async def serve(reader, writer):
        await request_of(reader)
        for piece in octets:
            writer.write(piece)
            await writer.drain()
        if wait:
            await asyncio.sleep(60)

    return serve


def endlessly(piece, pause=0.0):
    async def serve(reader, writer):
        await request_of(reader)
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)

    return serve


async def answers_before_it_reads(reader, writer):
    writer.write(b"HTTP/1.1 413 Content Too Large\r\n\r\n")
    await asyncio.sleep(60)


async def resets(reader, writer):
    await request_of(reader)
    at_once = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
    writer.transport.abort()


OK = b"HTTP/1.1 200 OK\r\n"
HOME = b"Location: http://127.0.0.1:1/\r\n\r\n"
LATE = "no answer within 0.3 s"
TABLE = {
    "200": (saying(OK + b"Content-Length: 2\r\n\r\nok"), ""),
    "200 in pieces": (saying(b"HT", b"TP/1.1 2", b"00 OK\r", b"\n\r\n"), ""),
    "200 of HTTP/1.0": (saying(b"HTTP/1.0 200 OK\r\n\r\nok"), ""),
    "200 without a reason": (saying(b"HTTP/1.1 200\r\n\r\n"), ""),
    "204": (saying(b"HTTP/1.1 204 No Content\r\n\r\n"), ""),
    "299": (saying(b"HTTP/1.1 299 Fine\r\n\r\n"), ""),
    "after 102 and 103": (saying(b"HTTP/1.1 102 x\r\n\r\nHTTP/1.1 103 y\r\n\r\n", OK + b"\r\n"), ""),
    "its body never comes": (saying(OK + b"Content-Length: 9\r\n\r\n", wait=True), ""),
    "its body never ends": (saying(OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 99_999), ""),
    "its body is garbage": (saying(OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"), ""),
    "301": (
        saying(b"HTTP/1.1 301 Moved Permanently\r\n" + HOME),
        "301 Moved Permanently (redirects are not fo",
    ),
    "302": (saying(b"HTTP/1.1 302 Found\r\n" + HOME), "302 Found (redirects are not followed)"),
    "307": (
        saying(b"HTTP/1.1 307 Temporary Redirect\r\n" + HOME),
        "307 Temporary Redirect (redirects are not",
    ),
    "400": (saying(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "400 Bad Request"),
    "410": (saying(b"HTTP/1.1 410 \r\n\r\n"), "410"),
    "503": (saying(b"HTTP/1.1 503 \x1b[31mNo\xff\r\n\r\n"), "503 \\x1b[31mNo"),
    "503 with an endless reason": (saying(b"HTTP/1.1 503 " + b"x" * 9999 + b"\r\n\r\n"), "503 " + "x" * 100),
    "it answers before it reads": (answers_before_it_reads, "413 Content Too Large"),
    "SMTP": (saying(b"220 mx.example.com ESMTP\r\n\r\n"), "no HTTP response: illegal status line"),
    "bytes": (saying(bytes(range(256)) * 9 + b"\r\n\r\n"), "no HTTP response: "),
    "a field without a colon": (saying(OK + b"Oops\r\n\r\n"), "no HTTP response: "),
    "an endless head": (endlessly(b"x" * 9999), "no HTTP response: "),
    "endless 1xx": (endlessly(b"HTTP/1.1 100 Continue\r\n\r\n"), LATE),
    "a slow head": (endlessly(b"H", pause=0.05), LATE),
    "silence": (saying(wait=True), LATE),
    "nothing": (saying(), "the connection was closed without a response"),
    "half a head": (saying(OK + b"Content"), "the connection was closed without a response"),
    "a reset": (resets, "Connection reset by peer"),
}


@pytest.mark.parametrize("name", TABLE)
async def test_what_a_server_does_is_told_and_takes_bounded_time(scripted, monkeypatch, name):
    serve, says = TABLE[name]
    monkeypatch.setattr(webhook_server, "_SECONDS", 0.3 if says == LATE else 30)
    port = await scripted(serve)
    server = WebhookServer(WebhookSettings.model_validate(f"http://ann:hunter2@127.0.0.1:{port}/hunter3"))
    why = await server.post("abc", BODY * (99_999 if "before" in name else 1))
    assert why.startswith(says) if says else not why, why
    assert len(why) < 200
    assert "hunter" not in why + str(server)
    assert scripted.connections == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "nobody.invalid"])
async def test_a_server_that_is_not_there_is_told(host, closed_port, monkeypatch):
    monkeypatch.setattr(webhook_server, "_SECONDS", 2)
    url = f"http://ann:hunter2@{host}:{closed_port}/hunter3"
    why = await WebhookServer(WebhookSettings.model_validate(url)).post("abc", BODY)
    assert why
    assert "hunter" not in why


@pytest.mark.parametrize(
    ("given", "line", "host", "authorization"),
    [
        ("http://{}", "POST / HTTP/1.1", "{}", None),
        ("http://{}/a%20b?c=d&e", "POST /a%20b?c=d&e HTTP/1.1", "{}", None),
        ("http://ann:p%40ss@{}/", "POST / HTTP/1.1", "{}", "ann:p@ss"),
    ],
)
async def test_what_is_sent(scripted, given, line, host, authorization):
    seen = []

    async def serve(reader, writer):
        seen.extend(await request_of(reader))
        writer.write(OK + b"\r\n")

    place = f"127.0.0.1:{await scripted(serve)}"
    server = WebhookServer(WebhookSettings.model_validate(given.format(place)))
    assert await server.post("abc", BODY) == ""
    first, fields, body = seen
    assert (first, fields["host"], body) == (line, host.format(place), BODY)
    assert fields["content-type"] == "application/json"
    assert (fields["webhook-id"], int(fields["webhook-timestamp"]) > 1_700_000_000) == ("abc", True)
    sent = fields.get("authorization")
    assert sent == (authorization and f"Basic {base64.b64encode(authorization.encode()).decode()}")
    assert "webhook-signature" not in fields


async def test_the_signature_is_that_of_standard_webhooks(scripted, tmp_path, monkeypatch):
    """The example of the specification's own libraries."""
    seen = []

    async def serve(reader, writer):
        seen.append((await request_of(reader))[1])
        writer.write(OK + b"\r\n")

    (tmp_path / "secret").write_text("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n")
    monkeypatch.setattr(webhook_server.time, "time", lambda: 1614265330.7)
    url = f"http://127.0.0.1:{await scripted(serve)}"
    server = WebhookServer(WebhookSettings(url=url, secret_file=tmp_path / "secret"))
    assert await server.post("msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}') == ""
    assert seen[0]["webhook-timestamp"] == "1614265330"
    assert seen[0]["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_a_renewed_secret_is_used_and_without_one_nothing_is_sent(scripted, tmp_path):
    seen = []

    async def serve(reader, writer):
        seen.append(await request_of(reader))
        writer.write(OK + b"\r\n")

    file = tmp_path / "secret"
    file.write_bytes(base64.b64encode(SECRET))
    url = f"http://127.0.0.1:{await scripted(serve)}"
    server = WebhookServer(WebhookSettings(url=url, secret_file=file))
    for secret in (SECRET, SECRET[::-1]):
        file.write_bytes(base64.b64encode(secret))
        assert await server.post("abc", BODY) == ""
        _, fields, body = seen[-1]
        signed = f"abc.{fields['webhook-timestamp']}.".encode() + body
        expected = base64.b64encode(hmac.digest(secret, signed, "sha256")).decode()
        assert fields["webhook-signature"] == f"v1,{expected}"
    file.write_text("hunter2\n")
    why = await server.post("abc", BODY)
    assert why.startswith(f"it cannot be signed: no secret in {file}, expected")
    assert "hunter2" not in why
    file.unlink()
    assert (await server.post("abc", BODY)).startswith("it cannot be signed: ")
    assert len(seen) == 2


@pytest.mark.parametrize("trusted", [True, False])
async def test_a_certificate_must_be_trusted(scripted, tmp_path, monkeypatch, trusted):
    trustme = pytest.importorskip("trustme")
    authority, own = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(own)
    (authority if trusted else trustme.CA()).cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    port = await scripted(saying(OK + b"\r\n"), ssl=own)
    server = WebhookServer(WebhookSettings.model_validate(f"https://localhost:{port}/hunter3"))
    why = await server.post("abc", BODY)
    assert why == "" if trusted else why.startswith("its certificate is not trusted: "), why
    assert str(server) == f"https://localhost:{port}"


async def test_https_is_not_spoken_to_an_http_server(scripted):
    port = await scripted(answers_before_it_reads)
    server = WebhookServer(WebhookSettings.model_validate(f"https://127.0.0.1:{port}/hunter3"))
    assert "SSL" in await server.post("abc", BODY)
