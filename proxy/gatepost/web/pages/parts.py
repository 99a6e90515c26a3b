"""Parts of a message: its HTML for a frame, its source, and its attachments."""

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gatepost.model.user import Need
from gatepost.store import KeptMessage, State
from gatepost.web.access import Guarded
from gatepost.web.files import file_answer, html_answer, shown_answer
from gatepost.web.pages.message import kept_message
from gatepost.web.pages.preview import read_colors
from gatepost.web.rendering import desk_of
from gatepost.web.view import attachment, in_colors, open_part, plain_text

__all__ = ["routes"]


async def _html(request: Request) -> Response:
    """The sanitised HTML with its own policy.

    A separate document, because ``srcdoc`` would inherit the page's policy: mail would have no
    styles.
    """
    kept = await _whole_message(request)
    remote_images = request.query_params.get("images") == "1"
    view = await desk_of(request).view(kept, remote_images=remote_images)
    if view.html is None:
        raise HTTPException(404)
    colors = read_colors(request.query_params.get("colors", ""))
    return html_answer(in_colors(view.html, colors), remote_images=remote_images)


async def _text(request: Request) -> Response:
    """All of the text, of which the message's page shows the beginning."""
    kept = await _whole_message(request)
    text = await desk_of(request).call(plain_text, kept.delivered_form)
    return file_answer(text.encode(), f"{kept.id}.txt", media_type="text/plain", inline=True)


async def _source(request: Request) -> Response:
    """The bytes, to show."""
    kept = await _whole_message(request)
    return file_answer(kept.delivered_form, f"{kept.id}.txt", media_type="text/plain", inline=True)


async def _download(request: Request) -> Response:
    """The bytes, as a download."""
    kept = await _whole_message(request)
    return file_answer(kept.delivered_form, f"{kept.id}.eml")


async def _original(request: Request) -> Response:
    """The bytes as received, as a download."""
    kept = await _whole_message(request)
    return file_answer(kept.content, f"{kept.id}-original.eml")


async def _attachment(request: Request) -> Response:
    kept = await _whole_message(request)
    found = await desk_of(request).call(attachment, kept.delivered_form, request.path_params["number"])
    if found is None:
        raise HTTPException(404)
    part, octets = found
    return file_answer(octets, part.filename)


async def _shown(request: Request) -> Response:
    """The bytes of an image or a PDF, for the page of the part; nothing else is ever shown by a browser."""
    kept = await _whole_message(request)
    opened = await desk_of(request).call(open_part, kept.delivered_form, request.path_params["number"])
    if opened is None or not opened.media_type:
        raise HTTPException(404)
    return shown_answer(opened.octets, opened.part.filename, opened.media_type)


async def _whole_message(request: Request) -> KeptMessage:
    kept = await kept_message(request)
    if kept.state is State.DELETED:
        raise HTTPException(404)
    return kept


routes = [
    Guarded("/messages/{id}/html", _html, needs=Need.READ, audit="message.read"),
    Guarded("/messages/{id}/text", _text, needs=Need.READ, audit="message.read"),
    Guarded("/messages/{id}/source", _source, needs=Need.READ, audit="message.source"),
    Guarded("/messages/{id}/download", _download, needs=Need.READ, audit="message.source"),
    Guarded("/messages/{id}/original", _original, needs=Need.READ, audit="message.source"),
    Guarded(
        "/messages/{id}/attachments/{number:int}", _attachment, needs=Need.READ, audit="message.attachment"
    ),
    Guarded(
        "/messages/{id}/attachments/{number:int}/shown", _shown, needs=Need.READ, audit="message.attachment"
    ),
]
