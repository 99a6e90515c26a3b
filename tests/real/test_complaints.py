"""The complaints department takes everything, shows it, and delivers nothing."""

import base64
import html
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest
from gatepost.config.store import StoreSettings
from gatepost.store import Box, KeptQuery, open_archive

WATCHED = """
import os
import sys

with open("python", "a") as file:
    print(os.getpid(), file=file)


def audit(event, arguments):
    if event == "socket.connect":
        with open("connections", "a") as file:
            print(arguments, file=file)


sys.addaudithook(audit)

from gatepost.relay import Relay


def __init__(self, **_):
    raise AssertionError("a relay in the complaints department")


Relay.__init__ = __init__
"""
"""A sitecustomize.py; uvloop connects without an audit event, so the test looks at the sockets too."""
SECRET = base64.b64encode(b"\0carol\0open sesame").decode()
NAME, PASSWORD = (base64.b64encode(word).decode() for word in (b"carol", b"open sesame"))


def test_it_shows_the_conversation_without_secrets_and_delivers_nothing(complaints):
    running = complaints()
    with running.client() as client:
        plain = client.say("EHLO client.example.org", f"AUTH PLAIN {SECRET}", "MAIL FROM:<carol@example.org>")
        client.say("RCPT TO:<complaints@example.com>", "DATA")
        client.socket.sendall(b"Subject: the tea\n\nIt was cold\x1b[31m.\nbare\rnewlines\r\n.\r\n")
        assert client.reply().startswith("250 2.0.0 ")
        assert client.say("QUIT")[0].startswith("221 ")
    assert [reply[:3] for reply in plain] == ["250", "235", "250"]
    with running.client() as client:
        login = client.say("EHLO client.example.org", "AUTH LOGIN", NAME, PASSWORD, "QUIT")
        assert [reply[:3] for reply in login] == ["250", "334", "334", "235", "221"]
    with running.smtp() as smtp:
        smtp.login("anybody", "hunter2")
        smtp.sendmail("a@example.org", ["b@example.com", "c@example.net"], "Subject: soup\r\n\r\nToo hot\r\n")
    assert running.stop(signal.SIGINT) == 0
    shown = running.output
    for text in (
        "< EHLO client.example.org",
        "> 250-",
        "< AUTH PLAIN ********",
        "< ********",
        "> 235 2.7.0 ",
        "< MAIL FROM:<carol@example.org>",
        "Subject: the tea",
        r"It was cold\x1b[31m.",
        "< QUIT",
        "> 221 2.0.0 ",
        "Too hot",
    ):
        assert text in shown, text
    assert "< rcpt to:<c@example.net>" in shown.lower()  # smtplib's letters depend on its release
    secrets = (
        SECRET,
        NAME,
        PASSWORD,
        "open sesame",
        "hunter2",
        base64.b64encode(b"hunter2").decode().rstrip("="),
    )
    assert not [secret for secret in secrets if secret in shown + running.log]
    assert "\x1b" not in shown
    assert "nothing is delivered" in running.log
    assert "Traceback" not in running.log


