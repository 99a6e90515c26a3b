"""RUN MANY: one supervisor, workers that share the listeners' ports (SO_REUSEPORT), and the web desk.

The supervisor takes no mail. It holds the sockets, starts the others, starts another for one that dies,
passes signals on, and ends when all have ended. A worker whose supervisor is gone stops as at SIGTERM. The
desk is a process of its own: whatever happens in it, SMTP goes on.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from gatepost import feed, privileges, sockets
from gatepost.config import LoadedConfig, load
from gatepost.config.settings import Config, WebSettings
from gatepost.events import Tap, Watch, Watchers, fan_out
from gatepost.metrics import Board, Key
from gatepost.server import check_listeners
from gatepost.service import Addresses, Service, Supervision
from gatepost.service import serve as run_service
from gatepost.supervisor import Child, Place, Supervisor

__all__ = ["Follow", "Ready", "serve", "supervise"]

log = logging.getLogger("gatepost")

Follow = Callable[[Watch, Callable[[], bool]], None]
"""Shows the conversation until the callable says stop; runs in a thread of its own."""


class Ready(Protocol):
    """Is called once, when mail is taken."""

    def __call__(self, addresses: Addresses, web: tuple[str, int] | None, /) -> None:
        """Host and port of each listener, and of the web desk where there is one."""


def serve(path: Path, *, ready: Ready) -> None:
    """Run the gateway until SIGTERM or SIGINT, in as many processes as the settings say.

    Args:
        path: rules.yaml; read again at SIGHUP and SIGUSR2.
        ready: called when all workers listen.

    Raises:
        ConfigError, StoreError, OSError: it cannot be started.
        SystemExit: a worker could not, and has said why.
    """
    loaded = load(path)
    check_listeners(loaded)
    supervise(loaded, ready=ready, reload_from=path)


def supervise(
    loaded: LoadedConfig,
    *,
    ready: Ready,
    reload_from: Path | None = None,
    relays: bool = True,
    follow: Follow | None = None,
) -> None:
    """Run until SIGTERM or SIGINT, in this process alone where one will do. Raises as `serve` does.

    Args:
        loaded: the settings.
        ready: called when all workers listen.
        reload_from: rules.yaml, read again at SIGHUP and SIGUSR2.
        relays: False makes no relay object at all, so that no message can leave.
        follow: shows the conversation of each worker.
    """
    config = loaded.config
    _log_warnings(loaded)
    if config.processes > 1 or config.web:
        family = _Family(loaded, reload_from=reload_from, relays=relays, follow=follow)
        _become_user(config)
        family.run(ready)
        return
    bound = None
    if config.user:
        (bound,) = sockets.bind_workers([listener.address for listener in config.listen], 1)
        _become_user(config)
    with ExitStack() as stack:
        tap = stack.enter_context(_shown_by(follow)) if follow else None
        service = Service(loaded, relays=relays, tap=tap, sockets=bound)
        run_service(service, lambda addresses: ready(addresses, None), reload_from=reload_from)


def _log_warnings(loaded: LoadedConfig) -> None:
    for warning in loaded.warnings:
        log.warning("%s", warning)


def _become_user(config: Config) -> None:
    """With the ports bound, and before a filter is loaded, the store opened or anybody listened to."""
    if config.user:
        privileges.become(config.user, config.group)


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


class _Family:
    """The supervised processes: what they share, and what each does."""

    def __init__(
        self, loaded: LoadedConfig, *, reload_from: Path | None, relays: bool, follow: Follow | None
    ) -> None:
        """Bind all addresses; raises OSError for one that is taken."""
        config = loaded.config
        self._started = config
        self._reload_from = reload_from
        self._relays = relays
        self._follow = follow
        self._feed = feed.pair() if config.web else None
        shares = sockets.bind_workers([listener.address for listener in config.listen], config.processes)
        self._workers = [Place(kind="worker", sockets=share, loaded=loaded) for share in shares]
        self._addresses = tuple(map(sockets.address_of, shares[0]))
        self._desk: Place | None = None
        self._board: Board | None = None
        if config.web:
            self._board = Board(2 * config.processes)  # who leaves and who follows
            door = sockets.bind_desk(config.web.address)
            self._desk = Place(kind="desk", sockets=(door,), loaded=loaded)

    def run(self, ready: Ready) -> None:
        """Run all until the end; in a child, that child alone."""
        web = sockets.address_of(self._desk.sockets[0]) if self._desk else None
        Supervisor(
            workers=self._workers,
            desk=self._desk,
            live=self._live,
            listening=lambda: ready(self._addresses, web),
            read=partial(load, self._reload_from) if self._reload_from else None,
            can_take=self._can_take,
            board=self._board,
        ).run()

    def _can_take(self, loaded: LoadedConfig) -> LoadedConfig:
        """The settings for successors: what the supervisor holds stays."""
        check_listeners(loaded)
        _log_warnings(loaded)
        config, started = loaded.config, self._started
        kept: dict[str, Any] = {}
        if (config.user, config.group) != (started.user, started.group):
            kept |= {"user": started.user, "group": started.group}
        if [one.address for one in config.listen] != [one.address for one in started.listen]:
            kept["listen"] = started.listen
        if config.processes != len(self._workers):
            kept["workers"] = len(self._workers)
        if (config.web and config.web.address) != (started.web and started.web.address):
            kept["web"] = started.web
        for name in kept:
            log.warning("%s has changed: it takes effect at the next start", name)
        return replace(loaded, config=config.model_copy(update=kept))

    def _live(self, child: Child, supervisor: Supervisor) -> None:
        if child.place.kind == "worker":
            self._work(child, supervisor)
        elif child.loaded.config.web:
            self._show(child, child.loaded.config.web, supervisor.lifeline)

    def _work(self, child: Child, supervisor: Supervisor) -> None:
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
                sockets=child.place.sockets,
                share=len(self._workers),
            )
            run_service(
                service,
                lambda _: supervisor.say_listens(),
                reload_from=self._reload_from,
                supervision=Supervision(
                    lifeline=supervisor.lifeline,
                    reloaded=supervisor.say_reloaded,
                    publish=self._publisher(child, sender),
                ),
            )

    def _publisher(
        self, child: Child, sender: feed.Sender | None
    ) -> Callable[[dict[Key, float]], None] | None:
        """Puts a worker's samples on the board, on top of what its seat has counted before."""
        board, seat = self._board, child.seat
        if board is None or seat is None:
            return None
        before = board.counted(seat)

        def publish(samples: dict[Key, float]) -> None:
            samples["feed_lines_lost",] = sender.dropped if sender else 0
            for key, value in before.items():
                samples[key] = samples.get(key, 0) + value
            board.publish(seat, samples)

        return publish

    def _show(self, child: Child, web: WebSettings, lifeline: int) -> None:
        # Here alone, so that nothing of it is in a process that takes mail.
        from gatepost.release import release  # noqa: PLC0415
        from gatepost.web import run  # noqa: PLC0415

        config, base = child.loaded.config, child.loaded.base
        run(
            web,
            config.store,
            base,
            listener=child.place.sockets[0],
            board=self._board,
            feed=self._feed[1] if self._feed and config.store.conversations else None,
            lifeline=lifeline,
            mode="gateway" if self._relays else "complaints",
            release=(lambda kept, to: release(config, base, kept, to)) if self._relays else None,
            smtp=[f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self._addresses],
        )
