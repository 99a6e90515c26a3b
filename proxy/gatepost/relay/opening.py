"""Open a connection to upstream: aiosmtplib connects, greets, negotiates TLS and AUTH."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import cast

import aiosmtplib

from gatepost.config.fields import first_line
from gatepost.config.relay import UpstreamServer
from gatepost.connecting import connect
from gatepost.model import replies
from gatepost.model.mail import Session
from gatepost.relay.connection import ClientRefusedError, Connection, UpstreamLostError
from gatepost.relay.original_client import helo_of, proxy_header, xclient_command
from gatepost.relay.reply_reader import make_reply
from gatepost.values import value

__all__ = ["Patience", "open_connection", "tls_context"]

TlsContextOf = Callable[[UpstreamServer], ssl.SSLContext]

_TROUBLE = (aiosmtplib.SMTPException, OSError, ValueError, RuntimeError)
"""Exceptions of connecting, TLS, certificates, the password file or an unsupported AUTH mechanism."""


class _StartTlsError(Exception):
    """STARTTLS did not lead to TLS."""


@value
class Patience:
    """Time limits of each step, in seconds; the deadline limits all of them."""

    connect: float
    """For the TCP connection, the handshake of implicit TLS, and the greeting."""
    command: float
    """For each of EHLO, HELO, STARTTLS with its handshake, and AUTH."""
    deadline: float
    """For all steps, on the event loop's clock."""


class _Limit:
    """The time limit of the current step, and its name for the log."""

    def __init__(self, patience: Patience, timeout: asyncio.Timeout) -> None:
        self._patience = patience
        self._timeout = timeout
        self.step = ""

    def begin(self, step: str, seconds: float) -> None:
        self.step = step
        until = asyncio.get_running_loop().time() + seconds
        self._timeout.reschedule(min(until, self._patience.deadline))

    def connect(self) -> None:
        self.begin("greeting", self._patience.connect)

    def command(self, verb: str) -> None:
        self.begin(f"reply to {verb}", self._patience.command)


async def open_connection(
    server: UpstreamServer,
    *,
    hostname: str,
    patience: Patience,
    context_of: TlsContextOf,
    client: Session | None = None,
) -> Connection:
    """Open a connection that is ready for MAIL; raises UpstreamLostError with the reason, by the deadline.

    ``client`` is the original client that it is opened for, if the server is told of it with XCLIENT or a
    PROXY header; if the server refuses that client, ClientRefusedError is raised.

    TLS ``opportunistic`` uses STARTTLS if it is offered, with any certificate. If that fails, the connection
    is used without TLS, since unauthenticated TLS can be broken by an attacker anyway (RFC 7435). A password
    is not sent without TLS in that case.
    """
    timeout = asyncio.timeout_at(patience.deadline)
    limit = _Limit(patience, timeout)
    starttls = server.tls in ("opportunistic", "required")
    opening = partial(_open, server, hostname, context_of, limit, client)
    try:
        async with timeout:
            try:
                return await opening(starttls=starttls)
            except _StartTlsError:
                if server.tls == "required" or server.auth:
                    raise
                return await opening(starttls=False)
    except UpstreamLostError:
        raise
    except TimeoutError:
        raise UpstreamLostError(f"no {limit.step} in time", replies.UNREACHABLE) from None
    except (_StartTlsError, *_TROUBLE) as error:
        raise UpstreamLostError(
            f"{type(error).__name__.lstrip('_')}: {error}", replies.UNREACHABLE
        ) from error


def tls_context(server: UpstreamServer) -> ssl.SSLContext:
    """The TLS context for a server; raises OSError if the ``ca`` file cannot be read.

    Slow, since it reads the system's certificate authorities: the caller should keep it.
    """
    if server.tls == "opportunistic" or not server.verify:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    return ssl.create_default_context(cafile=str(server.ca) if server.ca else None)


