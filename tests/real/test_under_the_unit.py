"""A whole life of the gateway with what deploy/gatepost.service leaves it: no root, one folder, few calls.

What systemd would do before ExecStart a script does here: user, capabilities, mounts, /proc, umask.
"""

import io
import json
import os
import pwd
import re
import signal
import smtplib
import ssl
import subprocess
import sys
import urllib.request
import zipfile
from email.message import EmailMessage
from pathlib import Path

import psutil
import pytest
from gatepost.process.certificate import make_certificate
from gatepost.server import hash_password
from gatepost.testing import FakeUpstream

UNIT = Path(__file__).parents[2] / "deploy" / "gatepost.service"
SCRIPT = """\
#!/bin/sh -e
# ProtectSystem=strict, StateDirectory, ProtectProc=invisible, ProcSubset=pid; then User, UMask, capabilities
[ -n "$UNSHARED" ] || UNSHARED=yes exec unshare --mount "$0" "$@"
mount --bind {state} {state}
while read -r _ where _; do
    case "$where" in
        /proc* | /sys* | /dev* | {state}) ;;
        *) mount -o remount,bind,ro "$where" ;;
    esac
done < /proc/self/mounts
mount -t proc -o hidepid=invisible,subset=pid proc /proc
umask {umask}
cd {state}
exec setpriv --reuid nobody --regid nogroup --clear-groups --no-new-privs --bounding-set {capabilities} \\
    --inh-caps {capabilities} --ambient-caps {capabilities} {tracer} {python} {shim} {python} "$@"
"""
SHIM = """\
# MemoryDenyWriteExecute, and of RestrictAddressFamilies that there is no AF_NETLINK
import ctypes, os, platform, struct, sys

libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(65, 1, 0, 0, 0)  # PR_SET_MDWE, where the kernel has it
socket = {"x86_64": 41, "aarch64": 198}[platform.machine()]
EAFNOSUPPORT, AF_NETLINK = 97, 16
program = b"".join(struct.pack("=HBBI", *instruction) for instruction in [
    (0x20, 0, 0, 0),  # the number of the call
    (0x15, 0, 3, socket),
    (0x20, 0, 0, 16),  # its first argument
    (0x15, 0, 1, AF_NETLINK),
    (0x06, 0, 0, 0x00050000 | EAFNOSUPPORT),
    (0x06, 0, 0, 0x7FFF0000),  # allowed
])
filter = ctypes.create_string_buffer(program, len(program))
head = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(filter))
if libc.prctl(22, 2, ctypes.c_char_p(head), 0, 0):  # PR_SET_SECCOMP
    os._exit(77)
os.execv(sys.argv[1], sys.argv[1:])
"""
RULES = """
hostname: gateway.example.net
listen:
  - {{address: "127.0.0.1:25", tls: {{certificate: certificate.pem, key: key.pem}}}}
  - {{address: "127.0.0.1:587", tls: {{certificate: certificate.pem, key: key.pem, mode: implicit}},
      auth: {{users: users.yaml}}}}
workers: 2
relay:
  - {{recipients: "*@example.com", to: "smtp://localhost:{upstream}"}}
  - {{recipients: "*@inbox.example", to: inbox}}
store: {{url: "sqlite:///mail.db", conversations: true}}
web: {{address: "127.0.0.1:8025", password_file: password}}
lists: {{words: words.txt}}
rules:
  - {{name: local, filter: "./slow.py:Slow"}}
  - {{name: words, filter: keywords, with: {{words: $words, patterns: ["via+gra"]}}}}
  - {{name: files, filter: attachments, with: {{extensions: [exe], inside_archives: true}}}}
  - {{name: kept, filter: match, when: {{recipient: kept@example.com}}, action: quarantine}}
"""
SLOW = """
import time

from gatepost import hookimpl


class Slow:
    @hookimpl
    def filter_message(self, transaction):
        time.sleep(0.01)
"""
HELLO = b"Subject: hello\r\n\r\nHello\r\n"
CALL = re.compile(r"\d+ +(?:<\.\.\. )?(?P<name>\w+)(?:\((?P<family>AF_\w+)?| resumed>)")


def settings(name):
    return re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.MULTILINE)


