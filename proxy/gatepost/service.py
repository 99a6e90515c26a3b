"""RUN: settings -> store, relay, gateway, listeners; signals; the end in good order."""

import asyncio
import logging
import signal
import socket
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import uvloop

from gatepost.config import ConfigError, LoadedConfig, load
from gatepost.config.settings import Limits
from gatepost.events import Tap, fan_out
from gatepost.gateway import Gateway, Policy
from gatepost.loader import load_rules
from gatepost.memory import give_memory_back, settle_memory
from gatepost.metrics import Key, Tally
from gatepost.open_files import allow_open_files
from gatepost.pipeline import Pipeline, Threads
from gatepost.recorder import Recorder
from gatepost.relay import Relay
from gatepost.rule import Rule
from gatepost.server import Server
from gatepost.store import Store

__all__ = ["Addresses", "Ready", "Service", "Supervision", "serve", "with_new_rules"]

log = logging.getLogger("gatepost")


_SET_AT_START = (
    "hostname",
    "listen",
    "workers",
    "user",
    "group",
    "limits",
    "store",
    "web",
    "bare_newline",
    "strict_addresses",
)
"""What a reload does not change."""
_PUBLISH_SECONDS = 1.0
_ALONE = "SIGUSR2 replaces workers one by one, and there are none: set workers to 2 or more, or restart"
Addresses = tuple[tuple[str, int], ...]
"""Host and port of each listener."""
Ready = Callable[[Addresses], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervision:
    """What a service has to do with the process that started it."""

    lifeline: int
    """A file descriptor; at its end of file the service stops."""
    reloaded: Callable[[], None]
    """Is called when new rules have been taken."""
    publish: Callable[[dict[Key, float]], None] | None
    """Is given `Service.samples` about once a second, and at the end."""


def with_new_rules(started: LoadedConfig, loaded: LoadedConfig) -> LoadedConfig:
    """The new settings as far as a running service takes them, the others as they were at its start."""
    kept = {name: getattr(started.config, name) for name in _SET_AT_START}
    return replace(loaded, config=loaded.config.model_copy(update=kept))


class Service:
    """One running gateway."""

    def __init__(
        self,
        loaded: LoadedConfig,
        *,
        relays: bool = True,
        tap: Tap | None = None,
        sockets: Sequence[socket.socket] | None = None,
        share: int = 1,
    ) -> None:
        """Load the filters and open the store; raises ConfigError or StoreError.

        Args:
            loaded: the settings.
            relays: False makes no relay object at all, so that no message can leave.
            tap: is told what happens on the wire.
            sockets: to listen on, one for each listener, bound already.
            share: how many processes listen there; each has its part of connections and memory.
        """
        config = loaded.config
        self.limits = _part_of(config.limits, share)
        """The bounds of this process."""
        self._loaded = loaded
        self._threads = Threads()
        self._tally = Tally()
        rules = load_rules(loaded)
        self.store = Store.open(config.store, loaded.base)
        recorder = Recorder(self.store.converse) if config.store.conversations else None
        self._relay = Relay(hostname=config.hostname, limits=config.limits) if relays else None
        self._gateway = Gateway(self._policy(loaded, rules), store=self.store, relay=self._relay)
        self._server = Server(
            self._gateway,
            hostname=config.hostname,
            limits=self.limits,
            listeners=config.listen,
            bare_newline="keep" if config.bare_newline == "accept" and not relays else config.bare_newline,
            tolerance="strict" if config.strict_addresses else "lenient" if relays else "everything",
            tap=fan_out(tap, recorder.tap if recorder else None),
            sockets=sockets,
        )
        self._background: set[asyncio.Task[None]] = set()
        self._replaced: deque[tuple[Rule, ...]] = deque()
        """Rules before a reload, until no transaction can ask them any more; the oldest first."""

    def _policy(self, loaded: LoadedConfig, rules: tuple[Rule, ...]) -> Policy:
        pipeline = Pipeline(
            rules,
            filter_seconds=loaded.config.limits.filter_time,
            threads=self._threads,
            evaluated=self._tally.evaluated,
        )
        return Policy(config=loaded.config, pipeline=pipeline, tally=self._tally)

    @property
    def addresses(self) -> Addresses:
        """Host and port of each listener, after `start`."""
        return self._server.addresses

    def samples(self) -> dict[Key, float]:
        """What was counted since the start, and what there is now (`gatepost.metrics`)."""
        samples = self._tally.samples()
        samples["sessions",] = self._server.connections.opened
        samples["sessions_open",] = self._server.connections.open
        samples["store_backlog",] = self.store.backlog
        samples["journal_records_lost",] = self.store.lost
        for server, opened, failed in self._relay.connections() if self._relay else ():
            samples["upstream_connections", server] = opened
            samples["upstream_connection_failures", server] = failed
        return samples

    async def start(self) -> None:
        """Listen; raises OSError where an address is taken."""
        await self._server.start()
        if self._relay:
            for servers in self._gateway.policy.servers:
                task = asyncio.ensure_future(self._relay.probe(servers))
                self._background.add(task)
                task.add_done_callback(self._background.discard)

    def reload(self, loaded: LoadedConfig) -> None:
        """Take new rules, lists, routes and `mixed`; raises ConfigError, and the old ones stay.

        Transactions that have begun end under the old ones. Everything else is as it was at the start.
        """
        rules = load_rules(loaded)
        started = self._loaded.config
        for name in _SET_AT_START:
            if getattr(loaded.config, name) != getattr(started, name):
                log.warning("%s has changed: it takes effect at the next start", name)
        old = self._gateway.policy
        self._gateway.policy = self._policy(with_new_rules(self._loaded, loaded), rules)
        # The filters of the old rules may still be asked by transactions that have begun.
        delay = started.limits.filter_time + started.limits.message_time
        self._replaced.append(old.pipeline.rules)
        asyncio.get_running_loop().call_later(delay, self._close_oldest)

    def _close_oldest(self) -> None:
        if self._replaced:
            _close_rules(self._replaced.popleft())

    async def stop(self, grace_seconds: float | None = None) -> None:
        """Finish what is under way, at most for that time (default `limits.shutdown_time`), and close all."""
        limits = self._gateway.policy.config.limits
        await self._server.stop(limits.shutdown_time if grace_seconds is None else grace_seconds)
        for task in self._background:
            task.cancel()
        if self._relay:
            await self._relay.close()
        await self.store.close()
        for rules in (*self._replaced, self._gateway.policy.pipeline.rules):
            _close_rules(rules)
        self._threads.close()


def _close_rules(rules: tuple[Rule, ...]) -> None:
    for rule in rules:
        if rule.close:
            try:
                rule.close()
            except Exception:
                log.exception("rule %s failed to close", rule.name)


def _part_of(limits: Limits, share: int) -> Limits:
    """What is left of the bounds of all for one of that many processes."""
    if share == 1:
        return limits
    return limits.model_copy(
        update={"connections": -(-limits.connections // share), "memory": -(-limits.memory // share)}
    )


def serve(
    service: Service,
    ready: Ready,
    *,
    reload_from: Path | None = None,
    supervision: Supervision | None = None,
) -> None:
    """Run until SIGTERM, or alone until SIGINT; raises OSError where it cannot listen.

    Args:
        service: not started yet.
        ready: called when it listens.
        reload_from: rules.yaml, read again at SIGHUP.
        supervision: None: it runs alone.
    """
    uvloop.run(_run(service, ready, reload_from, supervision))


async def _run(
    service: Service, ready: Ready, reload_from: Path | None, supervision: Supervision | None
) -> None:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    if reload_from:
        reloaded = supervision.reloaded if supervision else None
        loop.add_signal_handler(signal.SIGHUP, _reload, service, reload_from, reloaded)
    if supervision:
        _follow(supervision.lifeline, stopping)
    else:
        loop.add_signal_handler(signal.SIGINT, stopping.set)
        loop.add_signal_handler(signal.SIGUSR2, log.warning, _ALONE)
    background = [
        asyncio.ensure_future(_publish(service, supervision)),
        asyncio.ensure_future(give_memory_back()),
    ]
    try:
        allow_open_files(service.limits.connections)
        await service.start()
        settle_memory()
        ready(service.addresses)
        await stopping.wait()
        log.info("stopping: transactions under way may finish")
        if not supervision:  # a second signal does not wait
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
    finally:
        await service.stop()
        for task in background:
            task.cancel()
        if supervision and supervision.publish:
            supervision.publish(service.samples())


async def _publish(service: Service, supervision: Supervision | None) -> None:
    while supervision and supervision.publish:
        await asyncio.sleep(_PUBLISH_SECONDS)
        supervision.publish(service.samples())


def _follow(lifeline: int, stopping: asyncio.Event) -> None:
    """Stop when the supervisor is gone."""
    loop = asyncio.get_running_loop()

    def cut() -> None:
        loop.remove_reader(lifeline)
        stopping.set()

    loop.add_reader(lifeline, cut)


def _reload(service: Service, path: Path, reloaded: Callable[[], None] | None) -> None:
    try:
        loaded = load(path)
        service.reload(loaded)
    except ConfigError as error:
        log.error("not reloaded, the old rules stay:\n%s", error)  # noqa: TRY400 - its text says it all
    else:
        for warning in loaded.warnings:
            log.warning("%s", warning)
        log.info("reloaded")
        if reloaded:
            reloaded()
