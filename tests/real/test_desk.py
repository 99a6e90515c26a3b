"""The web desk is a process of its own: it shows what came, and whatever happens to it, SMTP goes on."""

import json
import os
import signal
import socket
import ssl
import urllib.error
import urllib.request

import psutil
import pytest

MESSAGE = "From: ann@example.org\r\nSubject: the tea\r\n\r\nIt was cold. Code 482913\r\n"
WEB = ("--web", "127.0.0.1:0")
WATCHED = """
import os
import sys

with open("python", "a") as file:
    print(os.getpid(), file=file)


def audit(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        with open("connections", "a") as file:
            print(arguments, file=file)


sys.addaudithook(audit)
"""


class Desk:
    """What a browser or a script asks of the desk of a running command."""

    def __init__(self, running):
        self.address, self.password = running.desk, running.password

    def get(self, path, **headers):
        request = urllib.request.Request(f"http://{self.address}{path}", headers={**self.password, **headers})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read().decode()

    def wait(self, query):
        """The messages that match, as soon as there is one."""
        return json.loads(self.get(f"/api/v1/wait?timeout=15&query={query}"))["messages"]


def children(running):
    """The workers and the desk by their command's process ids: the desk is the one without the SMTP port."""
    found = psutil.Process(running.pid).children()
    workers = {child for child in found if has_port(child, running.port)}
    return sorted(child.pid for child in workers), [child.pid for child in found if child not in workers]


def has_port(process, port):
    listening = (c for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN)
    return port in {connection.laddr.port for connection in listening}


def test_a_message_and_its_conversation_are_in_the_desk(complaints):
    running = complaints(*WEB)
    desk = Desk(running)
    assert running.send(MESSAGE).startswith("250 2.0.0 ")
    (message,) = desk.wait("subject:tea")
    assert message["mail_from"] == "alice@example.org"
    assert message["codes"] == ["482913"]
    assert "It was cold" in desk.get(f"/messages/{message['id']}")
    assert running.stop(signal.SIGINT) == 0
    assert "Traceback" not in running.log


@pytest.mark.parametrize("victim", ["desk", "worker"])
@pytest.mark.long
def test_what_dies_is_started_again_and_nothing_is_lost(complaints, victim, wait_until):
    running = complaints(*WEB)
    desk = Desk(running)
    assert running.send(MESSAGE).startswith("250")
    desk.wait("subject:tea")
    workers, desks = children(running)
    process = desks[0] if victim == "desk" else workers[0]
    os.kill(process, signal.SIGKILL)
    running.logs(f"{victim} {process} has ended with signal 9")
    if victim == "desk":
        assert running.send(MESSAGE.replace("tea", "soup")).startswith("250")
    else:
        wait_until(lambda: children(running)[0], "another worker")
        assert running.send(MESSAGE.replace("tea", "soup")).startswith("250")
    assert len(desk.wait("subject:soup")) == len(desk.wait("subject:tea")) == 1
    assert running.stop(signal.SIGINT) == 0


