"""What an administrator reads of an outage of the server: its beginning and its end, from Gatepost alone."""

import contextlib
import json
import re
import signal
import smtplib
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import pytest
from gatepost.testing import FakeUpstream
from postgres_server import PostgresServer

RULES = """\
hostname: mx.example.com
listen: ["127.0.0.1:0"]
web: {{address: "127.0.0.1:0", password_file: password}}
store: {{url: "{url}"}}
relay: [{{recipients: "*@example.net", to: "{upstream}"}}]
rules: [{{name: hold, filter: keywords, with: {{words: [virus]}}, action: quarantine}}]
"""
PATIENCE_SECONDS = 60
STOPPED, GONE, REFUSED = (
    "cannot write: ",
    "not ready: store: ",
    r"transaction \w+ deferred, the store failed: ",
)
AGAIN, READY = r"the store postgresql://\S+ is written again, after \S+ seconds", "ready again"
IN_DOUBT = "the connection was lost at COMMIT, and it is not known whether "
REQUESTS = 12
"""Of programs and people to the desk; it does not matter for the log how many there are."""


def refuse_logins(server):
    server.execute("ALTER ROLE node NOLOGIN")
    end_sessions(server)


def accept_logins(server):
    server.execute("ALTER ROLE node LOGIN")


def end_sessions(server):
    ends = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'node'"
    for _ in range(20):  # a session of the pool that begins meanwhile
        if not server.execute(ends):
            break
        time.sleep(0.05)


def stop(how):
    return lambda server: server.stop(how)


def read_only(value):
    def change(server):
        for statement in (
            f"ALTER SYSTEM SET default_transaction_read_only = {value}",
            "SELECT pg_reload_conf()",
        ):
            server.execute(statement, options="-cdefault_transaction_read_only%3Doff")

    return change


def rename(old, new):
    def change(server):
        server.execute(f"ALTER DATABASE {old} ALLOW_CONNECTIONS false")
        server.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{old}'")
        server.execute(f"ALTER DATABASE {old} RENAME TO {new}")
        server.execute(f"ALTER DATABASE {new} ALLOW_CONNECTIONS true")

    return change


def full(table):
    return lambda server: server.execute(
        "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'disk_full', MESSAGE = 'No space left on device'; END $$;"
        f"CREATE TRIGGER full_disk BEFORE INSERT ON {table} EXECUTE FUNCTION no_room()",
        database="mail",
    )


def with_room(server):
    server.execute("DROP FUNCTION no_room CASCADE", database="mail")


OUTAGES = {
    "stopped": (stop(signal.SIGINT), lambda server: server.start(), 503),
    "killed": (stop(signal.SIGQUIT), lambda server: server.start(), 503),
    "refuses the login": (refuse_logins, accept_logins, 503),
    "has no such database": (rename("mail", "gone"), rename("gone", "mail"), 503),
    "is read-only": (read_only("on"), read_only("off"), 200),
    "is full": (full("transactions"), with_room, None),
    "has room for records only": (full("kept"), with_room, None),
    "ends all sessions": (end_sessions, lambda _: None, None),
}
"""How each begins and ends, and what the desk answers; None: the desk does not notice."""


class Node:
    """`gatepost serve`, as it is run."""

    def __init__(self, folder, url, upstream):
        (folder / "password").write_text("secret\n")
        (folder / "rules.yaml").write_text(RULES.format(url=url, upstream=upstream.url))
        self.log_file = folder / "log"
        with self.log_file.open("wb") as log:
            command = [sys.executable, "-m", "gatepost", "serve"]
            self.process = subprocess.Popen(command, cwd=folder, stderr=log)
        self.wait_until(lambda: "gatepost listens on" in self.log)
        found = re.search(r"listens on .*127\.0\.0\.1:(\d+); web desk: (http\S+?)/?\n", self.log)
        self.port, self.desk = int(found[1]), found[2]

    @property
    def log(self):
        return self.log_file.read_text()

    def wait_until(self, condition):
        give_up = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < give_up, self.log
            time.sleep(0.05)

    def send(self, text):
        with smtplib.SMTP("127.0.0.1", self.port, timeout=PATIENCE_SECONDS) as client:
            client.ehlo()
            client.mail("ann@example.com")
            client.rcpt("bob@example.net")
            return client.data(f"Subject: hello\r\n\r\n{text}\r\n")[0]

    def ask(self, path):
        request = urllib.request.Request(self.desk + path, headers={"Authorization": "Bearer secret"})
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as answer:
            with answer:
                return answer.code, json.load(answer)

    def lines(self, since):
        """What an administrator should look at: warnings and errors, without time and priority."""
        lines = self.log[since:].splitlines()
        for line in lines:
            assert re.match(r"[-\d]+ [:\d]+ [A-Z]+ ", line), f"of somebody else: {line}"
        return [line.split(" ", 3)[3] for line in lines if not re.match(r"\S+ \S+ INFO ", line)]


