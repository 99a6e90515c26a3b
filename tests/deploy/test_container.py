"""The image is built and its containers run as docs/installing.md says, from a base like Debian's own image.

No registry of images is asked: mmdebstrap makes the base. Podman has its storage, networks and settings in a
folder of this test, and is called docker there.
"""

import json
import os
import re
import shutil
import smtplib
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.error
import urllib.request
from email.message import EmailMessage
from pathlib import Path

import pytest
import yaml
from compose_spec import PyCompose
from ports import free_port

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
DEPLOY = ROOT / "deploy"
PAGE = (ROOT / "docs" / "installing.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("## In a container\n")[2].partition("\n## ")[0]
BUILD, *UP, CHECK, RELOAD, JOURNAL = re.findall(r"^docker .*$", SECTION, re.MULTILINE)
BUILD_SECONDS = 900
PATIENCE_SECONDS = 120
SETTINGS = """
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
netns = "host"
[engine]
runtime = "runc"
static_dir = "{folder}/static"
tmp_dir = "{folder}/tmp"
volume_path = "{folder}/volumes"
[network]
network_backend = "netavark"
network_config_dir = "{folder}/networks"
default_subnet = "10.213.0.0/24"
default_subnet_pools = [{{"base" = "10.214.0.0/16", "size" = 24}}]
"""
STORAGE = """
[storage]
driver = "overlay"
graphroot = "{folder}/storage"
runroot = "{folder}/run"
"""
DOCKER = """#!/bin/sh
[ "$1" != compose ] || {{ shift; exec {compose} "$@"; }}
exec podman "$@"
"""
FACTS = """
import json, os, shutil
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines())
def refusal(place):
    try:
        open(f"{place}/x", "w").close()
    except OSError as error:
        return error.strerror
print(json.dumps({
    "user": (os.getuid(), os.getgid()),
    "capabilities": [int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")],
    "no new privileges": status["NoNewPrivs"],
    "writes": {place: refusal(place) for place in ("/", "/opt", "/etc/gatepost", "/var/lib/gatepost")},
    "tools": [name for name in ("cc", "gcc", "pip", "make") if shutil.which(name)],
}))
"""
ALL_EXTRAS = """
import pathlib, subprocess
folder = pathlib.Path("/tmp/all")
folder.mkdir()
(folder / "rules.yaml").write_text('''
state: {url: "redis://127.0.0.1:6379/0"}
rules:
  - {name: patterns, filter: yara}
  - {name: macros, filter: office}
  - {name: files, filter: attachments, with: {extensions: [exe], inside_archives: true}}
  - {name: greylist, filter: greylist}
''')
print(subprocess.run(["gatepost", "check", "-c", folder / "rules.yaml"], capture_output=True, text=True))
import backports.zstd, inflate64, libarchive, psycopg, pycdlib, rarfile
"""
"""What filters and stores need besides, where the two that have processes of their own are made in such."""

LEAST = {
    "user": [10001, 10001],
    "capabilities": [0, 0, 0, 0],
    "no new privileges": "1",
    "writes": {
        "/": "Read-only file system",
        "/opt": "Read-only file system",
        "/etc/gatepost": "Read-only file system",
        "/var/lib/gatepost": None,
    },
    "tools": [],
}
"""What a container may do: write its volume."""


def test_the_linter_finds_nothing_in_the_containerfile():
    command = [BIN / "hadolint", "--no-color", DEPLOY / "Containerfile"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_the_image_has_all_extras_that_settings_can_ask_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (extras,) = re.findall(r"^ARG EXTRAS=(.+)$", (DEPLOY / "Containerfile").read_text(), re.MULTILINE)
    assert {*extras.split(",")} == project["optional-dependencies"].keys() - {"systemd", "test"}


def test_the_compose_file_is_one():
    settings = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    PyCompose.from_yaml(yaml.safe_dump(settings)).validate()
    for misspelt in ("readonly", "healthchek"):
        settings["services"]["trap"] |= {misspelt: True}
        with pytest.raises(ValueError, match=misspelt):
            PyCompose.from_yaml(yaml.safe_dump(settings))
        del settings["services"]["trap"][misspelt]


class Containers:
    """A clone with other ports, and Podman's folder."""

    def __init__(self, folder):
        self.folder = folder
        self.clone = folder / "clone"
        self.trap, self.desk, self.gateway = free_port(), free_port(), free_port()
        self.environment = {
            **os.environ,
            "PATH": f"{folder}/bin:{os.environ['PATH']}",
            "CONTAINERS_CONF": f"{folder}/containers.conf",
            "CONTAINERS_STORAGE_CONF": f"{folder}/storage.conf",
            "BUILDAH_LAYERS": "false",
        }

    def run(self, *command, timeout=PATIENCE_SECONDS, check=True, **options):
        """What it prints."""
        done = subprocess.run(
            command,
            cwd=self.clone,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            **options,
        )
        assert not check or done.returncode == 0, f"{command}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout + done.stderr

    def page(self, command):
        """Run a command of the page."""
        return self.run("/bin/sh", "-c", command, timeout=BUILD_SECONDS)

    def prepare(self):
        for name in ("bin", "clone", "storage", "run", "static", "tmp", "volumes", "networks"):
            (self.folder / name).mkdir()
        (self.folder / "containers.conf").write_text(SETTINGS.format(folder=self.folder))
        (self.folder / "storage.conf").write_text(STORAGE.format(folder=self.folder))
        docker = self.folder / "bin" / "docker"
        docker.write_text(DOCKER.format(compose=BIN / "podman-compose"))
        docker.chmod(0o755)
        listed = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True)
        for name in filter(None, listed.split("\0")):
            if not name.startswith("tests/"):
                (self.clone / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.clone / name)
        compose = self.clone / "deploy" / "compose.yaml"
        text = compose.read_text()
        ports = {"127.0.0.1:2525": self.trap, "127.0.0.1:8025": self.desk, "25": self.gateway}
        for published, port in ports.items():
            assert text.count(f'"{published}:') == 1
            text = text.replace(f'"{published}:', f'"127.0.0.1:{port}:')
        compose.write_text(text)

    def make_base(self):
        """Debian without anything, with the authorities that this machine trusts besides Debian's."""
        base = self.folder / "base.tar"
        authorities = "/usr/local/share/ca-certificates"
        self.run(
            "mmdebstrap",
            "--variant=minbase",
            "--dpkgopt=path-exclude=/usr/share/doc/*",
            '--aptopt=Acquire::Check-Valid-Until "false"',
            f"--customize-hook=mkdir -p $1{authorities} && cp -r {authorities}/. $1{authorities}",
            "trixie",
            str(base),
            timeout=BUILD_SECONDS,
        )
        self.run("podman", "import", "-q", str(base), "docker.io/library/debian:trixie-slim")
        base.unlink()

    def container(self, service, script):
        """What a Python script prints in a container."""
        return self.run("podman", "exec", f"gatepost_{service}_1", "python3", "-c", script)

    def is_healthy(self, service):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            said = self.run("podman", "healthcheck", "run", f"gatepost_{service}_1", check=False)
            if not said.strip():
                return True
            if time.monotonic() > deadline:
                log = self.run("podman", "logs", f"gatepost_{service}_1", check=False)
                raise AssertionError(f"{said}{log}")
            time.sleep(0.2)

    def api(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.desk}/api/v1/{path}", timeout=60) as answer:
            return json.load(answer)

    def close(self):
        """Remove all that Podman has made."""
        for kind in ("rm", "rmi"):
            self.run("podman", kind, "--all", "--force", check=False)
        self.run("podman", "network", "prune", "--force", check=False)
        subprocess.run(
            ["umount", "-R", self.folder / "storage" / "overlay"], capture_output=True, check=False
        )
        shutil.rmtree(self.folder)


@pytest.fixture
def containers(own_network):
    if os.geteuid() != 0:
        pytest.skip("only root can make the base")
    for name in ("netavark", "aardvark-dns"):
        if not Path("/usr/lib/podman", name).exists():
            pytest.skip(f"{name} is not installed")
    made = Containers(Path(tempfile.mkdtemp(prefix="gatepost-", dir="/var/tmp")))
    try:
        made.prepare()
        made.make_base()
        yield made
    finally:
        own_network(made.close)


def make_message(subject, attachment=None):
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "shop@example.org", "bob@example.com", subject
    message.set_content("Your code is 482913.")
    if attachment:
        message.add_attachment(b"MZ", maintype="application", subtype="octet-stream", filename=attachment)
    return message


@pytest.mark.long
@pytest.mark.real("podman", "runc", "mmdebstrap", "git")
def test_the_image_is_built_and_its_containers_run_as_the_page_says(containers, own_network):
    """One test, since the image takes minutes.

    Podman's bridges come and go in a network of its own: in this machine's, Chromium would give up what
    other tests ask their desks for (net::ERR_NETWORK_CHANGED, Chromium 156).
    """
    containers.page(BUILD)
    own_network(the_containers_run_as_the_page_says, containers)


def the_containers_run_as_the_page_says(containers):
    trap, both = UP
    containers.page(trap)
    assert containers.is_healthy("trap")
    containers.page(both)
    assert containers.is_healthy("gateway")
    a_message_passes_the_gateway_and_is_read_in_the_trap(containers)
    for service in ("gateway", "trap"):
        assert json.loads(containers.container(service, FACTS)) == LEAST
    assert "rules.yaml: ok" in containers.container("gateway", ALL_EXTRAS)
    they_stop_by_themselves_and_their_mail_survives_it(containers, trap)


def a_message_passes_the_gateway_and_is_read_in_the_trap(containers):
    with smtplib.SMTP("127.0.0.1", containers.gateway, timeout=60) as smtp:
        smtp.send_message(make_message("Welcome"))
        smtp.send_message(make_message("Invoice", attachment="invoice.exe"))
    (message,) = containers.api("wait?query=subject:welcome&timeout=60")["messages"]
    assert message["codes"] == ["482913"]
    assert containers.page(CHECK).startswith("rules.yaml: ok")
    assert "reloaded" in containers.page(RELOAD)
    assert re.findall(r" (relayed|quarantined) ", containers.page(JOURNAL)) == ["quarantined", "relayed"]


def they_stop_by_themselves_and_their_mail_survives_it(containers, trap):
    containers.page("docker compose -f deploy/compose.yaml stop")
    for service in ("gateway", "trap"):
        ended = json.loads(containers.run("podman", "inspect", f"gatepost_{service}_1"))[0]["State"]
        assert (ended["Status"], ended["ExitCode"]) == ("exited", 0), "at SIGTERM, and nothing killed it"
    containers.page("docker compose -f deploy/compose.yaml down")
    with pytest.raises(urllib.error.URLError):
        containers.api("messages/latest")
    containers.page(trap)
    assert containers.is_healthy("trap")
    assert containers.api("messages/latest")["subject"] == "Welcome"