def allowed_calls():
    """What SystemCallFilter leaves, as systemd expands its groups; @default is always among it."""
    listing = subprocess.run(
        ["systemd-analyze", "syscall-filter", "--no-pager"], capture_output=True, text=True, check=True
    ).stdout
    groups = {
        found[1]: re.findall(r"^    ([@\w-]+)$", found[2], re.MULTILINE)
        for found in re.finditer(r"^(@[\w-]+)\n((?:    .*\n)*)", listing, re.MULTILINE)
    }

    def expanded(name):
        if not name.startswith("@"):
            return {name}
        return set().union(*(expanded(member) for member in groups[name]))

    allowed = expanded("@default")
    for line in settings("SystemCallFilter"):
        for name in line.removeprefix("~").split():
            allowed = allowed - expanded(name) if line.startswith("~") else allowed | expanded(name)
    return allowed


PASSWORD = "swordfish"
NOBODY = pwd.getpwnam("nobody")
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can take away what the unit does")
FACTS = """
import json, os, socket, sys

def refusal(function, *arguments):
    try:
        function(*arguments)
    except OSError as error:
        return error.strerror

status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines())
print(json.dumps({
    "user": (os.getuid(), os.geteuid(), os.getgroups()),
    "capabilities": [status[name] for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")],
    "no new privileges": status["NoNewPrivs"],
    "one of root's processes": os.path.exists("/proc/1"),
    "umask": os.umask(0),
    "writes": {place: refusal(open, os.path.join(place, "x"), "w") for place in sys.argv[1:]},
    "netlink": refusal(socket.socket, socket.AF_NETLINK, socket.SOCK_RAW),
}))
"""


@pytest.fixture
def confine(nobodys, own_network, tmp_path):
    """Makes a command that is Python with what the unit leaves it, after an optional tracer."""
    state, _ = nobodys
    python = sys._base_executable
    try:
        subprocess.run([python, "-c", ""], user="nobody", group="nogroup", extra_groups=(), check=True)
    except OSError:
        pytest.skip(f"the user nobody may not run {python}")

    def made(tracer=""):
        (state.parent / "shim.py").write_text(SHIM)
        (capability,) = settings("AmbientCapabilities")
        launcher = state.parent / "python"
        text = SCRIPT.format(
            state=state,
            umask=settings("UMask")[0],
            capabilities=f"-all,+{capability.removeprefix('CAP_').lower()}",
            tracer=tracer,
            python=python,
            shim=state.parent / "shim.py",
        )
        launcher.write_text(text)
        launcher.chmod(0o755)
        return launcher

    return made


