"""Sessions that are held, in a gateway of several processes as its operator runs it."""

import json
import os
import signal
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from gatepost.testing.upstream import FakeUpstream

MESSAGE = "From: ann@example.org\r\nSubject: hi\r\n\r\nbody\r\n"
HOLDS = """
    web: 127.0.0.1:0
    workers: 2
    rules:
      - name: look
        filter: match
        action: hold
        hold: {stage: message, deadline: 2m}
"""


class Api:
    def __init__(self, running):
        self._url = f"http://{running.desk}/api/v1/"
        self._headers = {**running.password, "Content-Type": "application/json"}

    def __call__(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, self._headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def held(self, count=1):
        """The sessions that are held, as soon as there are so many."""
        found = []
        while len(found) < count:
            found = self("GET", "held?timeout=60")["held"]
        return found


def processes(running):
    """The workers and the desk."""
    children = psutil.Process(running.pid).children()

    def listens(child):
        return any(one.laddr and one.laddr.port == running.port for one in child.net_connections("inet"))

    workers = [child for child in children if listens(child)]
    (desk,) = [child for child in children if child not in workers]
    return workers, desk


@pytest.fixture
def upstream():
    with FakeUpstream() as server:
        yield server


@pytest.fixture
def pool():
    with ThreadPoolExecutor(10) as threads:
        yield threads


def test_sessions_of_several_workers_are_answered_by_one_desk(gateway, upstream, pool):
    running = gateway(HOLDS, upstream=upstream.port)
    api = Api(running)
    sending = [pool.submit(running.send, MESSAGE, f"user{number}@example.com") for number in range(8)]
    for one in api.held(8):
        assert (one["by"], one["stage"]) == ("look", "message")
        reply = {"reply": "550 5.7.1 Not today"} if one["recipients"] == ["user0@example.com"] else {}
        api("POST", f"held/{one['id']}/answer", reply)
    replies = [one.result() for one in sending]
    assert replies[0] == "550 5.7.1 Not today"
    assert all(reply.startswith("250 ") for reply in replies[1:])
    assert sorted(message.recipients[0].address for message in upstream.messages) == [
        f"user{number}@example.com" for number in range(1, 8)
    ]
    assert len(running.journal(8)) == 8
    assert "Traceback" not in running.log


def test_if_the_desk_dies_the_client_keeps_its_message_and_the_next_desk_holds_again(gateway, upstream, pool):
    running = gateway(HOLDS, upstream=upstream.port, errors=["has ended with signal"])
    sending = pool.submit(running.send, MESSAGE)
    Api(running).held()
    os.kill(processes(running)[1].pid, signal.SIGKILL)
    assert sending.result().startswith("451 4.3.0")
    again = pool.submit(running.send, MESSAGE)  # it waits for the new desk
    (one,) = wait_for_held(running)
    Api(running)("POST", f"held/{one['id']}/answer", {"reply": "250 2.0.0 Fine"})
    assert again.result() == "250 2.0.0 Fine"
    assert len(upstream.messages) == 1
    first = running.journal(2)[-1]
    assert "the web desk has ended" in first.evaluations[-1].reason


def wait_for_held(running):
    """As `Api.held`, of a desk that starts meanwhile."""
    while True:
        try:
            return Api(running).held()
        except (OSError, urllib.error.URLError):
            continue


def test_a_worker_that_dies_loses_nothing(gateway, upstream, pool):
    running = gateway(HOLDS, upstream=upstream.port, errors=["has ended with signal"])
    api = Api(running)
    sending = pool.submit(running.send, MESSAGE)
    (one,) = api.held()
    for worker in processes(running)[0]:
        os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(Exception):  # noqa: B017 - the connection is lost
        sending.result()
    while api("GET", "held")["held"]:
        pass
    with pytest.raises(urllib.error.HTTPError) as told:
        api("POST", f"held/{one['id']}/answer", {})
    with told.value as answer:
        assert "its worker has ended" in json.load(answer)["detail"]
    assert upstream.messages == ()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_at_the_end_of_a_worker_on_error_answers_at_once(gateway, upstream, pool, number):
    running = gateway(HOLDS, upstream=upstream.port, errors=["the restart stops here"])
    with running.client().begin("bob@example.com") as client:
        client.socket.sendall(f"{MESSAGE}.\r\n".encode())
        Api(running).held()
        running.kill(number)
        assert client.reply() == "451 4.3.0 Temporary failure, try again later"
        assert client.reply() == "421 4.3.2 Shutting down, try again later"
    # a second SIGTERM would end it without waiting for the journal
    assert (running.wait() if number == signal.SIGTERM else running.stop()) == 0
    assert "cut off" not in running.log
    (record,) = running.journal(1)
    assert [str(one.disposition) for one in record.recipients] == ["deferred"]


def test_a_reload_leaves_held_sessions_held(gateway, upstream, pool):
    running = gateway(HOLDS, upstream=upstream.port)
    api = Api(running)
    sending = pool.submit(running.send, MESSAGE)
    (one,) = api.held()
    running.kill(signal.SIGHUP)
    running.logs("reloaded", 2)
    assert [held["id"] for held in api("GET", "held")["held"]] == [one["id"]]
    api("POST", f"held/{one['id']}/answer", {})
    assert sending.result().startswith("250 ")


def test_without_a_desk_a_rule_that_holds_is_warned_of(gateway, upstream):
    running = gateway(HOLDS.replace("web: 127.0.0.1:0", ""), upstream=upstream.port)
    running.logs("nobody can answer for a session that is held, so on_error: defer answers at once")
    assert running.send(MESSAGE).startswith("451 4.3.0")


def test_the_option_holds_from_the_first_session_on(complaints, pool):
    running = complaints("--web", "127.0.0.1:0", "--hold", "rcpt", "--hold", "mail")
    sending = pool.submit(running.send, MESSAGE)
    api = Api(running)
    for stage in ("mail", "rcpt"):
        (one,) = api.held()
        assert (one["stage"], one["on_error"]) == (stage, "defer")
        api("POST", f"held/{one['id']}/answer", {})
    assert sending.result().startswith("250 ")
    assert [one["armed_by"] for one in api("GET", "breakpoints")["breakpoints"]] == ["--hold", "--hold"]
