"""``gatepost reload`` checks, sends the signal and waits for the result; systemd is told what happens."""

import os
import socket

import psutil
import pytest
from gatepost.cli import app
from typer.testing import CliRunner

MESSAGE = b"Subject: hello\r\n\r\nHello\r\n"
REFUSE = "rules: [{name: no, filter: match, action: reject, reply: '550 5.7.1 Not now'}]\n"
PICKY = """
    import sys

    from gatepost import hookimpl


    class Picky:
        def __init__(self):
            if "serve" in sys.argv:
                raise ValueError("not in a gateway")

        @hookimpl
        async def filter_connect(self, session):
            return None
"""


@pytest.fixture
def manager(tmp_path):
    """The socket of a service manager, and what it was told since it was asked last."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(str(tmp_path / "notify"))
        bound.settimeout(60)

        def told(until):
            found = []
            while until not in found:
                found += bound.recv(4096).decode().splitlines()
            return [one for one in found if not one.startswith("STATUS=")]

        yield told


@pytest.fixture
def reload():
    def run(running, *options):
        done = CliRunner().invoke(app, ["reload", "-c", str(running.folder / "rules.yaml"), *options])
        return done.exit_code, done.stdout, done.stderr

    return run


def children(running):
    return {child.pid for child in psutil.Process(running.pid).children()}


def test_it_checks_signals_and_says_how_it_ended_and_systemd_knows(
    gateway, write_rules, tmp_path, manager, reload, wait_until
):
    running = gateway(
        "workers: 2\n",
        files={"picky.py": PICKY},
        environment={"NOTIFY_SOCKET": str(tmp_path / "notify")},
        errors=["not reloaded", "picky.py", "not every worker"],
    )
    assert manager(until="READY=1") == ["READY=1"]

    write_rules(running.folder, f"workers: 2\n{REFUSE}")
    assert reload(running) == (0, "reloaded\n", "")
    assert manager(until="READY=1") == ["RELOADING=1", "READY=1"]
    for _ in range(10):
        with running.client() as client:
            assert client.greeting == "550 5.7.1 Not now"

    # A transaction's line is written up to 50 ms later.
    wait_until(lambda: running.log.count(" refused ") == 10, "the log has all refusals")
    before = running.log
    (running.folder / "rules.yaml").write_text("workers: 2\nrules: [{name: no, filter: mach}]\n")
    status, _, errors = reload(running)
    assert (status, "rules.yaml:2:28: " in errors, "did you mean 'match'?" in errors) == (2, True, True)
    assert running.log == before, "the gateway was left alone"

    write_rules(running.folder, "workers: 2\nrules: [{name: picky, filter: './picky.py:Picky'}]\n")
    status, _, errors = reload(running)
    assert (status, errors) == (1, "gatepost: not every worker has loaded the new rules: the log says why\n")
    assert manager(until="READY=1") == ["RELOADING=1", "READY=1"]

    write_rules(running.folder, "workers: 2\n")
    before = children(running)
    assert reload(running, "--replace") == (0, "all workers have been replaced\n", "")
    assert manager(until="READY=1") == ["RELOADING=1", "READY=1"]
    wait_until(
        lambda: len(children(running) - before) == len(children(running)) == 2, "the old ones have ended"
    )
    assert running.send(MESSAGE).startswith("250 ")

    assert running.stop() == 0
    assert manager(until="STOPPING=1") == ["STOPPING=1"]
    status, output, errors = reload(running)
    assert (status, output) == (1, "")
    assert errors.startswith(
        f"gatepost: no gateway runs with the PID file {running.folder}/gatepost.db-pid; "
    )
    assert not (running.folder / "gatepost.db-pid").exists()


def test_the_pid_file_is_for_kill(gateway, write_rules):
    running = gateway("pid_file: run.pid\n")
    write_rules(running.folder, f"pid_file: run.pid\n{REFUSE}")
    os.system(f"kill -HUP $(cat {running.folder}/run.pid)")
    running.logs("reloaded")
    assert running.stop() == 0
