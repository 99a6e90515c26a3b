"""Two gateways as they are run, with one server: a client's connections are counted on both."""

import json
import re
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

pytestmark = pytest.mark.real("redis-server")
RULES = """\
node: {name}
listen: [127.0.0.1:0]
relay: [{{recipients: "*@example.net", to: inbox}}]
limits: {{connections_per_client: 4, on_error: {on_error}}}
state: {{url: "{url}"}}
web: {{address: unix:desk}}
"""


class Node:
    """A running `gatepost serve`."""

    def __init__(self, folder):
        self.folder = folder
        self.errors = folder / "stderr"
        with self.errors.open("w") as errors:
            command = [sys.executable, "-m", "gatepost", "serve"]
            self.process = subprocess.Popen(command, cwd=folder, stderr=errors)
        until(lambda: "gatepost listens on" in self.log, lambda: self.log)
        self.port = int(re.search(r"listens on 127\.0\.0\.1:([0-9]+)", self.log)[1])

    @property
    def log(self):
        return self.errors.read_text()

    def connect(self):
        """A connection, and the first line that it was told."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        with connection.makefile() as lines:
            return connection, lines.readline()

    def get(self, path):
        with socket.socket(socket.AF_UNIX) as desk:
            desk.settimeout(60)
            desk.connect(str(self.folder / "desk"))
            desk.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            return b"".join(iter(lambda: desk.recv(65536), b"")).decode()

    def crash(self):
        every = [self.process, *psutil.Process(self.process.pid).children()]
        self.process.send_signal(signal.SIGSTOP)
        for one in reversed(every):
            one.kill()
        self.process.wait(60)


def until(condition, what=lambda: ""):
    give_up = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < give_up, what()
        time.sleep(0.05)


@pytest.fixture
def start(tmp_path):
    """Start a node of that name."""
    started = []

    def start(name, url, on_error="own"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "rules.yaml").write_text(RULES.format(name=name, url=url, on_error=on_error))
        started.append(Node(folder))
        return started[-1]

    yield start
    for node in started:
        node.process.terminate()
    for node in started:
        assert node.process.wait(60) in (0, -signal.SIGKILL)


@pytest.fixture
def clients():
    """Connect to a node; returns what the client is told first."""
    opened = []

    def connect(node):
        connection, line = node.connect()
        opened.append(connection)
        return line[:9]

    yield connect
    for connection in opened:
        connection.close()


def checks(node):
    return json.loads(node.get("/readyz").partition("\r\n\r\n")[2])["checks"]


def test_a_client_has_so_many_connections_to_both_nodes_whatever_happens_to_node_and_server(
    make_server, start, clients
):
    server = make_server()
    one, other = start("mx-a", server.url), start("mx-b", server.url, "defer")
    told = [clients(node) for node in (one, other) * 4]
    assert sum(line.startswith("220") for line in told) == 4
    assert {line for line in told if not line.startswith("220")} == {"421 4.7.0"}

    one.crash()
    assert clients(other) == "421 4.7.0", "its lease is not over"
    third = start("mx-c", server.url)
    until(lambda: clients(other).startswith("220"))

    server.stop()
    assert clients(other) == "421 4.3.0"
    assert clients(third).startswith("220")
    until(lambda: checks(other)["connections"] == "failed")
    assert checks(third)["connections"] == "ok", "it takes mail"
    for node in (other, third):
        until(lambda node=node: "are not counted on all nodes now" in node.get("/overview"))
        assert node.log.count("connections are not counted on all nodes") == 1
    assert 'gatepost_connections_out_of_service{defers="none"} 1.0' in third.get("/metrics")
    assert 'gatepost_node_info{node="mx-c"} 1.0' in third.get("/metrics")

    server.start()
    for node in (other, third):
        until(lambda node=node: "connections are counted on all nodes again" in node.log)
    until(lambda: checks(other)["connections"] == "ok")
    until(lambda: clients(third) == "421 4.7.0")
    until(lambda: "are not counted on all nodes now" not in third.get("/overview"))
