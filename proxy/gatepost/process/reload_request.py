"""Ask the running gateway to take new settings, and wait for the outcome."""

import os
import signal
import time
from pathlib import Path

from gatepost.process.pid_file import Operation, Outcome, outcomes, running_process

__all__ = ["NoAnswerError", "request"]

_LOOK_SECONDS = 0.02


class NoAnswerError(Exception):
    """The gateway did not say how it ended; the text is for operators."""


def request(path: Path, process: int, operation: Operation, *, patience_seconds: float) -> Outcome:
    """Send the signal and wait for the outcome of an operation that begins after this; blocks.

    Args:
        path: the PID file of the gateway.
        process: its process id.
        operation: what it is to do.
        patience_seconds: how long to wait.

    Raises:
        NoAnswerError: it has ended, or has not answered in time.
        OSError: it cannot be sent a signal.
    """
    before = outcomes(path)[operation].begun
    os.kill(process, signal.SIGUSR2 if operation == "replace" else signal.SIGHUP)
    give_up = time.monotonic() + patience_seconds
    while (outcome := outcomes(path)[operation]).ended <= before:
        if running_process(path) != process:
            raise NoAnswerError("the gateway has ended")
        if time.monotonic() > give_up:
            raise NoAnswerError(
                f"no answer from the gateway, process {process}, in {patience_seconds:g} s: see its log"
            )
        time.sleep(_LOOK_SECONDS)
    return outcome
