"""RUN MANY: one supervisor, workers that share the listeners' ports (SO_REUSEPORT), and the web desk.

The supervisor takes no mail. It starts the others, starts another for one that dies, passes signals on, and
ends when all have ended. A worker whose supervisor is gone stops as at SIGTERM. The desk is a process of its
own: whatever happens in it, SMTP goes on.
"""

import logging
import math
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from proxy import feed
from proxy.config import LoadedConfig, load
from proxy.config.settings import ListenerSettings, WebSettings
from proxy.events import Tap, Watch, Watchers, fan_out
from proxy.server import check_listeners
from proxy.service import Addresses, Service
from proxy.service import serve as run_service

__all__ = ["Follow", "Ready", "serve", "supervise"]

log = logging.getLogger("gatepost")

Follow = Callable[[Watch, Callable[[], bool]], None]
"""Shows the conversation until the callable says stop; runs in a thread of its own."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
_KILL_SECONDS = 10.0
"""On top of `Limits.shutdown_time`, for the store to write what is queued."""
_RESTART_SECONDS = 1.0
"""After an end that nobody wanted, so that what cannot live costs little."""


class Ready(Protocol):
    """Is called once, when mail is taken."""

    def __call__(self, addresses: Addresses, web: tuple[str, int] | None, /) -> None:
        """Host and port of each listener, and of the web desk where there is one."""


def serve(path: Path, *, ready: Ready) -> None:
    """Run the gateway until SIGTERM or SIGINT, in as many processes as the settings say.

    Args:
        path: rules.yaml; read again at SIGHUP.
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
        reload_from: rules.yaml, read again at SIGHUP.
        relays: False makes no relay object at all, so that no message can leave.
        follow: shows the conversation of each worker.
    """
    config = loaded.config
    if config.processes > 1 or config.web:
        _Supervisor(loaded, config.processes, reload_from, relays, follow).run(ready)
        return
    with _listening_in(follow, None) as tap:
        service = Service(loaded, relays=relays, tap=tap)
        run_service(service, lambda addresses: ready(addresses, None), reload_from=reload_from)


@contextmanager
def _listening_in(follow: Follow | None, sending: socket.socket | None) -> Iterator[Tap | None]:
    """What hears the conversation, for a process that takes mail."""
    with ExitStack() as stack:
        shown = sent = None
        if follow:
            shown = stack.enter_context(_shown_by(follow))
        if sending:
            sender = feed.Sender(sending)
            stack.callback(sender.close)
            sent = sender.tap
        yield fan_out(shown, sent)


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


_Kind = Literal["worker", "desk"]


@dataclass(slots=True)
class _Child:
    kind: _Kind
    listens: bool = False


@dataclass(slots=True)
class _Supervisor:
    loaded: LoadedConfig
    count: int
    reload_from: Path | None
    relays: bool
    follow: Follow | None
    children: dict[int, _Child] = field(default_factory=dict)
    not_before: dict[_Kind, float] = field(default_factory=dict)
    said: bool = False
    """All workers have listened, and the operator knows."""
    stopping: bool = False
    kill_at: float = math.inf
    """Who has not ended by then is killed; it has had its grace period and more."""
    failure: int = 0
    """The exit status of a worker that could not start at first."""

    def run(self, ready: Ready) -> None:
        """Run until all children have ended; in a child, run that child."""
        config = self.loaded.config
        with ExitStack() as held:
            listeners, addresses = _reserve(config.listen, held)
            door = held.enter_context(_bound(config.web.address)) if config.web else None
            ends = feed.pair() if config.web and config.store.conversations else None
            lifeline, mine = os.pipe()  # a child reads its end when the supervisor is gone
            told, tell = os.pipe()
            os.set_blocking(told, False)
            signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
            while self.children or not self.stopping:
                for kind in self._missing():
                    if self._start(kind) == 0:
                        os.close(mine)
                        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
                        if kind == "worker":
                            self._work(listeners, lifeline, tell, ends[0] if ends else None)
                        elif config.web and door:
                            self._show(config.web, door, lifeline, addresses, ends[1] if ends else None)
                        return
                self._wait()
                self._hear(told)
                if not self.said and self._all_listen():
                    self.said = True
                    ready(addresses, door.getsockname()[:2] if door else None)
            log.info("all workers have ended")
        if self.failure:
            raise SystemExit(self.failure)

    def _workers(self) -> list[_Child]:
        return [child for child in self.children.values() if child.kind == "worker"]

    def _all_listen(self) -> bool:
        workers = self._workers()
        return len(workers) == self.count and all(worker.listens for worker in workers)

    def _missing(self) -> list[_Kind]:
        """What to start now: the first worker alone, so that what is wrong is said once; then the desk."""
        if self.stopping:
            return []
        now = time.monotonic()
        workers = self._workers()
        missing: list[_Kind] = []
        if now >= self.not_before.get("worker", now) and all(worker.listens for worker in workers):
            missing += ["worker"] * (self.count - len(workers) if workers else 1)
        has_desk = any(child.kind == "desk" for child in self.children.values())
        if self.loaded.config.web and self.said and not has_desk and now >= self.not_before.get("desk", now):
            missing.append("desk")
        return missing

    def _start(self, kind: _Kind) -> int:
        """Fork; 0 in the child."""
        process = os.fork()
        if process:
            self.children[process] = _Child(kind)
        return process

    def _work(
        self,
        listeners: tuple[ListenerSettings, ...],
        lifeline: int,
        tell: int,
        sending: socket.socket | None,
    ) -> None:
        def ready(_: Addresses) -> None:
            os.write(tell, os.getpid().to_bytes(4, "big"))

        with _listening_in(self.follow, sending) as tap:
            service = Service(self.loaded, relays=self.relays, tap=tap, listeners=listeners, share=self.count)
            run_service(service, ready, reload_from=self.reload_from, lifeline=lifeline)

    def _show(
        self,
        web: WebSettings,
        door: socket.socket,
        lifeline: int,
        addresses: Addresses,
        receiving: socket.socket | None,
    ) -> None:
        # Here alone, so that nothing of it is in a process that takes mail.
        from proxy.release import release  # noqa: PLC0415
        from proxy.web import run  # noqa: PLC0415

        config, base = self.loaded.config, self.loaded.base
        run(
            web,
            config.store,
            base,
            listener=door,
            feed=receiving,
            lifeline=lifeline,
            mode="gateway" if self.relays else "complaints",
            release=(lambda kept, to: release(config, base, kept, to)) if self.relays else None,
            smtp=[f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in addresses],
        )

    def _hear(self, told: int) -> None:
        """Which workers listen now."""
        try:
            heard = os.read(told, 4096)
        except BlockingIOError:
            return
        for start in range(0, len(heard), 4):
            if worker := self.children.get(int.from_bytes(heard[start : start + 4], "big")):
                worker.listens = True

    def _wait(self) -> None:
        """Wait for a signal, for a short time; act upon it."""
        settled = self._all_listen() and not self._is_waiting_to_restart()
        found = signal.sigtimedwait(_SIGNALS, 5.0 if settled else 0.05)
        match found.si_signo if found else None:
            case signal.SIGTERM | signal.SIGINT:
                self._stop()
            case signal.SIGHUP:
                for process, child in self.children.items():
                    if child.kind == "worker":
                        os.kill(process, signal.SIGHUP)
            case _:
                pass
        if time.monotonic() >= self.kill_at:
            for process, child in self.children.items():
                log.error("%s %d does not end and is killed", child.kind, process)
                os.kill(process, signal.SIGKILL)
        self._bury()

    def _is_waiting_to_restart(self) -> bool:
        return any(time.monotonic() < moment + 1 for moment in self.not_before.values())

    def _stop(self) -> None:
        self.stopping = True
        self.kill_at = time.monotonic() + self.loaded.config.limits.shutdown_time + _KILL_SECONDS
        for process in self.children:
            os.kill(process, signal.SIGTERM)

    def _bury(self) -> None:
        """Take the ended children off the list."""
        while self.children:
            process, status = os.waitpid(-1, os.WNOHANG)
            if not process:
                return
            child = self.children.pop(process)
            if self.stopping:
                continue
            code = os.waitstatus_to_exitcode(status)
            if not self.said and code > 0:  # it has said why
                self.failure = code
                self._stop()
                continue
            log.error(
                "%s %d has ended with %s; another one takes its place", child.kind, process, _ending(code)
            )
            self.not_before[child.kind] = time.monotonic() + _RESTART_SECONDS


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"status {code}"


def _reserve(
    listeners: tuple[ListenerSettings, ...], held: ExitStack
) -> tuple[tuple[ListenerSettings, ...], Addresses]:
    """Bind each address without listening: port 0 becomes a number, and a taken one is said at once."""
    resolved = []
    addresses = []
    for listener in listeners:
        host, port, family = _parsed(listener.address)
        try:
            with socket.socket(family, socket.SOCK_STREAM) as trial:
                # Without SO_REUSEPORT it fails where another gateway's workers listen.
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                trial.bind((host, port))
            reserved = held.enter_context(socket.socket(family, socket.SOCK_STREAM))
            reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            reserved.bind((host, port))
        except OSError as error:
            raise _taken(listener.address, error) from None
        bound = reserved.getsockname()[:2]
        addresses.append(bound)
        resolved.append(
            listener.model_copy(update={"address": f"{listener.address.rpartition(':')[0]}:{bound[1]}"})
        )
    return tuple(resolved), tuple(addresses)


def _parsed(address: str) -> tuple[str, int, socket.AddressFamily]:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    return host, int(port), socket.AF_INET6 if ":" in host else socket.AF_INET


def _taken(address: str, error: OSError) -> OSError:
    return OSError(error.errno, f"cannot listen on {address}: {error.strerror}")


def _bound(address: str) -> socket.socket:
    """The desk's socket; it listens already, so that a desk that is started again has missed nobody."""
    host, port, family = _parsed(address)
    door = socket.socket(family, socket.SOCK_STREAM)
    try:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind((host, port))
        door.listen()
    except OSError as error:
        door.close()
        raise _taken(address, error) from None
    return door
