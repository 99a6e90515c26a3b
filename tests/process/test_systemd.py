"""systemd is told with its own library; where that is missing, the start says what to install."""

import socket
import sys

import pytest
from gatepost.process.report import Report
from gatepost.process.systemd import Systemd


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path, monkeypatch):
    """The socket to which a service manager listens, by both kinds of names."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@{tmp_path}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(name.replace("@", "\0"))
        bound.settimeout(0)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        yield bound


def told(manager):
    found = []
    while True:
        try:
            found += manager.recv(4096).decode().splitlines()
        except BlockingIOError:
            return found


def test_each_event_is_told_in_systemds_words(manager, tmp_path):
    with Report.opened(tmp_path / "pid", None) as report:
        assert told(manager) == []
        report.ready()
        assert told(manager) == ["STATUS=all workers listen", "READY=1"]
        report.begins("reload")
        assert told(manager) == ["RELOADING=1"]
        report.ended("reload", "rules.yaml:1:1: no\nrules.yaml:2:1: no", succeeded=False)
        assert told(manager) == ["STATUS=rules.yaml:1:1: no", "READY=1"]
        report.stopping()
        assert told(manager) == ["STOPPING=1"]


def test_without_a_manager_that_waits_nothing_is_loaded(monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.setitem(sys.modules, "cysystemd", None)
    assert Systemd.that_waits() is None


def test_a_missing_library_is_said_with_the_remedy(monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    monkeypatch.setitem(sys.modules, "cysystemd", None)
    with pytest.raises(OSError, match=r"pip install 'gatepost\[systemd\]'"):
        Systemd.that_waits()


@pytest.mark.parametrize("fault", ["taken", "folder"])
def test_a_gateway_without_a_pid_file_runs_and_warns(tmp_path, caplog, fault, monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    path = tmp_path / "pid" if fault == "taken" else tmp_path / "missing" / "pid"
    if fault == "taken":
        path.write_text("something else\n")
    with Report.opened(path, None) as report:
        report.ready()
        report.ended("reload", "reloaded", succeeded=True)
    assert "no PID file, so that gatepost reload cannot be used" in caplog.text
    assert str(path) in caplog.text
