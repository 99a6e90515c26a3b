"""/readyz of a running gateway follows its store, its upstream servers and its routes."""

import contextlib
import json
import re
import signal
import socket
import sqlite3
import subprocess
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from gatepost.testing import FakeUpstream
from ports import free_port

RULES = """
web: {{address: "127.0.0.1:0", password_file: password}}
relay:
  - {{recipients: "*@example.com", to: ["smtp://127.0.0.1:{first}", "smtp://127.0.0.1:{second}"]}}
  - {{recipients: "*@inbox.example", to: inbox}}
"""
FILES = {"password": "swordfish\n"}
DOC = Path(__file__).parents[2] / "docs" / "rules.md"
HAPROXYS = """
listen: [{{address: "127.0.0.1:0"}}, {{address: "127.0.0.1:{smtp}", proxy_protocol_from: 127.0.0.1}}]
"""
HAPROXY = """
defaults
    mode tcp
    timeout connect 5s
    timeout client 5s
    timeout server 5s
    default-server inter 200ms
frontend smtp
    bind 127.0.0.1:{front}
    default_backend gatepost
"""


class Probe:
    def __init__(self, running, wait_until):
        self.address = re.search(r"http://([^/]+)/", running.log)[1]
        self.wait_until = wait_until

    def __call__(self):
        """Status and the checks of /readyz."""
        try:
            with urllib.request.urlopen(f"http://{self.address}/readyz", timeout=60) as answer:
                return answer.status, json.load(answer)["checks"]
        except urllib.error.HTTPError as answer:
            with answer:
                return answer.code, json.load(answer)["checks"]

    def becomes(self, **failed):
        checks = {
            "store": "ok",
            "workers": "ok",
            "rules": "ok",
            "connections": "ok",
            "upstreams": "ok",
            **failed,
        }
        status = 503 if failed else 200
        self.wait_until(lambda: self() == (status, checks), f"/readyz is {status} with {failed}")


@pytest.mark.long
def test_it_follows_servers_routes_and_store(gateway, write_rules, wait_until):
    first, second, nobody = free_port(), free_port(), free_port()
    with FakeUpstream(port=second) as upstream:
        running = gateway(
            RULES.format(first=first, second=second), files=FILES, errors=["has ended with signal 9"]
        )
        probe = Probe(running, wait_until)
        probe.becomes()
        # However many ask at a time: one answer is made a second.
        before, began = upstream.connections, time.monotonic()
        with ThreadPoolExecutor(20) as pool:
            assert {status for status, _ in pool.map(lambda _: probe(), range(200))} == {200}
        assert upstream.connections - before <= 2 + (time.monotonic() - began)
        assert not upstream.messages

        with closing(sqlite3.connect(running.folder / "gatepost.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            probe.becomes(store="failed")
            other.execute("ROLLBACK")
        write_rules(running.folder, RULES.format(first=first, second=nobody))
        running.kill(signal.SIGHUP)
        probe.becomes(upstreams="failed")
        assert f"not ready: upstreams: 127.0.0.1:{first}: " in running.log
        assert f"; 127.0.0.1:{nobody}: " in running.log
        # The next desk has the new routes too.
        desk = next(child for child in psutil.Process(running.pid).children() if serves(child, probe.address))
        desk.kill()
        running.logs("starting another one")
        probe.becomes(upstreams="failed")

    # As HAProxy's "option httpchk GET /healthz" asks.
    host, _, port = probe.address.rpartition(":")
    with socket.create_connection((host, int(port)), 60) as client:
        client.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b'{"status":"ok"}')
    assert running.stop() == 0


def serves(process, address):
    host, _, port = address.rpartition(":")
    listening = [one.laddr for one in process.net_connections("inet") if one.status == psutil.CONN_LISTEN]
    return (host, int(port)) in listening


@pytest.mark.long
@pytest.mark.real("haproxy")
def test_haproxy_sends_clients_only_while_it_is_ready(gateway, wait_until, tmp_path):
    """With the lines of docs/rules.md."""
    lines = re.search(r"^backend gatepost\n(?:    .*\n)+", DOC.read_text(), re.MULTILINE)[0]
    behind, front, smtp = free_port(), free_port(), free_port()
    rules = RULES.format(first=behind, second=behind) + HAPROXYS.format(smtp=smtp)
    running = gateway(rules, files=FILES, errors=["has ended with signal 9"])
    probe = Probe(running, wait_until)
    lines = lines.replace("10.0.0.5:25", f"127.0.0.1:{smtp}").replace(
        "8025", probe.address.rpartition(":")[2]
    )
    assert f"127.0.0.1:{smtp} send-proxy-v2 check port " in lines
    (tmp_path / "haproxy.cfg").write_text(HAPROXY.format(front=front) + lines)
    process = subprocess.Popen(
        ["haproxy", "-db", "-f", "haproxy.cfg"], cwd=tmp_path, stderr=subprocess.DEVNULL
    )

    def greets():
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", front), 60) as client:
            client.settimeout(60)
            return client.recv(4096).startswith(b"220 ")
        return False

    try:
        with FakeUpstream(port=behind):
            wait_until(greets, "HAProxy finds the gateway ready")
        wait_until(lambda: not greets(), "HAProxy finds it not ready")
    finally:
        process.terminate()
        process.wait(60)
    assert running.stop() == 0
