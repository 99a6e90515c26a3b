"""The section `listen`: addresses to listen on, with TLS and AUTH."""

from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    model_validator,
)

from gatepost.config.certificate import CertificateSettings
from gatepost.config.fields import (
    Bool,
    File,
    Source,
    check_host_port,
    file_or_any,
    one_or_many,
)
from gatepost.config.section import Settings

__all__ = ["ListenerAuth", "ListenerSettings", "ListenerTls"]


class ListenerTls(CertificateSettings):
    """TLS of a listener."""

    mode: Literal["starttls", "implicit"] = "starttls"
    required: Bool = False
    """With starttls: MAIL is refused (530 5.7.0) on a plain connection."""


class ListenerAuth(Settings):
    """SMTP AUTH of a listener."""

    users: Annotated[File | Literal["any"], BeforeValidator(file_or_any)]
    """A YAML file of user names and argon2 hashes; ``any`` accepts every name (complaints mode only)."""
    required: Bool = False
    """MAIL is refused (530 5.7.0) without AUTH."""
    without_tls: Bool = False
    """Offer AUTH on plain connections too."""


class ListenerSettings(Settings):
    """One address to listen on."""

    address: Annotated[str, BeforeValidator(check_host_port)]
    """``host:port``; IPv6 as ``[::1]:25``; port 0 takes a free one."""
    tls: ListenerTls | None = None
    proxy_protocol_from: Annotated[tuple[Source, ...], BeforeValidator(one_or_many)] = ()
    """Sources that must send a PROXY header (v1 or v2); all others must not."""
    xforward_from: Annotated[tuple[Source, ...], BeforeValidator(one_or_many)] = ()
    """Sources that may name the client of each transaction with XFORWARD, like Postfix."""
    xclient_from: Annotated[tuple[Source, ...], BeforeValidator(one_or_many)] = ()
    """Sources that may name the client of the session with XCLIENT, like nginx and Dovecot."""
    auth: ListenerAuth | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_address(cls, value: Any) -> Any:
        return {"address": value} if isinstance(value, str) else value
