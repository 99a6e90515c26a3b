"""A command starts fast because it imports only what it needs; which does not depend on the clock."""

import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RULES = (ROOT / "rules.yaml").read_text().replace("127.0.0.1:2525", "127.0.0.1:0")
WEB = {"starlette", "sse_starlette", "uvicorn", "jinja2", "nh3", "gatepost.web"}
SERVER = {"aiosmtpd", "aiosmtplib", "uvloop", "gatepost.server", "gatepost.gateway"}
STORE = {"sqlalchemy", "sqlite3", "gatepost.store"}
SELDOM = {"alembic", "cryptography", "rich", "gatepost.testing"}
FILTERS = {"re2", "ahocorasick_rs", "puremagic"}
ONLY_FOR_TESTS = {"pytest", "httpx", "playwright"}


@contextmanager
def started(folder, *arguments):
    (folder / "rules.yaml").write_text(RULES)
    path = os.pathsep.join((str(ROOT), str(ROOT / "plugins")))
    process = subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "gatepost", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def imported(said):
    return set(re.findall(r"^import time: .*\| +(\S+)$", said, re.MULTILINE))


@pytest.mark.parametrize(
    ("arguments", "status", "unwanted"),
    [
        (["--help"], 0, {*WEB, *SERVER, *STORE, *SELDOM, *FILTERS, *ONLY_FOR_TESTS, "gatepost.config"}),
        (["--version"], 0, {*WEB, *SERVER, *STORE, *SELDOM, *FILTERS, *ONLY_FOR_TESTS, "gatepost.config"}),
        (["check"], 0, {*WEB, *SERVER, *STORE, *SELDOM, *ONLY_FOR_TESTS}),
        (["quarantine", "list"], 1, {*WEB, *SERVER, *SELDOM, *FILTERS, *ONLY_FOR_TESTS}),
        (["journal"], 1, {*WEB, *SERVER, *SELDOM, *FILTERS, *ONLY_FOR_TESTS}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_command_imports_what_it_needs_and_no_more(arguments, status, unwanted, tmp_path):
    with started(tmp_path, *arguments) as process:
        found = imported(process.communicate(timeout=60)[1])
    assert process.returncode == status
    assert "gatepost.cli" in found
    assert not found & unwanted


def test_a_gateway_that_takes_mail_has_nothing_of_the_desk_and_of_rare_commands(tmp_path):
    with started(tmp_path, "serve") as process:
        said = ""
        for line in process.stderr:
            said += line
            if "gatepost listens on" in line:
                process.send_signal(signal.SIGTERM)
    found = imported(said)
    assert found >= SERVER | STORE | FILTERS
    assert not found & (WEB | SELDOM | ONLY_FOR_TESTS)
