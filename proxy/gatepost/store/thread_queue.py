"""A lock for the threads of one process: first come, first served."""

import threading
from collections import deque

__all__ = ["ThreadQueue"]


class ThreadQueue:
    """A lock that threads get in the order in which they have asked for it.

    One of `threading` goes to the thread that asks at the right moment, mostly to one that has just released
    it: with a few busy threads others wait for seconds.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._is_held = False
        self._waiting: deque[threading.Lock] = deque()
        """One of each thread, which is released when the lock is handed over to that thread."""

    def acquire(self, timeout: float) -> bool:
        """Wait for it at most so many seconds; True if the caller has it now, and must release it."""
        with self._guard:
            if not self._is_held:
                self._is_held = True
                return True
            handed_over = threading.Lock()
            handed_over.acquire()
            self._waiting.append(handed_over)
        if handed_over.acquire(timeout=timeout):
            return True
        with self._guard:
            if handed_over not in self._waiting:  # it came just now
                return True
            self._waiting.remove(handed_over)
        return False

    def release(self) -> None:
        """Hand it over to the thread that has waited longest."""
        with self._guard:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._is_held = False

    @property
    def waiting(self) -> int:
        """How many threads wait."""
        return len(self._waiting)
