"""The reply to EHLO: the extensions that a session offers (RFC 5321 section 4.1.1.1)."""

from functools import lru_cache

from gatepost.model.mail import Session
from gatepost.server.any_auth import ANY_MECHANISMS
from gatepost.server.auth import MECHANISMS
from gatepost.server.endpoint import Endpoint

__all__ = ["extensions", "reply_to_ehlo"]


def extensions(endpoint: Endpoint, session: Session, more: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Keywords with their parameters, as they are offered to this session now; ``more`` come last."""
    kept = endpoint.gateway.extensions()
    offered = [
        f"SIZE {endpoint.limits.message_size}",
        "PIPELINING",
        "CHUNKING",
        "8BITMIME",
        *[extension for extension in ("SMTPUTF8", "DSN") if extension in kept],
        "ENHANCEDSTATUSCODES",
    ]
    if endpoint.tls and session.tls is None:
        offered.append("STARTTLS")
    if endpoint.users and (session.tls or endpoint.auth_without_tls) and session.authenticated is None:
        offered.append(f"AUTH {MECHANISMS if endpoint.tolerance != 'everything' else ANY_MECHANISMS}")
    return (*offered, *more)


@lru_cache(maxsize=256)
def reply_to_ehlo(hostname: str, extensions: tuple[str, ...]) -> tuple[frozenset[str], bytes]:
    """The keywords that are offered, and the reply that offers them."""
    *lines, last = hostname, *extensions
    octets = "".join((*(f"250-{line}\r\n" for line in lines), f"250 {last}\r\n")).encode()
    return frozenset(extension.partition(" ")[0] for extension in extensions), octets
