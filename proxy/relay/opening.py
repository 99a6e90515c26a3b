"""Open a connection to upstream: aiosmtplib connects, greets, negotiates TLS and AUTH."""

import asyncio
import ssl
from typing import cast

import aiosmtplib
from aiosmtplib.errors import SMTPHeloError

from proxy.config.settings import UpstreamServer
from proxy.relay.connection import Connection, UpstreamLostError

__all__ = ["open_connection"]


async def open_connection(server: UpstreamServer, *, hostname: str, seconds: float) -> Connection:
    """Ready for MAIL within that time; raises UpstreamLostError with the reason.

    TLS ``opportunistic`` uses STARTTLS where it is offered, with any certificate, and goes on without
    it where the handshake fails: better than in the clear always, and no worse (RFC 7435).
    """
    try:
        async with asyncio.timeout(seconds):
            try:
                return await _open(server, hostname, starttls=server.tls in ("opportunistic", "required"))
            except ssl.SSLError:
                if server.tls != "opportunistic":
                    raise
                return await _open(server, hostname, starttls=False)
    except TimeoutError:
        raise UpstreamLostError(f"{server}: no greeting within {seconds:g} s") from None
    except (aiosmtplib.SMTPException, OSError, ValueError) as error:
        raise UpstreamLostError(f"{server}: {type(error).__name__}: {error}"[:500]) from error


async def _open(server: UpstreamServer, hostname: str, *, starttls: bool) -> Connection:
    client = aiosmtplib.SMTP(
        hostname=server.host,
        port=server.port,
        local_hostname=hostname,
        timeout=None,  # one deadline for all is the caller's
        use_tls=server.tls == "implicit",
        start_tls=False,
        tls_context=_tls_context(server),
    )
    try:
        await client.connect()
        await _greet(client)
        if starttls and client.get_transport_info("sslcontext") is None:
            if client.supports_extension("starttls"):
                response = await client.starttls()
                if response.code != 220 and server.tls == "required":
                    raise UpstreamLostError(f"{server} refuses STARTTLS: {response.code} {response.message}")
                await _greet(client)
            elif server.tls == "required":
                raise UpstreamLostError(f"{server} does not offer STARTTLS")
        if server.auth:
            password = server.auth.password_file.read_text(encoding="utf-8").split("\n", 1)[0].rstrip("\r")
            await client.login(server.auth.username, password)
        return _take_over(client, str(server))
    except BaseException:
        if client.transport:
            client.transport.abort()  # close() would flush
        client.close()
        raise


async def _greet(client: aiosmtplib.SMTP) -> None:
    """EHLO, or HELO where that is refused (RFC 5321 section 3.2)."""
    try:
        await client.ehlo()
    except SMTPHeloError:
        if not client.is_connected:
            raise
        await client.helo()


def _take_over(client: aiosmtplib.SMTP, server: str) -> Connection:
    transport, protocol = client.transport, client.protocol
    if transport is None or protocol is None or transport.is_closing():
        raise UpstreamLostError(f"{server} closed the connection")
    if protocol._buffer:  # noqa: SLF001 - what it read too much would be the reply to our first command
        raise UpstreamLostError(f"{server} sent more than was asked for")
    extensions = {name.upper(): argument for name, argument in client.esmtp_extensions.items()}
    return Connection(cast("asyncio.Transport", transport), extensions, server)


def _tls_context(server: UpstreamServer) -> ssl.SSLContext | None:
    if server.tls == "none":
        return None
    context = ssl.create_default_context(cafile=str(server.ca) if server.ca else None)
    if server.tls == "opportunistic" or not server.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
