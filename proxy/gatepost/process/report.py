"""What a supervisor reports: to systemd, and in the PID file to ``gatepost reload``."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gatepost.process.pid_file import Operation, PidFile
from gatepost.process.systemd import Systemd

__all__ = ["Report"]

log = logging.getLogger("gatepost")


class Report:
    """Where the start, reloads and the stop are reported, if anywhere."""

    def __init__(self, systemd: Systemd | None, settings: Path | None) -> None:
        self._systemd = systemd
        self._settings = settings
        self._path: Path | None = None
        self._pid_file: PidFile | None = None
        self._trouble = ""
        """Why there is no PID file."""

    @classmethod
    @contextmanager
    def opened(cls, pid_file: Path | None, settings: Path | None) -> Iterator["Report"]:
        """A report for the block. If there is an error with the PID file, the gateway runs without one.

        Args:
            pid_file: its path; None for none.
            settings: the file that the gateway reads again at a reload.

        Raises OSError if systemd waits for notifications and the package for them is missing.
        """
        report = cls(Systemd.that_waits(), settings)
        if pid_file:
            report._hold(pid_file)
        try:
            yield report
        finally:
            if report._pid_file:
                report._pid_file.close()

    def _hold(self, path: Path) -> None:
        self._path, self._pid_file, self._trouble = path, None, ""
        try:
            self._pid_file = PidFile(path, self._settings)
        except OSError as error:
            self._trouble = f"{error.filename or path}: {error.strerror}"

    def _warn(self) -> None:
        if self._trouble:
            log.warning("no PID file, so that gatepost reload cannot be used: %s", self._trouble)

    def move_to(self, path: Path) -> None:
        """Use another PID file, if it is another one: the store has moved."""
        if path != self._path:
            before = self._pid_file
            self._hold(path)
            self._warn()
            if before:
                before.close()

    def ready(self) -> None:
        """All workers listen."""
        self._warn()
        if self._systemd:
            self._systemd.ready("all workers listen")

    def begins(self, operation: Operation) -> None:
        """A reload or a replacement of the workers begins."""
        if self._systemd:
            self._systemd.reloading()
        if self._pid_file:
            with _logged():
                self._pid_file.begins(operation)

    def ended(self, operation: Operation, message: str, *, succeeded: bool) -> None:
        """It has ended; the message is for the operator."""
        if self._systemd:
            self._systemd.ready(message.partition("\n")[0])
        if self._pid_file:
            with _logged():
                self._pid_file.ended(operation, message, succeeded=succeeded)

    def stopping(self) -> None:
        """All processes are being stopped."""
        if self._systemd:
            self._systemd.stopping()


@contextmanager
def _logged() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        log.warning("cannot write the result for gatepost reload: %s", error)
