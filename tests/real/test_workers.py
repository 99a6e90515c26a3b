"""Several processes share the port; a supervisor keeps them alive and passes signals on."""

import os
import signal
import socket
import time

import psutil
import pytest
from gatepost.store import Box

WORKERS = "workers: 2\n"
MESSAGE = b"Subject: hello\r\n\r\nHello\r\n"


PATIENCE_SECONDS = 20


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


def test_workers_stop_when_their_supervisor_is_gone(gateway):
    running = gateway(WORKERS)
    left = [psutil.Process(pid) for pid in workers(running)]
    running.kill(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    gone, alive = psutil.wait_procs(left, timeout=20)
    assert (len(gone), alive) == (2, [])


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


def test_a_worker_that_does_not_end_is_killed(gateway):
    deaf = """
        import time

        from gatepost import hookimpl


        class Deaf:
            @hookimpl
            async def filter_connect(self, session):
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
        time.sleep(0.3)
        assert running.stop() == 0
    running.logs("does not end and is killed")


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
    running.logs("has ended with status 1; another one takes its place", times=2)
    assert other in workers(running), "the worker that takes mail goes on"
    gone.rename(kept)
    wait_until(lambda: len(workers(running)) == 2)
    for _ in range(20):
        wait_until(lambda: running.send(MESSAGE).startswith("250"))
    assert running.stop() == 0
