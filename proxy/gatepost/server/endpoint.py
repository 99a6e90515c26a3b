"""What the sessions of one listener share, made when it starts and at each reload."""

import ssl
from dataclasses import field
from ipaddress import IPv4Network, IPv6Network
from typing import Literal, Self

from gatepost.config.certificate import CertificateSettings
from gatepost.config.limits import Limits
from gatepost.config.listen import ListenerSettings
from gatepost.config.patterns import Networks
from gatepost.server.auth import Users
from gatepost.server.clients import ConnectionLimits, IPAddress
from gatepost.server.contract import Gateway
from gatepost.server.data import BareNewline, MemoryBudget
from gatepost.throttle import Throttle
from gatepost.traffic.watching import Tap
from gatepost.values import value

__all__ = ["Endpoint", "Tolerance", "tls_context"]

Tolerance = Literal["strict", "lenient", "everything"]
"""Which spellings of commands are accepted: the standard ones, also those that Postfix accepts, or any.

``everything`` is for a server that relays nothing.
"""

_HEADER_LINES_SECONDS = 3600.0
"""Between two log lines about the same source: health checks may come every second, for years."""


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
