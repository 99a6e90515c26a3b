"""The supervisor: starts processes in slots, restarts those that die, replaces them one by one at SIGUSR2.

It does not know what the processes do. A slot has the sockets on which its process listens. The supervisor
has them open too, so that the next process serves clients that connect while there is none.
"""

import contextlib
import logging
import math
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from gatepost.config import ConfigError, LoadedConfig
from gatepost.metrics import SharedCounters
from gatepost.process import sockets
from gatepost.process.children import Child, Children, Roll, RulesReload, WorkerSlot
from gatepost.process.left_behind import end_session
from gatepost.process.report import Report
from gatepost.process.service import with_new_rules
from gatepost.process.status_pipe import Status, StatusPipe

__all__ = ["Supervisor"]

log = logging.getLogger("gatepost")

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2, signal.SIGCHLD)
_NOT_FOR_CHILDREN = (signal.SIGINT, signal.SIGHUP, signal.SIGUSR2)
"""Signals that a terminal or systemd sends to all processes at once; children unblock those they handle."""
_START_SECONDS = 60.0
"""Time for a successor until it listens."""
_RESTART_SECONDS = 1.0
"""Time between two starts in a slot, so that a process that always dies costs little."""

_RELOAD_SECONDS = 10.0
"""In addition to `Limits.reload_time`, for a worker to answer whether it has loaded new rules."""


