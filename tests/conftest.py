"""Options and markers of the whole test suite."""

import contextlib
import ctypes
import fcntl
import gc
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis.strategies import none

# The package is compiled once, not by each of the hundreds of gateways that tests start: 0.3 s of CPU each.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

STARTED_BY_FIXTURES = {
    "sink": "smtp-sink",
    "own_network": "ip",
    "postgresql": "postgres",
    "make_postgresql": "postgres",
}
"""The programs that fixtures start: a test that asks for one needs no mark."""
NO_CORPUS = "GATEPOST_CORPUS is not set"
"""Why a test of a collection of mail that is no part of the project is skipped, in CI too."""
NO_SUITES = "GATEPOST_SUITES is not set"
"""The same of the public test suites for SPF and ARC."""
LONG = "runs with --long, or if its file is named"
"""Why a test that takes long is skipped."""
_NEW_NETWORK = 0x40000000
"""CLONE_NEWNET of unshare(2)."""


def pytest_addoption(parser):
    text = "Fail if a test is skipped for want of a program (as CI does)."
    parser.addoption("--no-skips", action="store_true", help=text)
    text = "Run in full what is otherwise run in part or not at all (as CI does)."
    parser.addoption("--long", action="store_true", help=text)
    text = "Take what is measured now as what things may cost (tests/cost/costs.json)."
    parser.addoption("--update-costs", action="store_true", help=text)
    text = "Write the list of modules in docs/architecture.md anew."
    parser.addoption("--update-architecture", action="store_true", help=text)
    text = "Write docs/reference.md anew from the docstrings."
    parser.addoption("--update-reference", action="store_true", help=text)
    text = "Write docs/reliability.md from what the tests of this run have seen."
    parser.addoption("--update-reliability", action="store_true", help=text)


def pytest_configure(config):
    """Set how many examples hypothesis tries where a test does not say: fewer, unless at full length.

    An example has no time limit, since that depends on the machine. With CI set, the other settings are those
    of the profile that hypothesis loads by itself.
    """
    examples = 100 if config.getoption("--long") else 30
    settings.register_profile("gatepost", deadline=None, max_examples=examples)
    settings.load_profile("gatepost")


def pytest_collection_modifyitems(session, config, items):
    """Skip, visibly, what is marked `long` without --long, or `real("smtp-source")` without that program.

    So is one whose fixtures need a program. With --no-skips, as in CI, a missing program ends the run before
    the first test instead. What is marked `alone` runs first: later, all workers would wait for it, and it
    for the longest test that one of them has begun.
    """
    items.sort(key=lambda item: item.get_closest_marker("alone") is None)
    skip_long = not config.getoption("--long") and are_folders(config.args)
    for item in items:
        if skip_long and item.get_closest_marker("long"):
            item.add_marker(pytest.mark.skip(reason=LONG))
        missing = [name for name in needed_programs(item) if not find_program(name)]
        if missing and config.getoption("--no-skips"):
            if not is_worker(config):
                raise pytest.UsageError(f"not installed: {', '.join(missing)}")
            session.shouldfail = f"not installed: {', '.join(missing)}"
            items.clear()
            return
        if missing:
            item.add_marker(pytest.mark.skip(reason=f"not installed: {', '.join(missing)}"))


def needed_programs(item):
    """The names, each once."""
    marked = [name for marker in item.iter_markers("real") for name in marker.args]
    by_fixtures = [STARTED_BY_FIXTURES[name] for name in item.fixturenames if name in STARTED_BY_FIXTURES]
    return list(dict.fromkeys(marked + by_fixtures))


def find_program(name):
    servers = ":".join(map(str, Path("/usr/lib/postgresql").glob("*/bin")))  # Debian has several versions
    return shutil.which(name, path=f"/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin:{servers}")


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Collect without looking for garbage: tests are kept to the end, and are never looked through again."""
    gc.disable()
    try:
        return (yield)
    finally:
        make_random_numbers_of_hypothesis()
        gc.freeze()
        gc.enable()


@settings(max_examples=1, database=None)
@given(none())
def make_random_numbers_of_hypothesis(_):
    """Its first property makes a generator and warns if nothing refers to it, blind to what is frozen."""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item):
    """While a test marked `alone` runs, with its fixtures, no other worker of pytest-xdist runs one."""
    if not is_worker(item.config):
        return (yield)
    folder = item.config.cache.mkdir("alone")
    with (folder / "door").open("w") as door, (folder / "room").open("w") as room:
        fcntl.flock(door, fcntl.LOCK_EX)  # a test that waits for an empty room lets no other in
        fcntl.flock(room, fcntl.LOCK_EX if item.get_closest_marker("alone") else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        try:
            return (yield)
        finally:
            fcntl.flock(room, fcntl.LOCK_UN)  # a child that was forked may hold the file open


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """Two for each processor: tests wait, for processes and for times, and three leave none of them idle.

    A file or a single test runs in this process, so that a debugger works.
    """
    return 2 * len(os.sched_getaffinity(0)) if are_folders(config.args) else 0


def are_folders(args):
    """Whether whole folders of tests were asked for, and no single file or test."""
    return all(Path(one).is_dir() for one in args)


def is_worker(config):
    """Whether this process runs tests for a main process of pytest-xdist, which reports the results."""
    return hasattr(config, "workerinput")


def pytest_sessionfinish(session, exitstatus):
    if is_worker(session.config):
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = [
        report
        for report in reporter.stats.get("skipped", [])
        if not any(expected in str(report.longrepr) for expected in (NO_CORPUS, NO_SUITES, LONG))
    ]
    if session.config.getoption("--no-skips") and exitstatus == 0 and skipped:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture
def within_yardsticks():
    """Fail where a block takes more processor time than so many yardsticks, which depend on the machine.

    A yardstick is some work of the interpreter, about 10 ms on a fast machine, measured beside the block,
    since the clock of a processor changes.
    """

    @contextlib.contextmanager
    def measured(yardsticks: int) -> Iterator[None]:
        before = yardstick()
        started = time.process_time()
        yield
        taken = time.process_time() - started
        taken /= max(before, yardstick())
        assert taken < yardsticks, f"{taken:.1f} yardsticks of processor time"

    return measured


def yardstick():
    """Its processor time in seconds."""
    started = time.process_time()
    sum(number % 7 for number in range(400_000))
    return time.process_time() - started


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port on which nothing listens, and that nobody else gets: connections to it are refused."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.fixture
def own_network() -> Iterator[Callable[..., Any]]:
    """Call a function in a network that has nothing but loopback: each of its ports is free.

    What the function starts, processes and threads, and the sockets that it opens are in that network too.
    """
    with ThreadPoolExecutor(1) as thread:
        if os.geteuid() != 0 or thread.submit(ctypes.CDLL(None).unshare, _NEW_NETWORK).result() != 0:
            pytest.skip("only root has networks of its own")
        command = ["ip", "link", "set", "lo", "up"]
        thread.submit(subprocess.run, command, check=True, timeout=60).result()
        yield lambda function, *arguments, **named: thread.submit(function, *arguments, **named).result()
