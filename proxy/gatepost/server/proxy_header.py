"""The PROXY protocol, versions 1 and 2, as trusted load balancers speak it.

Specification: https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt
"""

from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from aiosmtpd.proxy_protocol import PROTO, V2_CMD, get_proxy

__all__ = ["read_proxy_header"]

_MAX_V1: Final = 107
"""Octets of a version 1 header with its CRLF; version 2 states its length, at most 65,551."""

ReadExactly = Callable[[int], Awaitable[bytes]]


class _HeaderReader:
    """Gives aiosmtpd's parser what it asks for, and never an octet beyond the header."""

    def __init__(self, read_exactly: ReadExactly) -> None:
        self._read_exactly = read_exactly

    async def readexactly(self, n: int = 1) -> bytes:
        return await self._read_exactly(n)

    async def read(self, n: int = 1) -> bytes:
        return await self._read_exactly(n)

    async def readuntil(self, separator: bytes = b"\n") -> bytes:
        line = b""
        while not line.endswith(separator):
            if len(line) >= _MAX_V1:
                raise ValueError("longer than a PROXY header may be")
            line += await self._read_exactly(1)
        return line


async def read_proxy_header(read_exactly: ReadExactly) -> tuple[IPv4Address | IPv6Address, int] | None:
    """The client's address and port; None where the balancer speaks for itself (LOCAL, UNKNOWN).

    Raises ValueError for anything that is not a header for a TCP connection.
    """
    header = await get_proxy(_HeaderReader(read_exactly))
    if not header.valid:
        raise ValueError(header.error)
    if header.protocol == PROTO.UNSPEC or header.command == V2_CMD.LOCAL:
        return None
    address = header.src_addr
    if header.protocol != PROTO.STREAM or not isinstance(address, IPv4Address | IPv6Address):
        raise ValueError("expected the addresses of a TCP connection")
    return address, header.src_port or 0
