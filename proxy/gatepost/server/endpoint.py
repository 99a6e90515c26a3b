"""What the sessions of one listener share, made once when it starts."""

import ssl
from dataclasses import field
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from ipaddress import ip_address as any_address
from typing import TYPE_CHECKING, Literal, Self

from gatepost.config import ConfigError, LoadedConfig, Problem
from gatepost.config.certificate import CertificateSettings
from gatepost.config.limits import Limits
from gatepost.config.listen import ListenerSettings
from gatepost.config.patterns import Networks
from gatepost.config.tokens import read_tokens
from gatepost.model import replies
from gatepost.model.verdict import Reply
from gatepost.server.auth import Users
from gatepost.server.contract import Gateway
from gatepost.server.data import BareNewline, MemoryBudget
from gatepost.server.desk_users import desk_hashes
from gatepost.throttle import Throttle
from gatepost.traffic.watching import Tap
from gatepost.values import value

if TYPE_CHECKING:
    from gatepost.state.connections import ConnectionCounts

__all__ = [
    "ConnectionLimits",
    "Endpoint",
    "IPAddress",
    "Tolerance",
    "check_listeners",
    "ip_address",
    "tls_context",
]

IPAddress = IPv4Address | IPv6Address

Tolerance = Literal["strict", "lenient", "everything"]
"""Which spellings of commands are accepted: the standard ones, also those that Postfix accepts, or any.

``everything`` is for a server that relays nothing.
"""

_HEADER_LINES_SECONDS = 3600.0
"""Between two log lines about the same source: health checks may come every second, for years."""


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


@value
class Endpoint:
    """One listener with everything that its sessions need."""

    name: str
    """The address as written in the settings."""
    hostname: str
    gateway: Gateway
    limits: Limits
    bare_newline: BareNewline
    tolerance: Tolerance
    accepts_early_talkers: bool
    """False: a client that sends something before the greeting is refused."""
    connections: ConnectionLimits
    memory: MemoryBudget
    tap: Tap | None
    proxies: tuple[IPv4Network | IPv6Network, ...]
    """Sources that must send a PROXY header."""
    xforward_from: Networks
    """Sources that may use XFORWARD."""
    xclient_from: Networks
    """Sources that may use XCLIENT."""
    tls: ssl.SSLContext | None
    implicit_tls: bool
    tls_required: bool
    users: Users | None
    auth_required: bool
    auth_without_tls: bool
    headers_missing: Throttle = field(default_factory=lambda: Throttle(_HEADER_LINES_SECONDS))
    """Log lines about sources that send no valid PROXY header."""

    @classmethod
    def from_settings(
        cls,
        settings: ListenerSettings,
        *,
        hostname: str,
        gateway: Gateway,
        limits: Limits,
        bare_newline: BareNewline,
        tolerance: Tolerance,
        accepts_early_talkers: bool,
        connections: ConnectionLimits,
        memory: MemoryBudget,
        tap: Tap | None,
    ) -> Self:
        """Read certificate, key and users; raises OSError or ValueError that name the file."""
        tls, auth = settings.tls, settings.auth
        return cls(
            name=settings.address,
            hostname=hostname,
            gateway=gateway,
            limits=limits,
            bare_newline=bare_newline,
            tolerance=tolerance,
            accepts_early_talkers=accepts_early_talkers,
            connections=connections,
            memory=memory,
            tap=tap,
            proxies=settings.proxy_protocol_from,
            xforward_from=Networks(settings.xforward_from),
            xclient_from=Networks(settings.xclient_from),
            tls=tls_context(tls) if tls else None,
            implicit_tls=tls is not None and tls.mode == "implicit",
            tls_required=tls is not None and tls.required,
            users=Users.load(auth.users) if auth else None,
            auth_required=auth is not None and auth.required,
            auth_without_tls=auth is not None and auth.without_tls,
        )

    def is_proxy(self, source: IPAddress) -> bool:
        """True if a connection from there must begin with a PROXY header."""
        return any(source in network for network in self.proxies)

    def trusts(self, source: IPAddress) -> bool:
        """True if a connection from there may name its client with XFORWARD or XCLIENT."""
        return source in self.xforward_from or source in self.xclient_from

    def close(self) -> None:
        """End the threads that check passwords."""
        if self.users:
            self.users.close()


def check_listeners(loaded: LoadedConfig) -> None:
    """Read certificates, keys and users of listeners and web desk; raises ConfigError for invalid ones."""
    problems: list[Problem] = []
    for number, listener in enumerate(loaded.config.listen):
        try:
            if listener.tls:
                tls_context(listener.tls)
        except (OSError, ValueError) as error:
            problems.append(loaded.problem(("listen", number, "tls"), str(error)))
        try:
            if listener.auth:
                Users.load(listener.auth.users).close()
        except (OSError, ValueError) as error:
            problems.append(loaded.problem(("listen", number, "auth", "users"), str(error)))
    web = loaded.config.web
    try:
        if web and web.tls:
            tls_context(web.tls)
    except (OSError, ValueError) as error:
        problems.append(loaded.problem(("web", "tls"), str(error)))
    try:
        if web:
            desk_hashes(web)
    except (OSError, ValueError) as error:
        problems.append(loaded.problem(("web", "users_file"), str(error)))
    try:
        if web and web.tokens_file:
            read_tokens(web.tokens_file)
    except (OSError, ValueError) as error:
        problems.append(loaded.problem(("web", "tokens_file"), str(error)))
    if problems:
        raise ConfigError(problems)


def tls_context(settings: CertificateSettings) -> ssl.SSLContext:
    """TLS 1.2 or later with this certificate; raises OSError or ValueError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    for file in (settings.certificate, settings.key):
        with file.open("rb"):  # an error of load_cert_chain does not name the file
            pass
    try:
        # the empty password keeps OpenSSL from asking for one on the terminal
        context.load_cert_chain(settings.certificate, settings.key, password="")
    except (ssl.SSLError, ValueError) as error:
        raise ValueError(
            f"{settings.certificate} and {settings.key}: expected a PEM certificate chain "
            f"and its private key without a password ({error})"
        ) from error
    return context
