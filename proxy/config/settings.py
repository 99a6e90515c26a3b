"""What rules.yaml may say: every key, its type, its default and its unit."""

import re
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from proxy.config.conditions import Condition
from proxy.verdict import Action

__all__ = [
    "Config",
    "Keep",
    "Limits",
    "ListenerAuth",
    "ListenerSettings",
    "ListenerTls",
    "Route",
    "RuleSettings",
    "StoreSettings",
    "Tag",
    "UpstreamAuth",
    "UpstreamServer",
]

_SIZE = re.compile(r"(\d+)\s*(B|KiB|MiB|GiB|KB|MB|GB)?", re.ASCII)
_SIZE_UNITS = {None: 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "KB": 10**3, "MB": 10**6, "GB": 10**9}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?", re.ASCII)
_DURATION_UNITS = {None: 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _octets(value: Any) -> Any:
    if isinstance(value, str) and (found := _SIZE.fullmatch(value)):
        return int(found[1]) * _SIZE_UNITS[found[2]]
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError("expected a size like 32MiB or 500KB")


def _seconds(value: Any) -> Any:
    if isinstance(value, str) and (found := _DURATION.fullmatch(value)):
        return float(found[1]) * _DURATION_UNITS[found[2]]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise ValueError("expected a time like 10s, 5m or 250ms")


Octets = Annotated[int, BeforeValidator(_octets), Field(gt=0)]
"""A number of octets; written as a number or with B, KiB, MiB, GiB, KB, MB, GB."""
Seconds = Annotated[float, BeforeValidator(_seconds), Field(gt=0)]
"""A time in seconds; written as a number or with ms, s, m, h, d."""


class Settings(BaseModel):
    """Base of all sections: immutable, and a key that is not listed is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class ListenerTls(Settings):
    """TLS of a listener."""

    certificate: Path
    """PEM file: the certificate and its chain."""
    key: Path
    """PEM file: the private key."""
    mode: Literal["starttls", "implicit"] = "starttls"
    required: bool = False
    """With starttls: MAIL is refused (530 5.7.0) on a plain connection."""


class ListenerAuth(Settings):
    """SMTP AUTH of a listener."""

    users: Path | Literal["any"]
    """A YAML file of user names and argon2 hashes; ``any`` takes every name (complaints mode only)."""
    required: bool = False
    """MAIL is refused (530 5.7.0) without AUTH."""
    without_tls: bool = False
    """Offer AUTH on plain connections too."""


class ListenerSettings(Settings):
    """One address to listen on."""

    address: str
    """``host:port``; IPv6 as ``[::1]:25``; port 0 takes a free one."""
    tls: ListenerTls | None = None
    proxy_protocol_from: tuple[IPv4Network | IPv6Network, ...] = ()
    """Sources that must send a PROXY header (v1 or v2); all others must not."""
    auth: ListenerAuth | None = None


class UpstreamAuth(Settings):
    """Credentials for an upstream server."""

    username: str
    password_file: Path
    """A file whose first line is the password."""


class UpstreamServer(Settings):
    """One server to relay to; a plain ``smtp://host:port`` or ``smtps://host:port`` will do."""

    host: str
    port: int = Field(25, ge=1, le=65535)
    tls: Literal["none", "opportunistic", "required", "implicit"] = "opportunistic"
    """opportunistic: STARTTLS if offered, any certificate; required and implicit verify it."""
    verify: bool = True
    """False: take any certificate with required and implicit too."""
    ca: Path | None = None
    """PEM file of the authorities to trust instead of the system's."""
    auth: UpstreamAuth | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_url(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        url = urlsplit(value)
        if url.scheme not in ("smtp", "smtps") or not url.hostname or url.path or url.query or url.username:
            raise ValueError("expected a server like smtp://mail.example.com:25")
        try:
            port = url.port
        except ValueError as error:
            raise ValueError("expected a port from 1 to 65535") from error
        if url.scheme == "smtps":
            return {"host": url.hostname, "port": port or 465, "tls": "implicit"}
        return {"host": url.hostname, "port": port or 25}

    def __str__(self) -> str:
        """``host:port``."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Route(Settings):
    """Where recipients go; the first route that matches wins."""

    recipients: tuple[str, ...]
    """Patterns over the whole address, without regard to case: ``*@example.com``, ``*``."""
    clients: tuple[IPv4Network | IPv6Network | Literal["authenticated"], ...] | None = None
    """Who may use it; default: anybody, but for ``*`` alone loopback and authenticated clients."""
    to: Literal["inbox", "discard"] | tuple[UpstreamServer, ...]
    """The embedded store's inbox, nothing, or servers to be tried in order."""

    # config/ owner: accept a single string for recipients/clients, one server or a list for `to`,
    # refuse empty lists; `matches(session, recipient)` lives here.


class Keep(Settings):
    """How long the store keeps what it has; whatever comes first."""

    messages: int = Field(10_000, ge=1)
    """Messages in the inbox and in quarantine, each."""
    days: int = Field(30, ge=1)
    """Days for messages and for the journal."""
    journal: int = Field(1_000_000, ge=1)
    """Records in the journal."""


class StoreSettings(Settings):
    """The embedded store."""

    url: str = "sqlite:///gatepost.db"
    """An SQLAlchemy URL; a relative SQLite path is relative to rules.yaml."""
    keep: Keep = Keep()


class Limits(Settings):
    """Bounds; each is there so that no client and no message can take the server down."""

    message_size: Octets = 32 << 20
    """Announced with SIZE; past it 552 5.3.4."""
    header_size: Octets = 128 << 10
    """The header section; past it 552 5.3.4."""
    line: Octets = 1 << 20
    """One line of a message; past it 500 5.6.0... (552 5.6.0)."""
    command_line: int = Field(2048, ge=512)
    """One command with its CRLF; past it 500 5.5.2. (An AUTH response may have 12,288.)"""
    recipients: int = Field(100, ge=1)
    """Of one transaction; past it 452 4.5.3. RFC 5321 section 4.5.3.1.8 wants at least 100."""
    connections: int = Field(1000, ge=1)
    """Of all listeners; past it 421 4.7.0."""
    connections_per_client: int = Field(100, ge=1)
    """From one client address; past it 421 4.7.0."""
    memory: Octets = 512 << 20
    """All messages in flight; past it 452 4.3.1."""
    bogus_commands: int = Field(20, ge=1)
    """Unknown or malformed commands in a session; past it 421 4.7.0."""
    auth_tries: int = Field(3, ge=1)
    """Failed AUTH in a session; past it 421 4.7.0."""
    received_fields: int = Field(50, ge=1)
    """Received fields in a message; past it 554 5.4.6, a mail loop."""
    command_time: Seconds = 300.0
    """To wait for a command (RFC 5321 section 4.5.3.2.7)."""
    data_time: Seconds = 180.0
    """To wait for the next octets of a message (section 4.5.3.2.5)."""
    message_time: Seconds = 1800.0
    """For one whole message to arrive."""
    session_time: Seconds = 7200.0
    """For one session."""
    filter_time: Seconds = 30.0
    """All filters together on one message."""
    upstream_time: Seconds = 60.0
    """Upstream's answer to the final dot."""
    connect_time: Seconds = 10.0
    """To reach an upstream server and greet it."""
    idle_time: Seconds = 60.0
    """An unused upstream connection is kept open."""
    shutdown_time: Seconds = 20.0
    """Transactions in flight may take at SIGTERM."""


class Tag(Settings):
    """What ``action: tag`` does to the message."""

    add: dict[str, str] = {}
    """Header fields to put before the message."""
    remove: tuple[str, ...] = ()
    """Header fields to take out."""
    subject: str | None = None
    """Text to put before the subject."""


class RuleSettings(Settings):
    """One entry of ``rules``: one instance of a filter."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    filter: str
    """A filter's name, or ``./file.py:Class`` relative to rules.yaml."""
    with_: dict[str, Any] = Field({}, alias="with")
    when: Condition | None = None
    action: Action | None = None
    """Default: what the filter suggests, else reject."""
    reply: str | None = None
    """Template of the reply to a refusal: ``{rule} {reason} {id} {sender} {recipient} {client}``."""
    tag: Tag | None = None
    mode: Literal["enforce", "observe"] = "enforce"
    on_error: Literal["defer", "skip", "quarantine"] = "defer"
    timeout: Seconds = 10.0

    @model_validator(mode="after")
    def _tag_has_its_action(self) -> Self:
        if self.action is Action.TAG and self.tag is None:
            raise ValueError("action: tag needs a section tag: with add, remove or subject")
        return self


class Config(Settings):
    """The whole of rules.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    hostname: str
    """The name in the greeting, in EHLO and in Received. Default: the machine's."""
    listen: tuple[ListenerSettings, ...] = (ListenerSettings(address="127.0.0.1:2525"),)
    relay: tuple[Route, ...] = ()
    limits: Limits = Limits()
    store: StoreSettings = StoreSettings()
    lists: dict[str, Path] = {}
    rules: tuple[RuleSettings, ...] = ()
    mixed: Literal["quarantine", "defer", "reject"] = "quarantine"
    """Where some recipients are refused and others accepted, and one reply cannot say so."""
    bare_newline: Literal["reject", "normalise", "accept"] = "reject"
    """CR or LF alone, or NUL, in a message: 550 5.6.11, made CRLF, or taken as it is."""
