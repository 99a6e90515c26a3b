"""The benchmarks work with the code as it is, with next to no mail."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


def output(*command):
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.long
def test_the_questions_to_a_large_store_are_measured():
    said = output("desk.py", "--messages", 60, "--turns", 1)
    assert "60 counted" in said


@pytest.mark.long
@pytest.mark.real("postgres")
def test_both_stores_are_asked_for_the_same_pages():
    said = output("large_store.py", "--messages", 20, "--records", 20, "--turns", 1)
    for page in ("search, a word", "journal, a rule", "open, 20 messages"):
        assert re.search(rf"^{page}(?:\t[\d.]+){{4}}\t", said, re.MULTILINE), said


@pytest.mark.long
@pytest.mark.real("postgres", "smtp-source", "smtp-sink")
def test_stores_that_nodes_share_are_measured_beside_a_file():
    said = output("cluster.py", "--turns", 1, "--seconds", 0.01, "--sessions", 4)
    for end in ("relayed", "kept"):
        for setup in ("2 workers, SQLite", "2 workers, PostgreSQL", "2 nodes of 1 worker, PostgreSQL"):
            assert re.search(rf"\| {end}, reused: {setup} \| [1-9][\d,]* \(.*\) \| [\d.]+ x \| ", said), said


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py")))
def test_what_a_benchmark_imports_is_there(name):
    output("-c", f"import {name}")


@pytest.mark.skipif(not shutil.which("clamd", path="/usr/sbin"), reason="needs clamav-daemon")
@pytest.mark.skipif(not shutil.which("smtp-sink", path="/usr/sbin"), reason="needs postfix")
def test_a_tiny_round_with_clamd_is_measured():
    rows = ["clamd alone", "Gatepost with clamav"]
    said = output(
        *("run.py", "--only", "scanners", "--scanners", "clamd", "--turns", 1, "--seconds", 0.01),
        *("--rows", *rows),
    )
    for row in rows:
        assert len(re.findall(rf"\| {row} \| [\d,]+ \([\d,]+-[\d,]+\) \| ", said)) >= 2, said
    assert "100 KB, 8 sessions, reused: Gatepost with clamav against clamd alone | at least 0.95 x | " in said
    assert "failed" not in said
