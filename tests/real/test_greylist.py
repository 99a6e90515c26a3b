"""What greylist and ratelimit remember is one for all workers, and outlives reloads, restarts, crashes."""

import re
import signal

import psutil
import pytest

MESSAGE = b"Subject: hello\r\n\r\nHello\r\n"
PAIRS = """
workers: 2
dns: {servers: ["127.0.0.1:1"], timeout: 0.1s}
rules:
  - {name: greylist, filter: greylist, with: {delay: 1s, known_after: 0}}
"""
LIMITS = """
workers: 2
rules:
  - {name: limit, filter: ratelimit, with: {by: client, messages: [10/hour]}}
"""


@pytest.fixture
def start_again(gateway_class):
    """Start a gateway in the folder of another that has ended."""
    started = []

    def start_again(ended):
        started.append(gateway_class(ended.folder, "serve", "-c", "rules.yaml"))
        return started[-1]

    yield start_again
    assert {one.stop() for one in started} == {0}


def used(running):
    """The workers that have opened the file of what filters remember."""
    return sum(
        any(file.path.endswith("gatepost.db-state") for file in child.open_files())
        for child in psutil.Process(running.pid).children()
    )


def until_both_have_answered(running, send):
    replies = [send()]
    for _ in range(200):
        if used(running) == 2:
            return replies
        replies.append(send())
    raise AssertionError("one worker gets all connections")


@pytest.mark.long
def test_a_pair_passes_with_either_worker_and_after_a_crash(gateway, start_again, wait_until):
    running = gateway(PAIRS)
    assert not (running.folder / "gatepost.db-state").exists(), "nothing is made that is not used"
    first = running.send(MESSAGE)
    assert re.fullmatch(r"451 4\.7\.1 Greylisted, please try again in 1 seconds", first)
    replies = until_both_have_answered(running, lambda: running.send(MESSAGE))
    wait_until(lambda: running.send(MESSAGE).startswith("250"), "it passes")
    assert all(reply[:3] in ("451", "250") for reply in replies)
    assert {running.send(MESSAGE)[:3] for _ in range(20)} == {"250"}, "from both"
    running.kill(signal.SIGHUP)
    running.logs("reloaded", times=2)
    assert running.send(MESSAGE).startswith("250"), "after a reload"
    records = running.journal(3)
    reasons = {one.reason for record in records for one in record.evaluations}
    assert "client, sender and recipient are known" in reasons
    assert any(re.fullmatch(r"tried again after \d+ s", reason) for reason in reasons)
    assert any(reason.startswith("first attempt of 127.0.0.0/24") for reason in reasons)
    running.crash()
    again = start_again(running)
    assert again.send(MESSAGE).startswith("250"), "after all processes were killed"
    assert again.send(MESSAGE, "new@example.com").startswith("451"), "others are others"
    again.stop()
    assert not list(again.folder.glob("gatepost.db-state-wal")), "it was closed"


@pytest.mark.long
def test_two_workers_count_together(gateway, start_again):
    running = gateway(LIMITS)
    replies = until_both_have_answered(running, lambda: running.send(MESSAGE))
    replies += [running.send(MESSAGE) for _ in range(20)]
    assert sum(reply.startswith("250") for reply in replies) == 10
    refused = next(reply for reply in replies if reply.startswith("451"))
    assert 3600 < int(refused.split()[-2]) <= 3900
    assert running.log.count("127.0.0.1 has reached its limit: messages 10/hour") == 1, "once, not by each"
    assert running.stop() == 0
    again = start_again(running)
    assert again.send(MESSAGE).startswith("451"), "after a restart"


@pytest.mark.parametrize(("on_error", "code"), [("skip", "250"), ("defer", "451")])
def test_without_its_memory_on_error_answers_and_then_it_works_again(gateway, on_error, code, wait_until):
    running = gateway(LIMITS.replace("with:", f"on_error: {on_error}, with:"))
    state = running.folder / "gatepost.db-state"
    state.mkdir()
    assert running.send(MESSAGE).startswith(code)
    running.logs("rule limit failed at mail")
    assert "gatepost.db-state cannot be opened (SQLITE_CANTOPEN" in running.log
    state.rmdir()
    wait_until(lambda: running.send(MESSAGE).startswith("250"), "it works again")
    assert running.stop() == 0
