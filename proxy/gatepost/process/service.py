"""One worker: builds store, relay, gateway and listeners from the settings; signals; orderly shutdown."""

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakSet

import uvloop

from gatepost.config import ConfigError, LoadedConfig, load
from gatepost.config.limits import Limits
from gatepost.gateway import Gateway, Policy
from gatepost.holding import Channel, Holder
from gatepost.metrics import Key, Tally
from gatepost.pipeline import Pipeline, Threads
from gatepost.pipeline.closing import OpenFilters
from gatepost.pipeline.loader import load_rules
from gatepost.pipeline.loading import Loading
from gatepost.pipeline.provided import Provided
from gatepost.pipeline.rule import Rule
from gatepost.process.log import write_log
from gatepost.process.memory import give_memory_back, settle_memory
from gatepost.process.open_files import allow_open_files
from gatepost.process.recorder import Recorder
from gatepost.process.status_pipe import Status
from gatepost.relay import Relay
from gatepost.server import Server
from gatepost.store import RunningNode, StoreForbidden, StoreUnusable, open_store
from gatepost.traffic.watching import Tap, fan_out
from gatepost.values import value

if TYPE_CHECKING:
    from gatepost.state.connections import ConnectionCounts

__all__ = ["Addresses", "Ready", "Service", "Supervision", "serve", "with_new_rules"]

log = logging.getLogger("gatepost")


_SET_AT_START = (
    "hostname",
    "node",
    "workers",
    "user",
    "group",
    "pid_file",
    "limits",
    "state",
    "store",
    "web",
    "log",
    "bare_newline",
    "early_talkers",
    "strict_addresses",
)
"""The settings that a reload does not change; nor does it change the addresses in ``listen``."""
_PUBLISH_SECONDS = 1.0
_REPORTS_SECONDS = 5.0
"""How long `Service.stop` waits for reports to filters."""
Addresses = tuple[tuple[str, int], ...]
"""Host and port of each listener."""
Ready = Callable[[Addresses], None]


@value
class Supervision:
    """The connection of a service to its supervisor."""

    lifeline: int
    """A file descriptor; the service stops at its end of file."""
    report: Callable[[Status], None]
    """Tells the supervisor whether new rules were loaded at SIGHUP."""
    publish: Callable[[dict[Key, float]], None] | None
    """Called with `Service.samples` about once a second, and at the end."""


def with_new_rules(started: LoadedConfig, loaded: LoadedConfig) -> LoadedConfig:
    """The new settings that a running service can apply, and the others as they were at its start."""
    names = _SET_AT_START if _addresses(loaded) == _addresses(started) else (*_SET_AT_START, "listen")
    return replace(loaded, config=loaded.config.keeping(started.config, names))


