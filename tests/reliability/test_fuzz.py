"""A little of what fuzz.py does for as long as one likes."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    "kind", ["play_sessions", "play_pipelined", "read_paths", "read_settings", "read_mime"]
)
def test_nothing_that_comes_to_mind_does_what_it_should_not(kind, pytestconfig):
    program = Path(__file__).with_name("fuzz.py")
    seconds = "4" if pytestconfig.getoption("--long") else "1"
    command = [sys.executable, program, "--kind", kind, "--seconds", seconds, "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
