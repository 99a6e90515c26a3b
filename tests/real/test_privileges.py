"""Root binds the ports; another user does everything else."""

import os
import pwd
import shutil
import signal
import site
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from proxy.certificate import make_certificate
from proxy.privileges import become

MESSAGE = b"Subject: low\r\n\r\nHello\r\n"
NOBODY = pwd.getpwnam("nobody")
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


@pytest.fixture
def place():
    """A folder of nobody's, and a Python whose packages nobody may read."""
    with tempfile.TemporaryDirectory(prefix="gatepost-", ignore_cleanup_errors=True) as folder:
        root = Path(folder)
        root.chmod(0o755)
        (own := root / "own").mkdir()
        os.chown(own, NOBODY.pw_uid, NOBODY.pw_gid)
        here = Path(__file__).parents[2]
        packages = [*map(Path, site.getsitepackages()), here / "proxy", here / "plugins"]
        packages = [one for one in packages if one.is_dir()]
        if not all(is_for_everybody(one) for one in packages):
            copies = root / "packages"
            for one in packages:
                shutil.copytree(one, copies / (one.name if one.name == "proxy" else "."), dirs_exist_ok=True)
            path = str(copies)
        else:
            path = os.pathsep.join([str(here), str(here / "plugins"), *map(str, packages[:-2])])
        yield own, {"PYTHONPATH": path}


def is_for_everybody(path):
    return all(one.stat().st_mode & stat.S_IROTH for one in (path, *path.parents))


@pytest.fixture
def serve(place, monkeypatch):
    """A gateway in nobody's folder, which root starts, with the groups that root has on a real machine."""
    own, environment = place
    before = os.getgroups()
    os.setgroups([0, 1, 2, 3])
    monkeypatch.setattr(sys, "executable", sys._base_executable)
    running = []

    def start(gateway_class, rules):
        (own / "rules.yaml").write_text(rules)
        running.append(gateway_class(own, "serve", "-c", "rules.yaml", **environment))
        return running[-1]

    yield start
    os.setgroups(before)
    for one in running:
        one.stop()


def low_port():
    """A free one that only root may bind."""
    for port in range(600, 1024):
        with socket.socket() as free:
            try:
                free.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port below 1024 is free")


RULES = """
    hostname: gateway.example.net
    listen: "127.0.0.1:{port}"
    user: nobody
    workers: {workers}
    relay: [{{recipients: "*@example.com", to: inbox}}]
    rules: [{{name: words, filter: keywords, with: {{words: [viagra]}}}}]
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_with_its_port_bound_the_gateway_is_nobody_for_good(serve, wait_until, gateway_class, workers):
    port = low_port()
    running = serve(gateway_class, RULES.format(port=port, workers=workers))
    assert running.port == port
    assert running.send(MESSAGE, "bob@example.com").startswith("250 ")
    assert running.send(b"Subject: x\r\n\r\nviagra\r\n", "bob@example.com").startswith("550 ")
    processes = [psutil.Process(running.pid), *psutil.Process(running.pid).children()]
    assert len(processes) == (1 if workers == 1 else 3)
    for process in processes:
        assert set(process.uids()) == {NOBODY.pw_uid}
        assert set(process.gids()) == {NOBODY.pw_gid}
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert "CapEff:\t0000000000000000" in status
        assert "CapPrm:\t0000000000000000" in status
        groups = next(line for line in status.splitlines() if line.startswith("Groups:"))
        assert {*map(int, groups.split()[1:])} == {*os.getgrouplist("nobody", NOBODY.pw_gid)}
    assert (running.folder / "gatepost.db").stat().st_uid == NOBODY.pw_uid
    running.kill(signal.SIGHUP)
    running.logs("reloaded")
    if workers > 1:
        running.kill(signal.SIGUSR2)
        running.logs("all workers have been replaced")
    assert running.send(MESSAGE, "bob@example.com").startswith("250 "), "it still has its port"


def test_a_store_that_the_user_cannot_write_is_named(serve, gateway_class, place):
    own, _ = place
    own.chmod(0o755)
    os.chown(own, 0, 0)
    with pytest.raises(AssertionError, match=r"gatepost\.db"):
        serve(gateway_class, RULES.format(port=0, workers=1))


def test_check_sees_what_the_user_cannot_read(serve, place):
    own, environment = place
    certificate, key = make_certificate(own)
    certificate.chmod(0o644)
    os.chown(key, 0, 0)
    key.chmod(0o600)
    listen = f"listen: {{address: '127.0.0.1:0', tls: {{certificate: {certificate}, key: {key}}}}}\n"
    (own / "rules.yaml").write_text(listen + "user: nobody\n")
    command = [sys.executable, "-m", "proxy", "check"]
    environment = {**os.environ, **environment}

    def checked():
        return subprocess.run(
            command, cwd=own, env=environment, capture_output=True, text=True, check=False, timeout=30
        )

    refused = checked()
    assert refused.returncode == 2
    assert refused.stderr.startswith("rules.yaml:1:"), refused.stderr
    assert f"{key}', expected a file that exists and can be read" in refused.stderr
    os.chown(key, NOBODY.pw_uid, NOBODY.pw_gid)
    assert checked().returncode == 0


def test_only_root_becomes_somebody_else_and_there_is_no_way_back():
    program = os.fork()
    if program == 0:
        become("nobody")
        become("nobody")
        try:
            become("daemon")
        except PermissionError:
            os._exit(0)
        os._exit(1)
    assert os.waitpid(program, 0)[1] == 0