def _addresses(loaded: LoadedConfig) -> list[str]:
    return [listener.address for listener in loaded.config.listen]


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
        holds: Channel | None = None,
        node: RunningNode | None = None,
    ) -> None:
        """Load the filters and open the store; raises ConfigError or StoreError.

        Args:
            loaded: the settings.
            relays: False makes no relay object at all, so that no message can leave.
            tap: is called with each event of the sessions.
            sockets: to listen on, one for each listener, bound already.
            share: how many processes listen there; each has its part of connections and memory.
            holds: the web desk's end of it answers for sessions that are held; None: nobody can.
            node: this gateway, for others with the same store; None: it is no node.
        """
        config = loaded.config
        self.limits = _part_of(config.limits, share)
        """The limits of this process."""
        self._loaded = loaded
        self._threads = Threads()
        self._tally = Tally()
        self._pipelines: WeakSet[Pipeline] = WeakSet()
        """The current one, and those from before a reload that sessions still use."""
        self._filters = OpenFilters(self._threads)
        self._loading = Loading()
        self._provided = Provided.of(
            loaded, counter=self._tally.filter_counted, data_made=self._tally.data_made
        )
        rules = load_rules(loaded, self._provided)
        try:
            self.store = open_store(config.store, loaded.base, node=node)
        except (StoreUnusable, StoreForbidden) as error:
            raise ConfigError([loaded.problem(("store", "url"), str(error))]) from error
        recorder = Recorder(self.store.converse) if config.store.conversations else None
        self._relay = Relay(hostname=config.hostname, limits=config.limits) if relays else None
        self._counts = _counts(loaded)
        self._holder = Holder(holds) if holds else None
        self._gateway = Gateway(
            self._policy(loaded, rules), store=self.store, relay=self._relay, holder=self._holder
        )
        self._server = Server(
            self._gateway,
            hostname=config.hostname,
            limits=self.limits,
            listeners=config.listen,
            bare_newline="keep" if config.bare_newline == "accept" and not relays else config.bare_newline,
            tolerance="strict" if config.strict_addresses else "lenient" if relays else "everything",
            accepts_early_talkers=config.early_talkers == "accept",
            tap=fan_out(tap, recorder.tap if recorder else None),
            sockets=sockets,
            counts=self._counts,
        )
        self._background: set[asyncio.Task[None]] = set()

    def _policy(self, loaded: LoadedConfig, rules: tuple[Rule, ...]) -> Policy:
        pipeline = Pipeline(
            rules,
            filter_seconds=loaded.config.limits.filter_time,
            threads=self._threads,
            evaluated=self._tally.evaluated,
        )
        self._filters.add(pipeline)
        self._pipelines.add(pipeline)
        return Policy(config=loaded.config, pipeline=pipeline, tally=self._tally)

    @property
    def addresses(self) -> Addresses:
        """Host and port of each listener, after `start`."""
        return self._server.addresses

    @property
    def is_recording(self) -> bool:
        """True while the journal does not yet have all transactions of the sessions that have ended."""
        return self._server.is_ending_sessions or bool(self.store.backlog)

    def samples(self) -> dict[Key, float]:
        """Counters since the start, and current values (`gatepost.metrics`)."""
        samples = self._tally.samples()
        samples["sessions",] = self._server.connections.opened
        samples["sessions_open",] = self._server.connections.open
        samples["sessions_refused", "connections"] = self._server.connections.refused
        samples["sessions_refused", "connections_per_client"] = self._server.connections.refused_clients
        if self._counts:
            samples["sessions_refused", "on_error"] = self._server.connections.refused_unknown
            defers = "all" if self.limits.on_error == "defer" else "none"
            samples["connections_out_of_service", defers] = int(self._counts.is_failing)
        samples["store_backlog",] = self.store.backlog
        samples["journal_records_lost",] = self.store.lost
        for rule in self._gateway.policy.pipeline.out_of_service():
            samples["rules_out_of_service", rule.name, "all" if rule.is_needed_for_all_mail else "other"] = 1
        for server, opened, failed in self._relay.connections() if self._relay else ():
            samples["upstream_connections", server] = opened
            samples["upstream_connection_failures", server] = failed
        return samples

    async def start(self) -> None:
        """Listen; raises OSError if an address is in use."""
        self._filters.start()
        await self._gateway.policy.pipeline.open()
        if self._counts:
            self._counts.start()
        await self._server.start()
        if self._relay:
            for servers in self._gateway.policy.servers:
                task = asyncio.ensure_future(self._relay.probe(servers))
                self._background.add(task)
                task.add_done_callback(self._background.discard)

    async def reload(self, loaded: LoadedConfig) -> None:
        """Load new rules, lists, routes and `mixed_recipients`; on ConfigError the old ones stay.

        The files that the settings name are read again: certificates, keys, users, authorities. Running
        transactions and open sessions finish with the old ones. Other settings change at the next start only.
        Filters are imported and made in a thread, within `limits.reload_time`.
        """
        taken = with_new_rules(self._loaded, loaded)
        try:
            endpoints = self._server.endpoints_for(taken.config.listen)
        except (OSError, ValueError) as error:
            raise ConfigError([loaded.problem(("listen",), str(error))]) from error
        provided = self._provided.after_reload(loaded)
        rules = await self._loading.rules(loaded, provided, taken.config.limits.reload_time)
        for name in (*_SET_AT_START, "listen"):
            if getattr(loaded.config, name) != getattr(taken.config, name):
                log.warning("%s has changed: it takes effect at the next start", name)
        if provided.resolver is not self._provided.resolver:
            self._filters.when_unused(self._provided.resolver.close)
        policy = self._policy(taken, rules)
        await policy.pipeline.open()
        self._server.use(endpoints)
        if self._relay:
            self._relay.read_authorities_again()
        self._gateway.policy = policy
        self._provided = provided

    async def stop(self, grace_seconds: float | None = None) -> None:
        """Finish transactions, within the time (default `limits.shutdown_time`), and close everything.

        The store is closed before the filters are waited for: nothing that they do endangers the journal.
        """
        limits = self._gateway.policy.config.limits
        if self._holder:
            self._holder.stop()
        await self._server.stop(limits.shutdown_time if grace_seconds is None else grace_seconds)
        for task in self._background:
            task.cancel()
        if self._relay:
            await self._relay.close()
        await self.store.close()
        if self._counts:
            await self._counts.close()
        await asyncio.gather(*(pipeline.reports.finish(_REPORTS_SECONDS) for pipeline in self._pipelines))
        await self._filters.close()
        await self._provided.close()
        self._loading.close()
        self._threads.close()


