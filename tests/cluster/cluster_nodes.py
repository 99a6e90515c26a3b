"""Nodes as they are run, each in a folder of its own, and the cluster of them and what they share."""

import contextlib
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import trustme
from cluster_servers import (
    PATIENCE_SECONDS,
    REDIS,
    REDIS_PORT,
    SINK,
    SINK_PORT,
    Cut,
    Databases,
    address,
    make_haproxy,
    make_redis,
    make_sink,
    node_address,
    own_network,
    wait_until,
)

ROOT = Path(__file__).parents[2]
HAPROXY = ROOT / "deploy" / "cluster" / "haproxy.cfg"
PASSWORD = "swordfish"
RULES = """\
hostname: mx{number}.example.com
listen: {{address: "{host}:2525", proxy_protocol_from: 10.0.0.0/24}}
store: {{url: "{store}", keep: {{messages: 100000}}}}
state: {{url: "{state}"}}
web: {{address: "{host}:8025", hosts: [desk.example.com], password_file: password}}
relay: [{{recipients: "*@example.com", to: "{sink}"}}]
limits: {{shutdown_time: 10s, connections_per_client: 1000}}
rules:
  - {{name: many, filter: ratelimit, with: {{by: client, messages: [1000000/hour]}}, on_error: skip}}
  - {{name: kept, filter: match, when: {{recipient: kept@example.com}}, action: quarantine}}
  - {{name: dropped, filter: match, when: {{recipient: dropped@example.com}}, action: discard}}
"""
LISTENS = "gatepost listens on"


