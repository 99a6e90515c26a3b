"""What the options and markers of this suite promise, with and without pytest-xdist."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SETTINGS = """\
[pytest]
addopts = --strict-markers
markers =
  real: needs a program
  alone: no other test runs meanwhile
  long: takes long
"""
ALONE = """\
import time
from pathlib import Path

import pytest

RUNNING = Path(__file__).parent / "running"


@pytest.mark.parametrize("number", range(8))
def test_any(number):
    (RUNNING / str(number)).touch()
    time.sleep(0.1)
    (RUNNING / str(number)).unlink()


@pytest.mark.alone
@pytest.mark.parametrize("number", range(2))
def test_alone(number):
    for _ in range(20):
        assert not [*RUNNING.iterdir()]
        time.sleep(0.01)
"""
MISSING = """\
import conftest
import pytest

conftest.STARTED_BY_FIXTURES["behind"] = "no-such-program"


@pytest.fixture
def behind(): ...


@pytest.fixture
def measured(behind): ...


@pytest.mark.real("no-such-program")
def test_needs_it(): ...


def test_needs_it_by_a_fixture(measured): ...


def test_needs_nothing(): ...
"""
LONG = """\
import pytest


@pytest.mark.long
def test_long(): ...


def test_short(): ...
"""


@pytest.fixture
def run(tmp_path):
    """Run these tests with this suite's options; the exit status and what was written."""
    (tmp_path / "pytest.ini").write_text(SETTINGS)
    (tmp_path / "running").mkdir()
    shutil.copy(HERE / "conftest.py", tmp_path)

    def run(tests, *options, path="."):
        (tmp_path / "test_it.py").write_text(tests)
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "xdist", *options, path],
            cwd=tmp_path,
            env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        return done.returncode, done.stdout + done.stderr

    return run


@pytest.mark.long
def test_while_a_test_is_alone_no_other_worker_runs_one(run):
    status, said = run(ALONE, "-n3", "--dist=load", "--maxschedchunk=1")
    assert status == 0, said
    assert "10 passed" in said


@pytest.mark.long
def test_what_is_alone_runs_first(run):
    status, said = run(ALONE, "-n0", "--collect-only")
    assert status == 0, said
    names = [line.partition("::")[2] for line in said.splitlines() if "::" in line]
    assert names[:3] == ["test_alone[0]", "test_alone[1]", "test_any[0]"]


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
@pytest.mark.long
def test_what_needs_a_program_is_skipped_where_that_is_not_installed(run, workers):
    status, said = run(MISSING, workers)
    assert status == 0, said
    assert "1 passed, 2 skipped" in said


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
@pytest.mark.long
def test_without_skips_nothing_runs_and_the_program_is_named(run, workers):
    status, said = run(MISSING, workers, "--no-skips")
    assert status != 0
    assert "not installed: no-such-program" in said
    assert "passed" not in said


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
@pytest.mark.long
def test_without_skips_a_test_that_skips_itself_fails_the_run(run, workers):
    tests = "import pytest\ndef test_it():\n    pytest.skip('no reason')\n"
    assert run(tests, workers)[0] == 0
    assert run(tests, workers, "--no-skips")[0] == pytest.ExitCode.TESTS_FAILED


@pytest.mark.parametrize(
    ("options", "path", "outcome"),
    [
        ([], ".", "1 passed, 1 skipped"),
        (["-n2"], ".", "1 passed, 1 skipped"),
        (["--long"], ".", "2 passed"),
        ([], "test_it.py", "2 passed"),
        ([], "test_it.py::test_long", "1 passed"),
        (["--no-skips"], ".", "1 passed, 1 skipped"),
    ],
)
@pytest.mark.long
def test_a_long_test_runs_at_full_length_or_where_it_is_named(run, options, path, outcome):
    status, said = run(LONG, *options, path=path)
    assert status == 0, said
    assert outcome in said


@pytest.mark.long
def test_what_takes_more_yardsticks_than_it_may_fails(run):
    tests = (
        "import pytest\n"
        "@pytest.mark.parametrize('times', [1, 100])\n"
        "def test_it(times, within_yardsticks):\n"
        "    with within_yardsticks(10):\n"
        "        sum(n % 7 for n in range(400_000 * times))\n"
    )
    status, said = run(tests, "-n0")
    assert status == pytest.ExitCode.TESTS_FAILED
    assert "1 failed, 1 passed" in said
    assert "yardsticks of processor time" in said
