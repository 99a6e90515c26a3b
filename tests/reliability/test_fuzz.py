"""A little of what fuzz.py does for as long as one likes, and what it has found."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from gatepost.testing import FakeUpstream, running_gateway

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import fuzz  # noqa: E402 - it is where it was put just now

KINDS = ["play_sessions", "play_pipelined", "read_paths", "read_settings", "read_mime"]
BEGIN = b"EHLO c.example\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\n"
FOUND = {
    "what normalise makes of CR NUL LF depends on packets": (
        "normalise",
        [BEGIN + b"DATA\r\nx\r\0", b"\ny\r\n.\r\n"],
    ),
    "what normalise makes of CR NUL LF in one packet": ("normalise", [BEGIN + b"DATA\r\nx\r\0\ny\r\n.\r\n"]),
    "a message without a last line end": ("reject", [BEGIN + b"BDAT 4 LAST\r\na: b"]),
    "a dot before a last line end that is missing": ("accept", [BEGIN + b"BDAT 4 LAST\r\na\r\n."]),
    "an end for some servers at the end": ("accept", [BEGIN + b"BDAT 3 LAST\r\na\n."]),
    "an end for some servers in two packets": ("accept", [BEGIN + b"DATA\r\nx\n.", b"\nMAIL\r\n.\r\n"]),
}
"""The policy for bare newlines, and what is said in which packets."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.long
def test_nothing_that_comes_to_mind_does_what_it_should_not(kind, pytestconfig):
    """With one seed that is always the same and, at full length, with one that is new each time."""
    seeds = [1, random.randrange(1 << 32)] if pytestconfig.getoption("--long") else [1]
    for seed in seeds:
        command = [sys.executable, HERE / "fuzz.py", "--kind", kind, "--seconds", "2", "--seed", str(seed)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, (seed, done.stderr)


@pytest.mark.parametrize(("policy", "packets"), FOUND.values(), ids=FOUND)
def test_what_was_found_once_is_found_no_more(policy, packets):
    with FakeUpstream() as upstream:
        settings = {"listen": fuzz.listeners(), "bare_newline": policy}
        with running_gateway(settings, upstream=upstream, files=fuzz.credentials()) as gateway:
            sessions = fuzz.Sessions(gateway, normalise=policy == "normalise")
            with fuzz.Line(*sessions.places["plain"]) as line:
                assert line.reply().startswith(b"220 ")
                line.replies.clear()
                for packet in packets:
                    line.say(packet)
                    time.sleep(0.05)  # so that it is a packet of its own
                line.hear_all()
                assert line.replies[-1].startswith((b"250 ", b"550 5.6.11 "))
                sessions.read(line)
            sessions.settle(*fuzz.messages_in(gateway, upstream))


@pytest.mark.parametrize("place", ["upstream", "inbox"])
def test_a_message_too_many_or_too_few_is_seen(place):
    """By the fuzzer itself: of two messages one is hidden from it, or it is told of one alone."""
    relay = {"upstream": {}, "inbox": {"relay": [{"recipients": "*@example.com", "to": "inbox"}]}}[place]
    with (
        FakeUpstream() as upstream,
        running_gateway(
            {"listen": fuzz.listeners(), **relay}, upstream=upstream, files=fuzz.credentials()
        ) as gateway,
    ):
        sessions = fuzz.Sessions(gateway, normalise=False)
        with fuzz.Line(*sessions.places["plain"]) as line:
            line.reply()
            line.replies.clear()
            line.say(BEGIN + b"DATA\r\nx\r\n.\r\n")
            line.hear_all()
            sessions.read(line)
        there, discarded = fuzz.messages_in(gateway, upstream)
        sessions.settle(there, discarded)
        with pytest.raises(fuzz.Finding, match="neither there"):
            sessions.settle(there - there, discarded)
        with pytest.raises(fuzz.Finding, match="not answered 250"):
            sessions.settle(there + there, discarded)
