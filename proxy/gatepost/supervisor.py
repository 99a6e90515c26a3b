"""KEEP ALIVE: processes in their places, started again where they die, replaced one by one at SIGUSR2.

It knows nothing of what they do. A place has the sockets on which its process listens; they are held here
too, so that who connects while the process is gone is served by the next.
"""

import contextlib
import logging
import math
import os
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from gatepost import sockets
from gatepost.config import ConfigError, LoadedConfig
from gatepost.metrics import Board
from gatepost.service import with_new_rules
from gatepost.sockets import Sockets

__all__ = ["Child", "Place", "Supervisor"]

log = logging.getLogger("gatepost")

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2, signal.SIGCHLD)
_NOT_FOR_CHILDREN = (signal.SIGINT, signal.SIGHUP, signal.SIGUSR2)
"""What a terminal or systemd says to all processes at once; who understands one of them takes it later."""
_START_SECONDS = 60.0
"""A successor may take until it listens."""
_KILL_SECONDS = 10.0
"""On top of `Limits.shutdown_time`, for the store to write what is queued."""
_RESTART_SECONDS = 1.0
"""Between two starts in a place, so that what cannot live costs little."""

_LISTENS, _RELOADED = b"L", b"R"
_WORD_OCTETS = 5


@dataclass(slots=True, kw_only=True, eq=False)
class Place:
    """Where one process serves, and for a while its successor beside it."""

    kind: Literal["worker", "desk"]
    sockets: Sockets
    loaded: LoadedConfig
    """What the next process begins with: the settings that the one before it has taken."""
    not_before: float = 0.0
    """By `time.monotonic`."""


@dataclass(slots=True, kw_only=True, eq=False)
class Child:
    """One process."""

    place: Place
    loaded: LoadedConfig
    listens: bool
    """It says that itself; a desk's socket always listens."""
    started_at: float = 0.0
    leaving: bool = False
    """It was told to end."""
    seat: int | None = None
    """Where it publishes its counts; a desk has none."""
    missed_reload: bool = False
    """There were new rules while it was starting."""
    kill_at: float = math.inf


@dataclass(slots=True, kw_only=True)
class _Roll:
    """A restart, place by place."""

    loaded: LoadedConfig
    left: list[Place]
    """Whose workers are still to be replaced."""
    successor: Child | None = None
    """It starts; when it listens its predecessor goes."""


