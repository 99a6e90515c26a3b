"""The proxies that are compared, each between smtp-source and smtp-sink on free ports of loopback."""

import contextlib
import json
import os
import pwd
import random
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

HERE = Path(__file__).parent
SBIN = "/usr/sbin:/usr/bin"
LARGEST = 40 << 20
"""Octets of a message that all of them take."""
LISTEN_SECONDS = 60.0


@dataclass(frozen=True)
class Proxy:
    """One that runs."""

    name: str
    port: int
    process: int
    """The root of its process tree."""
    queue: Path | None = None
    """Where it keeps messages that it has accepted and not delivered yet."""


class MissingError(Exception):
    """What is not installed, and how to get it."""


def free_port() -> int:
    """A port of loopback that nobody has now, below those that the system gives to programs."""
    for port in random.SystemRandom().sample(range(10_000, 32_000), 1000):
        with contextlib.suppress(OSError):
            socket.create_server(("127.0.0.1", port)).close()
            return port
    raise MissingError("no port is free")


def program(name: str, package: str) -> str:
    """Its path; raises MissingError."""
    found = shutil.which(name, path=SBIN)
    if not found:
        raise MissingError(f"{name} is not installed (Debian: apt install {package})")
    return found


def wait_for(port: int, who: str, seconds: float = LISTEN_SECONDS) -> None:
    """Until somebody listens there."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.025)
    raise RuntimeError(f"{who} does not listen")


@contextlib.contextmanager
def started(
    command: list[object],
    port: int,
    name: str,
    *,
    log: Path | None = None,
    seconds: float = LISTEN_SECONDS,
    **settings: object,
) -> Iterator[Proxy]:
    """A program that stays in the foreground, with its log in a file; it is ended by its process id."""
    with (
        (log or Path(os.devnull)).open("wb") as errors,
        subprocess.Popen(
            list(map(str, command)), stdout=subprocess.DEVNULL, stderr=errors, **settings
        ) as process,
    ):
        try:
            wait_for(port, name, seconds)
            yield Proxy(name, port, process.pid)
        finally:
            process.terminate()
            process.wait()


@contextlib.contextmanager
def sink() -> Iterator[Proxy]:
    """The mail server behind: takes everything, as fast as it can."""
    port = free_port()
    command = [program("smtp-sink", "postfix"), "-m", "8000", *(["-u", "nobody"] if os.getuid() == 0 else [])]
    with started([*command, f"127.0.0.1:{port}", 1024], port, "no proxy") as proxy:
        yield proxy


@contextlib.contextmanager
def stock(upstream: int) -> Iterator[Proxy]:
    """aiosmtpd and aiosmtplib as their manuals show them."""
    port = free_port()
    with started([sys.executable, HERE / "stock_proxy.py", port, upstream], port, "stock") as proxy:
        yield proxy


RULES = """\
hostname: bench.example
listen: ["127.0.0.1:{port}"]
workers: {workers}
limits: {{message_size: 40MiB, connections: 4000, connections_per_client: 4000}}
relay: [{{recipients: "*", clients: 127.0.0.0/8, to: "smtp://127.0.0.1:{upstream}"}}]
store: {{url: "sqlite:///bench.db"}}
{rules}
"""
WORDS = ", ".join(f"unlikely{number}" for number in range(1000))
FILTERS = MappingProxyType(
    {
        "words": f"filter: keywords, with: {{words: [{WORDS}]}}, action: reject",
        "files": "filter: attachments, with: {extensions: [exe, scr]}, action: reject",
    }
)
"""1,000 keywords, and attachments by name."""
PLAIN = MappingProxyType[str, str]({})


@contextlib.contextmanager
def gatepost(
    upstream: int,
    folder: Path,
    *,
    workers: int,
    rules: Mapping[str, str] = PLAIN,
    what: str = "filters",
    before: Path | None = None,
) -> Iterator[Proxy]:
    """Gatepost with its journal and its log, and with rules: their names and the rest of them in YAML.

    ``what`` they are is a part of its name; ``before`` is the command of another build of it.
    """
    port = free_port()
    lines = [f"  - {{name: {name}, {rest}}}\n" for name, rest in rules.items()]
    settings = folder / "rules.yaml"
    text = "rules:\n" + "".join(lines) if lines else ""
    settings.write_text(RULES.format(port=port, upstream=upstream, workers=workers, rules=text))
    build = "Gatepost before" if before else "Gatepost"
    name = f"{build}, {workers} worker{'s' * (workers > 1)}{f' + {what}' if rules else ''}"
    command = [before or Path(sys.executable).parent / "gatepost", "serve", "-c", settings]
    with started(command, port, name, log=folder / "log") as proxy:
        yield proxy


POSTFIX_MAIN = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
mail_owner = postfix
setgid_group = postdrop
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
shlib_directory = /usr/lib/postfix
meta_directory = /etc/postfix
maillog_file =
maillog_file_prefixes = {folder}
inet_interfaces = loopback-only
inet_protocols = ipv4
myhostname = bench.example
mydestination =
alias_maps =
alias_database =
local_recipient_maps =
smtpd_recipient_restrictions =
smtpd_peername_lookup = no
smtpd_client_connection_count_limit = 0
smtpd_timeout = 300s
message_size_limit = {largest}
mailbox_size_limit = 0
default_process_limit = {processes}
"""
POSTFIX_OPEN = """\
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
"""
POSTFIX_PROXY = """\
  -o smtpd_proxy_filter=127.0.0.1:{upstream}
  -o smtpd_authorized_xforward_hosts=
"""
POSTFIX_MILTERS = """\
relayhost = [127.0.0.1]:{upstream}
smtpd_milters = {milters}
milter_default_action = tempfail
milter_connect_timeout = 60s
milter_command_timeout = 60s
milter_content_timeout = 300s
"""
POSTFIX_MASTER = """\
127.0.0.1:{port} inet n - n - {processes} smtpd
{options}pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
error unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


@contextlib.contextmanager
def postfix(
    upstream: int,
    folder: Path,
    *,
    processes: int,
    who_may: str = POSTFIX_OPEN,
    milters: Mapping[str, int] = MappingProxyType({}),
) -> Iterator[Proxy]:
    """Postfix as a before-queue filter's front: smtpd_proxy_filter straight to the server behind.

    ``who_may`` are its settings of who may relay. With ``milters``, names and ports, it asks these instead
    before it accepts a message, and delivers from its queue: smtpd_proxy_filter does not go with milters.
    """
    program("postfix", "postfix")
    if os.getuid() != 0:
        raise MissingError("Postfix can be started by root alone")
    port = free_port()
    settings = folder / "postfix"
    for part in (settings, folder / "queue", folder / "data"):
        part.mkdir(parents=True)
    folder.chmod(0o755)
    shutil.chown(folder / "data", pwd.getpwnam("postfix").pw_name)
    values = {
        "folder": folder,
        "port": port,
        "upstream": upstream,
        "processes": processes,
        "largest": LARGEST,
        "milters": ", ".join(f"inet:127.0.0.1:{one}" for one in milters.values()),
    }
    more = POSTFIX_MILTERS.format(**values) if milters else ""
    values["options"] = "" if milters else POSTFIX_PROXY.format(**values)
    (settings / "main.cf").write_text(POSTFIX_MAIN.format(**values) + who_may + more)
    (settings / "master.cf").write_text(POSTFIX_MASTER.format(**values))
    command = [program("postfix", "postfix"), "-c", settings]
    done = subprocess.run([*command, "start"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"postfix does not start: {done.stderr[-500:]}")
    try:
        wait_for(port, "postfix")
        process = int((folder / "queue/pid/master.pid").read_text())
        name = f"Postfix with {' and '.join(milters)}" if milters else "Postfix smtpd_proxy_filter"
        yield Proxy(name, port, process, queue=folder / "queue" if milters else None)
    finally:
        subprocess.run([*command, "stop"], capture_output=True, check=False)


@contextlib.contextmanager
def haraka(
    upstream: int,
    folder: Path,
    installed: Path | None,
    *,
    nodes: int,
    plugins: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Proxy]:
    """Haraka with smtp_forward alone, or after other plugins: their names and settings."""
    node, start = shutil.which("node"), installed and installed / "node_modules/Haraka/bin/haraka"
    if not node or not start or not start.exists():
        raise MissingError("Haraka is not installed (npm install Haraka; then --haraka FOLDER)")
    port = free_port()
    for name in plugins:
        if not (installed / f"node_modules/haraka-plugin-{name}").exists():
            raise MissingError(f"npm install haraka-plugin-{name} beside Haraka")
    settings = folder / "config"
    settings.mkdir()
    for name, text in {
        **{f"{name}.ini": text for name, text in plugins.items()},
        "smtp.ini": f"listen=127.0.0.1:{port}\nnodes={nodes}\n",
        "plugins": "".join(f"{name}\n" for name in ("bench_relay", *plugins, "queue/smtp_forward")),
        "smtp_forward.ini": f"host=127.0.0.1\nport={upstream}\n",
        "log.ini": "[main]\nlevel=emerg\n",
        "me": "bench.example\n",
    }.items():
        (settings / name).write_text(text)
    shipped = (installed / "node_modules/Haraka/config/connection.ini").read_text()
    (settings / "connection.ini").write_text(
        re.sub(r"^bytes=.*$", f"bytes={LARGEST}", shipped, flags=re.MULTILINE)
    )
    (folder / "plugins").mkdir()
    (folder / "plugins/bench_relay.js").write_text(
        "exports.hook_connect = (next, connection) => { connection.relaying = true; next(); };\n"
        "exports.hook_rcpt = (next) => next(OK);\n"
    )
    name = f"Haraka with {' and '.join(plugins)}" if plugins else "Haraka smtp_forward"
    with started([node, start, "-c", folder], port, name, start_new_session=True) as proxy:
        yield proxy


def haraka_version(installed: Path | None) -> str:
    """As its package says; empty where it is not installed."""
    package = installed and installed / "node_modules/Haraka/package.json"
    return str(json.loads(package.read_text())["version"]) if package and package.exists() else ""
