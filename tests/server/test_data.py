import re
import tracemalloc

import pytest
from gatepost.config.limits import Limits
from gatepost.relay.framing import in_lines
from gatepost.server.data import Content, DotReader, MemoryBudget
from hypothesis import example, given
from hypothesis import strategies as st

LIMITS = Limits()


def receive(*chunks, bare_newline="reject", limits=LIMITS, budget=None):
    """The content (or the refusal's text) and what was left over after the end."""
    content = Content(limits, budget or MemoryBudget(limits.memory), bare_newline)
    reader = DotReader(content)
    rest = b""
    for number, chunk in enumerate(chunks):
        used = reader.feed(chunk)
        if used is not None:
            rest = b"".join((chunk[used:], *chunks[number + 1 :]))
            break
    else:
        return None, b""
    octets = content.finish()
    return (str(content.refusal) if content.refusal else octets), rest


@pytest.mark.parametrize(
    ("wire", "content"),
    [
        pytest.param(b".\r\n", b"", id="14 end at once"),
        pytest.param(b"a\r\n.\r\n", b"a\r\n", id="one line"),
        pytest.param(b"..\r\n.\r\n", b".\r\n", id="15 first line is a dot"),
        pytest.param(b"a\r\n..\r\n.\r\n", b"a\r\n.\r\n", id="15 dot"),
        pytest.param(b"..a\r\n.x\r\n...\r\n.\r\n", b".a\r\nx\r\n..\r\n", id="15 dots"),
        pytest.param(b"\r\n.\r\n", b"\r\n", id="empty line"),
        pytest.param(b"\r\n\r\n..\r\n..\r\n.\r\n", b"\r\n\r\n.\r\n.\r\n", id="lines of dots"),
        pytest.param(b"\xff\x80\r\n.\r\n", b"\xff\x80\r\n", id="19 8-bit"),
    ],
)
def test_a_message_split_anywhere_is_the_same_message(wire, content):
    """RELIABILITY 14, 15, 16, 19."""
    stream = wire + b"QUIT\r\n"
    for first in range(len(stream) + 1):
        for second in range(first, len(stream) + 1):
            pieces = [p for p in (stream[:first], stream[first:second], stream[second:]) if p]
            assert receive(*pieces) == (content, b"QUIT\r\n")
    assert receive(*(stream[i : i + 1] for i in range(len(stream)))) == (content, b"QUIT\r\n")


