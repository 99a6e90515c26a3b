"""What is installed: the wheel alone, beside packages of others."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROXY_PY = "proxy.py==2.4.10"
"""Its import name is ``proxy``, as ours once was."""


PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([*PIP, "wheel", "--no-deps", "-w", folder, ROOT], check=True)
    return next(folder.glob("gatepost-*.whl"))


@pytest.mark.long
def test_the_wheel_and_the_package_that_is_called_proxy_leave_each_other_alone(wheel, tmp_path):
    site = tmp_path / "site"
    subprocess.run([*PIP, "install", "--no-deps", "--target", site, wheel, PROXY_PY], check=True)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "import gatepost, gatepost_match, proxy, proxy.proxy;"
        "from gatepost import Verdict, hookimpl;"
        "print(gatepost.__file__, gatepost_match.__file__, proxy.__file__, proxy.Proxy.__module__)"
    )
    shown = subprocess.run(
        [sys.executable, "-P", "-c", code, site], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert shown.stdout.split() == [
        str(site / "gatepost" / "__init__.py"),
        str(site / "gatepost_match.py"),
        str(site / "proxy" / "__init__.py"),
        "proxy.proxy",
    ]
    assert not list(site.glob("proxy/gatepost*"))


USES = """
import smtplib
import sys

import gatepost_pytest


def test_pytest_has_not_imported_it_before():
    assert gatepost_pytest.__file__.startswith({site!r})
    assert not {{"gatepost", "pydantic", "aiosmtpd"}} & {{name.partition(".")[0] for name in sys.modules}}


def test_a_message_arrives(mailbox, complaints_server):
    with smtplib.SMTP(mailbox.smtp_host, mailbox.smtp_port) as smtp:
        smtp.sendmail("shop@example.org", mailbox.address("bob"), "Subject: Welcome\\n\\n")
    assert mailbox.wait_for(subject="Welcome", timeout_seconds=20).mail_from == "shop@example.org"
"""
OWN = """
import pytest


@pytest.fixture
def mailbox():
    return "mine"
"""
USES_OWN = """
def test_the_projects_own_fixture_comes_first(mailbox):
    assert mailbox == "mine"
"""


@pytest.mark.long
def test_the_fixtures_are_there_where_the_wheel_is_installed(wheel, tmp_path):
    site = tmp_path / "site"
    subprocess.run([*PIP, "install", "--no-deps", "--target", site, wheel], check=True)
    (tests := tmp_path / "tests").mkdir()
    (own := tests / "own").mkdir()
    (tests / "test_uses.py").write_text(USES.format(site=str(site)))
    (own / "conftest.py").write_text(OWN)
    (own / "test_own.py").write_text(USES_OWN)
    quiet = ["-W", "error", "-p", "no:cacheprovider", "-o", "asyncio_default_fixture_loop_scope=function"]

    def run(*options):
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", *quiet, *options, "."],
            cwd=tests,
            env={**os.environ, "PYTHONPATH": str(site)},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout + done.stderr

    assert "3 passed" in (said := run()), said
    assert "fixture 'mailbox' not found" in (said := run("-p", "no:gatepost")), said
    by_hand = ("-p", "no:gatepost", "-p", "gatepost.testing.fixtures", "-k", "arrives or own")
    assert "2 passed" in (said := run(*by_hand)), said
