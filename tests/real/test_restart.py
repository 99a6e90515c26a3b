"""SIGUSR2 replaces the workers one by one, and whoever connects meanwhile is served."""

import contextlib
import os
import re
import signal
import socket
import threading
import time
import urllib.error
import urllib.request

import psutil
import pytest

MESSAGE = b"Subject: hello\r\n\r\nHello\r\n"
WORKERS = "workers: 2\n"
REFUSE = "rules: [{name: no, filter: match, action: reject, reply: '550 5.7.1 Not now'}]\n"
DONE = "all workers have been replaced"


def children(running):
    return {child.pid for child in psutil.Process(running.pid).children()}


class Load(threading.Thread):
    """Client after client, each with a connection of its own, until it is told to stop."""

    def __init__(self, running):
        super().__init__()
        self.running = running
        self.ended = threading.Event()
        self.answered = 0
        self.turned_away = 0
        self.refused = 0
        """Connections that were not greeted."""
        self.unanswered = []
        """What should never be: whoever was greeted and then not answered."""

    def run(self):
        while not self.ended.is_set():
            dot, replies = False, []
            try:
                with self.running.client() as client:
                    commands = (
                        "EHLO x",
                        "MAIL FROM:<alice@example.org>",
                        "RCPT TO:<bob@example.com>",
                        "DATA",
                    )
                    replies.append(client.greeting)
                    while commands and replies[-1][:3] in ("220", "250"):
                        replies += client.say(commands[0])
                        commands = commands[1:]
                    if replies[-1].startswith("354"):
                        client.socket.sendall(MESSAGE + b".\r\n")
                        dot = True
                        replies.append(client.reply())
            except OSError as error:
                replies.append(repr(error))
            if len(replies) == 1 and not replies[0].startswith("220"):
                self.refused += not replies[0].startswith("421")
                self.turned_away += replies[0].startswith("421")
            elif replies[-1].startswith("250 2.0.0"):
                self.answered += 1
            elif replies[-1].startswith("421 4.3.2") and not dot:
                self.turned_away += 1
            else:
                self.unanswered.append(replies)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.join()


def test_a_restart_refuses_no_connection_and_loses_no_answer(gateway, wait_until):
    running = gateway(WORKERS)
    with contextlib.ExitStack() as stack:
        loads = [stack.enter_context(Load(running)) for _ in range(4)]
        for turn in (1, 2):
            before = children(running)
            running.kill(signal.SIGUSR2)
            running.logs(DONE, times=turn)
            wait_until(lambda before=before: not before & children(running), "the old workers have ended")
    assert [(load.unanswered, load.refused) for load in loads] == [([], 0)] * 4
    answered = sum(load.answered for load in loads)
    assert answered > 50
    assert len(running.journal(answered)) >= answered
    assert running.stop() == 0


@pytest.mark.case(107, 108)
@pytest.mark.parametrize("rules", [WORKERS, ""], ids=["workers", "alone"])
@pytest.mark.long
def test_under_load_a_reload_disturbs_nobody_and_a_stop_answers_all_who_were_greeted(
    gateway, wait_until, rules
):
    running = gateway(rules)
    with contextlib.ExitStack() as stack:
        loads = [stack.enter_context(Load(running)) for _ in range(4)]
        for _ in range(5):
            before = sum(load.answered for load in loads)
            running.kill(signal.SIGHUP)
            wait_until(
                lambda before=before: sum(load.answered for load in loads) > before + 20, "mail goes on"
            )
        assert [(load.unanswered, load.refused, load.turned_away) for load in loads] == [([], 0, 0)] * 4
        running.kill(signal.SIGTERM)
        assert running.wait() == 0
    assert [load.unanswered for load in loads] == [[]] * 4
    answered = sum(load.answered for load in loads)
    ends = [one.disposition for record in running.journal() for one in record.recipients]
    assert ends.count("inbox") == answered


