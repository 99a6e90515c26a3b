"""Clients behind a proxy: X-Forwarded-For names them, and is believed if it comes from a known proxy.

Each proxy adds the address of its own client at the end of the field. So the field is read from its end, and
what comes before the first address that is not a known proxy's is ignored: clients can write anything there.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from gatepost.config.patterns import client_address

__all__ = ["Forwarded", "forwarded_client"]


class Forwarded:
    """The middleware that replaces ``client`` in the scope; pure ASGI, so that events stream through it."""

    def __init__(self, app: ASGIApp, proxies: Sequence[IPv4Network | IPv6Network]) -> None:
        """``proxies`` are the networks of ``web.forwarded_from``; without any the field is ignored."""
        self._app = app
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102 - ASGI says it
        if scope["type"] == "http" and self._proxies:
            peer = scope["client"][0] if scope.get("client") else None
            field = Headers(scope=scope).getlist("x-forwarded-for")
            client = forwarded_client(peer, field, self._proxies)
            if client is not None and client != peer:
                scope["client"] = (client, 0)
        await self._app(scope, receive, send)


def forwarded_client(
    peer: str | None, field: Sequence[str], proxies: Sequence[IPv4Network | IPv6Network]
) -> str | None:
    """The address of the client: the last one in the field that is no proxy's, else the first one.

    Args:
        peer: the address that has connected; None: a Unix socket, of which only a proxy knows.
        field: the values of X-Forwarded-For, in their order.
        proxies: networks of the proxies.

    Returns:
        ``peer``, if it is no proxy, the field is missing, or one of the addresses that count is none.
    """
    if not field or not (peer is None or _is_in(_address(peer), proxies)):
        return peer
    client = peer
    for item in reversed(",".join(field).split(",")):
        address = _address(item.strip())
        if address is None or "%" in item:  # a zone, as in fe80::1%eth0, may be any text
            return peer
        client = str(address)
        if not _is_in(address, proxies):
            break
    return client


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return client_address(ip_address(text))
    except ValueError:
        return None


def _is_in(address: IPv4Address | IPv6Address | None, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    return address is not None and any(address in network for network in networks)
