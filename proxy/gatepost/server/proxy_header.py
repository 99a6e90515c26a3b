"""The PROXY protocol, versions 1 and 2, as trusted load balancers speak it.

Specification: https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt
"""

import logging
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from aiosmtpd.proxy_protocol import PROTO, V2_CMD, get_proxy

from gatepost.logline import LogLine
from gatepost.model import replies
from gatepost.server.clients import IPAddress, ip_address
from gatepost.server.replies import SessionEnd
from gatepost.server.wire import Wire
from gatepost.throttle import and_more

__all__ = ["read_client"]

log = logging.getLogger(__name__)

# aiosmtpd's parser logs each fault too, and without the source
logging.getLogger("mail.debug").addFilter(lambda record: record.module != "proxy_protocol")

_HEADER_SECONDS: Final = 10.0

_MAX_V1: Final = 107
"""Bytes of a version 1 header with its CRLF; version 2 states its length, at most 65,551."""

ReadExactly = Callable[[int], Awaitable[bytes]]


class _HeaderReader:
    """A reader for aiosmtpd's parser that never reads beyond the header."""

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


async def read_client(wire: Wire) -> tuple[IPAddress, int] | None:
    """The client's address and port from the header with which the connection must begin.

    None if the balancer itself is the client; raises SessionEnd if there is no valid header in time.
    """
    seconds = min(_HEADER_SECONDS, wire.endpoint.limits.command_time)
    deadline = wire.seconds_from_now(seconds)
    ends: list[SessionEnd] = []  # the parser hides an end behind an error of its own

    async def read(count: int) -> bytes:
        try:
            return await wire.read_exactly(count, deadline)
        except SessionEnd as end:
            ends.append(end)
            raise

    try:
        header = await _read_header(read)
    except (SessionEnd, ValueError) as error:
        if not ends:
            _warn(wire, f"no valid PROXY header: {str(error)!r}")
        elif ends[0].reply is replies.TIMED_OUT:
            _warn(wire, f"no complete PROXY header within {seconds:g} s")
        # else a balancer's health check, which connects and closes the connection, or Gatepost is stopping
        raise SessionEnd from error
    return (ip_address(str(header[0])), header[1]) if header else None


def _warn(wire: Wire, what: str) -> None:
    """Log that a source sends no header, once for each source, and once an hour if it goes on."""
    peer = wire.transport.get_extra_info("peername") if wire.transport else None
    source = str(ip_address(peer[0])) if peer else "a source that has gone"
    left_out = wire.endpoint.headers_missing.admit(source)
    if left_out is None:
        return
    more = and_more(left_out, "more connections")
    text = (
        f"listener {wire.endpoint.name}: {what} from {source}; its connections are closed. Let it send "
        f"one, or take it out of proxy_protocol_from{more}"
    )
    log.warning(LogLine(text, listener=wire.endpoint.name, source=source))


async def _read_header(read_exactly: ReadExactly) -> tuple[IPv4Address | IPv6Address, int] | None:
    """The client's address and port; None if the balancer itself is the client (LOCAL, UNKNOWN).

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