def test_no_relay_is_made_and_no_connection_leaves(complaints, tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(WATCHED)
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        elsewhere.settimeout(0)
        running = complaints(extra_path=str(site))
        process = psutil.Process(running.worker)
        address = f"127.0.0.1:{elsewhere.getsockname()[1]}"
        with running.smtp() as smtp:
            for recipient in (
                "bob@example.com",
                "root@localhost",
                "bob@[127.0.0.1]",
                "postmaster",
                '"a b"@x.example',
            ):
                content = f"Received: from mx by {address}\r\nTo: {recipient}\r\n\r\n{address}\r\n"
                assert smtp.transact(content, recipient).startswith("250 2.0.0 ")
                ports = {(c.laddr.port, c.status) for c in process.net_connections("inet")}
                assert ports <= {(running.port, psutil.CONN_LISTEN), (running.port, psutil.CONN_ESTABLISHED)}
        with pytest.raises(BlockingIOError):
            elsewhere.accept()
        children = process.children(recursive=True)
    assert children == []
    assert str(running.pid) in (tmp_path / "python").read_text().split(), "the watch was not there"
    assert not (tmp_path / "connections").exists()


def test_it_keeps_what_comes_where_it_is_told_to(complaints, tmp_path):
    running = complaints("--store", "complaints.db", "--quiet")
    content = b"Subject: \xff\n\nbare\r\n"
    with running.smtp() as smtp:
        assert smtp.transact(content, "bob@example.com", "carol@example.com").startswith("250 2.0.0 ")
    assert running.stop(signal.SIGINT) == 0
    settings = StoreSettings(url=f"sqlite:///{tmp_path}/complaints.db")
    with open_archive(settings, Path()) as archive:
        (kept,) = archive.kept(KeptQuery(box=Box.INBOX), limit=10)
        message = archive.kept_message(kept.id)
    assert message.recipients == ("bob@example.com", "carol@example.com")
    assert message.content == content
    assert running.output == ""
    assert running.log.count(" inbox client=127.0.0.1 ") == 1


@pytest.mark.parametrize(
    "content", [b"a\nb\r\n", b"a\n.\nb\r\n", b"a\r.\r\nb\0\r\n"], ids=["LF", "LF . LF", "CR . CRLF"]
)
@pytest.mark.long
def test_it_keeps_what_no_server_would_take(complaints, tmp_path, content):
    running = complaints("--store", "kept.db")
    with running.client().begin("bob@example.org") as client:
        client.socket.sendall(content + b".\r\n")
        assert client.reply().startswith("250 ")
    with open_archive(StoreSettings(url=f"sqlite:///{tmp_path}/kept.db"), tmp_path) as archive:
        (kept,) = archive.kept(KeptQuery(box=Box.INBOX), limit=10)
        assert archive.kept_message(kept.id).content == content


ODD_SESSIONS = {
    "no brackets": (
        [
            b"EHLO x.example\r\n",
            b"MAIL FROM: a@example.org\r\n",
            b"RCPT TO:bob\r\n",
            b"DATA\r\n",
            b"a: b\r\n.\r\n",
        ],
        ("a@example.org", ["bob"]),
        {"MAIL FROM: a@example.org", "RCPT TO:bob"},
    ),
    "Latin-1 and UTF-8": (
        [
            b"EHLO m\xfcller\r\n",
            b"MAIL FROM:<j\xfcrgen@example.org>\r\n",
            "RCPT TO:<j\u00fcrgen@example.com>\r\n".encode(),
            b"DATA\r\n",
            b"a: b\r\n.\r\n",
        ],
        (r"j\xfcrgen@example.org", ["j\u00fcrgen@example.com"]),
        {
            r"EHLO m\xfcller",
            r"MAIL FROM:&lt;j\xfcrgen@example.org&gt;",
            "RCPT TO:&lt;j\u00fcrgen@example.com&gt;",
        },
    ),
    "LF at the ends of lines": (
        [
            b"HELO\n",
            b"mail  from:<a@example.org> X=y\n",
            b"RCPT TO:<b@example.com>\n",
            b"DATA\n",
            b"a: b\n\n.\n",
        ],
        ("a@example.org", ["b@example.com"]),
        {"HELO", "mail  from:&lt;a@example.org&gt; X=y", "RCPT TO:&lt;b@example.com&gt;", "DATA"},
    ),
    "nobody": (
        [
            b"AUTH PLAIN " + base64.b64encode(b"ann\0\0") + b"\r\n",
            b"MAIL FROM:\0\r\n",
            b"RCPT TO:<>\r\n",
            b"DATA now\r\n",
            b"a: b\r\n.\r\n",
        ],
        (r"\x00", [""]),
        {"AUTH PLAIN ********", r"MAIL FROM:\x00", "RCPT TO:&lt;&gt;", "DATA now"},
    ),
    "a mail loop": (
        [
            b"EHLO x.example\r\n",
            b"MAIL FROM:<>\r\n",
            b"RCPT TO:<@x.example:b..c@example.com.>\r\n",
            b"DATA\r\n",
            b"Received: x\r\n" * 200 + b"\r\n.\r\n",
        ],
        ("", ["@x.example:b..c@example.com."]),
        {"RCPT TO:&lt;@x.example:b..c@example.com.&gt;"},
    ),
}


@pytest.mark.parametrize("name", ODD_SESSIONS)
@pytest.mark.long
def test_whatever_a_client_says_its_message_is_kept_and_its_checks_say_what_was_odd(complaints, name):
    said, (sender, recipients), odd = ODD_SESSIONS[name]
    running = complaints("--web", "127.0.0.1:0", "--store", "odd.db")
    desk = re.search(r"http://[^/]+", running.log)[0]
    with running.client() as client:
        for piece in said:
            client.socket.sendall(piece)
            reply = client.reply()
            assert reply[0] in "23", (piece, reply)
    assert reply.startswith("250 2.0.0 ")
    [message] = httpx.get(f"{desk}/api/v1/messages").json()["messages"]
    assert (message["mail_from"], message["recipients"]) == (sender, recipients)

    def named():
        page = httpx.get(f"{desk}/messages/{message['id']}?tab=checks").text
        return set(re.findall(r"<bdi>&#34;(.*?)&#34; (?:is|has|had|holds|ends|names) ", page))

    give_up = time.monotonic() + 60
    while (found := named()) != odd:  # the conversation is written a little later than the message
        assert time.monotonic() < give_up, found
    texts = [one["text"] for one in httpx.get(f"{desk}/api/v1/messages/{message['id']}").json()["lint"]]
    assert all(any(text.startswith(f'"{html.unescape(one)}" ') for text in texts) for one in odd)
    for words in filter(
        None, (f"from:{sender}" if sender else "", *(f"to:{one}" for one in recipients if one))
    ):
        found = httpx.get(f"{desk}/api/v1/messages", params={"query": words}).json()
        assert [one["id"] for one in found["messages"]] == [message["id"]], words
    assert "Traceback" not in running.log


def test_without_a_store_nothing_stays(complaints, tmp_path):
    before = set(tmp_path.iterdir())
    running = complaints(TMPDIR=str(tmp_path))
    assert running.send("Subject: x\r\n\r\n").startswith("250 2.0.0 ")
    assert running.stop(signal.SIGINT) == 0
    assert {path.name for path in set(tmp_path.iterdir()) - before} == {"stdout", "stderr"}


def test_a_terminal_without_utf_8_shows_all_the_same(complaints):
    running = complaints(PYTHONIOENCODING="ascii")
    assert running.send("Subject: Gr\u00fc\u00dfe\r\n\r\n").startswith("250 2.0.0 ")
    assert running.stop(signal.SIGINT) == 0
    assert r"< Subject: Gr\xfc\xdfe" in running.output
    assert "Error" not in running.log


def test_it_ends_when_nobody_reads_what_it_shows(tmp_path, environment):
    command = [
        sys.executable,
        "-m",
        "gatepost",
        "complaints",
        "--smtp",
        "127.0.0.1:0",
        "--web",
        "127.0.0.1:0",
    ]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        port = int(re.search(r":(\d+);", process.stderr.readline())[1])
        process.stdout.close()
        with socket.create_connection(("127.0.0.1", port)):
            try:
                assert process.wait(60) == 0
            finally:
                process.kill()
        assert process.stderr.read() == ""
