"""/metrics adds up what the workers did, whoever of them is killed or replaced."""

import contextlib
import os
import signal
import smtplib
import sqlite3
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

MESSAGE = b"Subject: hello\r\n\r\nHello\r\n"
RULES = """
    web: 127.0.0.1:0
    workers: 2
    rules:
      - {name: early, filter: match, when: {client: 192.0.2.1}, action: reject}
      - {name: late, filter: match, when: {sender: spammer@example.org}, action: reject}
      - {name: words, filter: keywords, with: {words: [viagra]}, action: quarantine}
"""


class Metrics:
    def __init__(self, running, wait_until):
        self.address, self.password = running.desk, running.password
        self.wait_until = wait_until

    def __call__(self, name, **labels):
        """A sample's value; None where there is none."""
        families = text_string_to_metric_families(self._read())
        samples = [sample for family in families for sample in family.samples]
        found = [s.value for s in samples if s.name == f"gatepost_{name}" and s.labels == labels]
        return found[0] if found else None

    def _read(self):
        try:
            return self._read_once()
        except ConnectionResetError:  # by a desk that is being replaced
            return self._read_once()

    def _read_once(self):
        request = urllib.request.Request(f"http://{self.address}/metrics", headers=self.password)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read().decode()

    def becomes(self, value, name, **labels):
        self.wait_until(lambda: self(name, **labels) == value, f"{name} {labels} is {value}")


def workers(running):
    """The process ids of those that listen for mail."""
    found = set()
    for child in psutil.Process(running.pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if any(c.laddr.port == running.port for c in child.net_connections("inet")):
                found.add(child.pid)
    return found


@pytest.fixture
def measured(gateway, sink, wait_until):
    behind = sink()
    running = gateway(RULES, upstream=behind.port, errors=["has ended with signal 9"])
    return running, Metrics(running, wait_until), behind


@pytest.mark.long
def test_what_happens_is_counted(measured):
    running, metrics, behind = measured
    for _ in range(10):
        assert running.send(MESSAGE).startswith("250")
    assert running.send(MESSAGE, sender="spammer@example.org").startswith("550")
    assert running.send(b"Subject: viagra\r\n\r\n", "bob@example.com", "ann@example.com").startswith("250")
    with running.client() as client:
        metrics.becomes(1, "sessions_open")
        client.say("EHLO x", "MAIL FROM:<alice@example.org>", "RCPT TO:<bob@example.com>", "QUIT")
    metrics.becomes(10, "messages_total", disposition="relayed")
    metrics.becomes(1, "messages_total", disposition="quarantined")
    metrics.becomes(1, "messages_total", disposition="refused")
    metrics.becomes(1, "messages_total", disposition="abandoned")
    assert metrics("messages_total", disposition="in-doubt") == 0
    assert metrics("sessions_total") == 13
    metrics.becomes(0, "sessions_open")
    assert metrics("message_bytes_total") == 10 * len(MESSAGE) + 19
    assert metrics("transaction_seconds_count") == 11
    assert metrics("transaction_seconds_sum") > 0
    assert metrics("rule_evaluations_total", rule="words", result="pass") == 10
    assert metrics("rule_evaluations_total", rule="words", result="hit") == 1
    assert metrics("rule_seconds_total", rule="words") > 0
    assert metrics("upstream_connections_total", server=f"127.0.0.1:{behind.port}") >= 2
    assert metrics("upstream_connection_failures_total", server=f"127.0.0.1:{behind.port}") == 0
    assert metrics("workers") == 2
    for name in ("store_backlog", "journal_records_lost_total", "feed_lines_lost_total"):
        metrics.becomes(0, name)
    assert running.stop() == 0


@pytest.mark.long
def test_a_rule_about_the_client_counts_once_a_session(gateway, wait_until):
    running = gateway(
        "web: 127.0.0.1:0\nrules: [{name: all, filter: match, action: tag, tag: {add: {X-A: b}}}]\n"
    )
    metrics = Metrics(running, wait_until)
    with running.smtp() as smtp:
        for _ in range(3):
            assert smtp.transact(MESSAGE).startswith("250")
    metrics.becomes(3, "messages_total", disposition="inbox")
    assert metrics("rule_evaluations_total", rule="all", result="hit") == 1
    assert running.stop() == 0


@pytest.mark.long
def test_no_count_goes_backwards_when_workers_die_and_are_replaced(measured, wait_until):
    running, metrics, _ = measured
    for _ in range(10):
        assert running.send(MESSAGE).startswith("250")
    metrics.becomes(10, "messages_total", disposition="relayed")
    before = workers(running)
    for victim in before:
        os.kill(victim, signal.SIGKILL)
    wait_until(lambda: len(workers(running) - before) == 2, "two new workers")
    assert metrics("messages_total", disposition="relayed") == 10
    assert metrics("sessions_open") == 0
    for _ in range(5):
        assert running.send(MESSAGE).startswith("250")
    metrics.becomes(15, "messages_total", disposition="relayed")
    assert metrics("worker_restarts_total", cause="died") == 2
    running.kill(signal.SIGUSR2)
    running.logs("all workers have been replaced")
    metrics.becomes(2, "workers")
    assert metrics("messages_total", disposition="relayed") == 15
    assert metrics("worker_restarts_total", cause="replaced") == 2
    assert running.send(MESSAGE).startswith("250")
    metrics.becomes(16, "messages_total", disposition="relayed")
    assert running.stop() == 0


@pytest.mark.long
def test_under_load_the_records_that_a_killed_worker_takes_with_it_are_counted(measured, wait_until):
    running, metrics, behind = measured
    ended, acknowledged = threading.Event(), []

    def send():
        while not ended.is_set():
            with contextlib.suppress(OSError, smtplib.SMTPException):
                reply = running.send(MESSAGE)
                acknowledged.extend([reply] if reply.startswith("250") else [])

    with ThreadPoolExecutor(4) as clients:
        for _ in range(4):
            clients.submit(send)
        wait_until(lambda: len(acknowledged) > 20, "there is load")
        with contextlib.closing(
            sqlite3.connect(running.folder / "gatepost.db", isolation_level=None)
        ) as other:
            other.execute("BEGIN IMMEDIATE")  # the records of relayed mail wait
            before = len(acknowledged)
            wait_until(lambda: len(acknowledged) > before + 40, "mail goes on")
            os.kill(min(workers(running)), signal.SIGKILL)
        after = len(acknowledged)
        wait_until(lambda: len(acknowledged) > after + 20, "mail goes on")
        ended.set()
    running.logs("of a process that was killed before it wrote them; their messages are not affected")
    metrics.becomes(0, "store_backlog")
    wait_until(lambda: metrics("workers") == 2, "another worker")
    wait_until(lambda: metrics("journal_records_lost_total"), "lost records are counted")
    lost, journal = metrics("journal_records_lost_total"), len(running.journal())
    sent_upstream = len(behind.messages())
    assert len(acknowledged) <= journal + lost <= sent_upstream, "no less, and none that was not sent"
    assert running.stop() == 0
