"""Every message that any worker stores is reported once to the webhook, which SMTP never waits for."""

import contextlib
import json
import signal
import smtplib
import socket
import threading
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psutil
import pytest

SECRET = "c2VjcmV0" * 4
RULES = """
    workers: 2
    web:
      address: 127.0.0.1:0
      webhook: {url: "http://ann:hunter2@127.0.0.1:%d/hunter3", secret_file: secret}
    relay:
      - {recipients: "*", clients: 127.0.0.1, to: inbox}
    rules:
      - {name: words, filter: keywords, with: {words: [viagra]}, action: quarantine}
"""


@pytest.fixture
def receiver():
    """An HTTP server that notes the bodies that it gets."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            server.bodies.append({**body, "signed": self.headers["webhook-signature"]})
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.bodies = []
        server.port = server.server_address[1]
        threading.Thread(target=server.serve_forever).start()
        yield server
        server.shutdown()


def send_one(running, content):
    """Of a worker that is being replaced the client is told to come again."""
    reply = ""
    while not reply or reply.startswith("421"):
        with contextlib.suppress(smtplib.SMTPResponseException), running.smtp() as smtp:
            reply = smtp.transact(content, "bob@example.com")
    return reply


def send(running, count, begin=0):
    with ThreadPoolExecutor(4) as pool:
        contents = [f"Subject: {number}\r\n\r\nx\r\n" for number in range(begin, begin + count)]
        return [*pool.map(lambda one: send_one(running, one), contents)]


@pytest.mark.long
def test_each_message_of_all_workers_is_reported_once_over_restarts(gateway, receiver, wait_until):
    running = gateway(RULES % receiver.port, files={"secret": SECRET})
    assert all(reply.startswith("250") for reply in send(running, 20))
    wait_until(lambda: len(receiver.bodies) == 20, "all are reported")
    before = psutil.Process(running.pid).children()
    running.kill(signal.SIGUSR2)
    assert all(reply.startswith("250") for reply in send(running, 20, begin=20))
    running.logs("all workers have been replaced")
    wait_until(lambda: not any(one.is_running() for one in before), "the previous desk has ended")
    assert urllib.request.urlopen(f"http://{running.desk}/healthz", timeout=60).status == 200
    assert all(reply.startswith("250") for reply in send(running, 20, begin=40))
    assert running.send("Subject: viagra\r\n\r\nx\r\n", "bob@example.com").startswith("250")
    assert running.stop() == 0
    subjects = Counter(one["subject"] for one in receiver.bodies)
    assert subjects == Counter([*map(str, range(60)), "viagra"])
    boxes = Counter((one["box"], one["rule"]) for one in receiver.bodies)
    assert boxes == {("inbox", None): 60, ("quarantine", "words"): 1}
    assert all(one["signed"].startswith("v1,") for one in receiver.bodies)
    assert "hunter" not in running.log


@pytest.mark.long
def test_a_webhook_that_is_gone_or_hangs_delays_neither_mail_nor_the_end(complaints, wait_until):
    with socket.create_server(("127.0.0.1", 0)) as hangs:
        port = hangs.getsockname()[1]
        variables = {"GATEPOST_COMPLAINTS_WEBHOOK": f"http://ann:hunter2@127.0.0.1:{port}/hunter3"}
        running = complaints("--web", "127.0.0.1:0", "--quiet", **variables)
        assert f"New messages are reported to http://127.0.0.1:{port}." in running.log
        assert all(reply.startswith("250") for reply in send(running, 5))
        hangs.settimeout(60)
        with hangs.accept()[0]:
            assert running.stop(signal.SIGINT) == 0
    assert "was not reported: not accepted in time" in running.log
    assert "hunter" not in running.log


@pytest.mark.long
def test_an_imported_message_is_reported(complaints, receiver, wait_until):
    url = f"http://127.0.0.1:{receiver.port}"
    running = complaints("--web", "127.0.0.1:0", "--quiet", "--webhook", url)
    request = urllib.request.Request(
        f"http://{running.desk}/api/v1/messages", b"Subject: kept\n\nx\n", {"Content-Type": "message/rfc822"}
    )
    assert urllib.request.urlopen(request, timeout=60).status == 200
    wait_until(lambda: [one["subject"] for one in receiver.bodies] == ["kept"], "it is reported")


@pytest.mark.long
def test_what_arrives_before_the_desk_runs_is_reported_even_if_all_ends_then(complaints, receiver):
    url = f"http://127.0.0.1:{receiver.port}"
    running = complaints("--web", "127.0.0.1:0", "--quiet", "--webhook", url)
    assert all(reply.startswith("250") for reply in send(running, 5))
    assert running.stop(signal.SIGINT) == 0
    assert sorted(one["subject"] for one in receiver.bodies) == ["0", "1", "2", "3", "4"]
