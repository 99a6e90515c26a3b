"""What a start costs, in numbers that the clock does not change, and what a worker takes of memory."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from .conftest import ADDRESS, HERE, ROOT, Upstream

RULES = """
listen: 127.0.0.1:0
relay: [{{recipients: "*", to: "{upstream}"}}]
rules:
  - {{name: words, filter: keywords, with: {{words: [casino]}}, action: reject, reply: "550 5.7.1 No"}}
  - {{name: programs, filter: attachments, with: {{extensions: [exe]}}, action: quarantine}}
"""
SETTLED_KIB, SETTLED_SECONDS, PATIENCE_SECONDS = 64, 0.5, 60


@contextmanager
def serving(folder, *command, upstream="inbox"):
    """A gateway that was started; it is stopped at the end."""
    (folder / "rules.yaml").write_text(RULES.format(upstream=upstream))
    path = os.pathsep.join((str(ROOT / "proxy"), str(ROOT / "plugins")))
    process = subprocess.Popen(
        [sys.executable, *command, "serve", "-q"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=PATIENCE_SECONDS)


def test_what_a_gateway_imports_and_calls_until_it_starts_its_processes(tmp_path, costs):
    with serving(tmp_path, HERE / "started.py") as process:
        costs.check("a start", json.loads(process.stdout.readline()))


@pytest.mark.real("smtp-source")
@pytest.mark.long
def test_a_worker_at_work_takes_a_tenth_more_memory_than_one_at_rest(tmp_path):
    upstream = Upstream()
    with serving(tmp_path, "-m", "gatepost", upstream=f"smtp://{ADDRESS}:{upstream.port}") as process:
        port = listening_port(process)
        (worker,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        at_rest = settled_memory(worker)
        source = "smtp-source", "-s", "10", "-m", "10000", "-l", "1024", "-d"
        addresses = "-f", "alice@example.org", "-t", "bob@example.com"
        subprocess.run([*source, *addresses, f"{ADDRESS}:{port}"], check=True, timeout=60)
        after = settled_memory(worker)
    upstream.close()
    assert after < 1.1 * at_rest, f"{at_rest} KiB at rest, {after} after the messages"


def listening_port(process):
    for line in process.stderr:
        if "gatepost listens on" in line:
            return int(line.split()[-1].rpartition(":")[2])
    raise AssertionError("it has ended")


def settled_memory(process):
    """KiB of a process alone, with its part of what it shares with the others, once that no longer changes.

    Files are left out: how many processes share them depends on what else runs.
    """
    before, deadline = 0, time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        (found,) = (int(line.split()[1]) for line in lines if line.startswith("Pss_Anon:"))
        if abs(found - before) < SETTLED_KIB:
            return found
        before = found
        time.sleep(SETTLED_SECONDS)
    raise AssertionError("its memory does not settle")
