"""What becomes of a message: relayed, quarantined, put into the inbox, discarded or refused.

There is one `Gateway` for each process and one `SessionHandler` for each session. For each message
`make_plan` makes a plan, a `PlanExecutor` carries it out, and a `MessageResult` describes the result.
"""

from functools import partial

from gatepost.gateway.handler import SessionHandler
from gatepost.gateway.policy import Policy
from gatepost.gateway.result import reply_to_failure
from gatepost.holding import Holder
from gatepost.holding.holder import Left
from gatepost.relay import Relay
from gatepost.store import Store
from gatepost.throttle import Throttle

__all__ = ["Gateway", "Policy"]


_KEPT_HERE = frozenset({"SMTPUTF8"})
"""Extensions that are kept end to end for a message that goes into the inbox or is discarded."""


class Gateway:
    """Makes a `SessionHandler` for each session, with the current policy."""

    def __init__(
        self, policy: Policy, *, store: Store, relay: Relay | None, holder: Holder | None = None
    ) -> None:
        """Raises ValueError if there is a route to servers but no relay.

        ``holder`` holds sessions for the web desk; None: nobody can answer for them.
        """
        if relay is None and policy.servers:
            raise ValueError("routes to servers need a relay")
        self.policy = policy
        """A reload replaces it as a whole; each transaction keeps the policy that it began with."""
        self._store = store
        self._relay = relay
        self._holder = holder
        self._failed = partial(reply_to_failure, outages=Throttle())
        """For all sessions: an outage of the store is not a line of each message."""

    def session_handler(self, left: Left) -> SessionHandler:
        """The gateway's side of a new session; ``left`` tells when its client has left."""
        return SessionHandler(
            lambda: self.policy,
            store=self._store,
            relay=self._relay,
            holder=self._holder,
            left=left,
            failed=self._failed,
        )

    def extensions(self) -> frozenset[str]:
        """The SMTP extensions that are kept end to end on every route."""
        if self._relay is None or not self.policy.servers:
            return _KEPT_HERE
        offered = self._relay.extensions(self.policy.servers)
        return offered & _KEPT_HERE if self.policy.has_local_routes else offered
