"""One supervisor, several workers that share the listeners' ports (SO_REUSEPORT), and the web desk.

The supervisor accepts no mail. It holds the sockets, starts the other processes, replaces those that die,
passes signals on, and ends when all have ended. A worker whose supervisor is gone stops as at SIGTERM. The
desk is a separate process: a failure in it does not affect SMTP.
"""

import grp
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Protocol

from gatepost.config import LoadedConfig, load
from gatepost.config.settings import Config
from gatepost.config.web import WebSettings
from gatepost.holding import Channel
from gatepost.metrics import Key, SharedCounters
from gatepost.model.mail import Stage
from gatepost.model.record import Disposition
from gatepost.process import privileges, sockets
from gatepost.process.children import Child, WorkerSlot
from gatepost.process.desk_password import desk_password
from gatepost.process.expiry import ExpiryWatch
from gatepost.process.exposure import exposed_files
from gatepost.process.hold_warnings import hold_warnings
from gatepost.process.log import log_as
from gatepost.process.memory import share_memory
from gatepost.process.pid_file import pid_file_of
from gatepost.process.report import Report
from gatepost.process.service import Addresses, Service, Supervision
from gatepost.process.service import serve as run_service
from gatepost.process.supervisor import Supervisor
from gatepost.server import check_named_files, tls_context
from gatepost.store import RunningNode, import_backend
from gatepost.traffic import feed
from gatepost.traffic.watching import Tap, Watch, Watchers, fan_out

__all__ = ["Follow", "Ready", "serve", "supervise"]

log = logging.getLogger("gatepost")

Follow = Callable[[Watch, Callable[[], bool]], None]
"""Shows the conversation until the callable returns True; runs in its own thread."""


class Ready(Protocol):
    """Called once, when all workers listen."""

    def __call__(self, addresses: Addresses, web: str | None, /) -> None:
        """Host and port of each listener, and the address of the web desk.

        The latter begins with ``http://``, ``https://`` or ``unix:``; None: there is no desk.
        """


def serve(path: Path, *, ready: Ready) -> None:
    """Run the gateway until SIGTERM or SIGINT, in as many processes as the settings say.

    Args:
        path: rules.yaml; read again at SIGHUP and SIGUSR2.
        ready: called when all workers listen.

    Raises:
        ConfigError, StoreError, OSError: it cannot start.
        SystemExit: a worker could not start, and has logged the reason.
    """
    loaded = _read(path)
    _log_as(loaded.config, loaded.config)
    if node := loaded.config.shown_node:
        log.info("this node is %s", node)
    supervise(loaded, ready=ready, reload_from=path)


def _log_as(config: Config, started: Config) -> None:
    """Log as the settings say, under the name of the node that was started."""
    log_as(config.log, node=started.node, is_named=bool(started.shown_node))


def _read(path: Path) -> LoadedConfig:
    """The settings, with the files that listeners need; raises ConfigError."""
    loaded = load(path)
    check_named_files(loaded)
    return loaded


def supervise(
    loaded: LoadedConfig,
    *,
    ready: Ready,
    reload_from: Path | None = None,
    relays: bool = True,
    follow: Follow | None = None,
    hold_at: Sequence[Stage] = (),
) -> None:
    """Run until SIGTERM or SIGINT. Raises as `serve` does.

    Args:
        loaded: the settings.
        ready: called when all workers listen.
        reload_from: rules.yaml, read again at SIGHUP and SIGUSR2.
        relays: False: no relay object exists, so that no message can leave.
        follow: shows the conversation of each worker.
        hold_at: the stages at which every session is held for the web desk.
    """
    _log_warnings(loaded)
    import_backend(loaded.config.store)
    processes = _Processes(loaded, reload_from=reload_from, relays=relays, follow=follow, hold_at=hold_at)
    _drop_privileges(loaded.config)
    share_memory()
    processes.run(ready)


def _log_warnings(loaded: LoadedConfig) -> None:
    for warning in (*loaded.warnings, *exposed_files(loaded), *hold_warnings(loaded)):
        log.warning("%s", warning)


def _drop_privileges(config: Config) -> None:
    """Drop privileges after binding the ports, before filters, store and clients."""
    if config.user:
        privileges.drop_privileges(config.user, config.group)


@contextmanager
def _shown_by(follow: Follow) -> Iterator[Tap]:
    watchers = Watchers()
    stopped = threading.Event()
    thread = threading.Thread(target=follow, args=(watchers.watch(), stopped.is_set))
    thread.start()
    try:
        yield watchers.tap
    finally:
        stopped.set()
        thread.join()


