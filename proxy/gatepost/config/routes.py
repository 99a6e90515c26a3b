"""Which recipients and clients a route matches, compiled when the settings are loaded."""

from collections.abc import Iterable
from ipaddress import ip_network

from gatepost.config.patterns import AddressPatterns, Network, Networks, names_a_domain
from gatepost.model.addresses import mailbox
from gatepost.model.mail import Recipient, Session

__all__ = ["RouteMatcher"]

_LOOPBACK = Networks((ip_network("127.0.0.0/8"), ip_network("::1")))


class RouteMatcher:
    """A route's ``recipients`` and ``clients``."""

    __slots__ = ("_anywhere", "_authenticated", "_for_all", "_named", "_networks", "_takes_postmaster")

    def __init__(self, recipients: Iterable[str], clients: Iterable[Network | str] | None) -> None:
        patterns = tuple(recipients)
        named = [pattern for pattern in patterns if names_a_domain(pattern)]
        self._named = AddressPatterns(named)
        self._anywhere = AddressPatterns(pattern for pattern in patterns if not names_a_domain(pattern))
        self._takes_postmaster = bool(named)
        self._for_all = clients is None
        listed = tuple(clients or ())
        self._authenticated = clients is None or "authenticated" in listed
        self._networks = (
            _LOOPBACK if clients is None else Networks(one for one in listed if not isinstance(one, str))
        )

    def matches(self, session: Session, recipient: Recipient) -> bool:
        """True if this client's mail to this recipient uses the route.

        If the local part contains a route (`Mailbox.sender_routed`), or if the pattern names no domain, the
        client must be listed in ``clients``, or without ``clients`` be on loopback or authenticated. This
        prevents relaying through the upstream server.
        """
        wanted = mailbox(recipient.address)
        if self._takes_postmaster and (wanted.key == "postmaster" or self._named.take(wanted)):
            # The bare postmaster: RFC 5321 section 4.5.1.
            if self._for_all and not wanted.sender_routed:
                return True
        elif not self._anywhere.take(wanted):
            return False
        return self._trusts(session)

    def takes_from_some_client(self, recipient: Recipient) -> bool:
        """True if the recipient is one of the route's, for some clients at least."""
        wanted = mailbox(recipient.address)
        named = self._takes_postmaster and (wanted.key == "postmaster" or self._named.take(wanted))
        return named or self._anywhere.take(wanted)

    def _trusts(self, session: Session) -> bool:
        if self._authenticated and session.authenticated is not None:
            return True
        return session.client in self._networks
