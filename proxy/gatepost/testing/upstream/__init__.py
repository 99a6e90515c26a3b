r"""An upstream server that misbehaves as a test asks.

It is a real server on a free port of the loopback interface, in its own threads, so that tests of
either kind can use it. Without a script it behaves well:

    with FakeUpstream() as upstream:
        ...  # send something to upstream.url
        assert upstream.messages[0].content == b"Subject: hello\r\n\r\n"

A script replaces its usual behaviour at steps of the conversation:

    FakeUpstream({"rcpt": "550 5.1.1 No such user"})
    FakeUpstream({"rcpt": lambda path: "550 5.1.1 No such user" if "bob@" in path else None})
    FakeUpstream({"dot": Then("451 4.3.0 Not now")})            # the first time only
    FakeUpstream({"dot": OnConnection(2, Close())})
    FakeUpstream({"mail": [Usual(), b"250 one too many\r\n"]})  # one after the other
"""

from gatepost.testing.upstream.behaviours import (
    Behaviour,
    Close,
    Drip,
    HalfClose,
    Handshake,
    OnConnection,
    OnTransaction,
    Reset,
    Stall,
    Step,
    Then,
    Usual,
)
from gatepost.testing.upstream.log import ReceivedMessage
from gatepost.testing.upstream.server import FakeUpstream

__all__ = [
    "Behaviour",
    "Close",
    "Drip",
    "FakeUpstream",
    "HalfClose",
    "Handshake",
    "OnConnection",
    "OnTransaction",
    "ReceivedMessage",
    "Reset",
    "Stall",
    "Step",
    "Then",
    "Usual",
]
