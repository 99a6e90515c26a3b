"""The test kit for filter authors: a filter is tested in a line, or behind a real gateway.

transaction = make_transaction(subject="You have won", attachments={"prize.exe": b"MZ"})
assert run_filter(MyFilter, transaction, words=["won"])
"""

from gatepost.testing.filters import ask_filter, run_filter
from gatepost.testing.gateway import RunningGateway, running_gateway
from gatepost.testing.samples import make_message, make_record, make_transaction
from gatepost.testing.toxic import Toxic, ToxicProxy
from gatepost.testing.upstream import FakeUpstream

__all__ = [
    "FakeUpstream",
    "RunningGateway",
    "Toxic",
    "ToxicProxy",
    "ask_filter",
    "make_message",
    "make_record",
    "make_transaction",
    "run_filter",
    "running_gateway",
]
