"""The same is said to Debian's Postfix and to Gatepost, each before a server of its own.

Both answer as the client waits. Where their codes or what comes of it upstream differ, dialogues.yaml says
why ours is right, and docs/reliability.md lists it.
"""

import contextlib
import os
import re
import socket
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import trustme
import yaml
from gatepost.testing import FakeUpstream, running_gateway

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
SMUGGLED = "MAIL FROM:<eve@example.org>\r\nRCPT TO:<v@example.com>\r\nDATA\r\na: b\r\n\r\n2\r\n.\r\n"
STRANGER = b"PROXY TCP4 203.0.113.9 127.0.0.1 40000 25\r\n"
"""Postfix's settings trust nobody on this machine; this has Gatepost trust nobody either."""
PATIENCE_SECONDS = 60.0
STRICT = """\
mynetworks = 192.0.2.0/24
relay_domains = example.com
smtpd_relay_restrictions = reject_unauth_destination
smtpd_error_sleep_time = 0
smtpd_forbid_bare_newline = no
"""
"""It answers mistakes at once, and not each after a second as from the tenth on; bare LF as in Debian 12."""


WITH_TLS = """\
smtpd_tls_security_level = may
smtpd_tls_chain_files = {folder}/certificate
"""


@contextlib.contextmanager
def a_postfix(settings):
    """A Postfix before a server, and that server; ``settings`` may name the folder of a certificate."""
    if os.geteuid() != 0:
        pytest.skip("Postfix can be started by root alone")
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        FakeUpstream() as upstream,
        write_certificate(Path(folder, "certificate")),
        proxies.postfix(
            upstream.port, Path(folder), processes=20, who_may=STRICT + settings.format(folder=folder)
        ) as started,
    ):
        yield started.port, upstream, b""


@contextlib.contextmanager
def write_certificate(path):
    trustme.CA().issue_cert("mx.example.com").private_key_and_cert_chain_pem.write_to_path(path)
    yield


@contextlib.contextmanager
def a_gatepost(*, strict_addresses=True, **listen):
    issued = trustme.CA().issue_cert("mx.example.com").private_key_and_cert_chain_pem.bytes()
    listen = {"address": "127.0.0.1:0", "proxy_protocol_from": ["127.0.0.1"], **listen}
    with (
        FakeUpstream() as upstream,
        running_gateway(
            {"listen": listen, "strict_addresses": strict_addresses},
            upstream=upstream,
            files={"mx.pem": issued},
        ) as gateway,
    ):
        yield gateway.port, upstream, STRANGER


@pytest.fixture(scope="module")
def plain():
    """One of each."""
    with a_postfix("") as postfix, a_gatepost() as gatepost:
        yield postfix, gatepost


@pytest.fixture(scope="module")
def lenient(plain):
    """The same Postfix, and a Gatepost that takes its spellings."""
    with a_gatepost(strict_addresses=False) as gatepost:
        yield plain[0], gatepost


@pytest.fixture(scope="module")
def with_tls():
    """One of each that has a certificate."""
    with (
        a_postfix(WITH_TLS) as postfix,
        a_gatepost(tls={"certificate": "mx.pem", "key": "mx.pem"}) as gatepost,
    ):
        yield postfix, gatepost


def came_of(place, pieces, reply):
    """The codes of all replies, the keywords of the last EHLO, and the messages upstream.

    A connection that is closed has no more replies; one on which nothing comes for long is a failure.
    """
    port, upstream, preamble = place
    before = len(upstream.messages)
    codes, keywords = [], []
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.suppress(ConnectionError))
        client = stack.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS))
        lines = stack.enter_context(client.makefile("rb"))
        client.sendall(preamble)
        reply(lines)
        for piece in [*pieces, "QUIT\r\n"]:
            if piece == "handshake":
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                lines.close()
                client = stack.enter_context(context.wrap_socket(client))
                lines = stack.enter_context(client.makefile("rb"))
                continue
            client.sendall(piece.encode())
            said = reply(lines)
            codes.append(said[:3])
            if piece.upper().startswith("EHLO") and said.startswith("250"):
                keywords = sorted(line[4:] for line in said.splitlines()[1:])
        while one := reply(lines):
            codes.append(one[:3])
    return " ".join(filter(None, codes)), keywords, [*map(relayed, upstream.messages[before:])]


def relayed(message):
    """A message upstream: its envelope, and its content without the field that was added."""
    recipients = [" ".join((f"<{one.address}>", *one.parameters)) for one in message.recipients]
    sender = " ".join((f"<{message.mail_from}>", *message.parameters))
    return sender, recipients, TRACE.sub(b"", message.content, count=1)


def pieces_of(dialogue):
    for piece in dialogue["say"]:
        yield from (
            one.replace("{2000}", "x" * 2000).replace("{300}", "x" * 300).replace("{smuggled}", SMUGGLED)
            for one in STAND_FOR.get(piece, [piece])
        )


def seen(came, other):
    """What the page says of it: codes and messages, and envelopes and keywords where the other's differ."""
    codes, keywords, messages = came
    said = f"{codes}; {len(messages)} upstream" if messages else codes
    if len(messages) == len(other[2]):
        envelopes = [
            f"{sender} to {', '.join(recipients)}"
            for (sender, recipients, _), theirs in zip(messages, other[2], strict=True)
            if (sender, recipients) != theirs[:2]
        ]
        said = "; ".join((said, *envelopes))
    more = [word for word in keywords if word not in other[1]]
    return f"{said}; offers {', '.join(more) or 'nothing more'}" if keywords != other[1] else said


@pytest.mark.real("postfix")
@pytest.mark.parametrize("dialogue", DIALOGUES, ids=lambda one: one["name"])
@pytest.mark.long
def test_every_difference_from_postfix_has_its_reason(request, reply, dialogue):
    place = "with_tls" if dialogue.get("tls") else "lenient" if dialogue.get("lenient") else "plain"
    postfix, gatepost = request.getfixturevalue(place)
    pieces = list(pieces_of(dialogue))
    theirs, ours = came_of(postfix, pieces, reply), came_of(gatepost, pieces, reply)
    if not dialogue.get("offers"):  # that is compared once, and would stand in each line else
        theirs, ours = (theirs[0], [], theirs[2]), (ours[0], [], ours[2])
    if theirs == ours:
        assert "why" not in dialogue or numbers(dialogue.get("same_from", "99")) <= postfix_version(), (
            "no difference"
        )
        return
    found = {"postfix": seen(theirs, ours), "gatepost": seen(ours, theirs)}
    assert found == {name: dialogue.get(name) for name in found}, (theirs, ours)
    assert found["postfix"] != found["gatepost"], (theirs, ours)
    assert dialogue["why"]


@pytest.mark.real("postfix")
def test_postfix_is_as_debian_ships_it():
    default = "no" if postfix_version() < (3, 9) else "normalize"
    assert postconf("-d", "smtpd_forbid_bare_newline") == default, "dialogues.yaml says so"


def postconf(*arguments):
    """The value of one setting."""
    command = [proxies.program("postconf", "postfix"), "-h", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def postfix_version():
    return numbers(postconf("-d", "mail_version"))


def numbers(version):
    return tuple(map(int, version.split(".")))


def test_the_page_lists_the_differences(pytestconfig):
    lines = ["| the client sends | Postfix | Gatepost | reason for the difference |", "|---|---|---|---|"]
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
