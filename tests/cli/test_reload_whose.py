"""``gatepost reload`` asks the gateway of its settings file, and no other one that has the PID file."""

import subprocess
import sys

import pytest
from gatepost.cli import app
from typer.testing import CliRunner

ANSWER = """
import signal, sys
from pathlib import Path
from gatepost.process.pid_file import PidFile

signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP, signal.SIGTERM])
held = PidFile(Path("gatepost.db-pid"), Path(sys.argv[1]))
print("holds", flush=True)
while signal.sigwait([signal.SIGHUP, signal.SIGTERM]) == signal.SIGHUP:
    print("asked", flush=True)
    held.begins("reload")
    held.ended("reload", "reloaded", succeeded=True)
print("ends", flush=True)
"""


@pytest.fixture
def gateway(tmp_path):
    """Start what holds the PID file for a settings file; returns the process."""
    for name in ("first.yaml", "second.yaml"):
        (tmp_path / name).write_text("{}\n")
    (tmp_path / "link.yaml").symlink_to("first.yaml")
    started = []

    def start(settings):
        command = [sys.executable, "-c", ANSWER, settings]
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "holds\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("command", [["reload"], ["reload", "--replace"]])
def test_the_gateway_of_another_file_gets_no_signal(tmp_path, gateway, command):
    process = gateway("first.yaml")
    done = CliRunner().invoke(app, [*command, "-c", str(tmp_path / "second.yaml")])
    assert (done.exit_code, done.stdout) == (1, "")
    assert f"has the settings {tmp_path}/first.yaml, not {tmp_path}/second.yaml" in done.stderr
    assert "expected a pid_file for each gateway" in done.stderr
    process.terminate()
    assert process.stdout.read() == "ends\n"


@pytest.mark.parametrize(("started", "asked"), [("first.yaml", "link.yaml"), ("link.yaml", "first.yaml")])
def test_links_to_one_file_are_that_file(tmp_path, gateway, started, asked):
    process = gateway(started)
    done = CliRunner().invoke(app, ["reload", "-c", str(tmp_path / asked)])
    assert (done.exit_code, done.stdout, done.stderr) == (0, "reloaded\n", "")
    assert process.stdout.readline() == "asked\n"


def test_a_link_that_leads_elsewhere_now_is_the_same_settings(tmp_path, gateway):
    gateway("link.yaml")
    (tmp_path / "link.yaml").unlink()
    (tmp_path / "link.yaml").symlink_to("second.yaml")
    done = CliRunner().invoke(app, ["reload", "-c", str(tmp_path / "link.yaml")])
    assert (done.exit_code, done.stdout) == (0, "reloaded\n")
