"""Load from smtp-source, and what it costs the proxy: time, processor, memory."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from proxies import HERE, Proxy, program

TICK = os.sysconf("SC_CLK_TCK")
WARM_UP_SECONDS = 0.4
SAMPLE_SECONDS = 0.1
PATIENCE_SECONDS = 60
CLIENT_SECONDS = 300


def say(text: str) -> None:
    """On standard error, with the time."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Load:
    """One cell of the grid."""

    octets: int
    sessions: int
    reuse: bool

    def __str__(self) -> str:
        size = f"{self.octets >> 20} MB" if self.octets >> 20 else f"{self.octets >> 10} KB"
        how = "reused" if self.reuse else "new"
        return f"{size}, {self.sessions} session{'s' * (self.sessions > 1)}, {how}"


@dataclass(frozen=True)
class Run:
    """What one turn gave."""

    rate: float
    """Messages a second."""
    cpu: float
    """Milliseconds of processor a message, of the proxy's whole process tree."""


def send(port: int, load: Load, messages: int) -> float:
    """Seconds; raises RuntimeError where one message was not taken."""
    command = [program("smtp-source", "postfix"), *(["-d"] if load.reuse else [])]
    command += ["-s", str(min(load.sessions, messages)), "-l", str(load.octets), "-m", str(messages)]
    command += ["-f", "sender@example.org", "-t", "recipient@example.com", f"127.0.0.1:{port}"]
    begin = time.perf_counter()
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"nothing within {PATIENCE_SECONDS} s") from None
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1][:100] if done.stderr else "not all taken")
    return time.perf_counter() - begin


def messages_for(port: int, load: Load, seconds: float) -> int:
    """So many take about that time; warms the proxy up."""
    count = max(load.sessions, 4)
    while True:
        took = send(port, load, count)
        if took >= WARM_UP_SECONDS or count * load.octets > 400 << 20:
            return max(load.sessions, round(count * seconds / took), 4)
        count = max(count * 2, round(count * WARM_UP_SECONDS / max(took, 0.01)))


def turn(proxy: Proxy, load: Load, messages: int) -> Run:
    """One measurement."""
    before = cpu_seconds(proxy.process)
    took = send(proxy.port, load, messages)
    return Run(messages / took, (cpu_seconds(proxy.process) - before) / messages * 1000)


def descendants(process: int) -> list[int]:
    """The process and all below it."""
    found, waiting = [], [process]
    while waiting:
        one = waiting.pop()
        found.append(one)
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{one}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
    return found


def cpu_seconds(process: int) -> float:
    """User and system time of the tree, those that have ended and were waited for included."""
    ticks = 0
    for one in descendants(process):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / TICK


def memory(process: int) -> int:
    """Proportional set size of the tree in octets: what is shared is counted once."""
    total = 0
    for one in descendants(process):
        with contextlib.suppress(OSError, StopIteration):
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
            total += int(next(line for line in lines if line.startswith("Pss:")).split()[1]) << 10
    return total


@contextlib.contextmanager
def sampled_memory(process: int) -> Iterator[list[int]]:
    """A list that gets a sample ten times a second."""
    samples, ended = [memory(process)], threading.Event()

    def sample() -> None:
        while not ended.wait(SAMPLE_SECONDS):
            samples.append(memory(process))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join()


def reply_times(port: int, load: Load, *, messages: int) -> dict[str, float]:
    """Messages a second, and milliseconds: p50 and p99 of a whole transaction and of the reply to the dot.

    Raises RuntimeError if one message was not taken.
    """
    how = "reused" if load.reuse else "new"
    return _client("client.py", port, load.sessions, max(messages, load.sessions), load.octets, how)


def scan_times(kind: str, address: str) -> Callable[[Load, int], dict[str, float]]:
    """The same of a scanner alone, for a load and a number of messages."""

    def times(load: Load, messages: int) -> dict[str, float]:
        return _client("scanner_client.py", kind, address, load.sessions, messages, load.octets)

    return times


def _client(*command: object) -> dict[str, float]:
    script, *arguments = map(str, command)
    try:
        done = subprocess.run(
            [sys.executable, HERE / script, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=CLIENT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"nothing within {CLIENT_SECONDS} s") from None
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1][:200])
    times: dict[str, float] = json.loads(done.stdout)
    return times
