"""The commands of docs/maintenance.md, run in their order on a gateway that was installed as it says.

What systemctl would do a script does here, by the lines of deploy/gatepost.service.
"""

import json
import os
import re
import shutil
import smtplib
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "maintenance.md").read_text()
SECTIONS = dict(re.findall(r"^## (.+)\n((?:(?!## ).*\n)*)", PAGE, re.MULTILINE))
RULES = """
listen:
  - {{address: "127.0.0.1:0", auth: {{users: users.yaml, without_tls: true}}}}
workers: 2
store: {{url: "sqlite:///{root}/var/lib/gatepost/gatepost.db"}}
relay: [{{recipients: "*@example.com", to: inbox}}]
rules: [{{name: kept, filter: match, when: {{recipient: kept@example.com}}, action: quarantine}}]
"""
SYSTEMCTL = """\
import os, pathlib, re, shlex, signal, subprocess, sys, time

root = pathlib.Path({root!r})
unit = pathlib.Path({unit!r}).read_text()
pid, log = root / "pid", root / "log"


def lines(name):
    words = shlex.split(re.search(rf"^{{name}}=(.*)$", unit, re.MULTILINE)[1])
    return [f"{{root}}{{word}}" if word.startswith("/") else word for word in words]


def start():
    subprocess.run(lines("ExecStartPre"), check=True, stdout=subprocess.DEVNULL)
    with log.open("ab") as file:
        file.truncate(0)
        folder, command = root / "var/lib/gatepost", lines("ExecStart")
        gateway = subprocess.Popen(command, cwd=folder, stdout=file, stderr=file, start_new_session=True)
    pid.write_text(str(gateway.pid))
    while "listens on" not in log.read_text():
        if gateway.poll() is not None:
            sys.exit(log.read_text())
        time.sleep(0.02)


def stop():
    process = int(pid.read_text())
    os.kill(process, signal.SIGTERM)
    while True:
        try:
            if pathlib.Path(f"/proc/{{process}}/stat").read_text().split()[2] == "Z":
                return
        except OSError:
            return
        time.sleep(0.02)


match sys.argv[1:]:
    case ["start", "gatepost"] | ["enable", "--now", "gatepost"]:
        start()
    case ["stop", "gatepost"] | ["disable", "--now", "gatepost"]:
        stop()
    case ["reload", "gatepost"]:
        sys.exit(subprocess.run(lines("ExecReload"), cwd=root / "var/lib/gatepost", check=False).returncode)
    case ["restart", "gatepost"]:
        stop()
        start()
    case arguments:
        sys.exit(f"unknown: {{arguments}}")
"""


class Machine:
    """A folder that has /opt/gatepost, /etc and /var of a machine."""

    def __init__(self, root: Path, wheel: Path) -> None:
        self.root, self.wheel = root, wheel
        for folder in ("bin", "etc", "opt", "var/backups", "var/lib/gatepost"):
            (root / folder).mkdir(parents=True)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", root / "opt/gatepost"], check=True)
        (site,) = (root / "opt/gatepost").glob("lib/python*/site-packages")
        paths = [sysconfig.get_path("purelib"), ROOT / "proxy", ROOT / "plugins"]
        (site / "here.pth").write_text("".join(f"{path}\n" for path in paths))
        for name, module in (("gatepost", "gatepost"), ("pip", "pip")):
            command = root / "opt/gatepost/bin" / name
            command.write_text(f'#!/bin/sh\nexec {root}/opt/gatepost/bin/python -m {module} "$@"\n')
            command.chmod(0o755)
        systemctl = SYSTEMCTL.format(root=str(root), unit=str(ROOT / "deploy" / "gatepost.service"))
        (root / "bin/systemctl").write_text(f"#!{sys.executable}\n{systemctl}")
        (root / "bin/systemctl").chmod(0o755)

    def run(self, text: str, typed: str = "") -> str:
        """Run commands of the page, in which absolute paths are this machine's; each must succeed."""
        text = re.sub(r"(?<=[\s\"])/(?=(?:opt|etc|var)\b)", f"{self.root}/", f" {text}")
        text = re.sub(r"/path/to/(old/)?gatepost/deploy", str(ROOT / "deploy"), text)
        text = re.sub(r"/path/to/(old/)?gatepost", str(self.wheel), text)
        environment = {**os.environ, "PATH": f"{self.root}/bin:{os.environ['PATH']}"}
        environment.pop("PYTHONPATH", None)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            input=typed, env=environment, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def send(self, subject: str, recipient: str = "bob@example.com", login: tuple[str, str] = ()) -> None:
        port = int(re.findall(r"listens on 127\.0\.0\.1:(\d+)", (self.root / "log").read_text())[-1])
        with smtplib.SMTP("127.0.0.1", port, timeout=60) as smtp:
            if login:
                smtp.login(*login)
            smtp.sendmail("alice@example.org", [recipient], f"Subject: {subject}\r\n\r\nHello\r\n")

    def subjects(self) -> set[str]:
        """Of the journal and of quarantine."""
        lines = self.run(
            "/opt/gatepost/bin/gatepost journal --json -c /etc/gatepost/rules.yaml\n"
            "/opt/gatepost/bin/gatepost quarantine list --json -c /etc/gatepost/rules.yaml\n"
        ).splitlines()
        found = [json.loads(line) for line in lines]
        return {one["subject"] + (" (kept)" if "box" in one else "") for one in found}

    def end(self) -> None:
        if (self.root / "pid").exists() and self.alive():
            self.run("systemctl stop gatepost")

    def alive(self) -> bool:
        try:
            os.kill(int((self.root / "pid").read_text()), 0)
        except ProcessLookupError:
            return False
        return True