def test_a_restart_takes_new_settings_and_new_processes(gateway, wait_until):
    running = gateway(WORKERS)
    before = children(running)
    rules = running.folder / "rules.yaml"
    rules.write_text(
        rules.read_text()
        .replace("workers: 2", "workers: 3")
        .replace("gateway.example.net", "other.example.net")
        .replace("127.0.0.1:0", "127.0.0.1:1")
        + REFUSE
    )
    running.kill(signal.SIGUSR2)
    running.logs(DONE)
    wait_until(lambda: len(children(running)) == 2, "the old ones have ended")
    assert not before & children(running)
    for name in ("listen", "workers"):
        assert f"{name} has changed: it takes effect at the next start" in running.log
    for _ in range(20):
        with running.client() as client:
            assert client.greeting == "550 5.7.1 Not now"
    rules.write_text(rules.read_text().replace(REFUSE, ""))
    running.kill(signal.SIGHUP)
    running.logs("reloaded", times=2)
    with running.client() as client:
        assert client.greeting.startswith("220 other.example.net ")
    assert running.stop() == 0


def test_the_old_worker_finishes_its_transaction(gateway, wait_until):
    running = gateway(WORKERS)
    before = children(running)
    with running.client().begin("bob@example.com") as client, running.client() as idle:
        running.kill(signal.SIGUSR2)
        assert idle.reply().startswith("421 4.3.2 ")
        running.logs(DONE)
        wait_until(lambda: len(children(running)) == 3, "one old worker is left")
        assert len(before & children(running)) == 1
        running.kill(signal.SIGUSR2)  # it waits for the one that is left
        time.sleep(0.2)
        assert len(children(running)) <= 4
        client.socket.sendall(MESSAGE + b".\r\n")
        assert client.reply().startswith("250 2.0.0")
        assert client.reply().startswith("421 4.3.2 ")
    running.logs(DONE, times=2)
    assert running.stop() == 0


@pytest.mark.parametrize(
    ("broken", "place", "how"),
    [
        ("workers: [\n", "rules.yaml:2:1: ", "not restarted, nothing changes"),
        ("workers: 2\nmixed_recipients: no\n", "rules.yaml:2:19: ", "not restarted, nothing changes"),
        (
            "listen: {address: '127.0.0.1:0', tls: {certificate: rules.yaml, key: rules.yaml}}\n",
            "rules.yaml:1:39: ",
            "not restarted, nothing changes",
        ),
        ("rules: [{name: no, filter: keyword}]\n", "rules.yaml:1:28: ", "the restart stops here"),
    ],
)
@pytest.mark.long
def test_wrong_settings_change_nothing(gateway, broken, place, how):
    running = gateway(WORKERS, errors=(how, "has ended with status 2"))
    before = children(running)
    (running.folder / "rules.yaml").write_text(broken)
    running.kill(signal.SIGUSR2)
    running.logs(how)
    assert place in running.log
    assert running.send(MESSAGE).startswith("250")
    assert children(running) == before
    assert running.stop() == 0


def test_a_worker_that_cannot_start_stops_the_restart(gateway, tmp_path):
    running = gateway(WORKERS, errors=("the restart stops here", "has ended with status 1"))
    before = children(running)
    rules = running.folder / "rules.yaml"
    old = rules.read_text()
    rules.write_text(old + "store: {url: 'sqlite:///no/where/x.db'}\n")
    running.kill(signal.SIGUSR2)
    running.logs("the restart stops here")
    assert children(running) == before
    for _ in range(10):
        assert running.send(MESSAGE).startswith("250")
    rules.write_text(old)
    running.kill(signal.SIGUSR2)
    running.logs(DONE)
    assert running.stop() == 0


def test_who_connects_while_a_worker_is_dead_is_served_by_the_next(gateway):
    running = gateway(WORKERS, errors=["has ended with signal 9"])
    victim = min(children(running))
    os.kill(victim, signal.SIGSTOP)  # so that its queue fills
    with contextlib.ExitStack() as stack:
        waiting = [
            stack.enter_context(socket.create_connection(("127.0.0.1", running.port), 60)) for _ in range(20)
        ]
        os.kill(victim, signal.SIGKILL)
        waiting += [
            stack.enter_context(socket.create_connection(("127.0.0.1", running.port), 60)) for _ in range(20)
        ]
        assert {one.recv(4) for one in waiting} == {b"220 "}
    running.logs("starting another one")
    assert running.stop() == 0


