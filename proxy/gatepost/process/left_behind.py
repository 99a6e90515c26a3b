"""What a worker that was killed leaves behind: programs that its filters have started."""

import os
import signal
from contextlib import suppress
from pathlib import Path

__all__ = ["end_session"]

_PROC = Path("/proc")


def end_session(leader: int) -> None:
    """Kill all processes of the session that a process has led; see setsid(2).

    No other process gets the number of the session while one of its processes is there.
    """
    for _ in range(2):  # the second time: what was started while the first went on
        for path in _PROC.glob("[0-9]*"):
            _kill_if_in(leader, int(path.name))


def _kill_if_in(session: int, process: int) -> None:
    with suppress(OSError):  # it has ended
        handle = os.pidfd_open(process)  # from now on the number cannot be that of another process
        try:
            if os.getsid(process) == session:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        finally:
            os.close(handle)