@pytest.fixture
def machine(tmp_path):
    made = []
    command = [sys.executable, "-m", "pip", "-q", "wheel", "--no-deps", "-w", tmp_path, ROOT]
    subprocess.run(command, check=True)
    (wheel,) = tmp_path.glob("gatepost-*.whl")

    def make(name):
        made.append(Machine(tmp_path / name, wheel))
        return made[-1]

    yield make
    for one in made:
        one.end()


def commands(heading: str) -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```", SECTIONS[heading], re.MULTILINE | re.DOTALL)


@pytest.mark.long
def test_each_command_does_what_the_page_says(machine):
    old = machine("old")
    (old.root / "etc/gatepost").mkdir()
    (old.root / "etc/gatepost/rules.yaml").write_text(RULES.format(root=old.root))
    old.run("echo first | /opt/gatepost/bin/gatepost passwd bob > /etc/gatepost/users.yaml")
    old.run("systemctl start gatepost")
    old.send("one")
    old.send("two", "kept@example.com")

    once, daily = commands("Back up")
    assert "2 records, 2 messages" in old.run(once)
    for name in ("gatepost.db", "gatepost-settings.tar.gz"):
        assert (old.root / "var/backups" / name).stat().st_mode & 0o777 == 0o600
    for day in range(10, 31):
        (old.root / f"var/backups/gatepost-202610{day}-030000.db").touch()
    old.run(daily)
    left = sorted(path.name for path in (old.root / "var/backups").glob("gatepost-2*.db"))
    assert len(left) == 14
    assert left[0] == "gatepost-20261018-030000.db"
    assert left[-1] > "gatepost-20261030-030000.db"

    old.send("three")
    (restore,) = commands("Restore")
    assert "the store that was there is now" in old.run(restore)
    assert old.subjects() == {"one", "two", "two (kept)"}

    (change,) = commands("Rotate")
    old.run(change, typed="swordfish\n")
    old.send("four", login=("ann", "swordfish"))

    upgrade, go_back = commands("Upgrade")
    old.run(upgrade)
    (site,) = (old.root / "opt/gatepost").glob("lib/python*/site-packages")
    assert (site / "gatepost/__init__.py").is_file()
    old.send("five")
    assert old.subjects() == {"one", "two", "two (kept)", "four", "five"}
    old.run(go_back)
    assert old.subjects() == {"one", "two", "two (kept)", "four"}

    leave, arrive = commands("Move to another machine")
    old.run(leave)
    assert not old.alive() or "Z" in Path(f"/proc/{(old.root / 'pid').read_text()}/stat").read_text()
    new = machine("new")
    for name in ("gatepost-move.db", "gatepost-move.tar.gz"):
        assert (old.root / "var/backups" / name).stat().st_mode & 0o777 == 0o600
        shutil.copy(old.root / "var/backups" / name, new.root / "var/backups" / name)
    # On a real machine its store has the same path; here the other machine's folder is another one.
    settings, following = arrive.split("\n", 1)
    new.run(settings)
    (new.root / "etc/gatepost/rules.yaml").write_text(RULES.format(root=new.root))
    new.run(following)
    new.send("six", login=("ann", "swordfish"))
    assert new.subjects() == {"one", "two", "two (kept)", "four", "six"}
    new.run("systemctl stop gatepost")


@pytest.mark.real("logrotate")
def test_logrotate_takes_the_file_of_the_page(tmp_path):
    (configuration,) = re.findall(r"^```text\n(.*?)^```", SECTIONS["Rotate"], re.MULTILINE | re.DOTALL)
    log = tmp_path / "gatepost.log"
    (tmp_path / "logrotate").write_text(configuration.replace("/var/log/gatepost.log", str(log)))
    (tmp_path / "logrotate").chmod(0o644)
    with log.open("ab", buffering=0) as gateway:
        gateway.write(b"before\n")
        command = ["logrotate", "--force", "--state", tmp_path / "state", tmp_path / "logrotate"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        gateway.write(b"after\n")
    assert log.read_bytes() == b"after\n"
    assert (tmp_path / "gatepost.log.1.gz").is_file()
