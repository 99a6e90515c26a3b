"""What rules.yaml may say: every key, its type, its default and its unit."""

import os
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Strict,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic import Tag as Branch

from gatepost import reply_template
from gatepost.config.conditions import Condition
from gatepost.config.fields import (
    Bool,
    Client,
    Count,
    File,
    Source,
    at_base,
    check_authorities,
    check_group,
    check_host_port,
    check_hostname,
    check_list_name,
    check_reply,
    check_rule_name,
    check_upstream_host,
    check_user,
    file_or_any,
    first_line,
    is_loopback,
    machine_name,
    one_or_many,
    store_url,
)
from gatepost.config.patterns import (
    check_address_pattern,
    expected,
)
from gatepost.config.routes import RouteMatcher
from gatepost.config.units import Octets, Seconds
from gatepost.edits import AddHeader, Edit, PrefixSubject, RemoveHeader
from gatepost.mail import Recipient, Session
from gatepost.verdict import Action

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
    "WebSettings",
]


class Settings(BaseModel):
    """Base of all sections: immutable, and a key that is not listed is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class ListenerTls(Settings):
    """TLS of a listener."""

    certificate: File
    """PEM file: the certificate and its chain."""
    key: File
    """PEM file: the private key."""
    mode: Literal["starttls", "implicit"] = "starttls"
    required: Bool = False
    """With starttls: MAIL is refused (530 5.7.0) on a plain connection."""


class ListenerAuth(Settings):
    """SMTP AUTH of a listener."""

    users: Annotated[File | Literal["any"], BeforeValidator(file_or_any)]
    """A YAML file of user names and argon2 hashes; ``any`` takes every name (complaints mode only)."""
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
    auth: ListenerAuth | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_address(cls, value: Any) -> Any:
        return {"address": value} if isinstance(value, str) else value


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


_SERVER = "a server like smtp://mail.example.com:25 (or inbox or discard alone)"


class UpstreamServer(Settings):
    """One server to relay to; a plain ``smtp://host:port`` or ``smtps://host:port`` will do."""

    host: Annotated[str, AfterValidator(check_upstream_host)]
    port: Annotated[int, Strict(), Field(ge=1, le=65535)] = 25
    tls: Literal["none", "opportunistic", "required", "implicit"] = "opportunistic"
    """opportunistic: STARTTLS if offered, any certificate; required and implicit verify it."""
    verify: Bool = True
    """False: take any certificate with required and implicit too."""
    ca: Annotated[File, AfterValidator(check_authorities)] | None = None
    """PEM file of the authorities to trust instead of the system's."""
    auth: UpstreamAuth | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_url(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            url = urlsplit(value)
            port = url.port
        except ValueError as error:
            raise expected(_SERVER) from error
        if (
            url.scheme not in ("smtp", "smtps")
            or not url.hostname
            or url.path
            or url.query
            or url.username
            or port == 0
        ):
            raise expected(_SERVER)
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
    """Who may use it; default: anybody, but for patterns of any domain loopback and authenticated clients."""
    to: Annotated[
        Annotated[Literal["inbox", "discard"], Branch("store")]
        | Annotated[tuple[UpstreamServer, ...], BeforeValidator(one_or_many), Branch("servers")],
        Discriminator(_destination),
    ]
    """The embedded store's inbox, nothing, or servers to be tried in order."""

    @cached_property
    def _matcher(self) -> RouteMatcher:
        return RouteMatcher(self.recipients, self.clients)

    def matches(self, session: Session, recipient: Recipient) -> bool:
        """True if this client's mail to this recipient goes here (`RouteMatcher.matches`)."""
        return self._matcher.matches(session, recipient)


class Keep(Settings):
    """How long the store keeps what it has; whatever comes first."""

    messages: Count = 10_000
    """Messages in the inbox and in quarantine, each."""
    days: Count = 30
    """Days for messages and for the journal."""
    journal: Count = 1_000_000
    """Records in the journal."""


class StoreSettings(Settings):
    """The embedded store."""

    url: Annotated[str, AfterValidator(store_url), Field(validate_default=True)] = "sqlite:///gatepost.db"
    """``sqlite:///FILE``; a relative path is relative to rules.yaml."""
    keep: Keep = Keep()
    conversations: Bool = False
    """Keep what is said in each session too, but for secrets and the most of long messages."""


class WebSettings(Settings):
    """The web desk."""

    address: Annotated[str, BeforeValidator(check_host_port)] = "127.0.0.1:8025"
    """``host:port``; port 0 takes a free one."""
    hosts: Annotated[tuple[str, ...], BeforeValidator(one_or_many)] = ()
    """Further names by which browsers reach it."""
    password_file: File | None = None
    """A file whose first line is the password; required where others than this machine can connect."""

    @model_validator(mode="before")
    @classmethod
    def _from_address(cls, value: Any) -> Any:
        return {"address": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _is_guarded(self) -> Self:
        if self.password_file is None and not is_loopback(self.address.rpartition(":")[0].strip("[]")):
            raise ValueError(
                f"{self.address!r} can be reached by others without a password, expected password_file"
            )
        if self.password == "":
            raise ValueError(f"no password in {self.password_file}, expected one on its first line")
        return self

    @property
    def password(self) -> str | None:
        """As `password_file` has it now; None: nobody is asked for one. Raises OSError and ValueError."""
        return first_line(self.password_file) if self.password_file else None


class Limits(Settings):
    """Bounds; each is there so that no client and no message can take the server down."""

    message_size: Octets = 32 << 20
    """Announced with SIZE; past it 552 5.3.4."""
    header_size: Octets = 128 << 10
    """The header section; past it 552 5.3.4."""
    line: Octets = 1 << 20
    """One line of a message; past it 552 5.6.0."""
    command_line: Annotated[int, Strict(), Field(ge=512)] = 2048
    """One command with its CRLF; past it 500 5.5.2. (An AUTH response may have 12,288 and its CRLF.)"""
    recipients: Count = 100
    """Of one transaction; past it 452 4.5.3. RFC 5321 section 4.5.3.1.8 wants at least 100."""
    connections: Count = 1000
    """Of all listeners; past it 421 4.7.0."""
    connections_per_client: Count = 100
    """From one client address; past it 421 4.7.0."""
    memory: Octets = 512 << 20
    """All messages in flight, in octets as they came; past it 452 4.3.1.

    For them the process takes up to twice as much, with filters that read texts up to 4 times, 7 times
    where a text has characters beyond U+FFFF; and 256 KiB for each connection on which one comes in.
    """
    bogus_commands: Count = 20
    """Unknown or malformed commands in a session; the last of them is answered 421 4.7.0."""
    auth_tries: Count = 3
    """Failed AUTH in a session; past it 421 4.7.0."""
    received_fields: Count = 50
    """Received fields in a message; past it 554 5.4.6, a mail loop."""
    command_time: Seconds = 300.0
    """To wait for a command (RFC 5321 section 4.5.3.2.7), for all responses of an AUTH, for a handshake."""
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
    """To reach an upstream server and have its greeting (RFC 5321 section 4.5.3.2.1)."""
    idle_time: Seconds = 60.0
    """An unused upstream connection is kept open."""
    shutdown_time: Seconds = 20.0
    """Transactions in flight may take at SIGTERM."""


class Tag(Settings):
    """What ``action: tag`` does to the message."""

    add: dict[str, Annotated[str, Strict()]] = {}
    """Header fields to put before the message."""
    remove: Annotated[tuple[str, ...], BeforeValidator(one_or_many)] = ()
    """Header fields to take out."""
    subject: str | None = None
    """Text to put before the subject."""

    @field_validator("add")
    @classmethod
    def _can_be_added(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            AddHeader(name, text)
        return value

    @field_validator("remove")
    @classmethod
    def _can_be_removed(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            RemoveHeader(name)
        return value

    @field_validator("subject")
    @classmethod
    def _can_be_put_before(cls, value: str | None) -> str | None:
        if value is not None:
            PrefixSubject(value)
        return value

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if not self.edits:
            raise ValueError("an empty tag, expected add, remove or subject")
        return self

    @property
    def edits(self) -> tuple[Edit, ...]:
        """The same as changes to a message."""
        edits: list[Edit] = [RemoveHeader(name) for name in self.remove]
        edits += [AddHeader(name, text) for name, text in self.add.items()]
        if self.subject is not None:
            edits.append(PrefixSubject(self.subject))
        return tuple(edits)


class RuleSettings(Settings):
    """One entry of ``rules``: one instance of a filter."""

    name: Annotated[str, AfterValidator(check_rule_name)]
    """Unique; the journal, the log and ``{rule}`` show it."""
    filter: str
    """A filter's name, or ``./file.py:Class`` relative to rules.yaml."""
    with_: dict[str, Any] = Field({}, alias="with")
    """The filter's own settings."""
    when: Condition | None = None
    """Whom the rule is for; default: everybody."""
    action: Action | None = None
    """Default: what the filter suggests, else reject."""
    reply: Annotated[str, AfterValidator(check_reply)] | None = None
    """Template of the reply to a refusal: ``{rule} {reason} {id} {sender} {recipient} {client}``."""
    tag: Tag | None = None
    """What ``action: tag`` does to the message."""
    mode: Literal["enforce", "observe"] = "enforce"
    """observe: evaluated and written down, but nothing is done."""
    on_error: Literal["defer", "skip", "quarantine"] = "defer"
    """Where the filter fails or is too slow."""
    timeout: Seconds = 10.0
    """For one question to the filter."""

    @model_validator(mode="after")
    def _agrees_with_its_action(self) -> Self:
        if self.action is Action.TAG and self.tag is None:
            raise ValueError("action: tag without a section tag, expected add, remove or subject in it")
        if self.tag is not None and self.action is not Action.TAG:
            raise ValueError("a section tag without action: tag")
        if self.reply is not None:
            code = reply_template.check(self.reply).code
            if self.action is not None and not self.action.refuses:
                raise ValueError(f"a reply with action: {self.action}, expected it only with reject or defer")
            wanted = {Action.DEFER: (4,), Action.REJECT: (5,)}.get(self.action or Action.ACCEPT, (4, 5))
            if code // 100 not in wanted:
                what = " or ".join(f"{number}xx" for number in wanted)
                raise ValueError(
                    f"the reply code {code}, expected {what} with action: {self.action or 'left out'}"
                )
        return self


class Config(Settings):
    """The whole of rules.yaml."""

    hostname: Annotated[str, BeforeValidator(check_hostname)] = Field(default_factory=machine_name)
    """The name in the greeting, in EHLO and in Received. Default: the machine's."""
    listen: Annotated[tuple[ListenerSettings, ...], BeforeValidator(one_or_many)] = (
        ListenerSettings(address="127.0.0.1:2525"),
    )
    """Where to listen."""
    workers: Annotated[int, Strict(), Field(ge=1, le=256)] | Literal["auto"] = 1
    """Processes that share the port; auto: one for each core."""
    user: Annotated[str, AfterValidator(check_user)] | None = None
    """Whom the gateway becomes once it has its ports, where root starts it."""
    group: Annotated[str, AfterValidator(check_group)] | None = None
    """Its group; default: the user's."""
    relay: tuple[Route, ...] = ()
    """Where recipients go, the first match wins; a recipient that no route takes is refused, 550 5.7.1."""
    limits: Limits = Limits()
    """Bounds in size, number and time."""
    store: StoreSettings = StoreSettings()
    """Where journal, quarantine and inbox are kept."""
    web: WebSettings | None = None
    """The web desk; default: there is none."""
    lists: dict[
        Annotated[str, AfterValidator(check_list_name)], Annotated[Path, AfterValidator(at_base)]
    ] = {}
    """Text files with one entry a line, for ``$name``."""
    rules: tuple[RuleSettings, ...] = ()
    """The filters, in order."""
    mixed: Literal["quarantine", "defer", "reject"] = "quarantine"
    """Where some recipients are refused and others accepted, and one reply cannot say so."""
    bare_newline: Literal["reject", "normalise", "accept"] = "reject"
    """CR or LF alone, or NUL, in a message: 550 5.6.11, made CRLF, or taken as it is."""
    strict_addresses: Bool = True
    """MAIL and RCPT as RFC 5321 spells them; False: as Postfix takes them by default."""

    @model_validator(mode="after")
    def _check_group_has_user(self) -> Self:
        if self.group and not self.user:
            raise expected("a user beside group")
        return self

    @property
    def processes(self) -> int:
        """How many workers there are."""
        return len(os.sched_getaffinity(0)) if self.workers == "auto" else self.workers

    def route(self, session: Session, recipient: Recipient) -> Route | None:
        """The first route that takes the recipient from this client; None: it is to be refused."""
        for route in self.relay:
            if route.matches(session, recipient):
                return route
        return None