@pytest.mark.long
def test_all_end_when_the_supervisor_is_killed(tmp_path, start_complaints):
    running = start_complaints(*WEB)
    Desk(running).get("/")
    left = psutil.Process(running.pid).children()
    assert len(left) == 2
    running.kill(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    gone, alive = psutil.wait_procs(left, timeout=60)
    assert (len(gone), alive) == (2, [])


@pytest.mark.long
def test_no_message_that_was_answered_is_lost_by_a_kill(start_complaints):
    """Whoever is killed, whenever: what had its 250 is there at the next start."""
    answered = set()
    for turn in range(3):
        running = start_complaints(*WEB, "--store", "kept.db", "--quiet")
        workers, _ = children(running)
        number = 0
        try:
            with running.smtp() as smtp:
                while True:
                    if number == 20 + 7 * turn:
                        os.kill(workers[0], signal.SIGKILL)
                        running.kill(signal.SIGKILL)
                    name = f"message-{turn}-{number}"
                    if smtp.transact(f"Subject: {name}\r\n\r\nx\r\n").startswith("250"):
                        answered.add(name)
                    number += 1
        except OSError:
            running.wait()
    running = start_complaints(*WEB, "--store", "kept.db", "--quiet")
    found = json.loads(Desk(running).get("/api/v1/messages?limit=500"))["messages"]
    assert len(answered) >= 60
    assert answered <= {message["subject"] for message in found}
    assert running.stop(signal.SIGINT) == 0


def test_a_taken_web_address_is_said_at_once(run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run("complaints", "--smtp", "127.0.0.1:0", "--web", address)
    assert done.returncode == 1
    assert done.stderr.startswith(f"gatepost: cannot listen on {address}: ")


@pytest.mark.long
def test_a_desk_that_others_can_reach_needs_a_password(run, complaints, tmp_path):
    done = run("complaints", "--smtp", "127.0.0.1:0", "--web", "0.0.0.0:0")
    assert done.returncode == 2
    assert "--password-file" in done.stderr
    (tmp_path / "password").write_text("\n")
    done = run("complaints", "--smtp", "127.0.0.1:0", "--web", "127.0.0.1:0", "--password-file", "password")
    assert (done.returncode, "no password in" in done.stderr) == (2, True)
    (tmp_path / "password").write_text("open sesame\n")
    desk = Desk(complaints("--web", "127.0.0.1:0", "--password-file", "password"))
    with pytest.raises(urllib.error.HTTPError, match="401"):
        desk.get("/api/v1/messages")
    assert json.loads(desk.get("/api/v1/messages", Authorization="Bearer open sesame")) == {
        "messages": [],
        "next": None,
    }


@pytest.mark.long
def test_the_gateway_has_a_desk_where_its_settings_say_so(gateway):
    running = gateway("web: 127.0.0.1:0\nstore: {conversations: true}\nworkers: 2\n")
    desk = Desk(running)
    assert running.send(MESSAGE).startswith("250")
    desk.wait("subject:tea")
    assert [len(found) for found in children(running)] == [2, 1]
    info = json.loads(desk.get("/api/v1/info"))
    assert (info["mode"], info["can_release"]) == ("gateway", True)
    running.kill(signal.SIGHUP)
    running.logs("reloaded", times=2)
    assert running.stop() == 0


def test_processes_that_take_mail_know_nothing_of_the_web(gateway):
    running = gateway("web: 127.0.0.1:0\n")
    assert running.send(MESSAGE).startswith("250")
    (worker,), _ = children(running)
    names = {mapped.path for mapped in psutil.Process(worker).memory_maps()}
    assert not [name for name in names if "nh3" in name]


@pytest.mark.long
def test_starttls_with_a_certificate_made_on_the_spot(complaints):
    running = complaints("--tls")
    trusting = ssl.create_default_context()
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    with running.smtp() as smtp:
        assert smtp.starttls(context=trusting)[0] == 220
        assert smtp.transact(MESSAGE).startswith("250")


def test_without_auth_none_is_offered(complaints):
    with complaints("--accept-auth", "none").client() as client:
        (offered,) = client.say("EHLO x")
        assert "AUTH" not in offered
        assert "STARTTLS" not in offered


def test_failures_on_purpose_come_from_a_file_of_rules(complaints, tmp_path):
    (tmp_path / "chaos.yaml").write_text(
        "relay: [{recipients: '*', to: 'smtp://127.0.0.1:9'}]\n"
        "rules:\n"
        "  - {name: busy, filter: chaos, when: {recipient: 'retry@*'},"
        " with: {at: rcpt, reply: '450 4.2.0 Try again', first: 1}}\n"
    )
    running = complaints("--rules", "chaos.yaml")
    with running.smtp() as smtp:
        assert smtp.transact(MESSAGE, "retry@example.com") == "450 4.2.0 Try again"
        assert smtp.transact(MESSAGE, "retry@example.com").startswith("250 2.0.0 ")


@pytest.mark.long
def test_a_few_messages_are_kept_where_few_are_wanted(complaints, wait_until):
    running = complaints(*WEB, "--keep", "5", "--quiet")
    desk = Desk(running)
    for number in range(40):
        assert running.send(f"Subject: message {number}\r\n\r\nx\r\n").startswith("250")

    def kept():
        return [m["subject"] for m in json.loads(desk.get("/api/v1/messages"))["messages"]]

    wait_until(lambda: len(kept()) <= 5 + 11, "the oldest are gone")
    assert kept()[0] == "message 39"


@pytest.mark.long
def test_no_connection_leaves_the_desk_either(complaints, tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(WATCHED)
    running = complaints(*WEB, extra_path=str(site))
    desk = Desk(running)
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        elsewhere.settimeout(0)
        there = f"http://127.0.0.1:{elsewhere.getsockname()[1]}/"
        assert running.send(
            f"Subject: tea\r\nContent-Type: text/html\r\n\r\n<img src={there}a><a href={there}b>x</a>\r\n"
        ).startswith("250")
        (message,) = desk.wait("subject:tea")
        for path in ("", "/html", "/html?images=1", "/source", "/download"):
            desk.get(f"/messages/{message['id']}{path}")
        assert json.loads(desk.get("/api/v1/info"))["can_release"] is False
        with pytest.raises(BlockingIOError):
            elsewhere.accept()
    assert str(running.pid) in (tmp_path / "python").read_text().split(), "the watch was not there"
    assert not (tmp_path / "connections").exists()
