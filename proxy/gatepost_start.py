"""Where the command ``gatepost`` begins, before the slow imports.

SIGHUP and SIGUSR2 end a process that has no handler for them. So they are blocked first: what arrives during
the start stays pending until the supervisor asks for it.
"""

import gc
import signal
import sys

__all__ = ["main"]

_OBJECTS = 300_000
"""New objects that may wait for the garbage collector: those of the imports, of which few are garbage.

A gateway has 200,000 when it starts its processes. To look at half of them once takes 30 ms.
"""

_AWAITED = {
    "serve": (signal.SIGHUP, signal.SIGUSR2),
    "complaints": (signal.SIGUSR2,),  # at SIGHUP its terminal is gone, and it ends
}
"""The signals that a command waits for, once it has started."""


def main() -> None:
    """Run the command line."""
    gc.set_threshold(_OBJECTS, *gc.get_threshold()[1:])
    signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED.get(next(iter(sys.argv[1:]), ""), ()))
    from gatepost.cli import main as run  # noqa: PLC0415 - only now

    run()