@pytest.mark.real("setpriv", "unshare")
def test_what_the_unit_takes_away_is_gone(confine, nobodys, own_network, tmp_path):
    state, _ = nobodys
    command = [confine(), "-c", FACTS, "/", "/tmp", state.parent, state]
    done = own_network(subprocess.run, command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts.pop("umask") == 0o077
    assert facts.pop("writes") == {
        "/": "Read-only file system",
        "/tmp": "Read-only file system",
        str(state.parent): "Read-only file system",
        str(state): None,
    }
    assert facts == {
        "user": [NOBODY.pw_uid, NOBODY.pw_uid, []],
        "capabilities": [f"{1 << 10:016x}"] * 4,
        "no new privileges": "1",
        "one of root's processes": False,
        "netlink": "Address family not supported by protocol",
    }


@pytest.fixture
def upstream(nobodys, own_network):
    """A server in the gateway's network, which speaks TLS with the gateway's own certificate."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*make_certificate(nobodys[0]))
    server = FakeUpstream(tls=tls)
    own_network(server.__enter__)
    yield server
    server.__exit__()


def deliver(running):
    """Mail for everybody, from a client with TLS and from one with a password."""
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    attached = EmailMessage()
    attached.set_content("See below.")
    with zipfile.ZipFile(archive := io.BytesIO(), "w") as file:
        file.writestr("prize.exe", "MZ")
    attached.add_attachment(archive.getvalue(), maintype="application", subtype="zip", filename="prize.zip")
    with running.smtp() as client:
        client.starttls(context=anybody)
        assert client.transact(HELLO).startswith("250 ")
        assert client.transact(b"Subject: large\r\n\r\n" + b"0123456789\r\n" * 100_000).startswith("250 ")
        assert client.transact(HELLO, "bob@inbox.example").startswith("250 ")
        assert client.transact(HELLO, "kept@example.com").startswith("250 ")
        assert client.transact(b"Subject: a wire transfer\r\n\r\n").startswith("550 ")
        assert client.transact(b"Subject: viagra\r\n\r\n").startswith("550 ")
        assert client.transact(attached.as_bytes(policy=attached.policy.clone(linesep="\r\n"))).startswith(
            "550 "
        )
    with smtplib.SMTP_SSL("127.0.0.1", 587, context=anybody, timeout=60) as client:
        client.login("ann", PASSWORD)
        client.sendmail("ann@example.org", ["bob@example.com"], HELLO)


def look_at_the_desk():
    """Read what came, and release what was kept."""

    def ask(path, form=None):
        request = urllib.request.Request(
            f"http://127.0.0.1:8025{path}", form, {"Authorization": f"Bearer {PASSWORD}"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read().decode()

    (message,) = json.loads(ask("/api/v1/wait?timeout=15&query=hello+is:inbox"))["messages"]
    assert "Hello" in ask(f"/api/v1/messages/{message['id']}/raw")
    assert "gatepost_" in ask("/metrics")
    for page in ("/", "/overview", "/journal", "/sessions"):
        assert "<html" in ask(page)
    (held,) = json.loads(ask("/api/v1/messages?query=is:quarantined"))["messages"]
    assert "Hello" in ask(f"/messages/{held['id']}")
    ask(f"/messages/{held['id']}/release", b"")
    assert json.loads(ask("/api/v1/messages?query=is:released"))["messages"][0]["id"] == held["id"]


def children(running):
    return {child.pid for child in psutil.Process(running.pid).children()}


@pytest.mark.real("setpriv", "unshare", "strace", "systemd-analyze")
@pytest.mark.long
def test_a_whole_life_needs_no_more_than_the_unit_leaves(
    confine, nobodys, own_network, upstream, gateway_class, monkeypatch, wait_until
):
    state, environment = nobodys
    files = {
        "rules.yaml": RULES.format(upstream=upstream.port),
        "slow.py": SLOW,
        "words.txt": "wire transfer\n",
        "password": f"{PASSWORD}\n",
        "users.yaml": f'ann: "{hash_password(PASSWORD)}"\n',
    }
    for name, text in files.items():
        (state / name).write_text(text)
    for file in (state, *state.iterdir()):
        os.chown(file, NOBODY.pw_uid, NOBODY.pw_gid)
    trace = state / "trace"
    monkeypatch.setattr(sys, "executable", str(confine(f"strace -D -f -q -s 0 -o {trace}")))
    running = own_network(gateway_class, state, "serve", "-c", "rules.yaml", **environment)
    try:
        assert running.port == 25
        own_network(deliver, running)
        own_network(look_at_the_desk)
        untraced = confine()
        before = children(running)
        for options in ((), ("--replace",)):  # the first is the unit's ExecReload
            command = [untraced, "-m", "gatepost", "reload", "-c", "rules.yaml", *options]
            variables = {**os.environ, **environment}
            done = own_network(subprocess.run, command, env=variables, capture_output=True, timeout=60)
            assert done.returncode == 0, done.stderr
        wait_until(lambda: len(children(running) - before) == len(children(running)) == 3, "all are new")
        os.kill(min(children(running)), signal.SIGKILL)
        running.logs("starting another one")
        own_network(deliver, running)
    finally:
        assert running.stop() == 0, running.log
    assert [message.tls for message in upstream.messages] == [True] * 7, (
        "three each time, and the released one"
    )
    ended = re.compile(rf"^{running.pid} +\+\+\+ exited with 0", re.MULTILINE)
    wait_until(lambda: ended.search(trace.read_text()), "strace has ended")
    calls = [found for line in trace.read_text().splitlines() if (found := CALL.match(line))]
    called = {found["name"] for found in calls}
    assert {"execve", "bind", "accept4", "fdatasync", "exit_group"} <= called
    assert called - allowed_calls() == set()
    families = {found["family"] for found in calls}
    (left,) = settings("RestrictAddressFamilies")
    assert families - {None, *left.split()} <= {"AF_NETLINK"}, "the resolver goes on without it"
