"""The settings: every key of rules.yaml, section by section."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    Strict,
)

from gatepost.config.dns import DnsSettings
from gatepost.config.document import Location
from gatepost.config.fields import (
    Bool,
    at_base,
    check_group,
    check_hostname,
    check_list_name,
    check_node,
    check_user,
    machine_name,
    node_name,
    one_or_many,
)
from gatepost.config.limits import Limits
from gatepost.config.listen import ListenerSettings
from gatepost.config.log import LogSettings
from gatepost.config.relay import Route, UpstreamServer
from gatepost.config.rules import RuleSettings
from gatepost.config.section import Settings
from gatepost.config.state import StateSettings
from gatepost.config.store import StoreSettings
from gatepost.config.web import WebSettings
from gatepost.model.mail import Recipient, Session

__all__ = ["Config"]


class Config(Settings):
    """The whole of rules.yaml."""

    hostname: Annotated[str, BeforeValidator(check_hostname)] = Field(default_factory=machine_name)
    """The name in the greeting, in EHLO and in Received. Default: the machine's."""
    node: Annotated[str, AfterValidator(check_node)] = Field(default_factory=node_name)
    """The name of this node among those with the same store. Default: the machine's."""
    listen: Annotated[tuple[ListenerSettings, ...], BeforeValidator(one_or_many)] = (
        ListenerSettings(address="127.0.0.1:2525"),
    )
    """Where to listen."""
    workers: Annotated[int, Strict(), Field(ge=1, le=256)] | Literal["auto"] = 1
    """Processes that share the port; auto: one for each core."""
    user: Annotated[str, AfterValidator(check_user)] | None = None
    """User to switch to after binding the ports; permanent; needs a start as root."""
    group: Annotated[str, AfterValidator(check_group)] | None = None
    """Its group; default: the user's."""
    pid_file: Annotated[Path, AfterValidator(at_base)] | None = None
    """Where to write the process id; default: beside the store."""
    relay: tuple[Route, ...] = ()
    """Where recipients go; the first match is used; without a match the recipient gets 550 5.7.1."""
    limits: Limits = Limits()
    """Bounds in size, number and time."""
    store: StoreSettings = StoreSettings()
    """Location and size of journal, quarantine and inbox."""
    web: WebSettings | None = None
    """The web desk; default: there is none."""
    dns: DnsSettings = DnsSettings()
    """The name servers that filters ask."""
    state: StateSettings = StateSettings()
    """Where filters remember what outlives a restart."""
    log: LogSettings = LogSettings()
    """How log lines are written, and where they go."""
    lists: dict[Annotated[str, AfterValidator(check_list_name)], Annotated[Path, AfterValidator(at_base)]] = (
        Field({})
    )
    """Text files with one entry a line, for ``$name``."""
    rules: tuple[RuleSettings, ...] = ()
    """The filters, in order."""
    mixed_recipients: Literal["quarantine", "defer", "reject"] = "quarantine"
    """What to do if some recipients refuse a message and others accept it, as there is only one reply."""
    bare_newline: Literal["reject", "normalise", "accept"] = "reject"
    """A lone CR, LF or NUL in a message: 550 5.6.11, converted to CRLF, or accepted unchanged."""
    early_talkers: Literal["reject", "accept"] = "reject"
    """A client that does not wait for the greeting: 421 4.7.0, or accepted, and known by ``when``."""
    strict_addresses: Bool = True
    """Accept MAIL and RCPT only as RFC 5321 spells them; False: as Postfix does by default."""

    @property
    def shown_node(self) -> str:
        """The node's name for Received; empty if the settings do not have one: the machine's stays inside."""
        return self.node if "node" in self.model_fields_set else ""

    @property
    def processes(self) -> int:
        """The number of workers."""
        return len(os.sched_getaffinity(0)) if self.workers == "auto" else self.workers

    def keeping(self, started: Self, names: Iterable[str]) -> Self:
        """These settings, but those with the names as they were at the start."""
        kept = {name: getattr(started, name) for name in names}
        config = self.model_copy(update=kept)
        config.model_fields_set.difference_update(kept.keys() - started.model_fields_set)
        return config

    def upstream_servers(self) -> Iterator[tuple[Location, UpstreamServer]]:
        """The servers of routes, then that of ``web.forward``, each with its place in the settings."""
        for number, route in enumerate(self.relay):
            for place, server in enumerate(route.servers):
                yield ("relay", number, "to", place), server
        if self.web and self.web.forward:
            for place, server in enumerate(self.web.forward.to):
                yield ("web", "forward", "to", place), server

    def route(self, session: Session, recipient: Recipient) -> Route | None:
        """The first route that matches; None: the recipient is refused."""
        for route in self.relay:
            if route.matches(session, recipient):
                return route
        return None
