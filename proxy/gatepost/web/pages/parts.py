"""What is in a message: its HTML for a frame, its source, and its attachments."""

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gatepost.store import KeptMessage, State
from gatepost.web.files import file_answer, html_answer
from gatepost.web.pages.message import kept_message
from gatepost.web.rendering import desk_of
from gatepost.web.view import attachment

__all__ = ["routes"]


async def _html(request: Request) -> Response:
    """The sanitised HTML under a policy of its own.

    A document of its own rather than ``srcdoc``, which would inherit the page's policy: mail would have no
    styles.
    """
    kept = await _whole_message(request)
    remote_images = request.query_params.get("images") == "1"
    view = await desk_of(request).view(kept, remote_images=remote_images)
    if view.html is None:
        raise HTTPException(404)
    return html_answer(view.html, remote_images=remote_images)


async def _source(request: Request) -> Response:
    """The octets to look at."""
    kept = await _whole_message(request)
    return file_answer(kept.delivered_form, f"{kept.id}.txt", media_type="text/plain", inline=True)


async def _download(request: Request) -> Response:
    """The octets to keep."""
    kept = await _whole_message(request)
    return file_answer(kept.delivered_form, f"{kept.id}.eml")


async def _attachment(request: Request) -> Response:
    kept = await _whole_message(request)
    found = await desk_of(request).call(attachment, kept.delivered_form, request.path_params["number"])
    if found is None:
        raise HTTPException(404)
    part, octets = found
    return file_answer(octets, part.filename)


async def _whole_message(request: Request) -> KeptMessage:
    kept = await kept_message(request)
    if kept.state is State.DELETED:
        raise HTTPException(404)
    return kept


routes = [
    Route("/messages/{id}/html", _html),
    Route("/messages/{id}/source", _source),
    Route("/messages/{id}/download", _download),
    Route("/messages/{id}/attachments/{number:int}", _attachment),
]
