"""Octets of mail as answers that a browser can do no harm with, whatever is in them."""

from urllib.parse import quote

from starlette.responses import Response

__all__ = ["file_answer", "html_answer"]

_FRAME = "allow-popups allow-popups-to-escape-sandbox"
"""What HTML mail may do in its frame: open links in tabs of their own. No script, no form, no origin."""
_HTML_POLICY = (
    f"sandbox {_FRAME}; default-src 'none'; style-src 'unsafe-inline'; img-src {{images}}; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'self'"
)
_NOTHING_POLICY = "sandbox; default-src 'none'; frame-ancestors 'none'"


def html_answer(html: str, *, remote_images: bool) -> Response:
    """Sanitised HTML under a policy of its own, which makes it a sandbox wherever it is opened."""
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


def file_answer(
    octets: bytes, name: str, *, media_type: str = "application/octet-stream", inline: bool = False
) -> Response:
    """A file with this name (RFC 6266), to keep or to look at; no browser takes it for a page of ours."""
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
