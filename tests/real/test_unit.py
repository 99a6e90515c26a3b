"""The unit for systemd: it is well-formed, closed, and what it closes is not needed."""

import ctypes
import re
import subprocess
import sys
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[2] / "deploy" / "gatepost.service"
MEMORY_DENY_WRITE_EXECUTE = """
import ctypes, os, sys
failed = ctypes.CDLL(None).prctl(65, 1, 0, 0, 0)  # PR_SET_MDWE
os._exit(77) if failed else os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
RULES = """\
listen: 127.0.0.1:0
relay: [{recipients: "*@example.com", to: inbox}]
web: 127.0.0.1:0
rules:
  - {name: words, filter: keywords, with: {words: [viagra], patterns: ["a+b"]}}
  - {name: files, filter: attachments, with: {extensions: [exe], inside_archives: true}}
"""


@pytest.mark.real("systemd-analyze")
def test_systemd_understands_it_and_finds_it_closed(tmp_path):
    runnable = tmp_path / UNIT.name
    runnable.write_text(UNIT.read_text().replace("/opt/gatepost/bin/gatepost", "/bin/true"))
    verified = subprocess.run(
        ["systemd-analyze", "verify", runnable], capture_output=True, text=True, check=False, timeout=120
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    found = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", UNIT],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    text = UNIT.read_text()
    assert "\nType=notify\n" in text
    reload = re.search(r"^ExecReload=/opt/gatepost/bin/(gatepost reload .+)$", text, re.MULTILINE)[1]
    assert reload.split()[2:] == re.search(r"^ExecStart=\S+ serve (.+)$", text, re.MULTILINE)[1].split()
    exposure = float(re.search(r"exposure level for gatepost\.service: ([\d.]+)", found.stdout)[1])
    assert exposure <= 2.0, found.stdout


def test_nothing_needs_memory_that_is_writable_and_executable(tmp_path, gateway_class, monkeypatch):
    if ctypes.CDLL(None).prctl(66, 0, 0, 0, 0) < 0:  # PR_GET_MDWE
        pytest.skip("this kernel is older than 6.3")
    wrapper = tmp_path / "python"
    wrapper.write_text(f"#!{sys.executable}\n{MEMORY_DENY_WRITE_EXECUTE}")
    wrapper.chmod(0o755)
    (tmp_path / "rules.yaml").write_text(RULES)
    monkeypatch.setattr(sys, "executable", str(wrapper))
    running = gateway_class(tmp_path, "serve", "-c", "rules.yaml")
    try:
        assert running.send(b"Subject: x\r\n\r\nHello\r\n", "bob@example.com").startswith("250 ")
        assert running.send(b"Subject: x\r\n\r\nviagra\r\n", "bob@example.com").startswith("550 ")
    finally:
        assert running.stop() == 0
