"""The section `relay`: routes, and the servers to which they lead."""

from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    Strict,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic import Tag as Branch

from gatepost.config.fields import (
    Bool,
    Client,
    File,
    check_authorities,
    check_upstream_host,
    first_line,
    one_or_many,
)
from gatepost.config.patterns import (
    check_address_pattern,
    expected,
)
from gatepost.config.routes import RouteMatcher
from gatepost.config.section import Settings
from gatepost.model.mail import Recipient, Session

__all__ = ["Route", "UpstreamAuth", "UpstreamServer"]


class UpstreamAuth(Settings):
    """Credentials for an upstream server."""

    username: str
    password_file: File
    """A file whose first line is the password."""

    @field_validator("password_file")
    @classmethod
    def _has_a_password(cls, value: Path, info: ValidationInfo) -> Path:
        if info.context and not first_line(value):
            raise ValueError(f"no password in {value}, expected one on its first line")
        return value


class UpstreamServer(Settings):
    """One server to relay to; also written as ``smtp://host:port`` or ``smtps://host:port``."""

    wanted: ClassVar[str] = "a server like smtp://mail.example.com:25 (or inbox or discard alone)"

    host: Annotated[str, AfterValidator(check_upstream_host)]
    port: Annotated[int, Strict(), Field(ge=1, le=65535)] = 25
    tls: Literal["none", "opportunistic", "required", "implicit"] = "opportunistic"
    """opportunistic: STARTTLS if offered, any certificate; required and implicit verify it."""
    verify: Bool = True
    """False: accept any certificate with required and implicit too."""
    ca: Annotated[File, AfterValidator(check_authorities)] | None = None
    """PEM file of the authorities to trust instead of the system's."""
    auth: UpstreamAuth | None = None
    chunking: Bool = True
    """False: send messages with DATA, although the server announces CHUNKING (RFC 3030)."""
    send_client: Literal["none", "xforward", "xclient", "proxy"] = "none"
    """How the server is told of the original client.

    xforward: before each transaction, if it announces that; xclient: at the beginning of a connection, if it
    announces that; proxy: with a PROXY header, which it must expect. With xclient and proxy a connection
    serves one client.
    """

    @model_validator(mode="before")
    @classmethod
    def _from_url(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            url = urlsplit(value)
            port = url.port
        except ValueError as error:
            raise expected(cls.wanted) from error
        if (
            url.scheme not in ("smtp", "smtps")
            or not url.hostname
            or url.path
            or url.query
            or url.username
            or port == 0
        ):
            raise expected(cls.wanted)
        if url.scheme == "smtps":
            return {"host": url.hostname, "port": port or 465, "tls": "implicit"}
        return {"host": url.hostname, "port": port or 25}

    def __str__(self) -> str:
        """``host:port``."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _destination(value: Any) -> str:
    return "store" if value in ("inbox", "discard") else "servers"


class Route(Settings):
    """Where recipients go; the first route that matches wins."""

    recipients: Annotated[
        tuple[Annotated[str, BeforeValidator(check_address_pattern)], ...], BeforeValidator(one_or_many)
    ]
    """Patterns over the whole address, without regard to case: ``*@example.com``, ``*``."""
    clients: Annotated[tuple[Client, ...], BeforeValidator(one_or_many)] | None = None
    """Who may use it; default: anybody, or for patterns of any domain loopback and authenticated clients."""
    to: Annotated[
        Annotated[Literal["inbox", "discard"], Branch("store")]
        | Annotated[tuple[UpstreamServer, ...], BeforeValidator(one_or_many), Branch("servers")],
        Discriminator(_destination),
    ]
    """The embedded store's inbox, nowhere, or servers that are tried in order."""

    @property
    def servers(self) -> tuple[UpstreamServer, ...]:
        """The servers it leads to; none if it leads to the inbox or nowhere."""
        return () if isinstance(self.to, str) else self.to

    @cached_property
    def _matcher(self) -> RouteMatcher:
        return RouteMatcher(self.recipients, self.clients)

    def matches(self, session: Session, recipient: Recipient) -> bool:
        """True if this client's mail to this recipient goes here (`RouteMatcher.matches`)."""
        return self._matcher.matches(session, recipient)

    def takes_from_some_client(self, recipient: Recipient) -> bool:
        """True if the recipient is one of the route's, for some clients at least."""
        return self._matcher.takes_from_some_client(recipient)
