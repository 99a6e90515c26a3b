"""What the web desk does with the settings: sends, imports, changes lists, has rules learn, checks servers.

SIGHUP renews them.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Literal

from gatepost.config import ConfigError, LoadedConfig, load
from gatepost.config.list_changes import ListChange, add_entry, list_for, remove_entry, used
from gatepost.config.web import WebSettings
from gatepost.gateway.imports import import_messages
from gatepost.gateway.release import forward, release
from gatepost.logline import LogLine
from gatepost.model.learnt import Learnt
from gatepost.model.record import Record
from gatepost.model.saved import SavedMessage
from gatepost.model.verdict import Reply
from gatepost.process.pid_file import pid_file_of, running_process
from gatepost.process.reload_request import NoAnswerError, request
from gatepost.process.service import with_new_rules
from gatepost.relay.reach import Reach
from gatepost.store import KeptMessage, StoreError
from gatepost.web.accounts import Accounts
from gatepost.web.actions import Actions, Forwarder
from gatepost.web.learning import Learning
from gatepost.web.lists import ChangedList, ListRequest, Lists, NotReloadedError

__all__ = ["DeskSettings"]

log = logging.getLogger(__name__)

_REACH_SECONDS = 2.0
"""For the servers of one route."""
_RELOAD_SECONDS = 30.0
"""How long a person in the desk waits for the workers to have a changed list."""


class DeskSettings:
    """The routes and the store as the workers have them; for one event loop.

    All but `reload` and `unreachable` are for any thread.
    """

    def __init__(self, loaded: LoadedConfig, path: Path | None, accounts: Accounts | None = None) -> None:
        """``path`` is that of rules.yaml, and ``accounts`` are the users that a reload renews."""
        self._accounts = accounts
        self._loaded = loaded
        self._path = path
        self._used: tuple[LoadedConfig, frozenset[str]] | None = None
        self._reach = Reach(hostname=loaded.config.hostname)

    def reload(self) -> None:
        """Read the file again; a wrong one changes nothing, and the workers log what is wrong with it."""
        if not self._path:
            return
        try:
            loaded = load(self._path)
            if self._accounts and loaded.config.web:
                self._accounts.renew(loaded.config.web)
        except ConfigError:
            return
        except (OSError, ValueError) as error:
            log.error("the web desk keeps its users: %s", error)  # noqa: TRY400 - its text says it all
        self._loaded = with_new_rules(self._loaded, loaded)

    def actions(self, web: WebSettings, *, relays: bool) -> Actions:
        """What a desk with these settings does; one that does not relay has neither routes nor rules."""
        forward = Forwarder(settings=web.forward, send=self.forward) if web.forward else None
        if not relays:
            return Actions(forward=forward, imports=self.imports)
        return Actions(
            release=self.release,
            forward=forward,
            lists=Lists(used=self.used_lists, change=self.change_list),
            learning=Learning(rules=self.learners, learn=self.learn),
        )

    def release(self, kept: KeptMessage, to: Sequence[str] | None) -> Reply:
        """Deliver a message from the store; see `gatepost.gateway.release`."""
        return release(self._loaded.config, self._loaded.base, kept, to)

    def forward(self, kept: KeptMessage, to: Sequence[str] | None) -> Record:
        """Send a message to the server of ``web.forward``; see `gatepost.gateway.release`."""
        return forward(self._loaded.config, self._loaded.base, kept, to)

    def imports(
        self, messages: Iterable[SavedMessage], client: IPv4Address | IPv6Address
    ) -> list[str | StoreError]:
        """Store saved messages; see `gatepost.gateway.imports`."""
        config = self._loaded.config
        return import_messages(config.store, self._loaded.base, messages, client=client, node=config.node)

    def learners(self) -> tuple[str, ...]:
        """The names of the rules with ``learn: true``."""
        return tuple(rule.name for rule in self._loaded.config.rules if rule.learn)

    def learn(self, kept: KeptMessage, kind: Literal["spam", "ham"], actor: str) -> tuple[Learnt, ...]:
        """Have these rules learn a message; raises ConfigError if one of them is wrong."""
        from gatepost.pipeline.learning import learn  # noqa: PLC0415 - most desks never need the filters

        found = learn(self._loaded, kept.content, kept.recipients, kind)
        for one in found:
            said = one.text or f"learned as {kind}"
            text = f"rule {one.rule}: message {kept.id} as {kind} by {actor}: {said}"
            log.log(logging.INFO if one.succeeded else logging.WARNING, "%s", LogLine(text, rule=one.rule))
        return found

    def used_lists(self) -> frozenset[str]:
        """The default lists that rules or routes use; empty if the settings cannot be read now."""
        loaded = self._loaded
        if self._used is None or self._used[0] is not loaded:
            with suppress(ConfigError):
                self._used = (loaded, used(loaded))
        return self._used[1] if self._used else frozenset()

    def change_list(self, wanted: ListRequest) -> ChangedList:
        """Change a list's file and have the gateway reload; see `gatepost.web.lists.Lists`."""
        if self._path is None:
            raise NotReloadedError("nothing was changed: the gateway has no settings file")
        try:
            loaded = load(self._path)
            name = list_for(loaded, wanted.entry, wanted.verb, wanted.list_name)
            if wanted.remove:
                change = remove_entry(loaded, name, wanted.entry)
            else:
                change = add_entry(
                    loaded, name, wanted.entry, verb=wanted.verb, author=wanted.actor, note=wanted.note
                )
        except ConfigError as error:
            raise NotReloadedError(f"nothing was changed: the settings have a mistake: {error}") from error
        if not change.succeeded:
            return ChangedList(change=change, reloaded=False)
        text = f"list {name}: {change.done} {change.entry} by {wanted.actor}"
        log.info(LogLine(text, list=name, entry=change.entry, change=change.done, by=wanted.actor))
        self._have_reloaded(change)
        return ChangedList(change=change, reloaded=True)

    def _have_reloaded(self, change: ListChange) -> None:
        """Wait until all workers have the rules with the change; raises NotReloadedError."""
        pid_file = pid_file_of(self._loaded)
        try:
            process = running_process(pid_file)
            if process is None:
                raise NoAnswerError(f"no gateway runs with the PID file {pid_file}")  # noqa: TRY301 - told as the others
            outcome = request(pid_file, process, "reload", patience_seconds=_RELOAD_SECONDS)
        except (NoAnswerError, OSError) as error:
            raise NotReloadedError(f"{change}; the rules were not reloaded: {error}") from error
        if not outcome.succeeded:
            raise NotReloadedError(f"{change}; the rules were not reloaded: {outcome.message}")

    async def unreachable(self) -> str:
        """Empty if each route has a server that can be used now, else which has none, and why."""
        distinct = tuple(dict.fromkeys(route.servers for route in self._loaded.config.relay if route.servers))
        found = await asyncio.gather(*(self._reach.unreachable(to, _REACH_SECONDS) for to in distinct))
        return "; ".join(why for why in found if why)
