"""Writers of one database take turns: in order, none for ever, none after a death."""

import errno
import fcntl
import subprocess
import sys
import threading
import time

import psutil
import pytest
from gatepost.store import StoreUnavailable
from gatepost.store.sqlite import driver
from gatepost.store.sqlite.locks import WriteQueue


@pytest.fixture
def path(tmp_path):
    return tmp_path / "mail.db"


@pytest.mark.parametrize("processes", [1, 2])
def test_who_has_just_written_does_not_come_before_who_waits(path, processes):
    """Whether these are threads of one process or of two."""
    first = WriteQueue(path)
    second = WriteQueue(path) if processes == 2 else first
    order = []

    def waits():
        return _is_locked(path.with_name("mail.db-queue")) if processes == 2 else first._threads.waiting

    def wait_for_a_turn():
        with second.turn():
            order.append("second")

    waiting = threading.Thread(target=wait_for_a_turn)
    with first.turn():
        waiting.start()
        while not waits():
            time.sleep(0.001)
        order.append("first")
    with first.turn():
        order.append("first again")
    waiting.join()
    assert order == ["first", "second", "first again"]
    first.close()
    second.close()


def _is_locked(path):
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def test_a_turn_that_does_not_come_is_told(path, monkeypatch):
    monkeypatch.setattr(driver, "BUSY_SECONDS", 0.05)
    first, second = WriteQueue(path), WriteQueue(path)
    with first.turn():
        for turns in (second, first):  # another process, another thread
            with pytest.raises(StoreUnavailable, match="locked by another process"), turns.turn():
                pytest.fail("two turns at once")
    with second.turn():  # nothing is left locked
        pass
    first.close()
    second.close()


def test_who_dies_in_its_turn_has_ended_it(path):
    program = (
        "import sys, time; from pathlib import Path; from gatepost.store.sqlite.locks import WriteQueue\n"
        "with WriteQueue(Path(sys.argv[1])).turn():\n    print('mine', flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"mine\n"
        other.kill()
        other.wait()
    turns = WriteQueue(path)
    with turns.turn():
        pass
    turns.close()


def test_an_error_leaves_nothing_open_and_nothing_locked(path, monkeypatch):
    turns, other = WriteQueue(path), WriteQueue(path)
    path.with_name("mail.db-turn").mkdir()
    before = psutil.Process().num_fds()
    with pytest.raises(StoreUnavailable, match="cannot be locked: Is a directory"), turns.turn():
        pytest.fail("no turn")
    assert psutil.Process().num_fds() == before
    path.with_name("mail.db-turn").rmdir()
    with turns.turn():
        _, turn = turns._files
    lock = fcntl.flock

    def fail_for_the_turn(file, operation):
        if file == turn and operation != fcntl.LOCK_UN:
            raise OSError(errno.ENOLCK, "No locks available")
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", fail_for_the_turn)
    with pytest.raises(StoreUnavailable, match="cannot be locked: No locks"), turns.turn():
        pytest.fail("no turn")
    monkeypatch.undo()
    monkeypatch.setattr(driver, "BUSY_SECONDS", 0.05)
    with other.turn():
        pass
    turns.close()
    other.close()


def test_a_folder_that_takes_no_file_is_told(tmp_path):
    turns = WriteQueue(tmp_path / "missing" / "mail.db")
    with pytest.raises(StoreUnavailable, match="cannot be locked: No such file"), turns.turn():
        pytest.fail("no turn")