def test_nobody_waits_for_a_worker_that_cannot_start(gateway):
    fragile = """
        from pathlib import Path

        from gatepost import hookimpl


        class Fragile:
            def __init__(self):
                if Path("broken").exists():
                    raise ValueError("broken")

            @hookimpl
            async def filter_connect(self, session):
                return None
    """
    running = gateway(
        WORKERS + "rules: [{name: fragile, filter: './fragile.py:Fragile'}]\n",
        files={"fragile.py": fragile},
        errors=["has ended with"],
    )
    (running.folder / "broken").touch()
    os.kill(min(children(running)), signal.SIGKILL)
    running.logs("has ended with status 2; starting another one")
    for _ in range(20):
        assert running.send(MESSAGE).startswith("250")
    assert running.log.count("has ended with status") < 10
    (running.folder / "broken").unlink()
    assert running.stop() == 0


def test_a_successor_of_one_that_dies_has_the_rules_of_the_last_reload(gateway, wait_until):
    running = gateway(WORKERS, errors=["has ended with signal 9"])
    rules = running.folder / "rules.yaml"
    rules.write_text(rules.read_text() + REFUSE)
    running.kill(signal.SIGHUP)
    running.logs("reloaded", times=2)
    rules.write_text("rules: [")
    before = children(running)
    for victim in before:
        os.kill(victim, signal.SIGKILL)
    wait_until(lambda: len(children(running) - before) == 2, "two new workers")
    for _ in range(10):
        with running.client() as client:
            assert client.greeting == "550 5.7.1 Not now"
    assert running.stop() == 0


def test_at_the_end_new_clients_are_refused_and_none_is_left_waiting(gateway):
    running = gateway(WORKERS + "limits: {shutdown_time: 10s}\n")
    with running.client().begin("bob@example.com") as client:
        victim = min(children(running))
        os.kill(victim, signal.SIGSTOP)
        waiting = [socket.create_connection(("127.0.0.1", running.port), 60) for _ in range(10)]
        running.kill(signal.SIGTERM)
        running.logs("stopping")
        os.kill(victim, signal.SIGCONT)
        for one in waiting:
            with one, contextlib.suppress(ConnectionResetError):
                while octets := one.recv(4):
                    assert octets != b"250 "
        with pytest.raises(ConnectionRefusedError):
            running.client()
        client.socket.sendall(MESSAGE + b".\r\n")
        assert client.reply().startswith("250 2.0.0")
        assert running.wait() == 0


@pytest.mark.parametrize("rules", ["", WORKERS])
def test_sigusr2_to_every_process_ends_none(gateway, rules):
    running = gateway(rules)
    for process in children(running):
        os.kill(process, signal.SIGUSR2)
    assert running.send(MESSAGE).startswith("250")
    assert running.stop() == 0


@pytest.mark.long
def test_the_desk_is_replaced_last_and_keeps_its_address(gateway, wait_until):
    running = gateway("web: {address: '127.0.0.1:0', hosts: [old.example]}\n")
    address = re.search(r"http://([^/]+)/", running.log)[1]

    def status(host):
        host_header = urllib.request.Request(f"http://{address}/", headers={"host": host})
        try:
            host_header.add_header(*running.password.popitem())
            with urllib.request.urlopen(host_header, timeout=60) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    assert (status("old.example"), status("new.example")) == (200, 421)
    before = children(running)
    rules = running.folder / "rules.yaml"
    rules.write_text(rules.read_text().replace("old.example", "new.example"))
    running.kill(signal.SIGUSR2)
    running.logs(DONE)
    wait_until(lambda: len(children(running) - before) == 2, "a new worker and a new desk")
    assert (status("old.example"), status("new.example")) == (421, 200)
    assert running.send(MESSAGE).startswith("250")
    assert running.stop() == 0


def test_who_is_told_twice_does_not_wait(gateway):
    running = gateway(WORKERS + "limits: {shutdown_time: 60s}\n")
    with running.client().begin("bob@example.com"):
        for process in children(running):
            os.kill(process, signal.SIGTERM)  # as systemd does it: all at once
        running.kill(signal.SIGTERM)
        running.logs("stopping", times=2)
        time.sleep(0.2)
        assert not running.ended
        running.kill(signal.SIGTERM)
        assert running.wait() == 0
