"""The section `web.webhook`: the URL to which the web desk reports each new message."""

import base64
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, field_validator, model_validator

from gatepost.config.fields import File, first_line
from gatepost.config.http_url import HttpUrl, http_url
from gatepost.config.section import Settings

__all__ = ["WebhookSettings"]

_PREFIX: Final = "whsec_"
_SECRET_BYTES: Final = range(24, 65)
"""https://www.standardwebhooks.com"""


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

    url: Annotated[HttpUrl, BeforeValidator(http_url)]
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
