"""Whether a server would take mail now."""

import asyncio
import ssl
from collections.abc import Sequence

from gatepost.config.relay import UpstreamServer
from gatepost.relay.connection import UpstreamLostError
from gatepost.relay.opening import Patience, open_connection, tls_context

__all__ = ["Reach"]


class Reach:
    """Greets servers as a delivery does, with TLS and AUTH, and leaves with QUIT; for one event loop."""

    def __init__(self, *, hostname: str) -> None:
        self._hostname = hostname
        self._contexts: dict[UpstreamServer, ssl.SSLContext] = {}

    async def unreachable(self, servers: Sequence[UpstreamServer], seconds: float) -> str:
        """Empty if one of the servers can be used, else why none can; for a person.

        They are tried in order, each for its part of the time.
        """
        reasons = []
        deadline = asyncio.get_running_loop().time() + seconds
        for left, server in zip(range(len(servers), 0, -1), servers, strict=True):
            now = asyncio.get_running_loop().time()
            part = (deadline - now) / left
            patience = Patience(connect=part, command=part, deadline=now + part)
            try:
                connection = await open_connection(
                    server,
                    hostname=self._hostname,
                    patience=patience,
                    context_of=self._context_of,
                )
            except UpstreamLostError as error:
                self._contexts.pop(server, None)  # its files may have been renewed
                reasons.append(f"{server}: {error}")
            else:
                connection.quit()
                return ""
        return "; ".join(reasons)

    def _context_of(self, server: UpstreamServer) -> ssl.SSLContext:
        if server not in self._contexts:
            self._contexts[server] = tls_context(server)
        return self._contexts[server]
