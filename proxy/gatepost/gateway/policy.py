"""Rules, routes and limits as one value: a reload makes a new one, open transactions keep theirs."""

from dataclasses import dataclass, field

from gatepost.config.relay import UpstreamServer
from gatepost.config.settings import Config
from gatepost.metrics import Tally
from gatepost.pipeline import Pipeline

__all__ = ["Policy"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Policy:
    """Rules, routes and limits."""

    config: Config
    pipeline: Pipeline
    tally: Tally
    """Counts the dispositions of transactions."""
    servers: tuple[tuple[UpstreamServer, ...], ...] = field(init=False)
    """The servers of each route that relays."""
    has_local_routes: bool = field(init=False)
    """True if a route leads to the inbox or discards."""

    def __post_init__(self) -> None:
        routes = self.config.relay
        object.__setattr__(self, "servers", tuple(route.servers for route in routes if route.servers))
        object.__setattr__(self, "has_local_routes", not all(route.servers for route in routes))
