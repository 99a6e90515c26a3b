"""Clients by their addresses, and how many connections each of them has."""

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from ipaddress import ip_address as any_address
from typing import TYPE_CHECKING

from gatepost.config.limits import Limits
from gatepost.model import replies
from gatepost.model.verdict import Reply

if TYPE_CHECKING:
    from gatepost.state.connections import ConnectionCounts

__all__ = ["ConnectionLimits", "IPAddress", "ip_address"]

IPAddress = IPv4Address | IPv6Address


@lru_cache(maxsize=4096)
def ip_address(text: str) -> IPAddress:
    """Parse an IP address; an IPv4-mapped IPv6 address becomes IPv4. Raises ValueError."""
    address = any_address(text)
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


class ConnectionLimits:
    """Counts the connections of all listeners, in total and for each client address."""

    def __init__(self, limits: Limits, shared: "ConnectionCounts | None" = None) -> None:
        """``shared`` counts those of each client on all nodes; None: only this process's are counted."""
        self._limits = limits
        self._shared = shared
        self.opened = 0
        """Connections since the start."""
        self.open = 0
        """Connections that are open now."""
        self.refused = 0
        """Connections over `limits.connections`."""
        self.refused_clients = 0
        """Connections over `limits.connections_per_client`."""
        self.refused_unknown = 0
        """Connections that could not be counted on all nodes, with `limits.on_error` ``defer``."""
        self._clients: dict[IPAddress, int] = {}

    def enter(self) -> bool:
        """Count one more connection; False if there are too many."""
        if self.open >= self._limits.connections:
            self.refused += 1
            return False
        self.open += 1
        self.opened += 1
        return True

    def leave(self) -> None:
        """A connection that `enter` counted has ended."""
        self.open -= 1

    async def enter_client(self, client: IPAddress) -> Reply | None:
        """Count one more connection of this client; returns the reply if it has too many, or nobody knows."""
        count = self._clients.get(client, 0)
        if count >= self._limits.connections_per_client:
            self.refused_clients += 1
            return replies.TOO_MANY_CONNECTIONS
        self._clients[client] = count + 1
        if not self._shared:
            return None
        try:
            admitted = await self._shared.enter(str(client))
        except BaseException:  # the session is cut off
            self._leave(client)
            raise
        if admitted:
            return None
        if admitted is None:
            if self._limits.on_error == "own":
                return None
            self._shared.leave(str(client))
            self.refused_unknown += 1
        else:
            self.refused_clients += 1
        self._leave(client)
        return replies.TOO_MANY_CONNECTIONS if admitted is False else replies.CONNECTIONS_UNKNOWN

    def leave_client(self, client: IPAddress) -> None:
        """A connection that `enter_client` counted has ended."""
        self._leave(client)
        if self._shared:
            self._shared.leave(str(client))

    def _leave(self, client: IPAddress) -> None:
        if others := self._clients.pop(client) - 1:
            self._clients[client] = others
