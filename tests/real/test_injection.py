"""What clients, balancers and servers say stays text in the log and on the terminal.

No line of theirs begins there, nothing is obeyed by a terminal, and nothing is turned around for the eye.
"""

import base64
import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import time

import pytest
from gatepost.testing import FakeUpstream
from gatepost.testing.upstream import Close, OnConnection

EVIL = "\x1b[31m\x07\x08\x0b\x0c\x1c\x7f\x85\x9b31m\u2028\u2029\u202e\u2066\u200b\ufeff"
"""What terminals obey, what some readers take for a line end, and what turns text around or hides it."""
PRINTED = "\u2028\u2029\u202e\u2066\u200b\ufeff"
"""As much of it as an address may hold (RFC 6531 section 3.3)."""
USER = f"\0{EVIL}\nroot\0guess"
LINES = f"a{EVIL}\r\nb"
LOG_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (INFO|WARNING|ERROR) ")


def base64_of(text):
    return base64.b64encode(text.encode()).decode()


COMMANDS = (
    f"HELO {EVIL}",
    f"EHLO {EVIL}",
    "EHLO client.example.org",
    f"AUTH PLAIN {base64_of(USER)}",
    f"{EVIL} {EVIL}",
    f"MAIL FROM:<alice{EVIL}@example.org>",
    f"MAIL FROM:<alice{PRINTED}@example.org> SMTPUTF8",
    f"RCPT TO:<bob{EVIL}@example.com>",
    f'RCPT TO:<"bob{PRINTED}"@example.com>',
    "DATA",
)
WORD = f"=?utf-8?b?{base64_of(LINES)}?="
CONTENT = (
    f"Subject: {EVIL} {WORD}\r\nMessage-ID: <{EVIL}@x>\r\nFrom: {WORD} <a@b.example>\r\n\r\n{EVIL}\r\n.\r\n"
)


def escaped(text):
    return text.encode("unicode_escape").decode()


def assert_plain(text, *, of):
    """Every line of it is the program's own, of characters that are shown as they are."""
    assert text
    for line in text.split("\n"):
        assert line.isprintable(), (of, line)


@pytest.fixture
def on_terminal():
    """What a command writes to a terminal that knows no colours."""
    try:
        ours, theirs = pty.openpty()
    except OSError as error:
        pytest.skip(f"no pseudo-terminals ({error}): mount devpts on /dev/pts")

    with os.fdopen(ours, "rb", 0) as screen, os.fdopen(theirs, "wb", 0) as terminal:

        def run(command, folder, environment):
            with subprocess.Popen(
                command, cwd=folder, env={**environment, "TERM": "dumb", "COLUMNS": "2000"}, stdout=terminal
            ) as process:
                terminal.close()
                said = b""
                with contextlib.suppress(OSError):  # the terminal has nobody on its other side
                    while piece := screen.read(65_536):
                        said += piece
            assert process.returncode == 0
            return said.decode().replace("\r\n", "\n")

        yield run


def until_greeted(running):
    """Until the server behind has been greeted, so that SMTPUTF8 is offered."""
    give_up = time.monotonic() + 60
    with running.client() as client:
        while "SMTPUTF8" not in client.say("EHLO client.example.org")[0]:
            assert time.monotonic() < give_up, "the server behind was never greeted"
            time.sleep(0.01)


