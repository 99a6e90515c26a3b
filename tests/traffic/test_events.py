"""Each event is written as one line, and comes back from it."""

from ipaddress import ip_address

import pytest
from gatepost.traffic.events import (
    Authenticated,
    ClientNamed,
    Closed,
    CommandLine,
    DataChunk,
    Odd,
    ReplyLines,
    ReplyNotSent,
    SessionOpened,
    TlsStarted,
    TransactionBegan,
    UnknownEvent,
    event_of,
    moment,
)
from gatepost.traffic.oddity import Oddity
from gatepost.traffic.watching import fan_out

OF = {"at": 1_795_456_800_250_001, "session_id": "01m84vek4zzmkmvx"}
V4, V6 = ip_address("192.0.2.1"), ip_address("2001:db8::7")
EVENTS = [
    (
        SessionOpened(**OF, client=V4, client_port=5000, listener="mx:25"),
        "* connected 192.0.2.1 5000 to mx:25",
    ),
    (
        SessionOpened(**OF, client=V6, client_port=0, listener="[::]:25"),
        "* connected 2001:db8::7 0 to [::]:25",
    ),
    (SessionOpened(**OF, client=V4, client_port=5000, listener=""), "* connected 192.0.2.1 5000"),
    (TlsStarted(**OF, version="TLSv1.3"), "* tls TLSv1.3"),
    (Authenticated(**OF, user="ann of  b\u00fccher"), "* authenticated ann of  b\u00fccher"),
    (ClientNamed(**OF, client=V4, client_port=5000, helo=""), "* for 192.0.2.1 5000"),
    (ClientNamed(**OF, client=V6, client_port=0, helo="b\u00fccher x"), "* for 2001:db8::7 0 b\u00fccher x"),
    (TransactionBegan(**OF, transaction_id="01m84"), "* transaction 01m84"),
    (CommandLine(**OF, data=b"EHLO x\r\n"), "C EHLO x\r\n"),
    (DataChunk(**OF, data=b""), "D "),
    (ReplyLines(**OF, data=b"250-a\r\n250 b\r\n"), "S 250-a\r\n250 b\r\n"),
    (ReplyNotSent(**OF, reply=b"550-a\r\n550 b"), "* not sent 550-a\r\n550 b"),
    *[(Odd(**OF, oddity=oddity), f"* odd {oddity}") for oddity in Oddity],
    (Closed(**OF), "* closed"),
]


@pytest.mark.parametrize(("event", "line"), EVENTS, ids=[line for _, line in EVENTS])
def test_an_event_is_written_as_its_line_and_comes_back_from_it(event, line):
    assert f"{event.direction} {event.data.decode()}" == line
    assert event_of(**OF, direction=event.direction, data=event.data) == event


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"closed now",
        b"connected",
        b"connected 192.0.2.1",
        b"connected 192.0.2.1 x to mx:25",
        b"connected 192.0.2 5000 to mx:25",
        b"connected 192.0.2.1 05000 to mx:25",
        b"odd unheard-of",
        b"not 550",
        b"tls \xff",
        b"later words",
    ],
)
def test_a_line_of_another_version_or_cut_off_is_shown_as_it_is(data):
    assert event_of(**OF, direction="*", data=data) == UnknownEvent(**OF, data=data)


def test_what_a_client_writes_is_never_taken_for_an_event_of_the_session():
    for direction, kind in (("C", CommandLine), ("D", DataChunk), ("S", ReplyLines)):
        assert event_of(**OF, direction=direction, data=b"closed") == kind(**OF, data=b"closed")


def test_the_time_of_an_event_is_kept_to_the_microsecond():
    assert moment(OF["at"]).isoformat() == "2026-11-23T18:00:00.250001+00:00"


def test_several_taps_see_every_event_and_without_a_tap_none_is_called():
    first, second = [], []
    assert fan_out() is fan_out(None, None) is None
    assert fan_out(None, first.append) == first.append
    fan_out(first.append, None, second.append)(Closed(**OF))
    assert first == second == [Closed(**OF)]
