"""Open a connection to upstream: aiosmtplib connects, greets, negotiates TLS and AUTH."""

import asyncio
import ssl
from collections.abc import Callable
from typing import cast

import aiosmtplib

from gatepost.config.fields import first_line
from gatepost.config.settings import UpstreamServer
from gatepost.relay.connection import UNREACHABLE, Connection, UpstreamLostError
from gatepost.relay.names import Names, is_address
from gatepost.values import value

__all__ = ["Patience", "open_connection", "tls_context"]

TlsContextOf = Callable[[UpstreamServer], ssl.SSLContext]

_TROUBLE = (aiosmtplib.SMTPException, OSError, ValueError, RuntimeError)
"""What connecting, a handshake, a certificate, a password file or an impossible AUTH mechanism raise."""


class _StartTlsError(Exception):
    """STARTTLS did not lead to TLS."""


@value
class Patience:
    """How long each step may take, in seconds; none of them goes beyond the deadline."""

    connect: float
    """To reach the server and have its greeting, with the handshake of implicit TLS before it."""
    command: float
    """For each of EHLO, HELO, STARTTLS with its handshake, and AUTH."""
    deadline: float
    """For all of them, on the event loop's clock."""


class _Limit:
    """The time limit of the step that is under way, and its name for the log."""

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
    server: UpstreamServer, *, hostname: str, patience: Patience, context_of: TlsContextOf, names: Names
) -> Connection:
    """Ready for MAIL; raises UpstreamLostError with the reason, in time by the event loop's clock.

    TLS ``opportunistic`` uses STARTTLS where it is offered, with any certificate. Where that fails
    it goes on without, since TLS that anybody may break protects no better (RFC 7435); but a password
    is not sent that way.
    """
    timeout = asyncio.timeout_at(patience.deadline)
    limit = _Limit(patience, timeout)
    starttls = server.tls in ("opportunistic", "required")
    try:
        async with timeout:
            try:
                return await _open(server, hostname, context_of, names, limit, starttls=starttls)
            except _StartTlsError:
                if server.tls == "required" or server.auth:
                    raise
                return await _open(server, hostname, context_of, names, limit, starttls=False)
    except UpstreamLostError:
        raise
    except TimeoutError:
        raise UpstreamLostError(f"no {limit.step} in time", UNREACHABLE) from None
    except (_StartTlsError, *_TROUBLE) as error:
        raise UpstreamLostError(f"{type(error).__name__.lstrip('_')}: {error}", UNREACHABLE) from error


def tls_context(server: UpstreamServer) -> ssl.SSLContext:
    """What this server's certificate must be; raises OSError where the ``ca`` file cannot be read.

    Slow (it reads the system's authorities): to be kept.
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
    names: Names,
    limit: _Limit,
    *,
    starttls: bool,
) -> Connection:
    limit.connect()
    connected = None if is_address(server.host) else await names.connect(server.host, server.port)
    client = aiosmtplib.SMTP(
        hostname=server.host,
        port=None if connected else server.port,
        sock=connected,
        local_hostname=hostname,
        timeout=None,  # each step has its own limit
        use_tls=server.tls == "implicit",
        start_tls=False,
        tls_context=context_of(server) if server.tls == "implicit" else None,
    )
    transport: asyncio.BaseTransport | None = None
    try:
        await client.connect()
        transport = client.transport
        await _greet(client, limit)
        if starttls:
            await _start_tls(client, server, context_of, limit)
            transport = client.transport
        if server.auth:
            limit.command("AUTH")
            await client.login(server.auth.username, first_line(server.auth.password_file))
        return _take_over(client, str(server))
    except BaseException:
        if isinstance(transport, asyncio.WriteTransport):
            transport.abort()  # where client.close() would flush
        client.close()
        if connected:
            connected.close()
        raise


async def _greet(client: aiosmtplib.SMTP, limit: _Limit) -> None:
    """EHLO, or HELO where that is refused (RFC 5321 section 3.2)."""
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


def _take_over(client: aiosmtplib.SMTP, server: str) -> Connection:
    transport, protocol = client.transport, client.protocol
    if transport is None or protocol is None or transport.is_closing():
        raise UpstreamLostError("closed after the greeting", UNREACHABLE)
    if protocol._buffer:  # noqa: SLF001 - what was read beyond the last reply would answer our first command
        raise UpstreamLostError("said more than it was asked", UNREACHABLE)
    extensions = {name.upper(): argument for name, argument in client.esmtp_extensions.items()}
    return Connection(cast("asyncio.Transport", transport), extensions, server)
