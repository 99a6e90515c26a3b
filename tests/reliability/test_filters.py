"""A filter that fails or hangs: on_error decides, no client hears details, others are served meanwhile."""

import socket
import threading
from contextlib import suppress

import pytest
from gatepost.testing import FakeUpstream, make_transaction, running_gateway

FOUND = {"defer": (451, "deferred"), "skip": (250, "relayed"), "quarantine": (250, "quarantined")}
ANSWERS = {
    "closes": b"",
    "garbage": b"perhaps\0",
    "too much": b"INSTREAM size limit exceeded. ERROR\0",
    "half an answer": b"stream: O",
    "slow": None,
}
MIDST = {
    "clean": b"stream: OK\0",
    "too much": b"INSTREAM size limit exceeded. ERROR\0",
    "garbage": b"perhaps\0",
    "half an answer": b"stream: O",
    "nothing": b"",
}
LARGE = b"Subject: large\r\n\r\n" + (b"x" * 998 + b"\r\n") * 16_000
"""Far more than the system takes for a clamd that reads no more."""
LOOPS = """\
import os

from gatepost import hookimpl


class Loops:
    @hookimpl
    def filter_message(self, transaction):
        while "LOOPS_END" not in os.environ:
            pass
"""


@pytest.fixture
def clamd():
    """The address of a clamd that answers so to whatever it is asked; None: not at all.

    With ``midst`` it answers what has begun, and then it ``closes``, ``reads on`` or ``reads no more``.
    """
    threads, ended = [], threading.Event()

    def serve(listener, answer, midst):
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                with client, suppress(OSError):
                    if midst:
                        client.recv(1 << 16)
                        client.sendall(answer)
                    if midst in (None, "reads on"):
                        while (received := client.recv(1 << 16)) and received[-4:] != b"\0\0\0\0":
                            pass
                    ended.wait(None if answer is None or midst == "reads no more" else 0)
                    if not midst:
                        client.sendall(answer or b"")

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def start(answer, midst=None):
            threads.append(threading.Thread(target=serve, args=(listener, answer, midst)))
            threads[-1].start()
            return f"127.0.0.1:{listener.getsockname()[1]}"

        yield start
        ended.set()
        listener.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(20)


def what_came_of(address, on_error, content=b"Subject: x\r\n\r\n", timeout="300ms"):
    rule = {
        "name": "virus",
        "filter": "clamav",
        "with": {"address": address, "watch": False},
        "on_error": on_error,
        "timeout": timeout,
    }
    with FakeUpstream() as upstream, running_gateway({"rules": [rule]}, upstream=upstream) as gateway:
        reply = gateway.send(make_transaction(content))
        assert "clam" not in str(reply).lower()
        (record,) = gateway.journal()
        (recipient,) = record.recipients
        (evaluation,) = record.evaluations
        assert evaluation.result in ("error", "timeout"), "whatever becomes of it, it is not clean"
        kept = len(upstream.messages) + len(gateway.quarantine())
        assert kept == (reply.code == 250)
        return reply.code, str(recipient.disposition)


@pytest.mark.case(89)
@pytest.mark.parametrize("on_error", FOUND)
@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_where_clamd_fails_on_error_decides(clamd, answer, on_error):
    assert what_came_of(clamd(answer), on_error) == FOUND[on_error]


@pytest.mark.case(89)
@pytest.mark.parametrize("midst", ["closes", "reads on", "reads no more"])
@pytest.mark.parametrize("answer", MIDST.values(), ids=MIDST)
@pytest.mark.long
def test_what_clamd_says_before_it_has_all_is_never_clean(clamd, answer, midst):
    timeout = "300ms" if midst == "reads no more" or b"\0" not in answer else "10s"
    assert what_came_of(clamd(answer, midst), "defer", LARGE, timeout) == FOUND["defer"]


@pytest.mark.case(89)
@pytest.mark.parametrize("on_error", FOUND)
def test_where_there_is_no_clamd_on_error_decides(closed_port, on_error):
    assert what_came_of(f"127.0.0.1:{closed_port}", on_error) == FOUND[on_error]


@pytest.mark.case(88)
def test_while_a_filter_loops_others_are_served_and_it_is_given_up(monkeypatch):
    rule = {
        "name": "loops",
        "filter": "./loops.py:Loops",
        "when": {"recipient": "slow@*"},
        "timeout": "2s",
        "action": "reject",
    }
    with (
        FakeUpstream() as upstream,
        running_gateway({"rules": [rule]}, upstream=upstream, files={"loops.py": LOOPS}) as gateway,
    ):
        replies = []
        slow = make_transaction(recipients="slow@example.com")
        waiting = threading.Thread(target=lambda: replies.append(gateway.send(slow)))
        waiting.start()
        assert gateway.send(make_transaction()).code == 250
        assert not replies, "it was served while the other one waited"
        waiting.join(60)
        monkeypatch.setenv("LOOPS_END", "yes")
        assert str(replies[0]).startswith("451 4.3.0")
        assert len(upstream.messages) == 1
