"""What the sessions of one listener share, made once when it starts."""

import ssl
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TYPE_CHECKING, Literal, Self

from gatepost.config import ConfigError, LoadedConfig, Problem
from gatepost.config.settings import Limits, ListenerSettings, ListenerTls
from gatepost.server.auth import Users
from gatepost.server.contract import Gateway, Tap
from gatepost.server.data import BareNewline, MemoryBudget

if TYPE_CHECKING:
    from gatepost.server.session import SmtpSession

__all__ = ["ConnectionLimits", "Endpoint", "Tolerance", "check_listeners", "tls_context"]

IPAddress = IPv4Address | IPv6Address

Tolerance = Literal["strict", "lenient", "everything"]
"""Which spellings of commands are taken: those of the standard, those that Postfix takes too, or any.

``everything`` is for a server that relays nothing.
"""


class ConnectionLimits:
    """Counts the connections of all listeners, in all and for each client address."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.opened = 0
        """All so far."""
        self.open = 0
        """Now."""
        self._clients: dict[IPAddress, int] = {}

    def enter(self) -> bool:
        """Counts one more connection, or says that there are too many."""
        if self.open >= self._limits.connections:
            return False
        self.open += 1
        self.opened += 1
        return True

    def leave(self) -> None:
        """The end of what `enter` counted."""
        self.open -= 1

    def enter_client(self, client: IPAddress) -> bool:
        """Counts one more connection of this client, or says that it has too many."""
        count = self._clients.get(client, 0)
        if count >= self._limits.connections_per_client:
            return False
        self._clients[client] = count + 1
        return True

    def leave_client(self, client: IPAddress) -> None:
        """The end of what `enter_client` counted."""
        if others := self._clients.pop(client) - 1:
            self._clients[client] = others


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One listener with all that its sessions need."""

    name: str
    """The address as written in the settings."""
    hostname: str
    gateway: Gateway
    limits: Limits
    bare_newline: BareNewline
    tolerance: Tolerance
    connections: ConnectionLimits
    memory: MemoryBudget
    sessions: "set[SmtpSession]"
    """Those that go on now."""
    tap: Tap | None
    proxies: tuple[IPv4Network | IPv6Network, ...]
    """Sources that must send a PROXY header."""
    tls: ssl.SSLContext | None
    implicit_tls: bool
    tls_required: bool
    users: Users | None
    auth_required: bool
    auth_without_tls: bool

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
        connections: ConnectionLimits,
        memory: MemoryBudget,
        sessions: "set[SmtpSession]",
        tap: Tap | None,
    ) -> Self:
        """Reads certificate, key and users; raises OSError or ValueError that name the file."""
        tls, auth = settings.tls, settings.auth
        return cls(
            name=settings.address,
            hostname=hostname,
            gateway=gateway,
            limits=limits,
            bare_newline=bare_newline,
            tolerance=tolerance,
            connections=connections,
            memory=memory,
            sessions=sessions,
            tap=tap,
            proxies=settings.proxy_protocol_from,
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

    def close(self) -> None:
        """Ends the threads that check passwords."""
        if self.users:
            self.users.close()


def check_listeners(loaded: LoadedConfig) -> None:
    """Reads certificates, keys and users of all listeners; raises ConfigError for those of no use."""
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
    if problems:
        raise ConfigError(problems)


def tls_context(settings: ListenerTls) -> ssl.SSLContext:
    """TLS 1.2 or later with the listener's certificate; raises OSError or ValueError."""
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
