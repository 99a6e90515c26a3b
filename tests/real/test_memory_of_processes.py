"""What the processes take of the machine's memory: at rest, and after many small messages."""

import subprocess
import sys
from urllib.request import urlopen

import psutil
import pytest

MIB = 1 << 20
AT_REST = 125 * MIB
"""All processes of the complaints department: 106 on Python 3.11."""
WORKER = 33 * MIB
"""A worker more than a Python that does nothing: 28 on Python 3.11."""
MESSAGES = 15_000
GROWN = 8 * MIB
"""What they may leave, however many they are: 4 to 5 MiB are caches, and pages that are no longer shared."""


def shared_out(*processes: psutil.Process) -> int:
    """Their memory in octets, where what several processes share is divided by their number."""
    return sum(process.memory_full_info().pss for process in processes)


def test_the_complaints_department_is_small_while_nothing_happens(complaints):
    running = complaints("--quiet", "--web", "127.0.0.1:0")
    with urlopen(f"http://{running.desk}/healthz"):  # then all is imported
        supervisor = psutil.Process(running.pid)
        worker, desk = supervisor.children()
        assert shared_out(supervisor, worker, desk) < AT_REST


def test_a_worker_is_small_while_nothing_happens(gateway):
    worker = gateway().worker
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as bare:
        taken = shared_out(psutil.Process(worker)) - shared_out(psutil.Process(bare.pid))
        bare.communicate(b"\n")
    assert taken < WORKER


@pytest.mark.real("smtp-source", "smtp-sink")
@pytest.mark.long
def test_a_worker_does_not_grow_with_the_number_of_messages(gateway, sink):
    running = gateway(upstream=sink().port)
    worker = psutil.Process(running.worker)

    def send(count):
        sent = ["-s", "20", "-m", str(count), "-l", "1024", "-f", "a@example.org", "-t", "b@example.com"]
        subprocess.run(["smtp-source", "-d", *sent, f"127.0.0.1:{running.port}"], check=True)

    before = shared_out(worker)
    send(MESSAGES)
    assert shared_out(worker) - before < GROWN