def stuffed(content):
    return (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"


LINES = st.lists(st.sampled_from([b".", b"..", b"a", b"", b"\r\n", b".\r\n", b"QUIT"])).map(
    lambda parts: b"".join(parts) + b"\r\n"
)


@given(LINES, st.integers(1, 9))
def test_what_is_stuffed_comes_out_again(content, size):
    wire = stuffed(content) + b"NOOP\r\n"
    assert receive(*(wire[i : i + size] for i in range(0, len(wire), size))) == (content, b"NOOP\r\n")


BARE = [
    b"a\r\0\nb",
    b"a\nb",
    b"a\rb",
    b"a\0b",
    b"\n",
    b"\r",
    b"\0",
    b"a\r\rb",
    b"a\n\rb",
    b"\r\r\n",
    b"a\rb\nc",
]


@pytest.mark.parametrize("octets", BARE)
@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_bare_newlines_are_refused_or_repaired_or_taken(octets, size):
    """RELIABILITY 19."""
    wire = octets + b"\r\n.\r\n"
    chunks = [wire[i : i + size] for i in range(0, len(wire), size)]
    whole = octets + b"\r\n"
    assert receive(*chunks)[0] == "550 5.6.11 CR or LF alone, or NUL, in the message"
    assert receive(*chunks, bare_newline="accept")[0] == whole
    assert receive(*chunks, bare_newline="keep")[0] == whole
    repaired = receive(*chunks, bare_newline="normalise")[0]
    lines = whole.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    assert repaired == b"\r\n".join(lines).replace(b"\0", b"")


def seen_by_some_server(wire):
    """The lines of a message with its end, as servers read it who are less strict."""
    for dropped in (b"", b"\0", b"\r", b"\0\r"):
        rest = wire.translate(None, dropped)
        for line_end in (rb"\r\n", rb"\r?\n", rb"\r", rb"\r\n|\r|\n", rb"\r*\n", rb"[\r\n\0]+"):
            yield re.split(line_end, rest)


@given(
    st.lists(st.sampled_from([b"\r\n", b"\n", b"\r", b".", b"\0", b"x", b"\n.\n", b"\r\n."])),
    st.integers(1, 5),
)
@example([b"\r\n", b"\0", b".", b"\r\n"], 1)
@example([b"x\n", b"."], 3)
def test_what_is_taken_as_it_is_ends_where_it_ends_for_every_server(pieces, size):
    """RELIABILITY 1 to 12, with ``bare_newline: accept``."""
    octets = b"".join(pieces)
    content = Content(LIMITS, MemoryBudget(LIMITS.memory), "accept")
    for start in range(0, len(octets), size):
        content.add(octets[start : start + size])
    taken = content.finish()
    if content.refusal:
        assert content.refusal.enhanced == "5.6.11"
        assert re.search(rb"[\r\n\0]\.([\r\n\0]|\Z)", octets)
        return
    assert taken == octets
    for lines in seen_by_some_server(b"DATA\r\n" + b"".join(in_lines([octets]).parts) + b".\r\n"):
        assert b"." not in lines[:-2], "no end before the end"


@pytest.mark.parametrize("size", [1, 7, 1000, 100_000])
@pytest.mark.parametrize(
    ("length", "fits"), [(998, True), (999, True), (1000, True), (1001, False), (65536, False)]
)
def test_a_line_may_be_as_long_as_the_limit(length, fits, size):
    """RELIABILITY 17."""
    limits = Limits(line=1000)
    wire = b"short\r\n" * 300 + b"x" * length + b"\r\n" + b"short\r\n" * 300 + b".\r\n"
    got, _ = receive(*(wire[i : i + size] for i in range(0, len(wire), size)), limits=limits)
    assert got == (wire[:-3] if fits else "552 5.6.0 Line of the message too long")


def test_the_size_limit_counts_octets_without_transparency_dots():
    """RELIABILITY 34."""
    limits = Limits(message_size=12)
    assert receive(b"..2345678\r\n\r\n.\r\n", limits=limits)[0] == b".2345678\r\n\r\n"
    assert receive(b"..23456789\r\n\r\n.\r\n", limits=limits)[0] == "552 5.3.4 Message too big"


def test_memory_is_taken_while_reading_and_given_back():
    """RELIABILITY 104."""
    budget = MemoryBudget(1000)
    first = Content(LIMITS, budget, "reject")
    first.add(b"x" * 600)
    second = Content(LIMITS, budget, "reject")
    second.add(b"y" * 600)
    assert str(second.refusal) == "452 4.3.1 Not enough memory now, try again later"
    assert not budget.has(401)
    second.release()
    first.release()
    first.release()
    assert budget.has(1000)
    assert not budget.has(1001)


def peak_of(limits, line, total):
    chunk = line * (65536 // len(line))
    content = Content(limits, MemoryBudget(limits.memory), "reject")
    reader = DotReader(content)
    tracemalloc.start()
    for _ in range(total // len(chunk)):
        reader.feed(chunk)
    assert reader.feed(b"\r\n.\r\n") == 5
    size = len(content.finish())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak, size


def test_a_message_takes_less_than_twice_its_size():
    peak, size = peak_of(LIMITS, b"x" * 76 + b"\r\n", 30_000_000)
    assert size > 29_000_000
    assert peak < 1.6 * size


@pytest.mark.parametrize(
    "line", [b"x" * 76 + b"\r\n", b"x", b"\r\n", b"..\r\n"], ids=["lines", "17 endless", "18 empty", "dots"]
)
def test_memory_stays_flat_over_the_limit(line):
    """RELIABILITY 17, 18."""
    peak, _ = peak_of(Limits(message_size=1 << 20), line, 8_000_000)
    assert peak < 3 << 20
