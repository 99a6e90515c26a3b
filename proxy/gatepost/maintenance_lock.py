"""Which process maintains a database that several processes write; a lock on a file beside it."""

import fcntl
import os
from pathlib import Path

__all__ = ["MaintenanceLock"]


class MaintenanceLock:
    """Held by the one process that checkpoints and applies retention; a lock on a file."""

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(f"{path.name}-maintenance")
        self._file: int | None = None

    def acquire(self) -> bool:
        """True if this process holds the lock now; never waits, never raises."""
        if self._file is not None:
            return True
        try:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            return False
        self._file = file
        return True

    def is_held(self) -> bool:
        """True if a process holds the lock; never waits, and makes no file. Raises OSError."""
        if self._file is not None:
            return True
        try:
            file = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(file)
        return False

    def release(self) -> None:
        """Let another process acquire it."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
