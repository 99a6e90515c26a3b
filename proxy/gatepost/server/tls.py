"""The TLS handshake of a connection that is open already (RFC 3207, RFC 8314)."""

import asyncio
import ssl
from typing import Any

__all__ = ["negotiate"]


async def negotiate(
    plain: asyncio.Transport,
    protocol: asyncio.Protocol,
    context: ssl.SSLContext,
    hello: bytes,
    *,
    timeout_seconds: float,
) -> asyncio.Transport | None:
    """The protected transport, None if the client is gone; raises OSError.

    ``hello`` is the beginning of the client's handshake that ``protocol`` has received already.
    """
    handshake = asyncio.get_running_loop().start_tls(
        plain, protocol, context, server_side=True, ssl_handshake_timeout=timeout_seconds
    )
    if not hello:
        return await handshake
    _, transport = await asyncio.gather(_hand_over(plain, protocol, hello), handshake)
    return transport


async def _hand_over(plain: asyncio.Transport, protocol: asyncio.Protocol, octets: bytes) -> None:
    """Pass bytes to the TLS layer as if it had received them itself, and before all others."""
    await asyncio.sleep(0)  # start_tls puts the layer between transport and protocol
    await asyncio.sleep(0)  # and the layer is told of its transport
    layer: Any = plain.get_protocol()  # uvloop's is no subclass of asyncio.BufferedProtocol
    while octets and layer not in (protocol, None):  # it is, where the client is gone already
        buffer = layer.get_buffer(len(octets))
        count = min(len(buffer), len(octets))
        buffer[:count] = octets[:count]
        layer.buffer_updated(count)
        octets = octets[count:]
