"""Responses with bytes of mail that are harmless in a browser."""

from urllib.parse import quote

from starlette.responses import Response

__all__ = ["file_answer", "html_answer", "shown_answer"]

_FRAME = "allow-popups allow-popups-to-escape-sandbox"
"""What HTML mail may do in its frame: open links in new tabs. No script, no form, no origin."""
_HTML_POLICY = (
    f"sandbox {_FRAME}; default-src 'none'; style-src 'unsafe-inline'; img-src {{images}}; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'self'"
)
_SHOWN_POLICY = "sandbox; default-src 'none'; frame-ancestors 'self'"
"""For what a browser shows with a viewer of its own, in a frame of the desk."""
_NOTHING_POLICY = "sandbox; default-src 'none'; frame-ancestors 'none'"


def html_answer(html: str, *, remote_images: bool) -> Response:
    """Sanitised HTML with its own policy, which makes it a sandbox wherever it is opened."""
    policy = _HTML_POLICY.format(images="data: http: https:" if remote_images else "data:")
    return Response(
        html.encode("utf-8", "replace"),
        media_type="text/html",
        headers={
            "content-security-policy": policy,
            "referrer-policy": "no-referrer",
            "x-frame-options": "SAMEORIGIN",
        },
    )


def shown_answer(octets: bytes, name: str, media_type: str) -> Response:
    """An image or a PDF to show; a sandbox without scripts and origin, whatever is in it."""
    response = file_answer(octets, name, media_type=media_type, inline=True)
    response.headers["content-security-policy"] = _SHOWN_POLICY
    response.headers["x-frame-options"] = "SAMEORIGIN"
    return response


def file_answer(
    octets: bytes, name: str, *, media_type: str = "application/octet-stream", inline: bool = False
) -> Response:
    """A file (RFC 6266), as a download or inline; no browser takes it for a page of the desk."""
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\%;' else "_" for c in name)
    names = f"filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
    return Response(
        octets,
        media_type=media_type,
        headers={
            "content-disposition": f"{'inline' if inline else 'attachment'}; {names}",
            "content-security-policy": _NOTHING_POLICY,
            "x-content-type-options": "nosniff",
        },
    )
