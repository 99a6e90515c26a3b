"""A resolver that takes every question and answers none: who needs no name is served, and nothing is left."""

import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from gatepost.testing import FakeUpstream

LAUNCHER = """\
#!/bin/sh -e
[ -n "$UNSHARED" ] || UNSHARED=yes exec unshare --mount "$0" "$@"
mount --bind {resolv_conf} /etc/resolv.conf
exec {python} "$@"
"""
DEAD = [f"dead{number}.test" for number in range(6)]
"""More names than an event loop has threads to look up."""
RULES = """
    relay:
      - {{recipients: "*@name.example", to: "smtp://localhost:{port}"}}
      - {{recipients: "*@address.example", to: "smtp://127.0.0.1:{port}"}}
      - {{recipients: "*@inbox.example", to: inbox}}
      {routes}
    limits: {{connect_time: 2s, idle_time: 200ms, shutdown_time: 2s}}
    rules:
      - name: near
        filter: clamav
        when: {{recipient: near@*}}
        with: {{address: "localhost:{clamd}", watch: false}}
      {filters}
"""
ROUTE = '- {{recipients: "*@{name}", to: "smtp://{name}:25"}}\n'
FILTER = '- {{name: "{name}", timeout: 2s, when: {{recipient: "{name}@*"}}, filter: '
DEAD_ONES = {
    "routes": ROUTE,
    "scanners": FILTER + 'clamav, with: {{address: "{name}:3310", watch: false}}}}\n',
    "milters": FILTER + 'milter, with: {{address: "{name}:3310"}}}}\n',
    "web services": FILTER + 'web_service, with: {{url: "http://{name}/"}}}}\n',
}
SERVFAIL = b"\x81\x82"
"""The flags of a response (RFC 1035, section 4.1.1)."""
MESSAGE = b"Subject: hello\r\n\r\nHello\r\n"
HEALTHY = ["bob@name.example", "bob@address.example", "bob@inbox.example", "near@address.example"]


class Resolver(threading.Thread):
    """Keeps what it is asked to itself, until it is to say that it has failed."""

    def __init__(self):
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 53))
        self.asked = set()
        self.fails = False
        self._waiting = []

    def run(self):
        while True:
            question, client = self.socket.recvfrom(512)
            self.asked |= {name for name in DEAD if name.partition(".")[0].encode() in question}
            self._waiting.append((question, client))
            if self.fails:
                self.fail()

    def fail(self):
        """Tell all who wait, and who ask from now on."""
        self.fails = True
        while self._waiting:
            question, client = self._waiting.pop()
            self.socket.sendto(question[:2] + SERVFAIL + question[4:], client)


class Clamd(threading.Thread):
    """Finds every message clean."""

    def __init__(self):
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]

    def run(self):
        while True:
            client, _ = self.listener.accept()
            with client:
                while not client.recv(1 << 16).endswith(bytes(4)):
                    pass
                client.sendall(b"stream: OK\0")


@pytest.fixture
def start(gateway_class, own_network, write_rules, tmp_path, monkeypatch):
    """A gateway that waits for its resolver as long as it can (resolv.conf(5)); the resolver."""
    running = []

    def started(who):
        (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:30 attempts:1\n")
        launcher = tmp_path / "python"
        launcher.write_text(LAUNCHER.format(resolv_conf=tmp_path / "resolv.conf", python=sys.executable))
        launcher.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(launcher))
        upstream, resolver, clamd = FakeUpstream(), own_network(Resolver), own_network(Clamd)
        own_network(upstream.__enter__)
        for one in (resolver, clamd):
            one.start()
        dead = {"routes": "", "filters": ""}
        kind = "routes" if who == "routes" else "filters"
        dead[kind] = "      ".join(DEAD_ONES[who].format(name=name) for name in DEAD)
        rules = RULES.format(port=upstream.port, clamd=clamd.port, **dead)
        write_rules(tmp_path, rules)
        running.append((own_network(gateway_class, tmp_path, "serve", "-c", "rules.yaml"), upstream))
        return running[-1][0], resolver

    yield started
    for gateway, upstream in running:
        gateway.stop(signal.SIGKILL)
        upstream.__exit__()


def lookups(running):
    """The sockets on which it waits for an answer of the resolver."""
    sockets = Path(f"/proc/{running.pid}/net/udp").read_text().splitlines()[1:]
    return [one for one in sockets if one.split()[2] == "0100007F:0035"]  # connected to 127.0.0.1:53


@pytest.mark.real("unshare")
@pytest.mark.parametrize("who", DEAD_ONES)
@pytest.mark.long
def test_names_without_an_answer_hold_up_nobody_else_and_leave_nothing(start, own_network, wait_until, who):
    running, resolver = start(who)
    stuck = [f"bob@{name}" if who == "routes" else f"{name}@address.example" for name in DEAD] * 3

    def play():
        assert [running.send(MESSAGE, one)[:3] for one in HEALTHY] == ["250"] * len(HEALTHY)
        wait_until(lambda: not lookups(running), "the servers have been looked for")
        resolver.asked.clear()
        before = left(running)
        with ThreadPoolExecutor(len(stuck)) as clients:
            waiting = [clients.submit(running.send, MESSAGE, one) for one in stuck]
            wait_until(lambda: resolver.asked == {*DEAD}, "all names are looked up")
            assert [running.send(MESSAGE, one)[:3] for one in HEALTHY] == ["250"] * len(HEALTHY)
            assert lookups(running), "no name has got an answer"
            assert {one.result()[:3] for one in waiting} == {"451"}
        resolver.fail()
        wait_until(lambda: not lookups(running), "the resolver has been given up")
        for what, count in before.items():
            wait_until(lambda what=what, count=count: left(running)[what] <= count, f"{what} are given back")

    own_network(play)
    assert running.stop() == 0


def left(running):
    process = psutil.Process(running.worker)
    return {"threads": process.num_threads(), "descriptors": process.num_fds()}


@pytest.mark.real("unshare")
@pytest.mark.parametrize("who", DEAD_ONES)
@pytest.mark.long
def test_a_stop_does_not_wait_for_a_resolver(start, own_network, wait_until, who):
    running, resolver = start(who)
    stuck = f"bob@{DEAD[0]}" if who == "routes" else f"{DEAD[0]}@address.example"
    resolver.asked.clear()
    assert own_network(running.send, MESSAGE, stuck).startswith("451 ")
    assert lookups(running)
    begin = time.monotonic()
    assert running.stop() == 0
    assert time.monotonic() - begin < 30
