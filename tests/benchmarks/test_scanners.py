"""Proxies that ask scanners are measured beside the scanners alone."""

import itertools
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import scanning
from measure import Load
from messages import unique_messages
from scanning import Cell

SMALL, LARGE = scanning.LOADS


def cell(rate, p99=1.0):
    return Cell(
        [{"rate": rate, "dots p50": p99, "dots p99": p99, "whole p99": p99, "cpu": 1, "asked cpu": 0}]
    )


def aims(results):
    lines = scanning.aims(results).splitlines()[2:]
    return {what: (found, met) for what, _, found, met in (line[2:-2].split(" | ") for line in lines)}


@pytest.mark.parametrize("octets", [*range(300, 420), 100 << 10])
def test_messages_are_lines_without_a_dot_and_of_the_length(octets):
    message = next(unique_messages(octets))
    assert re.fullmatch(rb"(?:[^.\r\n][^\r\n]*\r\n|\r\n)+", message)
    assert octets - 80 <= len(message) <= octets
    assert message.endswith(b"\r\n")


def test_no_two_messages_and_no_two_bodies_are_alike():
    bodies = [
        one.partition(b"\r\n\r\n")[2]
        for run in range(2)
        for one in itertools.islice(unique_messages(1 << 10), 1500)
    ]
    assert len(set(bodies)) == 3000
    assert not set(bodies[0].splitlines()[1:-1]) & set(bodies[500].splitlines()[1:-1])


def test_an_aim_is_held_against_what_gateway_and_scanner_allow_together():
    cells = {"clamd alone": cell(3000), "Gatepost": cell(1500), "Gatepost with clamav": cell(960)}
    found = aims({SMALL: cells, LARGE: cells})
    what = "Gatepost with clamav against"
    assert found[f"{SMALL}: {what} Gatepost and clamd together"] == ("0.96 x", "met")
    assert found[f"{LARGE}: {what} clamd alone"] == ("0.32 x", "**missed**")


def test_an_aim_without_one_of_its_figures_is_not_measured():
    cells = {"clamd alone": cell(3000), "Gatepost with clamav": Cell(failed="refused")}
    found = scanning.aims({SMALL: cells}).splitlines()[2:]
    assert found
    assert all(line.endswith("| not measured |  |") for line in found)


def test_the_times_are_held_against_the_slowest_scanner():
    everything = f"Gatepost with {scanning.ALL}"
    cells = {"clamd alone": cell(1, p99=2), "rspamd alone": cell(1, p99=7), everything: cell(1, p99=12.5)}
    assert aims({SMALL: cells})[f"{SMALL}: {everything}, p99 beyond the slowest scanner's own"] == (
        "5.50 ms",
        "**missed**",
    )
    one = Load(SMALL.octets, 1, reuse=True)
    names = ("clamav", "rspamd", "clamav, rspamd")
    cells = {f"Gatepost with {name}": cell(1, p99) for name, p99 in zip(names, (2, 4, 4.2), strict=True)}
    what = f"{one}: clamav and rspamd side by side, p50 against the slower one's"
    assert aims({one: cells})[what] == ("1.05 x", "met")
