"""A node needs no disk: all file systems are read-only, and store and state are on servers."""

import os
import re
import shutil
import smtplib
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from ports import free_port

pytestmark = [
    pytest.mark.real("unshare"),
    pytest.mark.real("redis-server"),
    pytest.mark.real("smtp-sink"),
]
READ_ONLY = """\
mount --make-rprivate /
while read -r _ place _; do mount -o remount,bind,ro "$place" 2>&1 || true; done </proc/self/mounts >/dev/null
for place in / /tmp /var/tmp /dev/shm "$PWD"; do
  if touch "$place/written" 2>/dev/null; then echo "$place can be written" >&2; exit 9; fi
done
exec "$@"
"""
SETTINGS = {
    "10-mail.yaml": """\
hostname: mx.example.com
relay: [{{recipients: "*@example.net", to: "smtp://127.0.0.1:{sink}"}}]
rules:
  - {{name: rate, filter: ratelimit, with: {{by: client, messages: [3/hour]}}}}
  - {{name: held, filter: keywords, with: {{words: [forbidden]}}, action: quarantine}}
""",
    "20-desk.yaml": "web: {{address: '127.0.0.1:0', password_file: password}}\n",
}


def until(condition, what=lambda: ""):
    give_up = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < give_up, what()
        time.sleep(0.05)


@pytest.fixture
def run(tmp_path):
    """Start a program, its errors in a file; all are ended at the end."""
    started = []

    def run(name, *command, **options):
        with (tmp_path / f"{name}.log").open("wb") as log:
            started.append(subprocess.Popen(command, stdout=log, stderr=log, **options))
        return started[-1]

    yield run
    for one in reversed(started):
        one.terminate()
        one.wait(60)


def answers(kind, place):
    with socket.socket(kind) as tried:
        return tried.connect_ex(place) == 0


def send(port, subject):
    with smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
        client.sendmail("ann@example.com", ["bob@example.net"], f"Subject: {subject}\r\n\r\nHi\r\n")


def test_a_node_relays_and_quarantines_although_it_can_write_no_file(postgresql, settings, run, tmp_path):
    if os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
        pytest.skip("only root has mounts of its own")
    sink = free_port()
    (tmp_path / "mail").mkdir()
    program = shutil.which("smtp-sink", path="/usr/sbin:/usr/bin")
    run("sink", program, "-u", "root", "-d", f"{tmp_path}/mail/m.", f"127.0.0.1:{sink}", "100")
    memory = postgresql.folder / "redis"  # a short path
    run("redis", "redis-server", "--port", "0", "--unixsocket", str(memory), "--save", "", "--dir", "/")
    until(lambda: answers(socket.AF_INET, ("127.0.0.1", sink)) and answers(socket.AF_UNIX, str(memory)))

    folder = tmp_path / "conf.d"
    folder.mkdir()
    (folder / "password").write_text("correct horse\n")
    for name, text in SETTINGS.items():
        (folder / name).write_text(text.format(sink=sink))
    variables = {
        "GATEPOST_SERVE_CONFIG": str(folder),
        "GATEPOST_SET_NODE": "mx-a",
        "GATEPOST_SET_LISTEN": "127.0.0.1:0",
        "GATEPOST_SET_STORE__URL": settings.url,
        "GATEPOST_SET_STATE__URL": f"unix://{memory}",
    }
    serve = ["sh", "-c", READ_ONLY, "sh", sys.executable, "-m", "gatepost", "serve"]
    run("gatepost", "unshare", "--mount", *serve, cwd=tmp_path, env={**os.environ, **variables})
    log = tmp_path / "gatepost.log"
    until(lambda: "gatepost listens on" in log.read_text(), log.read_text)
    port = int(re.search(r"listens on 127\.0\.0\.1:([0-9]+)", log.read_text())[1])

    send(port, "one")
    send(port, "a forbidden word")
    send(port, "two")
    with pytest.raises(smtplib.SMTPSenderRefused, match="Too many messages"):
        send(port, "the state counts")
    until(lambda: len(list((tmp_path / "mail").iterdir())) == 2)
    desk = re.search(r"web desk: (http\S+)", log.read_text())[1]
    journal = urllib.request.Request(
        f"{desk}api/v1/journal?node=mx-a", headers={"authorization": "Bearer correct horse"}
    )

    def dispositions():
        with urllib.request.urlopen(journal, timeout=60) as answer:
            return answer.read().decode().count('"recipients":[{')

    until(lambda: dispositions() >= 3)
    until(lambda: urllib.request.urlopen(f"{desk}readyz", timeout=60).status == 200)
    lines = [line for line in log.read_text().splitlines() if " INFO " not in line]
    expected = ("has fsync = off", "no PID file", "has reached its limit")
    assert all(any(one in line for one in expected) for line in lines), "\n".join(lines)
