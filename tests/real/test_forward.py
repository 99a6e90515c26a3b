"""The complaints department forwards a message when somebody says so, and forgets old ones."""

import re
import time

import httpx
import pytest
from gatepost.testing.upstream import FakeUpstream


@pytest.fixture
def desk_of():
    """The API of a running server."""
    with httpx.Client() as client:

        def api(running):
            client.base_url = re.search(r"http://[^/]+", running.log)[0]
            return client

        yield api


def test_a_message_leaves_only_when_somebody_forwards_it(complaints, desk_of, tmp_path):
    (tmp_path / "password").write_text("open sesame\n")
    with FakeUpstream({"dot": "250 2.0.0 Queued as 4711"}, users={"app": "open sesame"}) as upstream:
        options = (
            "--forward-to",
            upstream.url,
            "--forward-user",
            "app",
            "--forward-password-file",
            "password",
        )
        only = ("--forward-only", "*@example.com")
        running = complaints("--web", "127.0.0.1:0", "--store", "kept.db", *options, *only)
        assert f"nothing is delivered unless you forward it to 127.0.0.1:{upstream.port}." in running.log
        with running.smtp() as smtp:
            assert smtp.transact("Subject: x\r\n\r\n.x\r\n", "bob@example.com").startswith("250 ")
        http = desk_of(running)
        assert http.get("/api/v1/info").json()["forwards_to"] == f"127.0.0.1:{upstream.port}"
        message = http.get("/api/v1/messages/latest").json()
        assert upstream.connections == 0
        url = f"/api/v1/messages/{message['id']}/forward"
        assert http.post(url, json={"to": ["stranger@example.org"]}).status_code == 403
        assert upstream.connections == 0
        answer = http.post(url, json={})
        assert (answer.status_code, answer.json()["reply"]) == (200, "250 2.0.0 Queued as 4711")
        (sent,) = upstream.messages
        assert sent.content == http.get(f"/api/v1/messages/{message['id']}/raw").content
        assert "open sesame" not in running.log + http.get("/").text


@pytest.mark.long
def test_a_message_is_deleted_when_it_is_too_old(complaints, desk_of):
    running = complaints("--web", "127.0.0.1:0", "--keep-for", "3s", "--quiet")
    http = desk_of(running)

    def is_there(subject):
        """Send a message and look for it: a busy machine may take longer than it is kept."""
        begin = time.monotonic()
        with running.smtp() as smtp:
            assert smtp.transact(f"Subject: {subject}\r\n\r\nx\r\n", "bob@example.com").startswith("250 ")
        found = http.get("/api/v1/messages/latest").json()
        if "subject" not in found and time.monotonic() - begin > 2.5:
            return is_there(subject)
        return found["subject"] == subject

    assert is_there("old")
    give_up = time.monotonic() + 60
    while http.get("/api/v1/messages/latest").status_code != 404:
        assert time.monotonic() < give_up
        time.sleep(0.1)
    assert is_there("new")
    assert running.log.count("deleted from the store") <= 1
