"""What filters get beside their settings: a constructor's parameter with one of these annotations."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from gatepost.config import LoadedConfig
from gatepost.config.dns import DnsSettings
from gatepost.config.fields import store_file
from gatepost.config.rules import RuleSettings
from gatepost.dns import Resolver
from gatepost.place import Place
from gatepost.state import State
from gatepost.state.contract import Backend
from gatepost.state.sqlite import SqliteState
from gatepost.values import value

__all__ = ["KINDS", "Provided", "state_file"]

KINDS: tuple[type[Any], ...] = (Resolver, State, Place)
"""The annotations."""


@value
class Provided:
    """The objects that all filters of a process share, and what each rule gets of them."""

    base: Path
    dns: DnsSettings
    resolver: Resolver
    state: Backend
    message_size: int
    counter: Callable[[str, str], None]
    data_made: Callable[[str, str, float], None]

    @classmethod
    def of(
        cls,
        loaded: LoadedConfig,
        *,
        counter: Callable[[str, str], None] = lambda _rule, _what: None,
        data_made: Callable[[str, str, float], None] = lambda _rule, _source, _seconds: None,
        keeps_state: bool = True,
    ) -> Self:
        """Make them from the settings; opens nothing.

        ``counter`` and ``data_made`` are for `Place`; without ``keeps_state`` nothing that filters remember
        is written.
        """
        dns = loaded.config.dns
        return cls(
            base=loaded.base,
            dns=dns,
            resolver=Resolver(servers=dns.servers, timeout_seconds=dns.timeout),
            state=_state(loaded, keeps_changes=keeps_state),
            message_size=loaded.config.limits.message_size,
            counter=counter,
            data_made=data_made,
        )

    def after_reload(self, loaded: LoadedConfig) -> Self:
        """The same ones, where their settings have not changed; state and limits change at a start only."""
        dns = loaded.config.dns
        if dns == self.dns:
            return self
        return replace(self, dns=dns, resolver=Resolver(servers=dns.servers, timeout_seconds=dns.timeout))

    async def close(self) -> None:
        """End what they are doing."""
        await self.resolver.close()
        await self.state.close()

    def for_rule(self, rule: RuleSettings) -> Mapping[type[Any], object]:
        """What the filter of a rule gets, by its annotation."""
        return {
            Resolver: self.resolver,
            State: State(self.state, rule.filter),
            Place: Place(
                rule=rule.name,
                folder=self.base,
                message_size=self.message_size,
                timeout_seconds=rule.timeout,
                counter=self.counter,
                data_made=self.data_made,
            ),
        }


def _state(loaded: LoadedConfig, *, keeps_changes: bool) -> Backend:
    settings = loaded.config.state
    if settings.url:
        from gatepost.state.redis import RedisClient, RedisState  # noqa: PLC0415 - an extra; few settings have it

        client = RedisClient(settings.url, password=settings.read_password, ca=settings.ca)
        return RedisState(client, keeps_changes=keeps_changes)
    return SqliteState(state_file(loaded), max_entries=settings.max_entries, keeps_changes=keeps_changes)


def state_file(loaded: LoadedConfig) -> Path:
    """The file with what filters remember, unless `state.url` is set: as set, else beside the store."""
    if loaded.config.state.path:
        return loaded.base.absolute() / loaded.config.state.path
    store = store_file(loaded.config.store.url)
    return loaded.base.absolute() / store.with_name(f"{store.name}-state")
