"""The limit of open files follows limits.connections; in a process of its own, since it lasts."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import logging, resource, sys
from gatepost.process.open_files import allow_open_files

logging.basicConfig(format="%(message)s")
soft, hard, connections = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
allow_open_files(connections)
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "connections", "expected", "warned"),
    [
        (256, 4000, 1000, "3200 4000", ""),
        (3500, 4000, 1000, "3500 4000", ""),
        (256, 2000, 1000, "2000 2000", "needs 3200 open files, but only 2000 are allowed"),
    ],
    ids=["raised", "enough", "as far as allowed"],
)
def test_there_are_descriptors_for_all_connections_or_a_warning(soft, hard, connections, expected, warned):
    arguments = [str(number) for number in (soft, hard, connections)]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == expected
    assert warned in done.stderr
    assert bool(done.stderr) == bool(warned)