@dataclass(slots=True)
class Supervisor:
    """Runs until SIGTERM or SIGINT; SIGHUP takes new rules, SIGUSR2 replaces all processes."""

    workers: list[WorkerSlot]
    desk: WorkerSlot | None
    run_child: Callable[[Child, "Supervisor"], None]
    """Runs a child, in its own process."""
    listening: Callable[[], None]
    """Called once, when all workers listen."""
    read: Callable[[], LoadedConfig] | None
    """Reads and checks the settings again; raises ConfigError. None: they cannot change."""
    can_take: Callable[[LoadedConfig], LoadedConfig]
    """The same without settings that cannot change while this runs."""
    taken: Callable[[LoadedConfig], None]
    """Called with the settings that all workers have now."""
    each_turn: Callable[[], None]
    """Called every few seconds."""
    report: Report
    """Tells the operator and systemd what this does."""
    counters: SharedCounters | None
    """None: no counters."""
    lifeline: int = -1
    """A file descriptor for children: at end of file when this process has ended."""
    _children: Children = field(default_factory=Children)
    _roll: Roll | None = None
    _reload: RulesReload | None = None
    _asked: set[int] = field(default_factory=set)
    """SIGHUP and SIGUSR2, if they arrived while something else was done."""
    _announced: bool = False
    """All workers listen, and the operator was informed."""
    _stopping: bool = False
    _failure: int = 0
    """The exit status of a worker that could not start at first."""
    _statuses: StatusPipe = field(default_factory=StatusPipe)

    def run(self) -> None:
        """Run until all children have ended; in a child, run that child.

        Raises SystemExit if a worker could not start; the worker has logged the reason.
        """
        self.lifeline, mine = os.pipe()
        # SIGHUP and SIGUSR2 are blocked since the program began: those that arrived are still pending.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        while self._children or not self._stopping:
            for child in self._due():
                if self._fork(child) == 0:
                    os.close(mine)
                    self._begin(child)
                    self.run_child(child, self)
                    return
            self._wait()
            self._read_statuses()
            self._reap()
            self._go_on()
            self.each_turn()
        if self._failure:
            raise SystemExit(self._failure)
        log.info("all workers have ended")

    def report_status(self, status: Status) -> None:
        """For a child: tell the supervisor."""
        self._statuses.send(status)

    def _slots(self) -> list[WorkerSlot]:
        return [*self.workers, self.desk] if self.desk else self.workers

    def _is_empty(self, slot: WorkerSlot) -> bool:
        # One desk at a time: it owns a file. A worker may start while its predecessor finishes.
        return all(child.leaving and slot is not self.desk for child in self._children.at(slot))

    def _all_listen(self) -> bool:
        return not any(self._is_empty(slot) for slot in self.workers) and all(
            child.listens for child in self._children.values()
        )

    def _due(self) -> list[Child]:
        """The processes to start now."""
        if self._stopping:
            return []
        successor = self._successor()
        now = time.monotonic()
        empty = [slot for slot in self._slots() if self._is_empty(slot) and now >= slot.not_before]
        if successor:
            empty = [slot for slot in empty if slot is not successor.slot]
        if not self._announced:  # the first worker alone, so that an error is reported once
            listening = [child.listens for child in self._children.values()]
            empty = [slot for slot in empty if slot is not self.desk] if all(listening) else []
            empty = empty if listening else empty[:1]
        due = [Child(slot=slot, loaded=slot.loaded, listens=slot is self.desk) for slot in empty]
        return [*due, successor] if successor else due

    def _successor(self) -> Child | None:
        """The next slot of a roll."""
        roll = self._roll
        if not roll or roll.successor or not roll.left:
            return None
        if any(child.leaving for child in self._children.at(roll.left[0])):  # at most one extra process
            return None
        roll.successor = Child(slot=roll.left.pop(0), loaded=roll.loaded, listens=False)
        roll.successor.kill_at = time.monotonic() + _START_SECONDS
        return roll.successor

    def _fork(self, child: Child) -> int:
        """Fork a process; returns 0 in the child."""
        child.started_at = time.monotonic()
        if self.counters and child.slot is not self.desk:
            child.counters_slot = self.counters.take()
            if self._announced:
                self.counters.count_restart(
                    "replaced" if self._roll and self._roll.successor is child else "died"
                )
        try:
            process = os.fork()
        except OSError as error:
            log.error("cannot start a process: %s", error.strerror)  # noqa: TRY400 - its text says it all
            self._free_slot(child)
            return -1
        if process:
            self._children[process] = child
        return process

    def _free_slot(self, child: Child) -> None:
        """Free the slot of a process that has ended or could not start; the next may start there later."""
        child.slot.not_before = max(child.slot.not_before, child.started_at + _RESTART_SECONDS)
        if self.counters and child.counters_slot is not None:
            self.counters.leave(child.counters_slot)
        if self._roll and self._roll.successor is child:
            self._roll = None
            failure = "the restart stops here; the remaining workers continue unchanged"
            log.error(failure)
            self.report.ended("replace", failure, succeeded=False)

    def _begin(self, child: Child) -> None:
        """In a new child: close what belongs to other processes, and lead a session of its own."""
        os.setsid()
        for slot in self._slots():
            if slot is not child.slot:
                sockets.close(slot.sockets)
        for number in _NOT_FOR_CHILDREN:
            signal.signal(number, signal.SIG_IGN)
        # A desk that is asked to end while it starts still reports to the webhook: it unblocks SIGTERM.
        held_back = {signal.SIGTERM} if child.slot is self.desk else set()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {*_SIGNALS} - held_back)

    def _wait(self) -> None:
        """Wait briefly for a signal and handle it."""
        found = signal.sigtimedwait(
            _SIGNALS, 5.0 if self._is_settled() else 0.05 if self._announced else 0.01
        )
        match found.si_signo if found else None:
            case signal.SIGTERM | signal.SIGINT:
                self._stop()
            case signal.SIGHUP if not self.read:
                self._stop()  # the terminal is gone
            case signal.SIGHUP | signal.SIGUSR2 as number:
                self._asked.add(number)
            case _:
                pass
        self._children.kill_overdue()

    def _is_settled(self) -> bool:
        """True if there is nothing to do until a signal arrives."""
        return (
            not any(self._is_empty(slot) for slot in self._slots())
            and all(child.listens and not child.leaving for child in self._children.values())
            and not self._roll
            and not self._reload
            and not self._asked
        )

    def _read_statuses(self) -> None:
        """Read which workers listen now, and which have loaded new rules."""
        for process, status in self._statuses.received():
            child = self._children.get(process)
            if child and status == "listens":
                child.listens = True
                child.slot.loaded = child.loaded
                if not child.leaving:
                    child.kill_at = math.inf
            elif child and self._reload and not child.leaving:
                self._reload.answered.add(process)
                if status == "reloaded":
                    child.slot.loaded = with_new_rules(child.loaded, self._reload.loaded)
                else:
                    self._reload.failed = True
        if not self._announced and self._all_listen():
            self._announced = True
            self.listening()
            self.report.ready()

    def _reap(self) -> None:
        """Reap the children that have ended, and orphans: the first process of a container gets them all."""
        while self._children:
            process, status = os.waitpid(-1, os.WNOHANG)
            if not process:
                return
            self._read_statuses()  # what it has said before its end
            if child := self._children.pop(process, None):
                self._note_end(process, child, os.waitstatus_to_exitcode(status))

    def _note_end(self, process: int, child: Child, code: int) -> None:
        """Handle the end of a child."""
        if code:  # its filters could not end what they had started
            end_session(process)
        expected = self._stopping or child.leaving
        if not expected and not self._announced and code > 0:  # it has logged the reason
            self._failure = code
            self._stop()
            return
        slot = child.slot
        is_empty = self._is_empty(slot)
        if not expected:
            if is_empty and not child.listens:  # nobody knows when one will
                with contextlib.suppress(OSError):  # then clients wait
                    slot.sockets = sockets.bind_again(slot.sockets)
            follows = "; starting another one" if is_empty else ""
            log.error("%s %d has ended with %s%s", slot.kind, process, _ending(code), follows)
        self._free_slot(child)

    def _go_on(self) -> None:
        """Continue what is being done, or begin what was asked for; one thing at a time."""
        if self._reload:
            self._continue_reload(self._reload)
        elif self._roll:
            self._continue_roll(self._roll)
        elif self._announced and self._asked and not self._stopping:
            if signal.SIGHUP in self._asked:
                self._asked.remove(signal.SIGHUP)
                self._begin_reload()
            else:
                self._asked.remove(signal.SIGUSR2)
                self._begin_roll()

    def _begin_reload(self) -> None:
        """Have all workers load new rules."""
        self.report.begins("reload")
        try:
            loaded = self.read() if self.read else self.workers[0].loaded
        except ConfigError as error:
            log.error("not reloaded, the old rules stay in force:\n%s", error)  # noqa: TRY400 - its text says it all
            self.report.ended("reload", str(error), succeeded=False)
            return
        patience = max(slot.loaded.config.limits.reload_time for slot in self.workers)
        until = time.monotonic() + patience + _RELOAD_SECONDS
        self._reload = RulesReload(loaded=loaded, give_up_at=until, asked=set(), answered=set())
        self._continue_reload(self._reload)

    def _continue_reload(self, reload: RulesReload) -> None:
        """Ask workers as soon as they listen; a worker that was started meanwhile is asked too."""
        workers = {
            process: child
            for process, child in self._children.items()
            if child.slot is not self.desk and not child.leaving
        }
        for process, child in workers.items():
            if child.listens and process not in reload.asked:
                reload.asked.add(process)
                os.kill(process, signal.SIGHUP)
        late = not workers.keys() <= reload.answered
        if late and time.monotonic() < reload.give_up_at and not self._stopping:
            return
        self._reload = None
        if late or reload.failed:
            failure = "not every worker has loaded the new rules: the log says why"
            if not self._stopping:
                log.error(failure)
            self.report.ended("reload", failure, succeeded=False)
            return
        for slot in self._slots():
            slot.loaded = with_new_rules(slot.loaded, reload.loaded)
        for process, child in self._children.items():
            if child.slot is self.desk and not child.leaving:
                os.kill(process, signal.SIGHUP)
        self.taken(self.workers[0].loaded)
        self.report.ended("reload", "reloaded", succeeded=True)

    def _begin_roll(self) -> None:
        """Start to replace all processes."""
        self.report.begins("replace")
        try:
            loaded = self.can_take(self.read() if self.read else self.workers[0].loaded)
        except ConfigError as error:
            log.error("not restarted, nothing changes:\n%s", error)  # noqa: TRY400 - its text says it all
            self.report.ended("replace", str(error), succeeded=False)
            return
        log.info("restarting the workers one by one")
        self._roll = Roll(loaded=loaded, left=[*self.workers])

    def _continue_roll(self, roll: Roll) -> None:
        """Continue the roll as far as possible now."""
        if roll.successor and not roll.successor.listens:
            return
        if roll.successor:
            successor, roll.successor = roll.successor, None
            self._children.dismiss(lambda child: child.slot is successor.slot and child is not successor)
        if not roll.left:
            self._roll = None
            if self.desk:
                self.desk.loaded = roll.loaded
                self._children.dismiss(lambda child: child.slot is self.desk)
            self.taken(roll.loaded)
            done = "all workers have been replaced"
            log.info(done)
            self.report.ended("replace", done, succeeded=True)

    def _stop(self) -> None:
        """Refuse new clients and stop all processes; at a second signal they stop without waiting."""
        if self._stopping:
            self._children.kill()
            return
        self._stopping = True
        self.report.stopping()
        if self.counters:
            self.counters.stop()
        for slot in self._slots():
            sockets.close(slot.sockets)
        self._children.dismiss()


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"status {code}"
