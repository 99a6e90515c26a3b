"""The section `web.webhook`: the URL to which the web desk reports each new message."""

import base64
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import unquote, urlsplit

from pydantic import BeforeValidator, field_validator, model_validator

from gatepost.config.fields import File, check_upstream_host, first_line
from gatepost.config.section import Settings

__all__ = ["WebhookSettings", "WebhookUrl"]

_EXPECTED: Final = "expected an http or https URL like https://hooks.example.com/mail"
_PREFIX: Final = "whsec_"
_SECRET_BYTES: Final = range(24, 65)
"""https://www.standardwebhooks.com"""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookUrl:
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


def _url(text: Any) -> WebhookUrl:
    """The URL in a text; the error does not show it."""
    if isinstance(text, WebhookUrl):
        return text
    if (
        not isinstance(text, str)
        or not (text.isascii() and text.isprintable())
        or set(' "<>\\^`{|}') & set(text)
    ):
        raise ValueError(f"this is not a URL, {_EXPECTED}")
    try:
        url = urlsplit(text)
        port = url.port
        host = url.hostname and check_upstream_host(url.hostname)
    except ValueError:  # so are pydantic's
        raise ValueError(f"host or port of the URL are wrong, {_EXPECTED}") from None
    if url.scheme not in ("http", "https"):
        raise ValueError(f"the URL's scheme is neither http nor https, {_EXPECTED}")
    if not host or port == 0:
        raise ValueError(f"host or port of the URL are wrong, {_EXPECTED}")
    if "#" in text:
        raise ValueError(f"the URL has a fragment (#), {_EXPECTED}")
    tls = url.scheme == "https"
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    named = None if url.username is None else f"{unquote(url.username)}:{unquote(url.password or '')}"
    return WebhookUrl(tls=tls, host=host, port=port or (443 if tls else 80), target=target, user=named)


def _secret(file: Path) -> bytes:
    """The secret in a file; raises OSError and ValueError."""
    try:
        secret = base64.b64decode(first_line(file).strip().removeprefix(_PREFIX), validate=True)
    except ValueError:  # of base64 or UTF-8
        secret = b""
    if len(secret) not in _SECRET_BYTES:
        raise ValueError(
            f"no secret in {file}, expected 24 to 64 bytes in base64 on its first line,"
            " for example the output of: openssl rand -base64 32"
        )
    return secret


class WebhookSettings(Settings):
    """Where new messages are reported; also written as the URL alone."""

    url: Annotated[WebhookUrl, BeforeValidator(_url)]
    secret_file: File | None = None
    """A file whose first line is the secret to sign with; default: requests are not signed."""

    @model_validator(mode="before")
    @classmethod
    def _from_url(cls, value: Any) -> Any:
        return value if isinstance(value, dict) else {"url": value}

    @field_validator("secret_file")
    @classmethod
    def _has_a_secret(cls, value: Path | None) -> Path | None:
        if value:
            _secret(value)
        return value

    @property
    def secret(self) -> bytes | None:
        """The current secret; None: requests are not signed. Raises OSError and ValueError."""
        return _secret(self.secret_file) if self.secret_file else None
