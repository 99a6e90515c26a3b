"""RUN: settings -> store, relay, gateway, listeners; signals; the end in good order."""

import asyncio
import gc
import logging
import signal
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import uvloop

from proxy.config import ConfigError, LoadedConfig, load
from proxy.config.settings import Limits, ListenerSettings
from proxy.events import Tap, fan_out
from proxy.gateway import Gateway, Policy
from proxy.loader import load_rules
from proxy.open_files import allow_open_files
from proxy.pipeline import Pipeline, Threads
from proxy.recorder import Recorder
from proxy.relay import Relay
from proxy.rule import Rule
from proxy.server import Server
from proxy.store import Store

__all__ = ["Addresses", "Ready", "Service", "serve"]

log = logging.getLogger("gatepost")


_SET_AT_START = ("hostname", "listen", "workers", "limits", "store", "web", "bare_newline")
"""What a reload does not change."""
Addresses = tuple[tuple[str, int], ...]
"""Host and port of each listener."""
Ready = Callable[[Addresses], None]


class Service:
    """One running gateway."""

    def __init__(
        self,
        loaded: LoadedConfig,
        *,
        relays: bool = True,
        tap: Tap | None = None,
        listeners: tuple[ListenerSettings, ...] | None = None,
        share: int = 1,
    ) -> None:
        """Load the filters and open the store; raises ConfigError or StoreError.

        Args:
            loaded: the settings.
            relays: False makes no relay object at all, so that no message can leave.
            tap: is told what happens on the wire.
            listeners: instead of those in the settings, each with a port that others may listen on too.
            share: how many processes listen there; each has its part of connections and memory.
        """
        config = loaded.config
        self.limits = _part_of(config.limits, share)
        """The bounds of this process."""
        self._loaded = loaded
        self._threads = Threads()
        rules = load_rules(loaded)
        self.store = Store.open(config.store, loaded.base)
        recorder = Recorder(self.store.converse) if config.store.conversations else None
        self._relay = Relay(hostname=config.hostname, limits=config.limits) if relays else None
        self._gateway = Gateway(self._policy(loaded, rules), store=self.store, relay=self._relay)
        self._server = Server(
            self._gateway,
            hostname=config.hostname,
            limits=self.limits,
            listeners=listeners or config.listen,
            bare_newline=config.bare_newline,
            tap=fan_out(tap, recorder.tap if recorder else None),
            reuse_port=listeners is not None,
        )
        self._background: set[asyncio.Task[None]] = set()
        self._replaced: deque[tuple[Rule, ...]] = deque()
        """Rules before a reload, until no transaction can ask them any more; the oldest first."""

    def _policy(self, loaded: LoadedConfig, rules: tuple[Rule, ...]) -> Policy:
        pipeline = Pipeline(rules, filter_seconds=loaded.config.limits.filter_time, threads=self._threads)
        return Policy(config=loaded.config, pipeline=pipeline)

    @property
    def addresses(self) -> Addresses:
        """Host and port of each listener, after `start`."""
        return self._server.addresses

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
        kept = {name: getattr(started, name) for name in _SET_AT_START}
        for name, value in kept.items():
            if getattr(loaded.config, name) != value:
                log.warning("%s has changed: it takes effect at the next start", name)
        old = self._gateway.policy
        config = loaded.config.model_copy(update=kept)
        self._gateway.policy = self._policy(replace(loaded, config=config), rules)
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
    service: Service, ready: Ready, *, reload_from: Path | None = None, lifeline: int | None = None
) -> None:
    """Run until SIGTERM or SIGINT; raises OSError where it cannot listen.

    Args:
        service: not started yet.
        ready: called when it listens.
        reload_from: rules.yaml, read again at SIGHUP.
        lifeline: a file descriptor; at its end of file the service stops too.
    """
    uvloop.run(_run(service, ready, reload_from, lifeline))


async def _run(service: Service, ready: Ready, reload_from: Path | None, lifeline: int | None) -> None:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    if lifeline is None:
        loop.add_signal_handler(signal.SIGINT, stopping.set)
    else:  # Ctrl-C reaches the supervisor too, which says SIGTERM; a second signal would not wait
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if reload_from:
        loop.add_signal_handler(signal.SIGHUP, _reload, service, reload_from)

    def cut() -> None:
        if lifeline is not None:
            loop.remove_reader(lifeline)
        stopping.set()

    if lifeline is not None:
        loop.add_reader(lifeline, cut)
    try:
        allow_open_files(service.limits.connections)
        await service.start()
        _settle_memory()
        ready(service.addresses)
        await stopping.wait()
        log.info("stopping: transactions under way may finish")
        # A second signal does not wait.
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
    finally:
        await service.stop()


def _settle_memory() -> None:
    """Let the garbage collector look less often, and not at what lives as long as the process.

    Hardly anything here is cyclic; with the default thresholds it takes a tenth of the time of a message.
    What the imports left behind stays too: to collect those 200 KB would take 30 ms of the start.
    """
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)


def _reload(service: Service, path: Path) -> None:
    try:
        service.reload(load(path))
    except ConfigError as error:
        log.error("not reloaded, the old rules stay:\n%s", error)  # noqa: TRY400 - its text says it all
    else:
        log.info("reloaded")