def _counts(loaded: LoadedConfig) -> "ConnectionCounts | None":
    """The counts of connections that all nodes share, if there is a server for them."""
    settings, config = loaded.config.state, loaded.config
    if not settings.url:
        return None
    from gatepost.state.connections import ANSWER_SECONDS, ConnectionCounts  # noqa: PLC0415 - needs an extra
    from gatepost.state.redis import RedisClient  # noqa: PLC0415 - likewise

    client = RedisClient(
        settings.url,
        password=settings.read_password,
        ca=settings.ca,
        connections=1,
        seconds=ANSWER_SECONDS,
    )
    return ConnectionCounts(client, node=config.node, limit=config.limits.connections_per_client)


def _part_of(limits: Limits, share: int) -> Limits:
    """The share of the limits for one of this many processes."""
    if share == 1:
        return limits
    return limits.model_copy(
        update={"connections": -(-limits.connections // share), "memory": -(-limits.memory // share)}
    )


def serve(
    service: Service, ready: Ready, *, supervision: Supervision, reload_from: Path | None = None
) -> None:
    """Run until SIGTERM or the end of the supervisor; raises OSError if it cannot listen.

    Args:
        service: a service that is not started yet.
        ready: called when it listens.
        supervision: the connection to the supervisor.
        reload_from: rules.yaml, read again at SIGHUP.
    """
    try:
        uvloop.run(_run(service, ready, supervision, reload_from))
    finally:
        write_log()


async def _run(service: Service, ready: Ready, supervision: Supervision, reload_from: Path | None) -> None:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    if reload_from:
        hangup = asyncio.Event()
        loop.add_signal_handler(signal.SIGHUP, hangup.set)
    _follow(supervision.lifeline, stopping)
    background = [
        asyncio.ensure_future(_publish(service, supervision)),
        asyncio.ensure_future(give_memory_back()),
    ]
    if reload_from:
        background.append(asyncio.ensure_future(_reload_at(hangup, service, reload_from, supervision.report)))
    try:
        allow_open_files(service.limits.connections)
        await service.start()
        settle_memory()
        ready(service.addresses)
        await stopping.wait()
        log.info("stopping: waiting for transactions in progress")
    finally:
        await service.stop()
        for task in background:
            task.cancel()
        if supervision.publish:
            supervision.publish(service.samples())


async def _publish(service: Service, supervision: Supervision) -> None:
    while supervision.publish:
        await asyncio.sleep(_PUBLISH_SECONDS)
        supervision.publish(service.samples())


def _follow(lifeline: int, stopping: asyncio.Event) -> None:
    """Stop when the supervisor is gone."""
    loop = asyncio.get_running_loop()

    def cut() -> None:
        loop.remove_reader(lifeline)
        stopping.set()

    loop.add_reader(lifeline, cut)


async def _reload_at(
    hangup: asyncio.Event, service: Service, path: Path, report: Callable[[Status], None]
) -> None:
    """Reload at each signal; one that comes during a reload causes another one after it."""
    while True:
        await hangup.wait()
        hangup.clear()
        await _reload(service, path, report)


async def _reload(service: Service, path: Path, report: Callable[[Status], None]) -> None:
    try:
        loaded = load(path)
        await service.reload(loaded)
    except ConfigError as error:
        log.error("not reloaded, the old rules stay in force:\n%s", error)  # noqa: TRY400 - its text says it all
        report("not reloaded")
    else:
        for warning in loaded.warnings:
            log.warning("%s", warning)
        log.info("reloaded")
        report("reloaded")
