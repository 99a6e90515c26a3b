"""Open a connection to upstream: aiosmtplib connects, greets, negotiates TLS and AUTH."""

import asyncio
import ssl
from collections.abc import Callable
from typing import cast

import aiosmtplib

from proxy.config.fields import first_line
from proxy.config.settings import UpstreamServer
from proxy.relay.connection import UNREACHABLE, Connection, UpstreamLostError
from proxy.relay.names import Names, is_address

__all__ = ["open_connection", "tls_context"]

TlsContextOf = Callable[[UpstreamServer], ssl.SSLContext]

_TROUBLE = (aiosmtplib.SMTPException, OSError, ValueError, RuntimeError)
"""What connecting, a handshake, a certificate, a password file or an impossible AUTH mechanism raise."""


class _StartTlsError(Exception):
    """STARTTLS did not lead to TLS."""


async def open_connection(
    server: UpstreamServer, *, hostname: str, deadline: float, context_of: TlsContextOf, names: Names
) -> Connection:
    """Ready for MAIL; raises UpstreamLostError with the reason, in time by the event loop's clock.

    TLS ``opportunistic`` uses STARTTLS where it is offered, with any certificate. Where that fails
    it goes on without, since TLS that anybody may break protects no better (RFC 7435); but a password
    is not sent that way.
    """
    try:
        async with asyncio.timeout_at(deadline):
            try:
                return await _open(
                    server, hostname, context_of, names, starttls=server.tls in ("opportunistic", "required")
                )
            except _StartTlsError:
                if server.tls == "required" or server.auth:
                    raise
                return await _open(server, hostname, context_of, names, starttls=False)
    except UpstreamLostError:
        raise
    except TimeoutError:
        raise UpstreamLostError("no greeting in time", UNREACHABLE) from None
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
    server: UpstreamServer, hostname: str, context_of: TlsContextOf, names: Names, *, starttls: bool
) -> Connection:
    connected = None if is_address(server.host) else await names.connect(server.host, server.port)
    client = aiosmtplib.SMTP(
        hostname=server.host,
        port=None if connected else server.port,
        sock=connected,
        local_hostname=hostname,
        timeout=None,  # one deadline for all of it is the caller's
        use_tls=server.tls == "implicit",
        start_tls=False,
        tls_context=context_of(server) if server.tls == "implicit" else None,
    )
    transport: asyncio.BaseTransport | None = None
    try:
        await client.connect()
        transport = client.transport
        await _greet(client)
        if starttls:
            await _start_tls(client, server, context_of)
            transport = client.transport
        if server.auth:
            await client.login(server.auth.username, first_line(server.auth.password_file))
        return _take_over(client, str(server))
    except BaseException:
        if isinstance(transport, asyncio.WriteTransport):
            transport.abort()  # where client.close() would flush
        client.close()
        if connected:
            connected.close()
        raise


async def _greet(client: aiosmtplib.SMTP) -> None:
    """EHLO, or HELO where that is refused (RFC 5321 section 3.2)."""
    try:
        await client.ehlo()
    except aiosmtplib.SMTPHeloError:
        if not client.is_connected:
            raise
        await client.helo()


async def _start_tls(client: aiosmtplib.SMTP, server: UpstreamServer, context_of: TlsContextOf) -> None:
    if not client.supports_extension("starttls"):
        if server.tls == "required":
            raise _StartTlsError("not offered")
        return
    try:
        await client.starttls(tls_context=context_of(server))
        await _greet(client)
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
