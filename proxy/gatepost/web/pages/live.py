"""The live conversation: a page for the lines that `gatepost.web.live` sends."""

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from gatepost.model.user import Need
from gatepost.web.access import Guarded
from gatepost.web.live import live_events
from gatepost.web.rendering import desk_of, render

__all__ = ["routes"]


async def live_page(request: Request) -> Response:
    """``/live``: without lines; its script asks for them."""
    desk = desk_of(request)
    return render(
        request,
        "live.html",
        query=request.query_params.get("q", "")[:200],
        has_feed=request.app.state.live is not None,
        stored=desk.conversations is not None,
    )


async def events(request: Request) -> Response:
    """``/live/events``."""
    hub = request.app.state.live
    if hub is None:
        return PlainTextResponse("There is no feed of live conversations.\n", 404)
    return await live_events(hub, request)


routes = [
    Guarded("/live", live_page, needs=Need.READ_ALL),
    Guarded("/live/events", events, needs=Need.READ_ALL, audit="conversation.watch"),
]
