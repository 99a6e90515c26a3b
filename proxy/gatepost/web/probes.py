"""``/healthz`` and ``/readyz``: for programs that watch the gateway, without a password.

Anybody who can connect may ask. So the answers name no server, file or error: those are in the log.
"""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gatepost.metrics import SharedCounters
from gatepost.model.user import Need
from gatepost.web.access import Guarded
from gatepost.web.desk import Desk
from gatepost.web.readiness import Check, Readiness

__all__ = ["counts_connections_alone", "make_readiness", "routes", "rules_out_of_service"]

_OUT_OF_SERVICE = "rules_out_of_service"


def make_readiness(desk: Desk, counters: SharedCounters | None, upstreams: Check | None) -> Readiness:
    """The checks of ``/readyz``: a worker runs, the store can be written, each route has a server.

    And no rule that every message needs is without its service, and no connection is refused because nobody
    can count those of all nodes.
    """
    checks: dict[str, Check] = {"store": desk.unwritable}
    if counters:

        async def workers() -> str:
            return "" if counters.totals()["workers",] else "no worker is running"

        async def rules() -> str:
            found = [rule for rule, defers in rules_out_of_service(counters) if defers == "all"]
            return f"no connection to the service of {', '.join(found)}" if found else ""

        async def connections() -> str:
            refused = counters.totals().get(("connections_out_of_service", "all"))
            return "the server that counts those of all nodes does not answer" if refused else ""

        checks["workers"] = workers
        checks["connections"] = connections
        checks["rules"] = rules
    if upstreams:
        checks["upstreams"] = upstreams
    return Readiness(checks, optional=frozenset() if desk.store_required else frozenset({"store"}))


def counts_connections_alone(counters: SharedCounters) -> bool:
    """True if some worker cannot count the connections of clients on all nodes now."""
    return any(key[0] == "connections_out_of_service" and count for key, count in counters.totals().items())


def rules_out_of_service(counters: SharedCounters) -> list[tuple[str, str]]:
    """The rules that some worker does not ask now, by name, each with the metric's label ``defers``."""
    return sorted(
        (key[1], key[2]) for key, count in counters.totals().items() if key[0] == _OUT_OF_SERVICE and count
    )


async def _health(_: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _ready(request: Request) -> Response:
    readiness: Readiness = request.app.state.readiness
    passed = await readiness.passed()
    status = readiness.status(passed)
    content = {
        "status": status,
        "checks": {name: "ok" if fine else "failed" for name, fine in passed.items()},
    }
    return JSONResponse(content, 503 if status == "not ready" else 200)


routes = [Guarded("/healthz", _health, needs=Need.NOTHING), Guarded("/readyz", _ready, needs=Need.NOTHING)]
