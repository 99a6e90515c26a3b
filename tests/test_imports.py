"""A command starts fast because it imports only what it needs; which does not depend on the clock."""

import os
import re
import signal
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
from ports import free_port

ROOT = Path(__file__).parent.parent
RULES = (ROOT / "rules.yaml").read_text().replace("127.0.0.1:2525", "127.0.0.1:0")
WEB = {"starlette", "sse_starlette", "uvicorn", "jinja2", "nh3", "gatepost.web"}
SERVER = {"aiosmtplib", "uvloop", "gatepost.server", "gatepost.gateway"}
STORE = {"sqlalchemy", "sqlite3", "gatepost.store"}
SELDOM = {
    "aiosmtpd",
    "alembic",
    "attr",
    "cryptography",
    "encodings.cp932",
    "rich",
    "sqlalchemy.dialects.postgresql",
    "gatepost.testing",
}
FILTERS = {"re2", "ahocorasick_rs", "puremagic"}
SELDOM_IN_A_TRAP = {
    "sqlalchemy.dialects.postgresql",
    "attr",
    "encodings.cp932",
    "cryptography",
    "gatepost.web.oidc.sign_on",
    "joserfc",
    "prometheus_client",
    "gatepost.cli.conversation",
}
ONLY_FOR_TESTS = {"pytest", "httpx", "playwright"}
BASE = {
    "asyncio",
    "ssl",
    "pydantic",
    "pluggy",
    "yaml",
    "gatepost.config",
    "gatepost.model",
    "gatepost.mime",
    "gatepost.dns",
}
EVERYTHING = WEB | SERVER | STORE | SELDOM | FILTERS | ONLY_FOR_TESTS | BASE


@contextmanager
def started(folder, *arguments, rules=RULES):
    (folder / "rules.yaml").write_text(rules)
    path = os.pathsep.join((str(ROOT / "proxy"), str(ROOT / "plugins")))
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
        (["--help"], 0, {*EVERYTHING, "email", "gatepost.cli.serve", "gatepost.cli.dns"}),
        (["--version"], 0, {*EVERYTHING, "gatepost.cli.serve"}),
        (["serve", "--help"], 0, {*EVERYTHING, "gatepost.cli.dns"} - {"pydantic"}),  # typer itself imports it
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
    assert found & unwanted == set()


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


def test_a_trap_that_waits_for_mail_has_no_module_in_memory_that_it_does_not_need(tmp_path):
    """Each module that is imported before the fork costs memory in one process, in the desk in another."""
    web = f"127.0.0.1:{free_port()}"
    with started(tmp_path, "complaints", "-q", "--smtp", "127.0.0.1:0", "--web", web) as process:
        said = ""
        for line in process.stderr:
            said += line
            if "gatepost complaints listens on" in line:
                assert urllib.request.urlopen(f"http://{web}/", timeout=30).status == 200
                process.send_signal(signal.SIGTERM)
    assert process.returncode == 0
    found = imported(said)
    assert found >= {"starlette", "nh3", "gatepost.server", "sqlalchemy", "pydantic"}
    unwanted = FILTERS | SELDOM_IN_A_TRAP | ONLY_FOR_TESTS | {"rich", "gatepost.testing"}
    assert found & unwanted == set()


def test_no_schema_of_a_request_is_made_before_the_first_request():
    code = """
from gatepost.web.api import OPERATIONS
models = {model for one in OPERATIONS for model in (one.parameters, one.body) if model.model_fields}
print(len(models), *(model.__name__ for model in models if model.__pydantic_complete__))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    number, *made = done.stdout.split()
    assert int(number) > 10
    assert made == []


def test_workers_share_what_was_imported_before_they_were_forked(tmp_path):
    with started(tmp_path, "serve", rules=f"workers: 2\n{RULES}") as process:
        said = ""
        for line in process.stderr:
            said += line
            if "gatepost listens on" in line:
                process.send_signal(signal.SIGTERM)
    assert process.returncode == 0
    for module in ("sqlalchemy", "gatepost.store.sql.writer", "aiosmtplib"):
        assert len(re.findall(rf"^import time: .*\| +{re.escape(module)}$", said, re.MULTILINE)) == 1, module
