"""Root binds the ports; another user does everything else."""

import grp
import os
import pwd
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from gatepost.process.certificate import make_certificate
from gatepost.process.privileges import drop_privileges

MESSAGE = b"Subject: low\r\n\r\nHello\r\n"
NOBODY = pwd.getpwnam("nobody")
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


@pytest.fixture
def serve(nobodys, monkeypatch):
    """A gateway in nobody's folder, which root starts, with the groups that root has on a real machine."""
    own, environment = nobodys
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


RULES = """
    hostname: gateway.example.net
    listen: "127.0.0.1:{port}"
    user: nobody
    {group}
    workers: {workers}
    relay: [{{recipients: "*@example.com", to: inbox}}]
    rules: [{{name: words, filter: keywords, with: {{words: [viagra]}}}}]
"""


@pytest.mark.parametrize(("workers", "group"), [(1, ""), (1, "daemon"), (2, "daemon")])
@pytest.mark.long
def test_with_port_25_bound_the_gateway_is_nobody_for_good(
    serve, own_network, gateway_class, nobodys, workers, group
):
    rules = RULES.format(port=25, workers=workers, group=group and f"group: {group}")
    if workers > 1:
        rules += "    web: unix:desk.sock\n"
    gid = grp.getgrnam(group).gr_gid if group else NOBODY.pw_gid
    running = own_network(serve, gateway_class, rules)
    assert running.port == 25
    assert own_network(running.send, MESSAGE, "bob@example.com").startswith("250 ")
    spam = b"Subject: x\r\n\r\nviagra\r\n"
    assert own_network(running.send, spam, "bob@example.com").startswith("550 ")
    processes = [psutil.Process(running.pid), *psutil.Process(running.pid).children()]
    assert len(processes) == workers + 1 + (workers > 1)
    for process in processes:
        assert set(process.uids()) == {NOBODY.pw_uid}
        assert set(process.gids()) == {gid}
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert "CapEff:\t0000000000000000" in status
        assert "CapPrm:\t0000000000000000" in status
        groups = next(line for line in status.splitlines() if line.startswith("Groups:"))
        assert {*map(int, groups.split()[1:])} == {*os.getgrouplist("nobody", gid)}
    store = (running.folder / "gatepost.db").stat()
    assert (store.st_uid, store.st_gid) == (NOBODY.pw_uid, gid)
    running.kill(signal.SIGHUP)
    running.logs("reloaded")
    if workers > 1:
        desk = (running.folder / "desk.sock").stat()
        assert (desk.st_uid, desk.st_gid, desk.st_mode & 0o777) == (NOBODY.pw_uid, gid, 0o600)
        command = [sys.executable, "-m", "gatepost", "reload", "--replace"]
        done = subprocess.run(
            command,
            cwd=running.folder,
            env={**os.environ, **nobodys[1]},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert (done.returncode, done.stdout) == (0, "all workers have been replaced\n"), done.stderr
        psutil.wait_procs(processes[1:], timeout=60)  # until then one may take a client, and say 421
    assert own_network(running.send, MESSAGE, "bob@example.com").startswith("250 "), "it still has its port"


def test_a_store_that_the_user_cannot_write_is_named(serve, gateway_class, nobodys):
    own, _ = nobodys
    own.chmod(0o755)
    os.chown(own, 0, 0)
    with pytest.raises(AssertionError, match=r"gatepost\.db"):
        serve(gateway_class, RULES.format(port=0, workers=1, group=""))


def test_check_sees_what_the_user_cannot_read(serve, nobodys):
    own, environment = nobodys
    certificate, key = make_certificate(own)
    certificate.chmod(0o644)
    os.chown(key, 0, 0)
    key.chmod(0o600)
    listen = f"listen: {{address: '127.0.0.1:0', tls: {{certificate: {certificate}, key: {key}}}}}\n"
    (own / "rules.yaml").write_text(listen + "user: nobody\n")
    command = [sys.executable, "-m", "gatepost", "check"]
    environment = {**os.environ, **environment}

    def checked():
        return subprocess.run(
            command, cwd=own, env=environment, capture_output=True, text=True, check=False, timeout=120
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
        drop_privileges("nobody")
        drop_privileges("nobody")
        try:
            drop_privileges("daemon")
        except PermissionError:
            os._exit(0)
        os._exit(1)
    assert os.waitpid(program, 0)[1] == 0
