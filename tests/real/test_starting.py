"""Signals while the gateway starts: they are remembered, and none ends it."""

import contextlib
import re
import signal
import smtplib
import subprocess
import sys
import time
from pathlib import Path

import pytest

MESSAGE = b"Subject: hello\r\n\r\nHello\r\n"
COMMAND = "from gatepost_start import main; main()"
"""What pip writes into bin/gatepost."""


def blocks(process, number):
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"^SigBlk:\s+([0-9a-f]+)$", status, re.MULTILINE)[1], 16) >> (number - 1) & 1


def test_what_blocks_signals_comes_before_all_that_takes_long():
    command = [sys.executable, "-X", "importtime", "-c", "import gatepost_start"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    imported = set(re.findall(r"^import time: .*\| +(\S+)$", said, re.MULTILINE))
    assert "gatepost_start" in imported
    assert not imported & {"gatepost", "typer", "pydantic"}


LOOK = """
import signal, sys
import gatepost_start

class Looks:
    def find_spec(self, name, path, target=None):
        if name.startswith("gatepost"):
            print(*sorted(one.name for one in signal.pthread_sigmask(signal.SIG_BLOCK, ())))
            raise SystemExit

sys.meta_path.insert(0, Looks())
gatepost_start.main()
"""


@pytest.mark.parametrize(
    ("command", "blocked"),
    [("serve", "SIGHUP SIGUSR2"), ("complaints", "SIGUSR2"), ("journal", ""), ("--help", "")],
)
def test_signals_are_blocked_before_the_package_is_imported(environment, command, blocked):
    done = subprocess.run(
        [sys.executable, "-c", LOOK, command], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{blocked}\n"


@pytest.mark.parametrize(
    "rules", ["", "workers: 2\nweb: 127.0.0.1:0\n"], ids=["one worker", "workers and desk"]
)
def test_signals_from_the_first_moment_on_are_remembered(
    gateway_class, write_rules, wait_until, tmp_path, environment, rules
):
    write_rules(tmp_path, rules)
    with (tmp_path / "stderr").open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, "serve"], cwd=tmp_path, env=environment, stderr=errors
        )
    log = tmp_path / "stderr"
    try:
        wait_until(lambda: blocks(process, signal.SIGHUP), "signals are blocked")
        sent = 0
        while "listens on" not in log.read_text():
            assert process.poll() is None, log.read_text()
            process.send_signal(signal.SIGHUP)
            process.send_signal(signal.SIGUSR2)
            sent += 1
            time.sleep(0.001)
        assert sent >= 5
        wait_until(lambda: "all workers have been replaced" in log.read_text(), "SIGUSR2 was remembered")
        wait_until(lambda: " reloaded" in log.read_text(), "SIGHUP too")
        port = int(re.search(r"listens on 127\.0\.0\.1:(\d+)", log.read_text())[1])
        wait_until(lambda: takes_mail(port), "mail is taken; a worker that is being replaced says 421")
    finally:
        process.terminate()
        assert process.wait(60) == 0, log.read_text()
    assert " ERROR " not in log.read_text()


def takes_mail(port):
    with contextlib.suppress(smtplib.SMTPException), smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
        return client.sendmail("alice@example.org", ["bob@example.com"], MESSAGE) == {}
    return False