class Node:
    """`gatepost serve` in a folder of its own."""

    def __init__(self, folder: Path, number: int, store: str) -> None:
        self.folder, self.number = folder, number
        self.name = f"mx{number}"
        self.log_file = folder / "log"
        self.log_file.touch()
        self.process: subprocess.Popen[bytes] | None = None
        path = os.pathsep.join((str(ROOT / "proxy"), str(ROOT / "plugins")))
        self.environment = {**os.environ, "PYTHONPATH": path}
        rules = RULES.format(
            number=number,
            host=node_address(number),
            store=store,
            state=f"redis://{address(number, REDIS)}:{REDIS_PORT}/0",
            sink=f"smtp://{address(number, SINK)}:{SINK_PORT}",
        )
        (folder / "rules.yaml").write_text(rules)
        (folder / "password").write_text(PASSWORD)

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def start(self) -> None:
        listened = self.log.count(LISTENS)
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gatepost", "serve", "-q"],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
            )
        wait_until(lambda: self._listens(listened), f"{self.name} listens")

    def _listens(self, listened: int) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log
        return self.log.count(LISTENS) > listened

    def kill(self) -> None:
        """SIGKILL for all its processes, none of which sees the others end."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        children = psutil.Process(self.process.pid).children(recursive=True)
        for child in children:
            child.kill()
        self.process.kill()
        self.process.wait(PATIENCE_SECONDS)
        wait_until(lambda: all(map(has_ended, children)), f"the processes of {self.name} end")

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(PATIENCE_SECONDS)

    def replace(self) -> None:
        """New workers, one after the other, without closing the port."""
        command = [sys.executable, "-m", "gatepost", "reload", "--replace"]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def is_ready(self) -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(self._url("/readyz"), timeout=5) as answer:
            return answer.status == 200
        return False

    def _url(self, path: str) -> str:
        return f"http://{node_address(self.number)}:8025{path}"

    def api(self, path: str, method: str = "GET", body: object = None) -> tuple[int, Any]:
        """The status and the JSON of an answer of its desk's API."""
        request = urllib.request.Request(
            self._url(f"/api/v1{path}"),
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {PASSWORD}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as answer:
            with answer:
                return answer.code, json.load(answer)

    def listed(self, path: str, key: str) -> list[dict[str, Any]]:
        """All rows of a list of the API, page by page."""
        rows: list[dict[str, Any]] = []
        before = ""
        while True:
            status, page = self.api(f"{path}?limit=500{before}")
            assert status == 200, page
            rows += page[key]
            if page["next"] is None:
                return rows
            before = f"&before={page['next']}"

    def unexpected(self) -> list[str]:
        """Lines of the log that no outage explains."""
        return [line for line in self.log.splitlines() if "Traceback" in line or " CRITICAL " in line]


def has_ended(process: psutil.Process) -> bool:
    """Also if nobody has asked for its exit status yet."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class Cluster:
    """Nodes behind HAProxy with the settings of deploy/, and the servers that they share; all of them run."""

    def __init__(self, folder: Path, nodes: int) -> None:
        self._stack = contextlib.ExitStack()
        try:
            self._stack.enter_context(own_network(nodes))
            self.databases = Databases()
            self._stack.callback(self.databases.close)
            self.redis = self._started(make_redis(self._folder(folder, "redis")))
            self.sink = self._started(make_sink(self._folder(folder, "sink")))
            self.nodes: list[Node] = []
            for number in range(1, nodes + 1):
                place = self._folder(folder, f"mx{number}")
                self.nodes.append(Node(place, number, self.databases.url(number)))
                self._stack.callback(self._end, self.nodes[-1])
                self.nodes[-1].start()
            front = self._folder(folder, "haproxy")
            authority = trustme.CA()
            authority.issue_cert("desk.example.com").private_key_and_cert_chain_pem.write_to_path(
                str(front / "desk.pem")
            )
            self.trust = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
            self.haproxy = self._started(make_haproxy(front, haproxy_settings(front / "desk.pem", nodes)))
            for node in self.nodes:
                wait_until(node.is_ready, f"{node.name} is ready")
        except BaseException:
            self.close()
            raise

    @staticmethod
    def _folder(folder: Path, name: str) -> Path:
        (folder / name).mkdir()
        return folder / name

    def _started(self, server):
        self._stack.callback(server.kill)
        server.start()
        return server

    @staticmethod
    def _end(node: Node) -> None:
        if node.process is not None and node.process.poll() is None:
            node.kill()

    def cut_off(self, node: Node) -> Cut:
        return Cut(node.number)

    def lead_each_request_to_another_node(self) -> None:
        """As a balancer does that keeps no browser with a node."""
        settings = self.haproxy.folder / "haproxy.cfg"
        sticky = "    balance source\n    hash-type consistent\n"
        text = settings.read_text()
        assert text.count(sticky) == 1
        settings.write_text(text.replace(sticky, "    balance roundrobin\n"))
        self.haproxy.kill()
        self.haproxy.start()

    def sunk(self) -> list["Sunk"]:
        return [
            Sunk(content)
            for file in (self.sink.folder).glob("message.*")
            if b"\nSubject: " in (content := file.read_bytes())
        ]

    def close(self) -> None:
        self._stack.close()


class Sunk:
    """A message in a file of smtp-sink."""

    def __init__(self, content: bytes) -> None:
        self.token = re.search(rb"^Subject: (\S+)$", content, re.MULTILINE)[1].decode()
        self.is_whole = content.endswith(f"end of {self.token}\n\n".encode())
        self.node = re.search(rb"^X-Helo-Args: (\S+)\.example\.com$", content, re.MULTILINE)[1].decode()


def haproxy_settings(certificate: Path, nodes: int) -> str:
    """Those of deploy/, with another certificate, and with more lines for more nodes."""
    text = HAPROXY.read_text()
    assert text.count("/etc/haproxy/desk.pem") == 1
    text = text.replace("/etc/haproxy/desk.pem", str(certificate))
    for number in range(3, nodes + 1):
        text = re.sub(
            r"^( +server )mx2(.*) 10\.0\.0\.12(.*)$",
            lambda line, number=number: (
                f"{line[0]}\n{line[1]}mx{number}{line[2]} {node_address(number)}"
                + line[3].replace("mx2", f"mx{number}")
            ),
            text,
            flags=re.MULTILINE,
        )
    return text
