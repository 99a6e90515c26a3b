"""URLs of web servers in settings and in what servers answer."""

from dataclasses import field
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from gatepost.config.fields import check_upstream_host
from gatepost.values import value

__all__ = ["HttpUrl", "http_url"]

_EXAMPLE: Final = "https://hooks.example.com/mail"


@value
class HttpUrl:
    """An http or https URL; only its origin is for the log, since path and user may be secrets."""

    tls: bool
    host: str
    """A host name or an IP address without brackets."""
    port: int
    target: str = field(repr=False)
    """Path and query, as they are sent."""
    user: str | None = field(repr=False)
    """``name:password``, for basic authentication (RFC 7617)."""

    @property
    def authority(self) -> str:
        """Host and port as in the Host field (RFC 9110 section 7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    def __str__(self) -> str:
        """Scheme, host and port."""
        return f"{'https' if self.tls else 'http'}://{self.authority}"


def http_url(text: Any, *, example: str = _EXAMPLE) -> HttpUrl:
    """The URL in a text; raises ValueError, which does not show it, but the example."""
    expected = f"expected an http or https URL like {example}"
    if isinstance(text, HttpUrl):
        return text
    if (
        not isinstance(text, str)
        or not (text.isascii() and text.isprintable())
        or set(' "<>\\^`{|}') & set(text)
    ):
        raise ValueError(f"this is not a URL, {expected}")
    try:
        url = urlsplit(text)
        port = url.port
        host = url.hostname and check_upstream_host(url.hostname)
    except ValueError:  # so are pydantic's
        raise ValueError(f"host or port of the URL are wrong, {expected}") from None
    if url.scheme not in ("http", "https"):
        raise ValueError(f"the URL's scheme is neither http nor https, {expected}")
    if not host or port == 0:
        raise ValueError(f"host or port of the URL are wrong, {expected}")
    if "#" in text:
        raise ValueError(f"the URL has a fragment (#), {expected}")
    tls = url.scheme == "https"
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    named = None if url.username is None else f"{unquote(url.username)}:{unquote(url.password or '')}"
    return HttpUrl(tls=tls, host=host, port=port or (443 if tls else 80), target=target, user=named)
