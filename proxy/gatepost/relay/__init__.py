"""SEND: a transaction -> upstream -> Reply (the only import of aiosmtplib).

- `delivery`: one transaction: MAIL, RCPT, DATA, the dot
- `commands`: MAIL and RCPT as this upstream can take them
- `body`: the message on its way
- `internationalised`: does it need SMTPUTF8?
- `pool`: connections that wait, servers that are down
- `opening`: connect, greet, TLS, AUTH
- `names`: the addresses of servers that are given by name
- `connection`: commands out, replies in, strictly paired
- `reply_reader`: octets -> replies
"""

import asyncio
from collections.abc import Iterable, Iterator

from gatepost.config.settings import Limits, UpstreamServer
from gatepost.mail import Envelope
from gatepost.relay.connection import UpstreamLostError
from gatepost.relay.delivery import Delivered, Delivery, DeliveryState
from gatepost.relay.pool import Pool

__all__ = ["Delivered", "Delivery", "DeliveryState", "Relay"]


class Relay:
    """All that goes upstream."""

    def __init__(self, *, hostname: str, limits: Limits) -> None:
        self._limits = limits
        self._pool = Pool(hostname=hostname, limits=limits)

    def connections(self) -> Iterator[tuple[str, int, int]]:
        """Each server, as ``host:port``, with how many connections to it were opened and how many failed."""
        for server in self._pool.opened | self._pool.failed:
            yield str(server), self._pool.opened[server], self._pool.failed[server]

    def extensions(self, routes: Iterable[tuple[UpstreamServer, ...]]) -> frozenset[str]:
        """What every server of these routes offered when it was last greeted: EHLO keywords in upper case.

        Of a server that was never greeted nothing is known, so then it is the empty set.
        """
        offered = [self._pool.extensions(server) for servers in routes for server in servers]
        return frozenset.intersection(*offered) if offered else frozenset()

    async def probe(self, servers: Iterable[UpstreamServer]) -> None:
        """Greet each server once, so that its extensions are known; never raises for what is down."""

        async def greet(server: UpstreamServer) -> None:
            try:
                deadline = asyncio.get_running_loop().time() + self._limits.upstream_time
                self._pool.give_back(server, await self._pool.fresh(server, deadline))
            except UpstreamLostError:
                return

        await asyncio.gather(*map(greet, servers))

    def begin(
        self, servers: tuple[UpstreamServer, ...], envelope: Envelope, *, after: Delivery | None = None
    ) -> Delivery:
        """A transaction with one of the servers; nothing is sent yet.

        ``after``: an attempt of the same transaction with other servers; what it knows of them is known.
        """
        return Delivery(self._pool, self._limits, servers, envelope, after.given_up if after else None)

    async def close(self) -> None:
        """Say goodbye to the servers, for a few seconds; what is still under way then is aborted."""
        await self._pool.close()
