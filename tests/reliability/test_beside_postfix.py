"""The same is said to Debian's Postfix and to Gatepost, each before a server of its own.

Both answer as the client waits. Where their codes or what comes of it upstream differ, dialogues.yaml says
why ours is right, and docs/reliability.md lists it.
"""

import contextlib
import os
import re
import socket
import sys
import tempfile
from pathlib import Path

import pytest
import yaml

from proxy.testing import FakeUpstream, running_gateway

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "benchmarks"))

import proxies  # noqa: E402 - it is where it was put just now

PAGE = HERE.parents[1] / "docs" / "reliability.md"
BEGIN, END = "<!-- differences: begin -->\n", "<!-- differences: end -->\n"
DIALOGUES = yaml.safe_load((HERE / "dialogues.yaml").read_text(encoding="utf-8"))
STAND_FOR = {
    "begin": ["EHLO c.example\r\n", "MAIL FROM:<alice@example.org>\r\n", "RCPT TO:<bob@example.com>\r\n"],
}
STAND_FOR["data"] = [*STAND_FOR["begin"], "DATA\r\n"]
TRACE = re.compile(rb"Received: [^\r]*\r\n(?:[ \t][^\r]*\r\n)*")
STRANGER = b"PROXY TCP4 203.0.113.9 127.0.0.1 40000 25\r\n"
"""Postfix's settings trust nobody on this machine; this has Gatepost trust nobody either."""
PATIENCE_SECONDS = 10.0
STRICT = """\
mynetworks = 192.0.2.0/24
relay_domains = example.com
smtpd_relay_restrictions = reject_unauth_destination
"""


@pytest.fixture(scope="module")
def postfix():
    """The port of a Postfix before a server, and that server."""
    if os.geteuid() != 0:
        pytest.skip("Postfix can be started by root alone")
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        FakeUpstream() as upstream,
        proxies.postfix(upstream.port, Path(folder), processes=20, who_may=STRICT) as started,
    ):
        yield started.port, upstream, b""


@pytest.fixture(scope="module")
def gatepost():
    listen = {"address": "127.0.0.1:0", "proxy_protocol_from": ["127.0.0.1"]}
    with FakeUpstream() as upstream, running_gateway({"listen": listen}, upstream=upstream) as gateway:
        yield gateway.port, upstream, STRANGER


def came_of(place, pieces, reply):
    """The codes of all replies, and the octets of the messages upstream."""
    port, upstream, preamble = place
    before = len(upstream.messages)
    codes = []
    with (
        contextlib.suppress(ConnectionError, TimeoutError),
        socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS) as client,
        client.makefile("rb") as lines,
    ):
        client.sendall(preamble)
        reply(lines)
        for piece in [*pieces, "QUIT\r\n"]:
            client.sendall(piece.encode())
            codes.append(reply(lines)[:3])
        while one := reply(lines):
            codes.append(one[:3])
    messages = [TRACE.sub(b"", message.content, count=1) for message in upstream.messages[before:]]
    return " ".join(filter(None, codes)), messages


def pieces_of(dialogue):
    for piece in dialogue["say"]:
        yield from (one.replace("{2000}", "x" * 2000) for one in STAND_FOR.get(piece, [piece]))


def seen(codes, messages):
    return f"{codes}; {len(messages)} upstream" if messages else codes


@pytest.mark.real("postfix")
@pytest.mark.parametrize("dialogue", DIALOGUES, ids=lambda one: one["name"])
def test_every_difference_from_postfix_has_its_reason(postfix, gatepost, reply, dialogue):
    pieces = list(pieces_of(dialogue))
    theirs, ours = came_of(postfix, pieces, reply), came_of(gatepost, pieces, reply)
    if theirs == ours:
        assert "why" not in dialogue, "there is no difference any more"
        return
    found = {"postfix": seen(*theirs), "gatepost": seen(*ours)}
    assert found == {name: dialogue.get(name) for name in found}, (theirs, ours)
    assert dialogue["why"]


def test_the_page_lists_the_differences(pytestconfig):
    lines = ["| said | Postfix | Gatepost | why |", "|---|---|---|---|"]
    lines += [
        f"| {one['name']} | {one['postfix']} | {one['gatepost']} | {one['why']} |"
        for one in DIALOGUES
        if "why" in one
    ]
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    wanted = before + BEGIN + "\n" + "\n".join(lines) + "\n\n" + END + rest.partition(END)[2]
    if pytestconfig.getoption("--update-reliability"):
        PAGE.write_text(wanted, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == wanted, "--update-reliability writes it"
