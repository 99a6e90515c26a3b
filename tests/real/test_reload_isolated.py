"""Rules with ``isolation: process`` while the gateway runs: reloads and processes that end, under mail."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

FILTER = """
    import asyncio, os, signal

    from gatepost import Passed, Place, Transaction, hookimpl


    class Guarded:
        def __init__(self, place: Place, version: int):
            self.folder, self.version = place.folder, version

        async def open(self):
            (self.folder / f"opening-{os.getpid()}").touch()
            while not (self.folder / "go").exists():
                await asyncio.sleep(0.02)
            (self.folder / f"open-{os.getpid()}").touch()

        @hookimpl
        def filter_message(self, transaction: Transaction):
            if transaction.message.view.subject == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            return Passed(reason=f"{self.version} {os.getpid()}")
"""
pytestmark = pytest.mark.long

HELLO, KILL = b"Subject: hello\r\n\r\nHello\r\n", b"Subject: kill\r\n\r\nHello\r\n"


def rules(version):
    return f"""
        rules:
          - name: guarded
            filter: ./guarded.py:Guarded
            with: {{version: {version}}}
            isolation: process
            timeout: 60s
    """


@pytest.fixture
def running(gateway, wait_until):
    one = gateway(rules(1), files={"guarded.py": FILTER, "go": ""})
    wait_until(lambda: len(processes(one) & opened(one)) == 2, "one serves, and one is spare")
    return one


def processes(running):
    """Those that the worker has started for its rules."""
    return {child.pid for child in psutil.Process(running.worker).children()}


def opened(running, word="open"):
    return {int(file.name.partition("-")[2]) for file in running.folder.glob(f"{word}-*")}


def served_by(running, sent):
    """Version and process that answered about the latest of so many messages."""
    version, pid = running.journal(sent)[0].evaluations[0].reason.split()
    return int(version), int(pid)


@contextmanager
def mail(running) -> Iterator[list[str]]:
    """While three clients send message after message, each two in one session; the replies."""
    stop, replies = threading.Event(), []

    def send():
        while not stop.is_set():
            with running.smtp() as smtp:
                for _ in range(2):
                    replies.append(smtp.transact(HELLO))
                    stop.wait(0.02)

    threads = [threading.Thread(target=send) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield replies
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)


def test_a_reload_replaces_the_processes_and_no_message_is_deferred(running, write_rules, wait_until):
    with mail(running) as replies:
        for version in range(2, 4):
            old = processes(running)
            write_rules(running.folder, rules(version))
            running.kill(signal.SIGHUP)
            running.logs(" reloaded", version - 1)
            count = len(replies) + 30
            wait_until(lambda count=count: len(replies) > count, "mail goes on")
            wait_until(lambda old=old: not old & processes(running), "the old processes end")
            assert served_by(running, 1)[0] == version
    assert {reply[:4] for reply in replies} == {"250 "}
    wait_until(lambda: len(running.journal()) == len(replies), "the journal has each once")
    assert {one.evaluations[0].reason[0] for one in running.journal()} == {"1", "2", "3"}


def test_the_old_processes_serve_until_the_new_ones_are_ready(running, write_rules, wait_until):
    old = processes(running)
    (running.folder / "go").unlink()
    write_rules(running.folder, rules(2))
    running.kill(signal.SIGHUP)
    wait_until(lambda: opened(running, "opening") - old, "a new process begins")
    with running.smtp() as session:
        assert session.transact(HELLO).startswith("250 ")
        assert served_by(running, 1)[0] == 1
        (running.folder / "go").touch()
        running.logs(" reloaded")
        assert session.transact(HELLO).startswith("250 ")
        assert served_by(running, 2)[0] == 2
    wait_until(lambda: not old & processes(running), "the old processes end")


def test_a_spare_process_takes_over_at_once(running, wait_until):
    before = opened(running)
    (running.folder / "go").unlink()  # so that no other one can be ready
    assert running.send(KILL).startswith("451 ")
    assert running.send(HELLO).startswith("250 ")
    assert served_by(running, 2)[1] in before
    wait_until(lambda: opened(running, "opening") - before, "the next spare one begins")
    assert opened(running) == before
    (running.folder / "go").touch()
    wait_until(lambda: opened(running) - before, "it is ready")
    assert running.send(KILL).startswith("451 ")
    assert running.send(HELLO).startswith("250 ")
    assert served_by(running, 4)[1] not in before
