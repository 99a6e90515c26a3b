"""``/metrics``: the workers' counters."""

from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gatepost.model.user import Need
from gatepost.web.access import Guarded

if TYPE_CHECKING:
    from gatepost.metrics import SharedCounters

__all__ = ["routes"]


async def _metrics(request: Request) -> Response:
    from gatepost.web.exposition import MEDIA_TYPE, exposition  # noqa: PLC0415 - few desks are ever scraped

    counters: SharedCounters | None = request.app.state.counters
    if counters is None:
        raise HTTPException(404)
    return Response(exposition(counters.totals()), media_type=MEDIA_TYPE)


routes = [Guarded("/metrics", _metrics, needs=Need.READ_ALL)]
