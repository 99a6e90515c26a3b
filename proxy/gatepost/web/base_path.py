"""The path under which a proxy serves the desk: taken off requests, put before the addresses in responses.

Pages and API know no base path. A request may come with it, from a proxy that passes paths on as they are, or
without it, from a proxy that strips it.
"""

import re
from collections.abc import MutableMapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["BasePath", "under"]

_ADDRESS = re.compile(
    r'\b((?:href|src|action|formaction|hx-get|hx-post|data-home|data-rows|data-events|data-sessions)=")/(?!/)'
)
"""An attribute of our own pages with an address of this desk: text from mail has no ``"``, it is escaped."""
_FIELDS = ("location", "hx-redirect")


def under(base: str, page: str) -> str:
    """A page of the desk whose addresses begin with the base path; ``base`` is empty or like ``/mail``."""
    return _ADDRESS.sub(rf"\1{base}/", page) if base else page


class BasePath:
    """The outermost middleware; pure ASGI, so that events stream through it."""

    def __init__(self, app: ASGIApp, base: str) -> None:
        """``base`` is empty, or a path like ``/mail`` without a slash at its end."""
        self._app = app
        self._base = base

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102 - ASGI says it
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self._strip(scope)
        origin = f"{scope.get('scheme', 'http')}://{Headers(scope=scope).get('host', '')}/"

        async def send_under(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name in _FIELDS:
                    if address := headers.get(name):
                        headers[name] = self._outside(address, origin)
            await send(message)

        await self._app(scope, receive, send_under)

    def _strip(self, scope: MutableMapping[str, object]) -> None:
        """Changes the scope itself, so that layers further out see the same path as the pages."""
        path = str(scope["path"])
        if self._base and f"{path}/".startswith(f"{self._base}/"):
            scope["path"] = path[len(self._base) :] or "/"

    def _outside(self, address: str, origin: str) -> str:
        """An address as a browser needs it: a proxy may have another scheme than this server."""
        path = address[len(origin) - 1 :] if address.startswith(origin) else address
        is_path = path.startswith("/") and not path.startswith("//")
        return f"{self._base}{path}" if is_path else address
