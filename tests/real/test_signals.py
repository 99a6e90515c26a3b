"""SIGTERM finishes what is under way, SIGHUP takes new rules between transactions."""

import re
import signal
import time

import pytest
from gatepost.model.record import Disposition
from gatepost.testing import FakeUpstream
from gatepost.testing.upstream import Stall, Usual

SLOW = """
    import asyncio
    from pathlib import Path

    from gatepost import hookimpl

    HERE = Path(__file__).parent


    class Slow:
        @hookimpl
        async def filter_message(self, transaction):
            (HERE / "asked").touch()
            while not (HERE / "go").exists():
                await asyncio.sleep(0.01)
"""
SLOW_RULES = """
    limits: {shutdown_time: %s}
    rules: [{name: slow, filter: './slow.py:Slow', timeout: 300s}]
"""
MESSAGE = b"Subject: slow\r\n\r\nHello\r\n"


@pytest.mark.case(107)
def test_sigterm_waits_for_a_message_that_is_being_sent(gateway, sink):
    """RELIABILITY 107: mid-DATA."""
    behind = sink()
    running = gateway(upstream=behind.port)
    with running.client() as idle, running.client().begin("bob@example.com") as client:
        client.socket.sendall(MESSAGE[:10])
        running.kill(signal.SIGTERM)
        assert idle.reply().startswith("421 4.3.2 ")
        assert idle.reply() == ""
        client.socket.sendall(MESSAGE[10:] + b".\r\n")
        assert client.reply().startswith("250 2.")
        assert client.reply().startswith("421 4.3.2 ")
        assert client.reply() == ""
        assert running.wait() == 0
    assert [message.content for message in behind.messages()] == [MESSAGE]
    (record,) = running.journal(1)
    assert record.recipients[0].disposition is Disposition.RELAYED


def test_at_the_end_no_line_of_the_log_is_missing(gateway):
    running = gateway("relay: [{recipients: '*', to: inbox}]")
    with running.smtp() as smtp:
        replies = [smtp.transact(MESSAGE) for _ in range(20)]
    assert running.stop() == 0
    logged = re.findall(r"INFO (\w+) inbox client=", running.log)
    assert [f"250 2.0.0 Ok: {one}" for one in logged] == replies


@pytest.fixture
def slow(gateway, wait_until):
    """A gateway whose filter or server behind, or neither, waits until it is let go on, and that server."""
    with FakeUpstream() as behind:

        def start(where, shutdown):
            files = {"slow.py": SLOW, **({"go": ""} if where != "filter" else {})}
            running = gateway(SLOW_RULES % shutdown, upstream=behind.port, files=files)
            if where == "upstream":
                behind.script["dot"] = [Stall(), Usual()]

            def waits():
                """Until it does."""
                asked = running.folder / "asked"
                wait_until(lambda: behind.messages if where == "upstream" else asked.exists(), "it is slow")

            return running, behind, waits

        yield start


@pytest.mark.case(107)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("where", ["filter", "upstream"])
@pytest.mark.long
def test_a_stop_waits_for_a_slow(slow, where, number):
    """RELIABILITY 107: mid-relay."""
    running, behind, waits = slow(where, "60s")
    with running.client() as idle, running.client().begin("bob@example.com") as client:
        client.socket.sendall(MESSAGE + b".\r\n")
        waits()
        running.kill(number)
        assert idle.reply().startswith("421 4.3.2 "), "it stops"
        (running.folder / "go").touch()
        behind.release.set()
        assert client.reply().startswith("250 2.")
        assert running.wait() == 0
    (message,) = behind.messages
    assert message.content.endswith(MESSAGE)
    (record,) = running.journal(1)
    assert record.recipients[0].disposition is Disposition.RELAYED


@pytest.mark.case(107)
@pytest.mark.parametrize(
    ("where", "end"),
    [
        pytest.param("client", Disposition.ABANDONED, id="client"),
        pytest.param("filter", Disposition.DEFERRED, id="filter"),
        pytest.param("upstream", Disposition.IN_DOUBT, id="upstream"),
    ],
)
@pytest.mark.long
def test_past_the_shutdown_time_the_client_is_told_421(slow, where, end):
    """RELIABILITY 107: the bound."""
    running, behind, waits = slow(where, "2s")
    with running.client().begin("bob@example.com") as client:
        client.socket.sendall(MESSAGE + (b"" if where == "client" else b".\r\n"))
        if where != "client":
            waits()
        begin = time.monotonic()
        running.kill(signal.SIGTERM)
        assert re.match("421 4.3.2 |451 4.4.", client.reply())
        assert running.wait() == 0
        assert time.monotonic() - begin < 20
    assert len(behind.messages) == (where == "upstream")
    (record,) = running.journal(1)
    assert record.recipients[0].disposition is end


def test_sighup_takes_new_rules_between_two_transactions_of_a_session(gateway, sink, write_rules):
    behind = sink()
    running = gateway(upstream=behind.port)
    refuse = """
        rules:
          - name: words
            filter: keywords
            with: {words: [hello]}
            reply: "550 5.7.1 No greetings"
    """
    with running.smtp() as smtp:
        assert smtp.transact(MESSAGE).startswith("250 2.")
        write_rules(running.folder, refuse, behind.port)
        running.kill(signal.SIGHUP)
        running.logs("reloaded")
        assert running.log.index(" relayed client=") < running.log.index(" INFO reloaded")
        assert smtp.transact(MESSAGE) == "550 5.7.1 No greetings"
        write_rules(running.folder, "", behind.port)
        running.kill(signal.SIGHUP)
        running.logs("reloaded", 2)
        assert smtp.transact(MESSAGE).startswith("250 2.")


@pytest.mark.long
def test_sighup_within_a_transaction_leaves_that_to_the_old_rules(gateway, sink, write_rules):
    behind = sink()
    running = gateway(upstream=behind.port)
    with running.client().begin("bob@example.com") as client:
        write_rules(
            running.folder, "rules: [{name: words, filter: keywords, with: {words: [hello]}}]", behind.port
        )
        running.kill(signal.SIGHUP)
        running.logs("reloaded")
        client.socket.sendall(MESSAGE + b".\r\n")
        assert client.reply().startswith("250 2.")
        assert client.say("MAIL FROM:<a@example.org>", "RCPT TO:<bob@example.com>", "DATA")[-1].startswith(
            "354"
        )
        client.socket.sendall(MESSAGE + b".\r\n")
        assert client.reply().startswith("550 5.7.")


@pytest.mark.case(108)
@pytest.mark.parametrize(
    ("broken", "place"),
    [
        ("rules:\n  - name: words\n    filter: keyword\n", "rules.yaml:3:13: "),
        ("rules: [\n", "rules.yaml:2:1: "),
        ("listen: here\nlists: {partners: missing.txt}\n", "rules.yaml:2:19: "),
    ],
)
@pytest.mark.long
def test_a_broken_file_leaves_the_old_rules_in_place(gateway, sink, broken, place):
    """RELIABILITY 108."""
    behind = sink()
    running = gateway(
        "rules: [{name: words, filter: keywords, with: {words: [viagra]}}]",
        upstream=behind.port,
        errors=("not reloaded", "not every worker has loaded"),
    )
    with running.smtp() as smtp:
        (running.folder / "rules.yaml").write_text(broken)
        running.kill(signal.SIGHUP)
        running.logs("not reloaded, the old rules stay")
        assert place in running.log
        assert smtp.transact(MESSAGE).startswith("250 2.")
        assert smtp.transact("Subject: viagra\r\n\r\n").startswith("550 5.7.1 ")
