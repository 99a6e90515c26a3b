"""ACT: Decision -> relay, quarantine, inbox, discard, refuse -> Reply.

`Gateway` lives as long as the process, `Reception` as long as a session, `Act` as long as it takes to do
what was decided about one message.
"""

from gatepost.gateway.policy import Policy
from gatepost.gateway.reception import Reception
from gatepost.relay import Relay
from gatepost.store import Store

__all__ = ["Gateway", "Policy"]


_KEPT_HERE = frozenset({"SMTPUTF8"})
"""What a message may need that ends here: in the inbox, or discarded."""


class Gateway:
    """What the server asks about every session."""

    def __init__(self, policy: Policy, *, store: Store, relay: Relay | None) -> None:
        """Without a relay nothing can leave: only routes to the inbox or to nothing are possible."""
        if relay is None and policy.servers:
            raise ValueError("routes to servers need a relay")
        self.policy = policy
        """Replaced as a whole by a reload; each transaction keeps the one that it began with."""
        self._store = store
        self._relay = relay

    def reception(self) -> Reception:
        """The gateway's side of a new session."""
        return Reception(lambda: self.policy, store=self._store, relay=self._relay)

    def extensions(self) -> frozenset[str]:
        """The SMTP extensions that are kept end to end whatever route a message takes."""
        if self._relay is None or not self.policy.servers:
            return _KEPT_HERE
        offered = self._relay.extensions(self.policy.servers)
        return offered & _KEPT_HERE if self.policy.has_local_routes else offered
