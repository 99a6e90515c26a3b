"""RUN MANY: one supervisor, several processes that share the listeners' ports (SO_REUSEPORT).

The supervisor takes no mail. It starts the workers, starts another for one that dies, passes signals
on, and ends when all have ended. A worker whose supervisor is gone stops as at SIGTERM.
"""

import logging
import os
import signal
import socket
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from proxy.config import LoadedConfig, load
from proxy.config.settings import ListenerSettings
from proxy.server import check_listeners
from proxy.service import Addresses, Ready, Service
from proxy.service import serve as run_service

__all__ = ["serve"]

log = logging.getLogger("gatepost")

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
_RESTART_SECONDS = 1.0
"""A worker is replaced no sooner than this after its start, so that one that cannot live costs little."""


def serve(path: Path, *, ready: Ready) -> None:
    """Run the gateway until SIGTERM or SIGINT, in as many processes as the settings say.

    Args:
        path: rules.yaml; read again at SIGHUP.
        ready: called with host and port of each listener when all workers listen.

    Raises:
        ConfigError, StoreError, OSError: it cannot be started.
        SystemExit: a worker could not, and has said why.
    """
    loaded = load(path)
    check_listeners(loaded)
    count = loaded.config.processes
    if count == 1:
        run_service(Service(loaded), ready, reload_from=path)
    else:
        _Supervisor(path, loaded, count).run(ready)


@dataclass(slots=True)
class _Worker:
    started_at: float
    listens: bool = False


@dataclass(slots=True)
class _Supervisor:
    path: Path
    loaded: LoadedConfig
    count: int
    workers: dict[int, _Worker] = field(default_factory=dict)
    stopping: bool = False

    def run(self, ready: Ready) -> None:
        """Run until all workers have ended; in a worker, run that worker."""
        with ExitStack() as held:
            listeners, addresses = _reserve(self.loaded.config.listen, held)
            lifeline, mine = os.pipe()  # a worker reads its end when the supervisor is gone
            told, tell = os.pipe()
            os.set_blocking(told, False)
            signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
            said = False
            while not self.stopping or self.workers:
                missing = 0 if self.stopping else self._missing()
                for _ in range(missing):
                    if self._start() == 0:
                        os.close(mine)
                        self._work(listeners, lifeline, tell)
                        return
                self._wait()
                self._hear(told)
                if self._all_listen() and not said:
                    ready(addresses)
                    said = True
            log.info("all workers have ended")

    def _all_listen(self) -> bool:
        return len(self.workers) == self.count and all(worker.listens for worker in self.workers.values())

    def _missing(self) -> int:
        """How many workers to start now: the first one alone, so that what is wrong is said once."""
        if any(not worker.listens for worker in self.workers.values()):
            return 0
        return 1 if not self.workers else self.count - len(self.workers)

    def _start(self) -> int:
        """Fork; 0 in the worker."""
        process = os.fork()
        if process:
            self.workers[process] = _Worker(time.monotonic())
        return process

    def _work(self, listeners: tuple[ListenerSettings, ...], lifeline: int, tell: int) -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        worker = Service(self.loaded, listeners=listeners, share=self.count)

        def ready(_: Addresses) -> None:
            os.write(tell, os.getpid().to_bytes(4, "big"))

        run_service(worker, ready, reload_from=self.path, lifeline=lifeline)

    def _hear(self, told: int) -> None:
        """Which workers listen now."""
        try:
            heard = os.read(told, 4096)
        except BlockingIOError:
            return
        for start in range(0, len(heard), 4):
            if worker := self.workers.get(int.from_bytes(heard[start : start + 4], "big")):
                worker.listens = True

    def _wait(self) -> None:
        """Wait for a signal, for a short time; act upon it."""
        found = signal.sigtimedwait(_SIGNALS, 5.0 if self._all_listen() else 0.05)
        match found.si_signo if found else None:
            case signal.SIGTERM | signal.SIGINT:
                self.stopping = True
                self._pass_on(signal.SIGTERM)
            case signal.SIGHUP:
                self._pass_on(signal.SIGHUP)
            case _:
                pass
        self._bury()

    def _pass_on(self, number: int) -> None:
        for process in self.workers:
            os.kill(process, number)

    def _bury(self) -> None:
        """Take the ended workers off the list."""
        while self.workers:
            process, status = os.waitpid(-1, os.WNOHANG)
            if not process:
                return
            worker = self.workers.pop(process)
            if self.stopping:
                continue
            code = os.waitstatus_to_exitcode(status)
            if not worker.listens and code > 0:  # it has said why
                self.stopping = True
                self._pass_on(signal.SIGTERM)
                raise SystemExit(code)
            log.error("worker %d has ended with %s; another one takes its place", process, _ending(code))
            time.sleep(max(0.0, worker.started_at + _RESTART_SECONDS - time.monotonic()))


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"status {code}"


def _reserve(
    listeners: tuple[ListenerSettings, ...], held: ExitStack
) -> tuple[tuple[ListenerSettings, ...], Addresses]:
    """Bind each address without listening: port 0 becomes a number, and a taken one is said at once."""
    resolved = []
    addresses = []
    for listener in listeners:
        host, _, port = listener.address.rpartition(":")
        host = host.strip("[]")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_STREAM) as trial:
                # Without SO_REUSEPORT it fails where another gateway's workers listen.
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                trial.bind((host, int(port)))
            reserved = held.enter_context(socket.socket(family, socket.SOCK_STREAM))
            reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            reserved.bind((host, int(port)))
        except OSError as error:
            raise OSError(error.errno, f"cannot listen on {listener.address}: {error.strerror}") from None
        bound = reserved.getsockname()[:2]
        addresses.append(bound)
        resolved.append(
            listener.model_copy(update={"address": f"{listener.address.rpartition(':')[0]}:{bound[1]}"})
        )
    return tuple(resolved), tuple(addresses)
