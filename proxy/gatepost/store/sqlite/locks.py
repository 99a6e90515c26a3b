"""The turn to write: locks on files beside the database."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gatepost.store.errors import StoreUnavailable
from gatepost.store.sqlite import driver
from gatepost.store.thread_queue import ThreadQueue

__all__ = ["WriteQueue"]

_LOOK_SECONDS = 0.0003
"""Between two tries to get the turn to write; most turns take some milliseconds."""


class WriteQueue:
    """The order in which processes and threads write to one database: first come, first served.

    SQLite's own lock goes to the writer that asks at the right moment, and the others sleep longer and
    longer: with two busy writers one of them waits for seconds. A writer that waits here holds the head of
    the queue, so that a writer that has just written cannot overtake it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files: tuple[int, int] | None = None
        self._threads = ThreadQueue()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a turn, at most `BUSY_SECONDS`; raises StoreUnavailable. It ends with its process, too."""
        deadline = time.monotonic() + driver.BUSY_SECONDS
        if not self._threads.acquire(driver.BUSY_SECONDS):
            raise self._busy()
        try:
            queue, turn = self._files or self._open()
            with self._locked(turn, deadline, queue=queue):
                yield
        finally:
            self._threads.release()

    @contextmanager
    def _locked(self, turn: int, deadline: float, *, queue: int) -> Iterator[None]:
        try:
            try:
                if not (_lock(queue, deadline) and _lock(turn, deadline)):
                    raise self._busy()
            finally:
                fcntl.flock(queue, fcntl.LOCK_UN)
        except OSError as error:
            raise self._unlockable(error) from error
        try:
            yield
        finally:
            fcntl.flock(turn, fcntl.LOCK_UN)

    def _open(self) -> tuple[int, int]:
        opened: list[int] = []
        try:
            for name in ("queue", "turn"):
                path = self._path.with_name(f"{self._path.name}-{name}")
                opened.append(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            for file in opened:
                os.close(file)
            raise self._unlockable(error) from error
        queue, turn = self._files = opened[0], opened[1]
        return queue, turn

    def _busy(self) -> StoreUnavailable:
        return StoreUnavailable(f"the store {self._path} is locked by another process")

    def _unlockable(self, error: OSError) -> StoreUnavailable:
        return StoreUnavailable(f"the store {self._path} cannot be locked: {error.strerror}")

    def close(self) -> None:
        """Close the files; nobody may write any more."""
        for file in self._files or ():
            os.close(file)
        self._files = None


def _lock(file: int, deadline: float) -> bool:
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # a blocking flock has no timeout
            if time.monotonic() >= deadline:
                return False
            time.sleep(_LOOK_SECONDS)
        else:
            return True
