"""What a message costs, in numbers that neither the clock nor other work on the machine changes.

They are compared with costs.json. A change that is worth its cost updates that file, by
``pytest tests/cost --update-costs``, and its commit says why.
"""

import re
from collections import Counter
from itertools import pairwise

import pytest

DIALOGUES = ["relayed", "relayed in chunks", "relayed, filtered", "kept", "kept, with the conversation"]
LARGE_OCTETS = 25 << 20
TEXT = b"Subject: large\r\n\r\n"
FILE = b"""\
Subject: large\r
Content-Type: application/pdf\r
Content-Disposition: attachment; filename=report.pdf\r
Content-Transfer-Encoding: base64\r
\r
"""

READS = {"read", "readv", "recvfrom", "recvmsg"}
WRITES = {"write", "writev", "sendto", "sendmsg"}
WAITS = {"epoll_wait", "epoll_pwait"}
SYNCS = {"fdatasync", "fsync"}
PAGES = {"pwrite64"}
TRACED = ",".join(sorted(READS | WRITES | WAITS | SYNCS | PAGES))


@pytest.mark.parametrize("dialogue", DIALOGUES)
def test_function_calls_of_the_event_loop_for_a_message(dialogue, start, costs):
    gateway = start(dialogue)
    client = gateway.client()
    client.send(50)
    gateway.ask("start_counting")
    client.send(200)
    costs.check(f"a message {dialogue}", {"function calls": gateway.ask("stop_counting") / 200})


def test_function_calls_of_the_event_loop_for_a_connection_with_a_message(start, costs):
    gateway = start("relayed")

    def connections(count):
        for _ in range(count):
            client = gateway.client()
            client.send(1)
            client.say(b"QUIT", b"221")

    connections(20)
    gateway.ask("start_counting")
    connections(100)
    costs.check("a connection with a message", {"function calls": gateway.ask("stop_counting") / 100})


@pytest.mark.real("strace")
@pytest.mark.parametrize("dialogue", DIALOGUES[:4])  # the conversation is written when it is time
@pytest.mark.long
def test_system_calls_for_a_message(dialogue, start, costs, tmp_path):
    trace = tmp_path / "trace"
    gateway = start(dialogue, "strace", "-f", "--seccomp-bpf", "-qq", "-e", f"trace={TRACED}", "-o", trace)
    client = gateway.client()
    client.send(20)
    client.say(b"NOOP begin", b"250")
    client.send(20)
    client.say(b"NOOP end", b"250")
    gateway.end()
    measured = system_calls(trace.read_text(errors="replace"), messages=20)
    if dialogue != "kept":  # the journal is written when it is time
        del measured["commits"], measured["pages written"]
    costs.check(f"a message {dialogue}: system calls", measured)


def system_calls(trace, messages):
    """Those of the event loop's thread, and what the store's thread does with the disk."""
    calls, marked = [], []
    a_line = r"^(\d+) +(?:<\.\.\. )?(\w+)(\(.*| resumed>.*)$"  # a call, or the rest of an interrupted one
    for thread, name, rest in re.findall(a_line, trace, re.MULTILINE):
        if rest.startswith("("):
            calls.append((thread, name))
        if name in READS and ("NOOP begin" in rest or "NOOP end" in rest):
            marked.append(max(at for at, call in enumerate(calls) if call == (thread, name)))
    main, (begin, end) = calls[0][0], marked
    counted = Counter((thread == main, name) for thread, name in calls[begin:end])
    return {
        what: sum(counted[is_main, name] for name in names) / messages
        for what, is_main, names in (
            ("reads", True, READS),
            ("writes", True, WRITES),
            ("waits", True, WAITS),
            ("commits", False, SYNCS),
            ("pages written", False, PAGES),
        )
    }


def test_a_call_that_another_thread_interrupts_counts_once():
    trace = """\
1 read(3, "NOOP begin", 9) = 9
1 sendto(3, "250", 3) = 3
1 read(3,  <unfinished ...>
2 fdatasync(4) = 0
1 <... read resumed>"MAIL", 9) = 4
1 sendto(3, "250", 3) = 3
1 read(3,  <unfinished ...>
2 pwrite64(4, "x", 1) = 1
1 <... read resumed>"NOOP end", 9) = 8
"""
    counted = system_calls(trace, messages=1)
    assert counted["reads"] == counted["writes"] == 2
    assert (counted["commits"], counted["pages written"]) == (1, 0)  # it began after the end


@pytest.mark.parametrize("dialogue", DIALOGUES)
@pytest.mark.long
def test_nothing_of_a_message_stays_in_memory(dialogue, start):
    gateway = start(dialogue)
    client = gateway.client()

    def blocks():
        gateway.settle()
        return gateway.ask("blocks")

    client.send(400)  # fills the caches
    found = [blocks()]
    for _ in range(2):
        client.send(1000)
        found.append(blocks())
    growth = [after - before for before, after in pairwise(found)]
    assert min(growth) < 500, f"{growth} objects stay of 1,000 messages each"


@pytest.mark.parametrize(
    ("dialogue", "begin", "most"),
    [
        ("relayed", TEXT, 1.5),
        ("relayed, filtered", TEXT, 3.2),  # its octets are there a second time while they become characters
        ("relayed, filtered", FILE, 2.5),
        ("kept", TEXT, 1.5),
        ("kept, with the conversation", TEXT, 1.5),
    ],
    ids=["relayed", "filtered text", "filtered file", "kept", "kept, with the conversation"],
)
@pytest.mark.long
def test_a_large_message_is_in_memory_only_so_many_times(dialogue, begin, most, start):
    gateway = start(dialogue)
    client = gateway.client()
    client.send(5)
    gateway.ask("start_tracing")
    client.send(1, begin + LARGE_OCTETS // 64 * (62 * b"x" + b"\r\n"))
    peak = gateway.ask("stop_tracing") / LARGE_OCTETS
    assert peak < most, f"{peak:.2f} times the message"


def test_memory_of_an_idle_connection(start, costs):
    gateway = start("relayed", limits={"connections_per_client": 1000})
    gateway.client().send(50)
    gateway.settle()
    gateway.ask("start_tracing")
    found = [gateway.ask("traced")]
    for _ in range(3):
        for _ in range(200):
            gateway.client()
        found.append(gateway.ask("traced"))
    # the least, because the store may keep house meanwhile
    octets = min(after - before for before, after in pairwise(found)) / 200
    costs.check("an idle connection", {"octets": octets})
