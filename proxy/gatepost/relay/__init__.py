"""Send transactions to upstream servers; the only place that imports aiosmtplib."""

import asyncio
from collections.abc import Iterable, Iterator

from gatepost.config.limits import Limits
from gatepost.config.relay import UpstreamServer
from gatepost.model.mail import Envelope, Session
from gatepost.relay.connection import UpstreamLostError
from gatepost.relay.delivered import Delivered, DeliveryState
from gatepost.relay.delivery import Delivery
from gatepost.relay.internationalised import has_internationalised_header
from gatepost.relay.pool import Pool

__all__ = ["Delivered", "Delivery", "DeliveryState", "Relay", "has_internationalised_header"]


class Relay:
    """Begins transactions with upstream servers; owns the connections of one event loop."""

    def __init__(self, *, hostname: str, limits: Limits) -> None:
        self._limits = limits
        self._pool = Pool(hostname=hostname, limits=limits)

    def connections(self) -> Iterator[tuple[str, int, int]]:
        """Yield each server, as ``host:port``, and how many connections to it were opened and have failed."""
        for server in self._pool.opened | self._pool.failed:
            yield str(server), self._pool.opened[server], self._pool.failed[server]

    def extensions(self, routes: Iterable[tuple[UpstreamServer, ...]]) -> frozenset[str]:
        """The extensions that every server of these routes offered when it was last greeted.

        They are EHLO keywords in upper case; an empty set if one of the servers was never greeted.
        """
        offered = [self._pool.extensions(server) for servers in routes for server in servers]
        return frozenset.intersection(*offered) if offered else frozenset()

    async def probe(self, servers: Iterable[UpstreamServer]) -> None:
        """Greet each server once, so that its extensions are known; does not raise if one is down."""

        async def greet(server: UpstreamServer) -> None:
            try:
                deadline = asyncio.get_running_loop().time() + self._limits.upstream_time
                self._pool.give_back(server, await self._pool.fresh(server, deadline))
            except UpstreamLostError:
                return

        await asyncio.gather(*map(greet, servers))

    def begin(
        self,
        servers: tuple[UpstreamServer, ...],
        envelope: Envelope,
        *,
        session: Session | None = None,
        transaction_id: str = "",
        after: Delivery | None = None,
    ) -> Delivery:
        """Begin a transaction with one of the servers; nothing is sent yet.

        ``session`` is that of the original client, for servers with ``send_client``; None if the gateway
        itself sends the mail. ``after`` is an attempt of the same transaction with other servers; servers
        that failed there are not tried again.
        """
        return Delivery(
            self._pool,
            self._limits,
            servers,
            envelope,
            session,
            transaction_id,
            after.given_up if after else None,
        )

    def read_authorities_again(self) -> None:
        """Read the files of trusted authorities (``ca``) again, for new connections."""
        self._pool.read_authorities_again()

    async def close(self) -> None:
        """Close the idle connections with QUIT, within a few seconds; what is still under way is aborted."""
        await self._pool.close()
