"""A gateway that asks a milter, which answers as a test wants."""

import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from gatepost.testing import FakeUpstream, make_transaction, running_gateway

sys.path.insert(0, str(Path(__file__).parent))
from scripted_milter import ScriptedMilter

A, B, SENDER = "a@example.com", "b@example.com", "s@example.org"
CONTENT = b"From: s@example.org\r\nX-A:  1\r\n\tfolded\r\nx-a : 2\r\n\r\nbody\r\n.dot\r\n"


@pytest.fixture
def scripted():
    milters = []

    def make():
        milters.append(ScriptedMilter())
        return milters[-1]

    yield make
    for one in milters:
        one.close()


def rule(one, name="m", **settings):
    """A rule that asks a milter."""
    also = {
        key: settings.pop(key) for key in ("when", "on_error", "action", "timeout", "mode") if key in settings
    }
    named = {"address": one if isinstance(one, str) else one.address, "hostname": "mx.example.net"}
    return {"name": name, "filter": "milter", "with": named | {"names": False} | settings} | also


class Gateway:
    """A gateway whose rules a test may change."""

    def __init__(self, gateway, upstream):
        self.running, self.upstream = gateway, upstream

    def send(self, rules, content=CONTENT, recipients=(A, B), **of_client):
        """Reply, what upstream got of it, and the record."""
        self.running.reload({"relay": self.relay(), "rules": rules})
        before = len(self.upstream.messages)
        client = {"mail_from": SENDER, "client": "192.0.2.1", "helo": "client.example"} | of_client
        reply = self.running.send(make_transaction(content, recipients=list(recipients), **client))
        got = [self.body_of(one) for one in self.upstream.messages[before:]]
        return str(reply), got, self.running.journal()[0]

    def relay(self):
        return [{"recipients": "*@example.com", "to": f"smtp://127.0.0.1:{self.upstream.port}"}]

    def body_of(self, message):
        """Sender, recipients and the bytes behind the Received field."""
        lines = message.content.split(b"\r\n")
        start = next(at for at, line in enumerate(lines) if at and line[:1] not in (b" ", b"\t"))
        return (
            message.mail_from,
            [one.address for one in message.recipients],
            b"\r\n".join(lines[start:]),
        )


@contextmanager
def made():
    with FakeUpstream() as upstream:
        relay = [{"recipients": "*@example.com", "to": f"smtp://127.0.0.1:{upstream.port}"}]
        with running_gateway({"relay": relay}) as gateway:
            yield Gateway(gateway, upstream)


@pytest.fixture(scope="module")
def gateway():
    with made() as gateway:
        yield gateway
