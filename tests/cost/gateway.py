"""The gateway as ``gatepost serve`` runs it, with instruments: a word on standard input asks for a number."""

import asyncio
import gc
import logging
import os
import signal
import sys
import tracemalloc
from pathlib import Path

from gatepost.config import load
from gatepost.process import log
from gatepost.process.service import Service, Supervision, serve


class Instruments:
    """What they count is the doing of the event loop's thread, in which they are called."""

    def __init__(self, service):
        self.service = service
        self.calls = 0

    def start_counting(self):
        self.calls = 0
        sys.setprofile(self._count)
        return 0

    def _count(self, frame, event, argument):
        if event in ("call", "c_call"):
            self.calls += 1

    def stop_counting(self):
        sys.setprofile(None)
        return self.calls

    def backlog(self):
        return self.service.store.backlog

    def blocks(self):
        gc.collect()
        return sys.getallocatedblocks()

    def start_tracing(self):
        gc.collect()
        tracemalloc.start()
        return 0

    def traced(self):
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    def stop_tracing(self):
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak


def say(number):
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def main(path):
    log.set_up_log(logging.INFO)
    log._LATER_SECONDS = 3600  # else a slow machine would write the log in more pieces
    service = Service(load(path))
    instruments = Instruments(service)

    def answer():
        words = os.read(sys.stdin.fileno(), 4096).decode().split()
        for word in words:
            say(getattr(instruments, word)())
        if not words:  # a signal would end strace, not what it traces
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
            os.kill(os.getpid(), signal.SIGTERM)

    def ready(addresses):
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), answer)
        say(addresses[0][1])

    lifeline, _open = os.pipe()
    serve(service, ready, supervision=Supervision(lifeline=lifeline, report=lambda _: None, publish=None))


main(Path(sys.argv[1]))
