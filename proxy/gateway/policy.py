"""What the operator wants, as one value: a reload makes a new one, a transaction keeps its own."""

from dataclasses import dataclass

from proxy.config.settings import Config, UpstreamServer
from proxy.metrics import Tally
from proxy.pipeline import Pipeline

__all__ = ["Policy"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Policy:
    """Rules, routes and limits."""

    config: Config
    pipeline: Pipeline
    tally: Tally
    """Counts what the transactions come to."""

    @property
    def servers(self) -> tuple[tuple[UpstreamServer, ...], ...]:
        """The servers of each route that relays."""
        return tuple(route.to for route in self.config.relay if isinstance(route.to, tuple))

    @property
    def has_local_routes(self) -> bool:
        """True if a route leads to the inbox or to nothing."""
        return any(isinstance(route.to, str) for route in self.config.relay)
