"""Two gateways as they are run, with one store: the desk of one shows live what is said to the other."""

import json
import re
import signal
import smtplib
import subprocess
import sys
import threading
import time
import urllib.request

import pytest

RULES = """\
node: {name}
listen: [127.0.0.1:0]
store: {{url: "{url}", conversations: true}}
relay: [{{recipients: "*@example.net", to: inbox}}]
web: {{address: "127.0.0.1:0", password_file: password}}
"""


class Node:
    """A running `gatepost serve`."""

    def __init__(self, folder, name, url):
        (folder / "rules.yaml").write_text(RULES.format(name=name, url=url))
        (folder / "password").write_text("correct horse\n")
        self.errors = folder / "stderr"
        with self.errors.open("wb") as errors:
            command = [sys.executable, "-m", "gatepost", "serve"]
            self.process = subprocess.Popen(command, cwd=folder, stderr=errors)
        until(lambda: "gatepost listens on" in self.log, lambda: self.log)
        self.port = int(re.search(r"listens on 127\.0\.0\.1:([0-9]+)", self.log)[1])
        self.desk = re.search(r"web desk: (http\S+)", self.log)[1]

    @property
    def log(self):
        return self.errors.read_text()

    def say(self, helo):
        with smtplib.SMTP("127.0.0.1", self.port, helo, timeout=60) as client:
            client.ehlo()


class Page:
    """A browser that watches the live page of a desk."""

    def __init__(self, node):
        self.lines, self.nodes = [], {}
        self._asked = urllib.request.Request(
            f"{node.desk}live/events", headers={"authorization": "Bearer correct horse"}
        )
        self._opened = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        assert self._opened.wait(60)

    def _read(self):
        with urllib.request.urlopen(self._asked, timeout=120) as stream:
            self._opened.set()
            for line in stream:
                if line.startswith(b"data: {"):
                    event = json.loads(line.removeprefix(b"data: "))
                    self.nodes |= {session: node for session, (_, _, node) in event["sessions"].items()}
                    self.lines += event["lines"]

    def shows(self, text):
        """The node of the session with this line; empty if there is none."""
        return next((self.nodes[session] for session, _, _, line in self.lines if line == text), "")


def until(condition, what=lambda: ""):
    give_up = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < give_up, what()
        time.sleep(0.05)


@pytest.fixture
def start(tmp_path):
    """Start a node of that name."""
    started = []

    def start(name, url):
        folder = tmp_path / name
        folder.mkdir()
        started.append(Node(folder, name, url))
        return started[-1]

    yield start
    for node in started:
        node.process.terminate()
    for node in started:
        node.process.wait(60)


def test_a_session_on_one_node_is_seen_live_in_the_desk_of_the_other(make_postgresql, start):
    server = make_postgresql()
    one, other = start("mx-a", server.url()), start("mx-b", server.url())
    page = Page(other)

    def seen(name):
        """Each session says its name: the first may come before the node knows that somebody watches."""
        one.say(name)
        return page.shows(f"ehlo {name}")

    until(lambda: seen("client.example") == "mx-a")
    other.say("its-own.example")
    until(lambda: page.shows("ehlo its-own.example") == "mx-b")

    server.stop(signal.SIGQUIT)
    until(lambda: "not ready: store: the store" in other.log)
    one.say("nobody-sees.example")
    server.start()
    until(lambda: "ready again" in other.log)
    until(lambda: seen("later.example") == "mx-a", lambda: one.log + other.log)
    assert other.log.count("not ready: store") == 1
    assert "are not shown" not in other.log