async def _open(
    server: UpstreamServer,
    hostname: str,
    context_of: TlsContextOf,
    limit: _Limit,
    original: Session | None,
    *,
    starttls: bool,
) -> Connection:
    context = context_of(server) if server.tls == "implicit" else None
    limit.connect()
    connected = await _connect(server, original)
    told = original if server.send_client == "proxy" else None
    client = aiosmtplib.SMTP(
        hostname=server.host,
        sock=connected,
        local_hostname=helo_of(told, hostname) if told else hostname,
        timeout=None,  # each step has its own limit
        use_tls=server.tls == "implicit",
        start_tls=False,
        tls_context=context,
    )
    transport: asyncio.BaseTransport | None = None
    try:
        await _receive_greeting(client, told_of_client=told is not None)
        transport = client.transport
        await _greet(client, limit)
        if starttls:
            await _start_tls(client, server, context_of, limit)
            transport = client.transport
        was_told = False
        if original and server.send_client == "xclient":
            was_told = await _name_client(client, original, hostname, limit, login=server.auth is None)
        if server.auth:
            limit.command("AUTH")
            await client.login(server.auth.username, first_line(server.auth.password_file))
        return _take_over(client, str(server), original, was_told=was_told)
    except BaseException:
        if isinstance(transport, asyncio.WriteTransport):
            transport.abort()  # client.close() would flush
        client.close()
        connected.close()
        raise


async def _connect(server: UpstreamServer, original: Session | None) -> socket.socket:
    """A connected socket, on which a PROXY header was sent if the server expects one."""
    connected = await connect(server.host, server.port)
    if server.send_client == "proxy":
        try:
            client = (str(original.client), original.client_port) if original else connected.getsockname()[:2]
            header = proxy_header(client, connected.getpeername()[:2])
            await asyncio.get_running_loop().sock_sendall(connected, header)
        except BaseException:
            connected.close()
            raise
    return connected


async def _receive_greeting(client: aiosmtplib.SMTP, *, told_of_client: bool) -> None:
    """Connect, or continue on the connection; a 5xx after a PROXY header is about the original client."""
    try:
        await client.connect()
    except aiosmtplib.SMTPConnectResponseError as refused:
        if told_of_client and refused.code >= 500:
            raise _refused(refused.code, refused.message) from refused
        raise


async def _name_client(
    client: aiosmtplib.SMTP, original: Session, hostname: str, limit: _Limit, *, login: bool
) -> bool:
    """Send XCLIENT if it is announced; the server then greets anew, and EHLO is sent again.

    False if it is not announced.
    """
    command = xclient_command(client.esmtp_extensions.get("xclient", ""), original, login=login)
    if command is None:
        return False
    limit.command("XCLIENT")
    reply = await client.execute_command(command)
    if reply.code >= 400 and reply.code != 421:
        raise _refused(reply.code, reply.message)
    if reply.code != 220:
        raise aiosmtplib.SMTPResponseException(reply.code, reply.message)
    limit.command("EHLO")
    await client.ehlo(hostname=helo_of(original, hostname))
    return True


def _refused(code: int, message: str) -> ClientRefusedError:
    reply = make_reply(code, message.split("\n"))
    return ClientRefusedError(f"refuses the client: {reply}", reply)


async def _greet(client: aiosmtplib.SMTP, limit: _Limit) -> None:
    """Send EHLO, or HELO if that is refused (RFC 5321 section 3.2)."""
    limit.command("EHLO")
    try:
        await client.ehlo()
    except aiosmtplib.SMTPHeloError as refused:
        if not client.is_connected:
            raise
        limit.command("HELO")
        try:
            await client.helo()
        except aiosmtplib.SMTPServerDisconnected:
            raise refused from None


async def _start_tls(
    client: aiosmtplib.SMTP, server: UpstreamServer, context_of: TlsContextOf, limit: _Limit
) -> None:
    if not client.supports_extension("starttls"):
        if server.tls == "required":
            raise _StartTlsError("not offered")
        return
    limit.command("STARTTLS")
    try:
        await client.starttls(tls_context=context_of(server))
        await _greet(client, limit)
    except _TROUBLE as error:
        raise _StartTlsError(f"{type(error).__name__}: {error}") from error


def _take_over(
    client: aiosmtplib.SMTP, server: str, original: Session | None, *, was_told: bool
) -> Connection:
    transport, protocol = client.transport, client.protocol
    if transport is None or protocol is None or transport.is_closing():
        raise UpstreamLostError("closed after the greeting", replies.UNREACHABLE)
    if protocol._buffer:  # noqa: SLF001 - these bytes would be read as the reply to MAIL
        raise UpstreamLostError("unexpected bytes before MAIL", replies.UNREACHABLE)
    extensions = {name.upper(): argument for name, argument in client.esmtp_extensions.items()}
    return Connection(cast("asyncio.Transport", transport), extensions, server, original, was_told=was_told)
