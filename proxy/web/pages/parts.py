"""What is in a message: its HTML for a frame, its source, and its attachments."""

from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from proxy.store import KeptMessage, State
from proxy.web.pages.message import kept_message
from proxy.web.rendering import desk_of
from proxy.web.view import attachment

__all__ = ["FRAME", "routes"]

FRAME = "allow-popups allow-popups-to-escape-sandbox"
"""What HTML mail may do in its frame: open links in tabs of their own. No script, no form, no origin."""
_HTML_POLICY = (
    f"sandbox {FRAME}; default-src 'none'; style-src 'unsafe-inline'; img-src {{images}}; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'self'"
)
_NOTHING_POLICY = "sandbox; default-src 'none'; frame-ancestors 'none'"


async def _html(request: Request) -> Response:
    """The sanitised HTML under a policy of its own.

    A document of its own rather than ``srcdoc``, which would inherit the page's policy: mail would have no
    styles. This policy makes it a sandbox even where somebody opens it outside of the frame.
    """
    kept = await _whole_message(request)
    remote_images = request.query_params.get("images") == "1"
    view = await desk_of(request).view(kept, remote_images=remote_images)
    if view.html is None:
        raise HTTPException(404)
    policy = _HTML_POLICY.format(images="data: http: https:" if remote_images else "data:")
    return HTMLResponse(
        view.html.encode("utf-8", "replace"),
        headers={
            "content-security-policy": policy,
            "referrer-policy": "no-referrer",
            "x-frame-options": "SAMEORIGIN",
        },
    )


async def _source(request: Request) -> Response:
    """The octets to look at."""
    kept = await _whole_message(request)
    return PlainTextResponse(kept.delivered_form, headers=_file_headers(f"{kept.id}.txt", inline=True))


async def _download(request: Request) -> Response:
    """The octets to keep."""
    kept = await _whole_message(request)
    return Response(
        kept.delivered_form,
        media_type="application/octet-stream",
        headers=_file_headers(f"{kept.id}.eml"),
    )


async def _attachment(request: Request) -> Response:
    kept = await _whole_message(request)
    found = await desk_of(request).call(attachment, kept.delivered_form, request.path_params["number"])
    if found is None:
        raise HTTPException(404)
    part, octets = found
    return Response(octets, media_type="application/octet-stream", headers=_file_headers(part.filename))


async def _whole_message(request: Request) -> KeptMessage:
    kept = await kept_message(request)
    if kept.state is State.DELETED:
        raise HTTPException(404)
    return kept


def _file_headers(name: str, *, inline: bool = False) -> dict[str, str]:
    """Of a file with this name (RFC 6266); a browser must not take it for a page of ours."""
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\%;' else "_" for c in name)
    names = f"filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
    return {
        "content-disposition": f"{'inline' if inline else 'attachment'}; {names}",
        "content-security-policy": _NOTHING_POLICY,
    }


routes = [
    Route("/messages/{id}/html", _html),
    Route("/messages/{id}/source", _source),
    Route("/messages/{id}/download", _download),
    Route("/messages/{id}/attachments/{number:int}", _attachment),
]
