"""The PID file, and beside it the settings file and how the last reload and the last replacement ended.

The file is locked with fcntl while the gateway runs. The lock belongs to the process, not to its children,
and the kernel releases it when the process ends: a PID file that is left behind is recognised as such.
"""

import contextlib
import errno
import fcntl
import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from gatepost.config import LoadedConfig
from gatepost.config.fields import store_file
from gatepost.values import value

__all__ = ["Operation", "Outcome", "PidFile", "outcomes", "pid_file_of", "running_process", "settings_of"]

Operation = Literal["reload", "replace"]
"""SIGHUP: load new rules; SIGUSR2: replace the workers."""

_LONGEST = 32
"""Bytes of a PID file."""


@value
class Outcome:
    """How an operation ended the last time."""

    begun: int = 0
    """How many have begun since the start."""
    ended: int = 0
    """How many of these have ended; they are carried out one after the other."""
    succeeded: bool = True
    message: str = ""
    """For the operator."""


def pid_file_of(loaded: LoadedConfig) -> Path:
    """The path of the PID file: as set, else beside the store."""
    if loaded.config.pid_file:
        return loaded.config.pid_file
    store = store_file(loaded.config.store.url)
    return loaded.base.absolute() / store.with_name(f"{store.name}-pid")


def running_process(path: Path) -> int | None:
    """The process id of the gateway that runs with this PID file; None if there is none.

    Raises OSError if the file cannot be read.
    """
    try:
        with path.open("r+b") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EAGAIN):
                    raise
                return int(file.read(_LONGEST) or 0) or None
    except FileNotFoundError:
        return None
    return None


def outcomes(path: Path) -> dict[Operation, Outcome]:
    """How the operations of the gateway with this PID file ended the last time."""
    found = _read(path)
    return {name: Outcome(**found.get(name, {})) for name in ("reload", "replace")}


def settings_of(path: Path) -> Path | None:
    """The settings file of the gateway with this PID file; None if that is not known."""
    found = _read(path).get("settings")
    return Path(found) if found else None


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(_status(path).read_bytes())
    except FileNotFoundError:
        return {}
    return found


class PidFile:
    """The PID file of this process."""

    def __init__(self, path: Path, settings: Path | None) -> None:
        """Lock and write the file; raises OSError, for example if another gateway has it.

        Args:
            path: the PID file.
            settings: the file that the gateway reads again at a reload.
        """
        self._path = path
        self._settings = str(settings.absolute()) if settings else None
        self._outcomes: dict[Operation, Outcome] = {"reload": Outcome(), "replace": Outcome()}
        self._owner = os.getpid()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            self._take()
        except BaseException:
            os.close(self._file)
            raise

    def _take(self) -> None:
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise OSError(
                error.errno,
                "another gateway that runs has this file, expected a pid_file for each",
                str(self._path),
            ) from None
        written = os.read(self._file, _LONGEST)
        if written.strip() and not written.strip().isdigit():
            raise OSError(errno.EEXIST, "this file exists and is not a PID file", str(self._path))
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, b"%d\n" % self._owner, 0)
        self._write()

    def begins(self, operation: Operation) -> None:
        """Write that an operation begins; raises OSError."""
        before = self._outcomes[operation]
        self._outcomes[operation] = replace(before, begun=before.begun + 1)
        self._write()

    def ended(self, operation: Operation, message: str, *, succeeded: bool) -> None:
        """Write how it ended; raises OSError."""
        before = self._outcomes[operation]
        self._outcomes[operation] = replace(
            before, ended=before.ended + 1, succeeded=succeeded, message=message
        )
        self._write()

    def _write(self) -> None:
        target = _status(self._path)
        new = target.with_name(f"{target.name}-new")
        outcomes = {name: asdict(one) for name, one in self._outcomes.items()}
        new.write_text(json.dumps({"settings": self._settings, **outcomes}), "utf-8")
        new.replace(target)

    def close(self) -> None:
        """Delete the file, in the process that made it."""
        if os.getpid() == self._owner:
            with contextlib.suppress(OSError):
                _status(self._path).unlink(missing_ok=True)
                self._path.unlink(missing_ok=True)
        os.close(self._file)


def _status(path: Path) -> Path:
    return path.with_name(f"{path.name}-status")
