"""The PID file belongs to one process, whatever its children do and however it ended."""

import os
import signal
import stat
import subprocess
import sys

import pytest
from gatepost.config import load
from gatepost.process.pid_file import Outcome, PidFile, outcomes, pid_file_of, running_process

HOLD = """
import os, sys, time
from pathlib import Path
from gatepost.process.pid_file import PidFile

held = PidFile(Path(sys.argv[1]), None)
child = os.fork()
if child:
    print(child, flush=True)
time.sleep(60)
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "gatepost.db-pid"


@pytest.fixture
def held(path):
    """A process that holds the file, with a child."""
    with subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE, text=True) as process:
        child = process.stdout.readline()
        yield process
        os.kill(int(child), signal.SIGKILL)
        process.kill()


def test_it_names_the_process_that_runs(path, held):
    assert path.read_text() == f"{held.pid}\n"
    assert running_process(path) == held.pid
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    with pytest.raises(OSError, match="another gateway that runs has this file"):
        PidFile(path, None)
    assert running_process(path) == held.pid


def test_a_file_that_was_left_behind_names_nobody_even_while_a_child_lives(path, held):
    held.kill()
    held.wait()
    assert path.read_text() == f"{held.pid}\n"
    assert running_process(path) is None
    again = PidFile(path, None)
    assert path.read_text() == f"{os.getpid()}\n"
    again.close()
    assert not path.exists()


def test_where_there_is_no_file_there_is_no_gateway(path):
    assert running_process(path) is None


@pytest.mark.parametrize("content", ["SQLite format 3\0", "hello\n", "12 34\n"])
def test_a_file_that_is_none_is_left_as_it_is(path, content):
    path.write_text(content)
    with pytest.raises(OSError, match="is not a PID file"):
        PidFile(path, None)
    assert path.read_text() == content


def test_no_link_is_followed(path, tmp_path):
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        PidFile(path, None)
    assert not (tmp_path / "elsewhere").exists()


def test_the_last_outcome_of_each_operation_is_beside_it(path):
    file = PidFile(path, None)
    assert outcomes(path) == {"reload": Outcome(), "replace": Outcome()}
    file.begins("reload")
    file.ended("reload", "rules.yaml:1:1: no", succeeded=False)
    found = outcomes(path)["reload"]
    assert found == Outcome(begun=1, ended=1, succeeded=False, message="rules.yaml:1:1: no")
    file.begins("reload")
    assert (outcomes(path)["reload"].begun, outcomes(path)["reload"].ended) == (2, 1)
    file.ended("reload", "reloaded", succeeded=True)
    assert outcomes(path) == {
        "reload": Outcome(begun=2, ended=2, succeeded=True, message="reloaded"),
        "replace": Outcome(),
    }
    file.close()
    assert [one.name for one in path.parent.iterdir()] == []


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ("store: {url: 'sqlite:///mail/x.db'}\n", "mail/x.db-pid"),
        ("pid_file: run/gatepost.pid\n", "run/gatepost.pid"),
        ("{}\n", "gatepost.db-pid"),
    ],
)
def test_it_is_beside_the_store_unless_it_is_set(tmp_path, settings, name):
    (tmp_path / "rules.yaml").write_text(settings)
    assert pid_file_of(load(tmp_path / "rules.yaml")) == tmp_path / name