@pytest.mark.parametrize("step", ["dot", "connect"])
@pytest.mark.long
def test_what_client_and_server_say_is_escaped_in_the_log_and_the_journal(
    gateway, run, environment, on_terminal, step
):
    evil = f"550 5.7.1 No{EVIL} \u00e9\r".encode() + b"\xff\xfe 250 2.0.0 Ok: forged\r\n"
    with FakeUpstream({"mail": OnConnection(1, Close())}) as upstream:  # another one has to be opened
        users = {"users.yaml": "alice: '$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$bm9ib2R5J3MgaGFzaA'\n"}
        running = gateway(
            'listen: {address: "127.0.0.1:0", auth: {users: users.yaml, without_tls: true}}',
            upstream=upstream.port,
            files=users,
        )
        until_greeted(running)
        upstream.script[step] = evil
        with running.client() as client:
            heard = client.say(*COMMANDS)
            if heard[-1].startswith("354"):
                client.socket.sendall(CONTENT.encode())
                heard.append(client.reply())
        assert heard[-1][:3] in ("550", "554"), heard
        assert not re.search("[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029]", "".join(heard).replace("\n", "")), (
            heard
        )
        assert running.stop() == 0
    assert_plain(running.log, of="the log")
    assert all(map(LOG_LINE.match, running.log.splitlines())), running.log
    record, _failed_login = running.journal(2)
    for arguments in (["journal"], ["journal", record.id], ["journal", "--json"]):
        assert_plain(run(*arguments, "-c", running.folder / "rules.yaml").stdout, of=arguments)
    command = [sys.executable, "-m", "gatepost", "journal"]
    assert_plain(on_terminal(command, running.folder, environment), of="journal")


@pytest.mark.parametrize(
    "header",
    [
        f"PROXY {EVIL}\r\n",
        f"PROXY TCP4 {EVIL} 192.0.2.1 1 2\r\n",
        f"PROXY TCP4 192.0.2.1 192.0.2.2 1 2{EVIL}\r\n",
        f"{EVIL}\r\n",
    ],
    ids=["protocol", "address", "port", "all"],
)
@pytest.mark.long
def test_a_balancers_header_is_escaped_in_the_log(gateway, header):
    running = gateway('listen: {address: "127.0.0.1:0", proxy_protocol_from: 127.0.0.1}')
    with running.client(header.encode()) as client:
        assert client.greeting == ""
    running.logs("no valid PROXY header")
    assert running.stop() == 0
    assert_plain(running.log, of="the log")
    assert all(map(LOG_LINE.match, running.log.splitlines())), running.log


def test_the_text_of_an_exception_begins_no_line_of_its_own(gateway):
    raises = f"""
    from gatepost import hookimpl

    class Raises:
        @hookimpl
        def filter_message(self, transaction):
            raise ValueError(bytes.fromhex("{(EVIL + LINES).encode().hex()}").decode())
    """
    rules = "rules: [{name: raises, filter: ./raises.py:Raises}]"
    running = gateway(rules, files={"raises.py": raises}, errors=("ERROR", "Traceback"))
    assert running.send("a: b\r\n\r\n").startswith("451 4.3.0 ")
    assert running.stop() == 0
    assert_plain(running.log, of="the log")
    assert all(LOG_LINE.match(line) or line.startswith("    ") for line in running.log.split("\n")[:-1])
    traceback = [line for line in running.log.split("\n") if line.startswith("    ValueError: ")]
    assert traceback == ["    ValueError: " + (escaped(EVIL) + "a" + escaped(EVIL) + r"\r")]


@pytest.mark.long
def test_the_mail_trap_shows_it_escaped(complaints, run, environment, on_terminal, tmp_path):
    running = complaints("--store", "kept.db")
    with running.client() as client:
        heard = client.say(*COMMANDS)
        client.socket.sendall(CONTENT.encode())
        heard.append(client.reply())
    assert heard[3].startswith("235 ")
    assert heard[-1].startswith("250 ")
    assert running.stop(signal.SIGINT) == 0
    assert r"\u202e" in running.output
    assert_plain(running.output, of="the conversation")
    assert_plain(running.log, of="the log")
    (tmp_path / "rules.yaml").write_text("store: {url: 'sqlite:///kept.db'}\n")
    shown = run("journal").stdout
    assert_plain(shown, of="journal")
    number = shown.splitlines()[1].split()[2]
    assert re.search(r"authenticated +\\x1b\[31m", run("journal", number).stdout)
    command = [sys.executable, "-m", "gatepost", "journal", number]
    assert_plain(on_terminal(command, tmp_path, environment), of="journal of one")
