"""A gateway that is stopped ends what its web desk has begun, and cuts off what only waits."""

import http.client
import json
import signal
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from gatepost.model.record import Disposition
from gatepost.store import JournalQuery, State
from gatepost.testing import FakeUpstream
from gatepost.testing.upstream import Stall, Usual

RULES = """
relay: [{{recipients: "*@example.com", to: "{url}"}}]
web: {{address: "127.0.0.1:0", password_file: password, base_path: /mail}}
limits: {{shutdown_time: {shutdown}}}
rules: [{{name: kept, filter: match, when: {{recipient: kept@example.com}}, action: quarantine}}]
"""
AFTER_THE_GRACE_SECONDS = 3.0
"""The desk cuts off the rest two seconds after SIGTERM."""


@pytest.fixture
def upstream():
    """Does not answer to the end of a message before it is allowed to."""
    with FakeUpstream({"dot": [Stall(), Usual()]}) as server:
        yield server


@pytest.fixture
def start(gateway, upstream):
    """A gateway with one message in quarantine, and its id."""

    def started(shutdown, **options):
        rules = RULES.format(url=upstream.url, shutdown=shutdown)
        running = gateway(rules, files={"password": "swordfish\n"}, **options)
        running.send(b"Subject: kept\r\n\r\n", "kept@example.com")
        (kept,) = running.kept()
        return running, kept.id

    return started


def ask(running, path, method="GET"):
    """The status and the JSON of an answer."""
    request = urllib.request.Request(
        f"http://{running.desk}/mail/api/v1{path}",
        method=method,
        data=b"{}" if method == "POST" else None,
        headers={"Authorization": "Bearer swordfish", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as answer:
        with answer:
            return answer.code, json.load(answer)


@pytest.mark.parametrize("shutdown", ["30s", "1s"])
def test_a_release_that_has_begun_ends_and_its_user_is_answered(start, upstream, shutdown):
    running, kept_id = start(shutdown)
    with ThreadPoolExecutor() as threads:
        released = threads.submit(ask, running, f"/quarantine/{kept_id}/release", "POST")
        assert upstream.wait_until(lambda server: any("DATA" in said for said in server.commands))
        running.kill(signal.SIGTERM)
        time.sleep(AFTER_THE_GRACE_SECONDS)
        upstream.release.set()
        assert released.result()[0] == 200, running.log
    assert running.wait() == 0
    with running.archive() as archive:
        assert archive.kept_message(kept_id).state is State.RELEASED
        (record, _) = archive.records(JournalQuery(), limit=10)
    assert record.recipients[0].disposition is Disposition.RELAYED
    assert len(upstream.messages) == 1


def test_who_waits_for_mail_is_told_to_ask_again(start, wait_until):
    running, _ = start("30s")
    with closing(http.client.HTTPConnection(running.desk, timeout=60)) as client:
        client.request(
            "GET",
            "/mail/api/v1/wait?query=never&timeout=300",
            headers={"Authorization": "Bearer swordfish"},
        )
        wait_until(lambda: has_read_all_of(client), "the desk has the request")
        began = time.monotonic()
        running.kill(signal.SIGTERM)
        answer = client.getresponse()
        problem = json.load(answer)
    assert (answer.status, problem["type"], problem["title"]) == (
        503,
        "/api/#problem-stopping",
        "The web desk stops",
    )
    assert running.wait() == 0
    assert time.monotonic() - began < 20


def has_read_all_of(client):
    """Whether the desk has accepted the connection and read all that was sent (proc(5), net/tcp)."""
    here, there = client.sock.getsockname()[1], client.sock.getpeername()[1]
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, _, queues, _, _, _, _, inode, *_ = line.split()
        ports = tuple(int(one.partition(":")[2], 16) for one in (local, remote))
        if ports == (there, here):
            return inode != "0" and queues.partition(":")[2] == "00000000"
    return False
