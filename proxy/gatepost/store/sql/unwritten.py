"""How many journal records are queued and not committed: numbers that outlive a process that is killed.

They are in memory that is mapped to a file beside the database, one for each process. It is locked while its
process lives; the next process that opens the store reads and removes those that nobody has locked.
"""

import fcntl
import glob
import logging
import mmap
import os
import struct
from pathlib import Path
from typing import Final, Self

from gatepost.model.mail import new_id

__all__ = ["QUEUED", "SETTLED", "Unwritten"]

_log = logging.getLogger(__name__)

QUEUED, SETTLED = 0, 1
_NUMBERS: Final = struct.Struct("=QQ")


class Unwritten:
    """The numbers of this process, and what earlier processes took with them."""

    def __init__(self, file: int | None, path: Path, lost: int) -> None:
        self._file = file
        self._path = path
        self.lost = lost
        """Records of processes that were killed. At most: some may have been committed at the last moment."""
        self._memory = mmap.mmap(-1 if file is None else file, _NUMBERS.size)
        self.numbers = memoryview(self._memory).cast("Q")
        """Records ``QUEUED`` so far, and those of them that are ``SETTLED``: committed, or counted as lost.

        Each number is written by one thread.
        """

    @classmethod
    def in_memory(cls) -> Self:
        """Numbers that end with this process, for a database that is not a file."""
        return cls(None, Path(), 0)

    @classmethod
    def open(cls, database: Path) -> Self:
        """Count what was lost, and begin this process's own file; never raises.

        Where that is impossible nothing is counted if this process is killed.
        """
        prefix = f"{database.name}-unwritten-"
        lost = sum(map(_take_over, database.parent.glob(f"{glob.escape(prefix)}*")))
        if lost:
            _log.warning(
                "journal records lost: %d, of a process that was killed before it wrote them;"
                " their messages are not affected",
                lost,
            )
        while True:
            path = database.with_name(f"{prefix}{new_id()}")
            try:
                file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                os.write(file, bytes(_NUMBERS.size))  # on a full disk this fails, not an access to the memory
            except OSError as error:
                _log.warning("records that a crash loses will not be counted: %s: %s", path, error.strerror)
                return cls(None, path, lost)
            if _lock(file) and _is_file(file, path):
                return cls(file, path, lost)
            os.close(file)  # a process that starts now has taken it over

    @property
    def left(self) -> int:
        """Records that are queued and not settled."""
        return max(0, self.numbers[QUEUED] - self.numbers[SETTLED])

    def close(self) -> None:
        """Remove the file: this process leaves nothing behind."""
        if self._file is not None:
            self._path.unlink(missing_ok=True)
            os.close(self._file)
        self.numbers.release()
        self._memory.close()


def _take_over(path: Path) -> int:
    """The records that the process of this file has not written; 0 if it lives. Removes the file."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        if not (_lock(file) and _is_file(file, path)):
            return 0
        octets = os.pread(file, _NUMBERS.size, 0)
        path.unlink()
    except OSError as error:
        _log.warning("cannot read and remove %s: %s", path, error.strerror)
        return 0
    finally:
        os.close(file)
    if len(octets) != _NUMBERS.size:
        return 0
    numbers: tuple[int, int] = _NUMBERS.unpack(octets)
    return max(0, numbers[QUEUED] - numbers[SETTLED])


def _lock(file: int) -> bool:
    """True if no other process has it; kept until the file is closed."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_file(file: int, path: Path) -> bool:
    """True if the open file is still the one of that name."""
    try:
        status = path.stat()
    except OSError:
        return False
    return os.path.samestat(status, os.fstat(file))