@dataclass(slots=True)
class Supervisor:
    """Runs until SIGTERM or SIGINT; SIGHUP takes new rules, SIGUSR2 replaces all processes."""

    workers: list[Place]
    desk: Place | None
    live: Callable[[Child, "Supervisor"], None]
    """What a child does, in its own process."""
    listening: Callable[[], None]
    """Is called once, when all workers listen."""
    read: Callable[[], LoadedConfig] | None
    """Reads the settings anew; raises ConfigError. None: they cannot change."""
    can_take: Callable[[LoadedConfig], LoadedConfig]
    """The same, but for what cannot change while this runs; raises ConfigError."""
    board: Board | None
    """None: nobody looks at it."""
    lifeline: int = -1
    """A file descriptor for children: it is at its end when this process is gone."""
    _children: dict[int, Child] = field(default_factory=dict)
    _roll: _Roll | None = None
    _reload: LoadedConfig | None = None
    """As read at the last SIGHUP."""
    _said: bool = False
    """All workers have listened, and the operator knows."""
    _stopping: bool = False
    _failure: int = 0
    """The exit status of a worker that could not start at first."""
    _told: int = -1
    _tell: int = -1

    def run(self) -> None:
        """Run until all children have ended; in a child, run that child.

        Raises SystemExit where a worker could not start, and has said why.
        """
        self.lifeline, mine = os.pipe()
        self._told, self._tell = os.pipe()
        os.set_blocking(self._told, False)
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        while self._children or not self._stopping:
            for child in self._due():
                if self._fork(child) == 0:
                    os.close(mine)
                    self._begin(child)
                    self.live(child, self)
                    return
            self._wait()
            self._hear()
            self._bury()
            self._go_on()
        log.info("all workers have ended")
        if self._failure:
            raise SystemExit(self._failure)

    def say_listens(self) -> None:
        """For a worker."""
        self._say(_LISTENS)

    def say_reloaded(self) -> None:
        """For a worker."""
        self._say(_RELOADED)

    def _say(self, word: bytes) -> None:
        os.write(self._tell, os.getpid().to_bytes(_WORD_OCTETS - 1, "big") + word)

    def _places(self) -> list[Place]:
        return [*self.workers, self.desk] if self.desk else self.workers

    def _at(self, place: Place) -> list[Child]:
        return [child for child in self._children.values() if child.place is place]

    def _is_empty(self, place: Place) -> bool:
        # One desk at a time: it owns a file. A worker may start while its predecessor finishes.
        return all(child.leaving and place is not self.desk for child in self._at(place))

    def _all_listen(self) -> bool:
        return not any(self._is_empty(place) for place in self.workers) and all(
            child.listens for child in self._children.values()
        )

    def _due(self) -> list[Child]:
        """Whom to start now."""
        if self._stopping:
            return []
        successor = self._successor()
        now = time.monotonic()
        empty = [place for place in self._places() if self._is_empty(place) and now >= place.not_before]
        if successor:
            empty = [place for place in empty if place is not successor.place]
        if not self._said:  # the first worker alone, so that what is wrong is said once
            listening = [child.listens for child in self._children.values()]
            empty = [place for place in empty if place is not self.desk] if all(listening) else []
            empty = empty if listening else empty[:1]
        due = [Child(place=place, loaded=place.loaded, listens=place is self.desk) for place in empty]
        return [*due, successor] if successor else due

    def _successor(self) -> Child | None:
        """Who is next in a restart."""
        roll = self._roll
        if not roll or roll.successor or not roll.left:
            return None
        if any(child.leaving for child in self._at(roll.left[0])):  # one process more at most
            return None
        roll.successor = Child(place=roll.left.pop(0), loaded=roll.loaded, listens=False)
        roll.successor.kill_at = time.monotonic() + _START_SECONDS
        return roll.successor

    def _fork(self, child: Child) -> int:
        """Start it; 0 in the child."""
        child.started_at = time.monotonic()
        if self.board and child.place is not self.desk:
            child.seat = self.board.take()
            if self._said:
                self.board.count_restart(
                    "replaced" if self._roll and self._roll.successor is child else "died"
                )
        try:
            process = os.fork()
        except OSError as error:
            log.error("no process can be started: %s", error.strerror)  # noqa: TRY400 - its text says it all
            self._give_place_up(child)
            return -1
        if process:
            self._children[process] = child
        return process

    def _give_place_up(self, child: Child) -> None:
        """It has ended, or never was: another one may begin there, but not at once."""
        child.place.not_before = max(child.place.not_before, child.started_at + _RESTART_SECONDS)
        if self.board and child.seat is not None:
            self.board.leave(child.seat)
        if self._roll and self._roll.successor is child:
            self._roll = None
            log.error("the restart stops here, the workers that are left go on as they are")

    def _begin(self, child: Child) -> None:
        """In a new child: let go of what is not its own."""
        for place in self._places():
            if place is not child.place:
                sockets.close(place.sockets)
        for number in _NOT_FOR_CHILDREN:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

    def _wait(self) -> None:
        """Wait for a signal, for a short time; act upon it."""
        found = signal.sigtimedwait(_SIGNALS, 5.0 if self._is_settled() else 0.05 if self._said else 0.01)
        match found.si_signo if found else None:
            case signal.SIGTERM | signal.SIGINT:
                self._stop()
            case signal.SIGHUP:
                self._take_rules()
            case signal.SIGUSR2:
                self._replace_all()
            case _:
                pass
        now = time.monotonic()
        for process, child in self._children.items():
            if now >= child.kill_at:
                what = "end" if child.leaving else "start"
                log.error("%s %d does not %s and is killed", child.place.kind, process, what)
                self._kill(process, child)

    def _is_settled(self) -> bool:
        """True where only a signal can bring something to do."""
        return (
            not any(self._is_empty(place) for place in self._places())
            and all(child.listens and not child.leaving for child in self._children.values())
            and not self._roll
        )

    def _hear(self) -> None:
        """Which workers listen now, and which have taken new rules."""
        try:
            heard = os.read(self._told, 4096 * _WORD_OCTETS)
        except BlockingIOError:
            return
        for start in range(0, len(heard), _WORD_OCTETS):
            process, word = int.from_bytes(heard[start : start + 4], "big"), heard[start + 4 : start + 5]
            child = self._children.get(process)
            if child and word == _LISTENS:
                child.listens = True
                child.place.loaded = child.loaded
                if not child.leaving:
                    child.kill_at = math.inf
                if child.missed_reload:
                    os.kill(process, signal.SIGHUP)
            elif child and self._reload and not child.leaving:
                child.place.loaded = with_new_rules(child.loaded, self._reload)
        if not self._said and self._all_listen():
            self._said = True
            self.listening()

    def _bury(self) -> None:
        """Take the ended children off the list."""
        while self._children:
            process, status = os.waitpid(-1, os.WNOHANG)
            if not process:
                return
            self._mourn(process, self._children.pop(process), os.waitstatus_to_exitcode(status))

    def _mourn(self, process: int, child: Child, code: int) -> None:
        """What follows from the end of a child."""
        expected = self._stopping or child.leaving
        if not expected and not self._said and code > 0:  # it has said why
            self._failure = code
            self._stop()
            return
        place = child.place
        is_empty = self._is_empty(place)
        if not expected:
            follows = "; another one takes its place" if is_empty else ""
            log.error("%s %d has ended with %s%s", place.kind, process, _ending(code), follows)
            if is_empty and not child.listens:  # nobody knows when one will
                with contextlib.suppress(OSError):  # then clients wait
                    place.sockets = sockets.bind_again(place.sockets)
        self._give_place_up(child)

    def _take_rules(self) -> None:
        """Tell the workers; a successor begins with what its predecessor has taken."""
        if not self.read:
            self._stop()  # the terminal is gone
            return
        with contextlib.suppress(ConfigError):  # the workers say it
            self._reload = self.read()
        for process, child in self._children.items():
            if child.place is self.desk:
                continue
            if child.listens:
                os.kill(process, signal.SIGHUP)
            else:
                child.missed_reload = True

    def _replace_all(self) -> None:
        """Begin to replace all processes."""
        if self._roll or not self._said or self._stopping:
            log.warning("no restart now: workers are being started or stopped")
            return
        try:
            loaded = self.can_take(self.read() if self.read else self.workers[0].loaded)
        except ConfigError as error:
            log.error("not restarted, all stays as it is:\n%s", error)  # noqa: TRY400 - its text says it all
            return
        log.info("restarting the workers one by one")
        self._roll = _Roll(loaded=loaded, left=[*self.workers])

    def _go_on(self) -> None:
        """Go on with the replacement, as far as it can go now."""
        roll = self._roll
        if not roll or (roll.successor and not roll.successor.listens):
            return
        if roll.successor:
            self._dismiss(
                process
                for process, child in self._children.items()
                if child.place is roll.successor.place and child is not roll.successor
            )
            roll.successor = None
        if not roll.left:
            self._roll = None
            if self.desk:
                self.desk.loaded = roll.loaded
                self._dismiss(p for p, child in self._children.items() if child.place is self.desk)
            log.info("all workers have been replaced")

    def _stop(self) -> None:
        """Nobody is let in any more, and all end; who is told a second time does not wait."""
        if self._stopping:
            for process, child in self._children.items():
                self._kill(process, child)
            return
        self._stopping = True
        for place in self._places():
            sockets.close(place.sockets)
        self._dismiss(self._children)

    def _dismiss(self, processes: Iterable[int]) -> None:
        """Tell children to end, if they have not been told."""
        for process in processes:
            child = self._children[process]
            if not child.leaving:
                child.leaving = True
                grace = child.loaded.config.limits.shutdown_time
                child.kill_at = time.monotonic() + grace + _KILL_SECONDS
                os.kill(process, signal.SIGTERM)

    def _kill(self, process: int, child: Child) -> None:
        child.kill_at = math.inf
        os.kill(process, signal.SIGKILL)


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"status {code}"
