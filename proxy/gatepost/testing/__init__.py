"""The test kit for filter authors: test a filter in one line, or in a real gateway.

transaction = make_transaction(subject="You have won", attachments={"prize.exe": b"MZ"})
assert run_filter(MyFilter, transaction, words=["won"])
"""

from gatepost.store import KeptMessage
from gatepost.testing.filters import Hit, ask_all, ask_filter, run_all, run_filter, run_finish
from gatepost.testing.gateway import RunningGateway, running_gateway
from gatepost.testing.memory import make_state
from gatepost.testing.names import make_resolver
from gatepost.testing.samples import make_message, make_record, make_transaction
from gatepost.testing.toxic import Toxic, ToxicProxy
from gatepost.testing.upstream import FakeUpstream, ReceivedMessage

__all__ = [
    "FakeUpstream",
    "Hit",
    "KeptMessage",
    "ReceivedMessage",
    "RunningGateway",
    "Toxic",
    "ToxicProxy",
    "ask_all",
    "ask_filter",
    "make_message",
    "make_record",
    "make_resolver",
    "make_state",
    "make_transaction",
    "run_all",
    "run_filter",
    "run_finish",
    "running_gateway",
]