@pytest.fixture(scope="module")
def server():
    server = PostgresServer()
    server.execute("CREATE ROLE node LOGIN")
    server.execute("CREATE DATABASE mail OWNER node")
    server.execute("CREATE EXTENSION pg_trgm", database="mail")
    yield server
    server.close()


@pytest.fixture(scope="module")
def node(server, tmp_path_factory):
    with FakeUpstream() as upstream:
        node = Node(tmp_path_factory.mktemp("node"), server.url("mail", user="node"), upstream)
        yield node
        node.process.terminate()
        node.process.wait(PATIENCE_SECONDS)


@pytest.mark.real("postgres")
@pytest.mark.parametrize("outage", OUTAGES)
def test_the_log_has_the_beginning_and_the_end_of_an_outage_and_nothing_of_libraries(server, node, outage):
    begin, end, answer = OUTAGES[outage]
    node.wait_until(lambda: node.ask("/readyz")[0] == 200)
    assert (node.send("Hi"), node.send("virus")) == (250, 250)
    since = len(node.log)
    begin(server)
    assert node.send("Hi") == 250, "relaying goes on"
    waiting = [threading.Thread(target=node.send, args=("virus",)) for _ in range(4)]
    for thread in waiting:
        thread.start()
        time.sleep(0.2)  # each in a group of its own, with a record that is relayed meanwhile between them
        assert node.send("Hi") == 250
    node.wait_until(lambda: STOPPED in node.log[since:])
    for _ in range(REQUESTS):
        status, _ = node.ask("/api/v1/messages")
        assert status == (answer or 200), outage
        with contextlib.suppress(urllib.error.HTTPError):
            node.ask("/api/v1/messages?q=hello")
    if answer:
        node.wait_until(lambda: node.ask("/readyz")[0] == 503)
    end(server)
    for thread in waiting:
        thread.join(PATIENCE_SECONDS)
    node.wait_until(lambda: node.send("virus") == 250)
    node.wait_until(lambda: re.search(AGAIN, node.log[since:]))
    node.wait_until(lambda: node.ask("/readyz")[0] == 200)
    expected = [STOPPED, AGAIN, *([GONE, READY] if answer else [])]
    found = node.lines(since)
    for pattern in expected:
        assert sum(re.match(pattern, line) is not None for line in found) == 1, found
    rest = [line for line in found if not any(re.match(pattern, line) for pattern in expected)]
    assert len(rest) <= 1, found
    assert all(re.match(f"{REFUSED}|{IN_DOUBT}", line) for line in rest), found


@pytest.mark.real("postgres")
def test_commits_that_wait_for_a_standby_are_named_and_not_only_late(server, node):
    node.wait_until(lambda: node.ask("/readyz")[0] == 200)
    since = len(node.log)
    for statement in ("ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()"):
        server.execute(statement)
    waiting = threading.Thread(target=node.send, args=("virus",))
    waiting.start()
    node.wait_until(lambda: node.ask("/readyz")[0] == 503)
    for statement in ("ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()"):
        server.execute(statement)
    waiting.join(PATIENCE_SECONDS)
    node.wait_until(lambda: node.ask("/readyz")[0] == 200)
    gone, ready = [line for line in node.lines(since) if not re.match(AGAIN, line)]
    assert re.match(
        f"{GONE}commits on the server of .* wait for a standby that does not answer"
        r" \(synchronous_standby_names = 'nobody'\)$",
        gone,
    )
    assert ready == READY
