"""Several processes share the port; a supervisor keeps them alive and passes signals on."""

import os
import signal
import socket
import sys
import time

import psutil
import pytest
from gatepost.store import Box

WORKERS = "workers: 2\n"
MESSAGE = b"Subject: hello\r\n\r\nHello\r\n"


PATIENCE_SECONDS = 60


def wait_until(condition):
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def workers(running):
    return {child.pid for child in psutil.Process(running.pid).children()}


def test_every_worker_takes_mail_and_one_journal_has_it_all(gateway):
    running = gateway(WORKERS)
    assert len(workers(running)) == 2
    for _ in range(40):
        assert running.send(MESSAGE).startswith("250 2.0.0")
    assert len(running.journal(40)) == 40
    assert len(running.kept(Box.INBOX)) == 40
    assert running.stop() == 0


def test_another_worker_takes_the_place_of_one_that_dies(gateway):
    running = gateway(WORKERS, errors=["has ended with signal 9"])
    before = workers(running)
    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    running.logs(f"worker {victim} has ended with signal 9")
    wait_until(lambda: len(workers(running)) == 2 and victim not in workers(running))
    for _ in range(20):
        wait_until(lambda: running.send(MESSAGE).startswith("250"))
    assert running.stop() == 0


PROGRAM = """
sleep 1000 &
echo $$ $! > started.new
mv started.new started
wait
"""


def test_what_filters_have_started_ends_with_a_worker_that_is_killed(gateway):
    running = gateway(
        "rules: [{name: ours, filter: command, with: {command: [sh, program.sh]}, timeout: 90s}]\n",
        files={"program.sh": PROGRAM},
        errors=["has ended with signal 9"],
    )
    with running.smtp() as client:
        client.ehlo()
        client.mail("ann@example.org")
        client.rcpt("bob@example.com")
        client.docmd("DATA")
        client.send(MESSAGE + b".\r\n")
        wait_until((running.folder / "started").exists)
        started = [psutil.Process(int(pid)) for pid in (running.folder / "started").read_text().split()]
        os.kill(running.worker, signal.SIGKILL)
        _, alive = psutil.wait_procs(started, timeout=PATIENCE_SECONDS)
    for one in alive:
        one.kill()
    assert (len(started), alive) == (2, [])
    assert running.stop() == 0


def test_sighup_reaches_every_worker(gateway):
    running = gateway(WORKERS)
    rules = running.folder / "rules.yaml"
    rules.write_text(rules.read_text() + "\nrules: [{name: no, filter: match, action: reject}]\n")
    running.kill(signal.SIGHUP)
    running.logs("reloaded", times=2)
    for _ in range(20):
        with running.client() as client:
            assert client.greeting.startswith("550 5.7.1")
    assert running.stop() == 0


SUBREAPER = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
LEAVES_ONE = """
    import subprocess

    from gatepost import hookimpl


    class LeavesOne:
        @hookimpl
        def filter_message(self, transaction):
            subprocess.run(["sh", "-c", "cat fifo &"], check=True)
"""
"""It stays until the test has opened the FIFO and closed it again."""


def test_as_the_first_process_of_a_container_it_reaps_what_others_leave(gateway, tmp_path, monkeypatch):
    wrapper = tmp_path / "python"
    wrapper.write_text(f"#!{sys.executable}\n{SUBREAPER}")
    wrapper.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(wrapper))
    running = gateway(
        "rules: [{name: leaves, filter: './leaves.py:LeavesOne'}]\n", files={"leaves.py": LEAVES_ONE}
    )
    os.mkfifo(running.folder / "fifo")
    before = workers(running)
    for _ in range(2):
        assert running.send(MESSAGE).startswith("250")
        wait_until(lambda: workers(running) > before)
        (running.folder / "fifo").open("w").close()
        wait_until(lambda: workers(running) == before)
    assert running.stop() == 0


def test_workers_stop_when_their_supervisor_is_gone(gateway):
    running = gateway(WORKERS)
    left = [psutil.Process(pid) for pid in workers(running)]
    running.kill(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    gone, alive = psutil.wait_procs(left, timeout=60)
    assert (len(gone), alive) == (2, [])


@pytest.mark.long
def test_what_keeps_workers_from_starting_is_said_once(gateway, run, tmp_path):
    running = gateway(WORKERS)
    (tmp_path / "rules.yaml").write_text(
        f"{WORKERS}listen: 127.0.0.1:{running.port}\nstore: {{url: 'sqlite:///x.db'}}\n"
    )
    taken = run("serve")
    assert (taken.returncode, taken.stderr.count("cannot listen on")) == (1, 1)
    (tmp_path / "rules.yaml").write_text(
        f"{WORKERS}listen: 127.0.0.1:0\nstore: {{url: 'sqlite:///no/where/x.db'}}\n"
    )
    unwritable = run("serve")
    assert (unwritable.returncode, unwritable.stderr.count("cannot be made")) == (1, 1)
    assert running.stop() == 0


@pytest.mark.parametrize("workers", ["0", "-1", "yes", "1.5", "'2'"])
def test_a_wrong_number_of_workers_is_named(run, tmp_path, workers):
    (tmp_path / "rules.yaml").write_text(f"workers: {workers}\n")
    checked = run("check")
    assert checked.returncode == 2
    assert checked.stderr.startswith("rules.yaml:1:10: ")


@pytest.mark.long
def test_a_worker_that_does_not_end_is_killed(gateway):
    deaf = """
        import time
        from pathlib import Path

        from gatepost import hookimpl


        class Deaf:
            @hookimpl
            async def filter_connect(self, session):
                Path(__file__).with_name("asked").touch()
                time.sleep(60)  # on the event loop, so that no signal is handled
    """
    running = gateway(
        WORKERS
        + "limits: {shutdown_time: 1s}\n"
        + "rules: [{name: deaf, filter: './deaf.py:Deaf', action: accept, timeout: 90s}]\n",
        files={"deaf.py": deaf},
        errors=["does not end and is killed"],
    )
    with socket.create_connection(("127.0.0.1", running.port)):
        wait_until((running.folder / "asked").exists)
        running.kill(signal.SIGTERM)
        assert running.wait(60) == 0, "after shutdown_time, and 20 s for store and filters"
    running.logs("does not end and is killed")


@pytest.mark.long
def test_a_worker_that_cannot_be_replaced_now_is_replaced_later(gateway, tmp_path):
    kept, gone = tmp_path / "kept", tmp_path / "gone"
    kept.mkdir()
    running = gateway(
        WORKERS + "store: {url: 'sqlite:///../kept/mail.db'}\n",
        errors=["has ended with", "gatepost: the store"],
    )
    victim, other = workers(running)
    kept.rename(gone)
    os.kill(victim, signal.SIGKILL)
    running.logs("has ended with status 1; starting another one", times=2)
    assert other in workers(running), "the worker that takes mail goes on"
    gone.rename(kept)
    wait_until(lambda: len(workers(running)) == 2)
    for _ in range(20):
        wait_until(lambda: running.send(MESSAGE).startswith("250"))
    assert running.stop() == 0