class _Processes:
    """The supervised processes: their shared state, and what each runs."""

    def __init__(
        self,
        loaded: LoadedConfig,
        *,
        reload_from: Path | None,
        relays: bool,
        follow: Follow | None,
        hold_at: Sequence[Stage],
    ) -> None:
        """Bind all addresses; raises OSError if one is in use."""
        config = loaded.config
        self._started = config
        self._node = RunningNode.started(config.node)
        self._started_at = datetime.now(UTC)
        self._reload_from = reload_from
        self._relays = relays
        self._follow = follow
        self._hold_at = hold_at
        self._feed = feed.pair() if config.web else None
        self._holds = Channel.make() if config.web else None
        if self._holds:
            for stage in hold_at:  # so that the first sessions wait for the desk, which arms them
                self._holds.armed[stage] = 1
        shares = sockets.bind_workers([listener.address for listener in config.listen], config.processes)
        self._workers = [WorkerSlot(kind="worker", sockets=share, loaded=loaded) for share in shares]
        self._addresses = tuple(map(sockets.address_of, shares[0]))
        self._desk: WorkerSlot | None = None
        self._counters: SharedCounters | None = None
        if config.web:
            self._counters = SharedCounters(2 * config.processes)  # a process and its successor
            bound = () if config.web.socket else (sockets.bind_desk(config.web.address),)
            self._desk = WorkerSlot(kind="desk", sockets=bound, loaded=loaded)
        self._expiry = ExpiryWatch(self._publish_supervisors if self._counters else None)

    def run(self, ready: Ready) -> None:
        """Run all until the end; in a child, only that child."""
        started, web = self._workers[0].loaded, self._started.web
        self._expiry.take(started)
        if web:
            self._password_of(web, started)  # so that it is logged at the start
        if web and web.socket and self._desk:  # its owner is the user that this process has become
            self._desk.sockets = (_bind_socket(web, web.socket),)
        pid_file = pid_file_of(started) if self._relays else None
        with (
            _removed_at_the_end(web.socket if web else None),
            Report.opened(pid_file, self._reload_from) as report,
        ):
            Supervisor(
                workers=self._workers,
                desk=self._desk,
                run_child=self._run_child,
                listening=lambda: ready(self._addresses, self._desk_address()),
                read=partial(_read, self._reload_from) if self._reload_from else None,
                can_take=self._can_take,
                taken=partial(self._take, report),
                each_turn=self._expiry.look,
                report=report,
                counters=self._counters,
            ).run()

    def _publish_supervisors(self, samples: dict[Key, float]) -> None:
        """Publish the samples of this process, with the name of the node."""
        if self._counters:
            self._counters.publish_supervisors({**samples, ("node_info", self._started.node): 1})

    def _take(self, report: Report, loaded: LoadedConfig) -> None:
        """All workers have these settings."""
        self._expiry.take(loaded)
        if self._relays:
            report.move_to(pid_file_of(loaded))

    def _desk_address(self) -> str | None:
        """Where the desk listens, for people."""
        if not self._desk or not self._started.web:
            return None
        if self._started.web.socket:
            return self._started.web.address
        host, port = sockets.address_of(self._desk.sockets[0])
        bare = f"[{host}]" if ":" in host else host
        scheme = "https" if self._started.web.tls else "http"
        return f"{scheme}://{bare}:{port}{self._started.web.base_path}/"

    def _password_of(self, web: WebSettings, loaded: LoadedConfig) -> str | None:
        """The password that the desk requires; a gateway's has none only on a Unix socket."""
        if web.password_file or web.users or web.socket or not self._relays:
            return web.password
        return desk_password(loaded)

    def _can_take(self, loaded: LoadedConfig) -> LoadedConfig:
        """The settings for successors: what belongs to the supervisor does not change.

        Raises ConfigError: a certificate was replaced by an invalid one.
        """
        check_named_files(loaded)
        _log_as(loaded.config, self._started)  # for this process, and for those that it starts
        _log_warnings(loaded)
        config, started = loaded.config, self._started
        kept = [
            name
            for name in ("user", "group", "node", "pid_file")
            if getattr(config, name) != getattr(started, name)
        ]
        if [one.address for one in config.listen] != [one.address for one in started.listen]:
            kept.append("listen")
        if _place(config.web) != _place(started.web):
            kept.append("web")
        kept_config = config.keeping(started, kept)
        if config.processes != len(self._workers):
            kept.append("workers")
            kept_config = kept_config.model_copy(update={"workers": len(self._workers)})
        for name in kept:
            log.warning("%s has changed: it takes effect at the next start", name)
        return replace(loaded, config=kept_config)

    def _run_child(self, child: Child, supervisor: Supervisor) -> None:
        if child.slot.kind == "worker":
            self._run_worker(child, supervisor)
        elif child.loaded.config.web:
            self._run_desk(child, child.loaded.config.web, supervisor.lifeline)

    def _run_worker(self, child: Child, supervisor: Supervisor) -> None:
        loaded = child.loaded
        with ExitStack() as stack:
            sender = None
            if self._feed and loaded.config.store.conversations:
                sender = feed.Sender(self._feed[0])
                stack.callback(sender.close)
            shown = stack.enter_context(_shown_by(self._follow)) if self._follow else None
            service = Service(
                loaded,
                relays=self._relays,
                tap=fan_out(shown, sender.tap if sender else None),
                sockets=child.slot.sockets,
                share=len(self._workers),
                holds=self._holds,
                node=self._node if self._relays else None,
            )
            run_service(
                service,
                lambda _: supervisor.report_status("listens"),
                reload_from=self._reload_from,
                supervision=Supervision(
                    lifeline=supervisor.lifeline,
                    report=supervisor.report_status,
                    publish=self._publisher(child, sender),
                ),
            )

    def _publisher(
        self, child: Child, sender: feed.Sender | None
    ) -> Callable[[dict[Key, float]], None] | None:
        """Adds a worker's samples to the previous counts of its slot in the shared counters."""
        counters, slot = self._counters, child.counters_slot
        if counters is None or slot is None:
            return None
        before = counters.counted(slot)

        def publish(samples: dict[Key, float]) -> None:
            samples["feed_lines_lost",] = sender.dropped if sender else 0
            for key, value in before.items():
                samples[key] = samples.get(key, 0) + value
            counters.publish(slot, samples)

        return publish

    def _run_desk(self, child: Child, web: WebSettings, lifeline: int) -> None:
        # Imported only here, so that a process that accepts mail does not load them.
        from gatepost.gateway.expected import expected_dispositions  # noqa: PLC0415
        from gatepost.process.desk_settings import DeskSettings  # noqa: PLC0415
        from gatepost.web import Accounts, run  # noqa: PLC0415

        config = child.loaded.config
        accounts = Accounts.of(web, self._password_of(web, child.loaded))
        settings = DeskSettings(child.loaded, self._reload_from, accounts)
        run(
            web,
            config.store,
            child.loaded.base,
            accounts=accounts,
            listener=child.slot.sockets[0],
            counters=self._counters,
            feed=self._feed[1] if self._feed and config.store.conversations else None,
            holds=self._holds,
            hold_at=self._hold_at,
            lifeline=lifeline,
            mode="gateway" if self._relays else "complaints",
            node=self._started.node,
            expected=frozenset(Disposition) if self._relays else expected_dispositions(config),
            actions=settings.actions(web, relays=self._relays),
            upstreams=settings.unreachable if self._relays else None,
            reload=settings.reload if self._reload_from else None,
            tls=partial(tls_context, web.tls) if web.tls else None,
            started_at=self._started_at,
            shutdown_seconds=config.limits.shutdown_time,
            smtp=[f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self._addresses],
        )


def _place(web: WebSettings | None) -> tuple[str, str | None] | None:
    """The settings of the desk's socket."""
    return (web.address, web.socket_group) if web else None


@contextmanager
def _removed_at_the_end(path: Path | None) -> Iterator[None]:
    """Delete a socket's file after the block, in the process that began it."""
    owner = os.getpid()
    try:
        yield
    finally:
        if path and os.getpid() == owner:
            with suppress(OSError):
                path.unlink()


def _bind_socket(web: WebSettings, path: Path) -> socket.socket:
    """The desk's Unix socket, listening; raises OSError with the path in it."""
    bound = sockets.bind_unix(path)
    if web.socket_group:
        try:
            os.chown(path, -1, grp.getgrnam(web.socket_group).gr_gid)
            path.chmod(0o660)
        except OSError as error:
            bound.close()
            path.unlink()
            what = f"cannot give {path} to the group {web.socket_group}: {error.strerror}"
            raise OSError(error.errno, what) from error
    return bound
