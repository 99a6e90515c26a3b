"""The supervisor's own account of its children; whole gateways with workers are in tests/real."""

import subprocess
import sys
from textwrap import dedent

ENDS = dedent("""
    import os, sys
    from unittest.mock import Mock
    from gatepost.config import LoadedConfig
    from gatepost.process import sockets
    from gatepost.process.children import Child, WorkerSlot
    from gatepost.process.supervisor import Supervisor

    (bound,) = sockets.bind_workers(["127.0.0.1:0"], 1)
    loaded = Mock(LoadedConfig)
    slot = WorkerSlot(kind="worker", sockets=bound, loaded=loaded)
    nothing = lambda *_: None
    supervisor = Supervisor(
        workers=[slot], desk=None, run_child=nothing, listening=nothing, read=None, can_take=nothing,
        taken=nothing, each_turn=nothing, report=Mock(), counters=None,
    )
    worker = os.fork()
    if not worker:
        if sys.argv[1] == "listens":
            supervisor.report_status("listens")
        os.kill(os.getpid(), 9)
    os.waitid(os.P_PID, worker, os.WEXITED | os.WNOWAIT)
    supervisor._children[worker] = Child(slot=slot, loaded=loaded, listens=False)
    supervisor._reap()
    print("the same" if slot.sockets is bound else "new")
""")
"""A worker is killed, and the supervisor learns of that before it has read what the worker said."""


def sockets_after(said):
    done = subprocess.run(
        [sys.executable, "-c", ENDS, said], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.strip()


def test_clients_of_a_worker_that_listened_wait_for_the_next_one_however_soon_it_ended():
    assert sockets_after("listens") == "the same"


def test_clients_of_a_worker_that_never_listened_are_refused():
    assert sockets_after("nothing") == "new"
