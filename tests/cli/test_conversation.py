"""What the complaints department shows on its terminal."""

import io
from datetime import UTC, datetime

import pytest
from gatepost.cli.conversation import Conversation
from gatepost.traffic.events import CommandLine, event_of
from gatepost.traffic.oddity import Oddity
from gatepost.traffic.watching import Watchers

AT = int(datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp() * 1_000_000)


def shown(*said, lines=200):
    output = io.StringIO()
    conversation = Conversation(output, lines=lines)
    for direction, data in said:
        conversation.show(event_of(at=AT, session_id="01m84abcde", direction=direction, data=data))
    return [line.split(" ", 2)[2] for line in output.getvalue().splitlines()]


def test_each_line_has_its_speaker():
    assert shown(("*", b"connected 192.0.2.1 25"), ("S", b"250-a\r\n250 b\r\n"), ("C", b"NOOP\r\n")) == [
        "* connected 192.0.2.1 25",
        "> 250-a",
        "> 250 b",
        "< NOOP",
    ]


@pytest.mark.parametrize("oddity", Oddity)
def test_what_is_odd_is_explained(oddity):
    (line,) = shown(("*", f"odd {oddity}".encode()))
    assert line == f"* odd {oddity}: the command {oddity.finding}"
    assert len(oddity.finding.split()) >= 3


def test_what_only_a_newer_server_calls_odd_is_shown_as_it_is():
    assert shown(("*", b"odd something-new")) == ["* odd something-new"]


def test_of_a_long_message_the_first_lines_are_shown():
    message = ("D", b"1\r\n2\r\n"), ("D", b"3\r\n4\r\n.\r\n"), ("S", b"250 ok\r\n")
    assert shown(*message, *message, lines=3) == ["< 1", "< 2", "< 3", "* ... 2 more lines", "> 250 ok"] * 2


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (b"\x1b[2J", r"\x1b[2J"),
        (b"a\x00b\x07", r"a\x00b\x07"),
        ("grün \u202e".encode(), r"grün \u202e"),
        (b"\xff\xfe", r"\xff\xfe"),
        (b"[bold]not markup[/bold]", "[bold]not markup[/bold]"),
        (b"x" * 600, "x" * 500 + "..."),
    ],
)
def test_nothing_that_a_client_says_acts_upon_the_terminal(octets, text):
    assert shown(("C", octets + b"\r\n")) == [f"< {text}"]


def test_a_slow_watcher_loses_the_oldest_lines_and_knows_how_many():
    watchers = Watchers()
    watch = watchers.watch(limit=2)
    for number in range(5):
        watchers.tap(CommandLine(at=AT, session_id="s", data=str(number).encode()))
    assert [line.data for line in watch.take(0)] == [b"3", b"4"]
    assert watch.dropped == 3
