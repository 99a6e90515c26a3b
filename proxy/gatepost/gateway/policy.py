"""What the operator wants, as one value: a reload makes a new one, a transaction keeps its own."""

from dataclasses import dataclass, field

from gatepost.config.settings import Config, UpstreamServer
from gatepost.metrics import Tally
from gatepost.pipeline import Pipeline

__all__ = ["Policy"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Policy:
    """Rules, routes and limits."""

    config: Config
    pipeline: Pipeline
    tally: Tally
    """Counts what the transactions come to."""
    servers: tuple[tuple[UpstreamServer, ...], ...] = field(init=False)
    """The servers of each route that relays."""
    has_local_routes: bool = field(init=False)
    """True if a route leads to the inbox or to nothing."""

    def __post_init__(self) -> None:
        destinations = [route.to for route in self.config.relay]
        servers = tuple(to for to in destinations if isinstance(to, tuple))
        object.__setattr__(self, "servers", servers)
        object.__setattr__(self, "has_local_routes", len(servers) < len(destinations))
