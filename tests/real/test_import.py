"""gatepost import as it is typed: files, folders and Maildirs get into a running complaints server."""

import fcntl
import json
import os
import pty
import re
import socket
import struct
import subprocess
import sys
import termios
import threading
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FROM = b"From bounce@example.com Mon Jan  1 12:00:00 2024\n"


def eml(number):
    return b"Subject: number %d\nTo: bob@example.com\n\nHello\n" % number


@pytest.fixture
def trap(complaints):
    """A running server with a desk, as `url`; `subjects` are those of its messages, the oldest first."""
    running = complaints("--web", "127.0.0.1:0", "-q")
    running.url = f"http://{running.desk}"

    def subjects():
        with urllib.request.urlopen(f"{running.url}/api/v1/messages?limit=500", timeout=60) as answer:
            return [one["subject"] for one in reversed(json.load(answer)["messages"])]

    running.subjects = subjects
    return running


@pytest.fixture
def write(tmp_path):
    def file(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    return file


def test_files_and_folders_are_imported_in_their_order(trap, run, write):
    write("one.eml", eml(1))
    write("archive", FROM + eml(2) + b"\n" + FROM + eml(3))
    write("folder/b.EML", eml(5))
    write("folder/a.mbox", FROM + eml(4))
    write("spaced.eml", b"From : ann@example.org\n" + eml(9))
    write("old.eml", b"From ann yesterday\n" + eml(10))
    write("folder/notes.txt", b"Dear: diary")
    write("folder/deep/c.eml", eml(6))
    for name, number in (
        ("cur/1:2,S", 7),
        ("new/2", 8),
        ("tmp/3", 0),
        ("cur/.hidden", 0),
        ("dovecot.index", 0),
    ):
        write(f"Mail/{name}", eml(number))
        write(f"Mail/.Sent/{name}", eml(number))
    done = run(
        "import", "one.eml", "archive", "folder", "Mail", "spaced.eml", "old.eml", "--url", trap.url + "/"
    )
    assert (done.stderr, done.stdout, done.returncode) == ("", "imported 12 messages\n", 0)
    assert trap.subjects() == [f"number {number}" for number in (1, 2, 3, 4, 5, 6, 7, 8, 7, 8, 9, 10)]


def test_what_is_not_imported_is_named_with_its_file_and_line(trap, run, write):
    write("good.eml", eml(1))
    write("page.eml", b"<!doctype html>\n")
    write("archive.mbox", FROM + b"\x1b[31m\n\n" + FROM + eml(2))
    write("empty.eml", b"")
    done = run("import", ".", "--url", trap.url)
    expected = "expected a header field like 'Subject: Hello'"
    assert done.stderr.splitlines() == [
        rf"gatepost: archive.mbox: line 2: found '\x1b[31m', {expected}",
        f"gatepost: empty.eml: Nothing was imported: line 1: found nothing, {expected}",
        f"gatepost: page.eml: Nothing was imported: line 1: found '<!doctype html>', {expected}",
    ]
    assert (done.stdout, done.returncode) == ("imported 2 messages\n", 1)
    assert trap.subjects() == ["number 2", "number 1"]


def test_an_imported_message_says_so_and_is_deleted_and_found_like_any_other(trap, run, write):
    write("one.eml", eml(1))
    assert run("import", "one.eml", "--url", trap.url).stdout == "imported 1 message\n"
    with urllib.request.urlopen(
        f"{trap.url}/api/v1/wait?query=recipient:bob@example.com", timeout=30
    ) as answer:
        (message,) = json.load(answer)["messages"]
    assert message["reason"] == "imported from a file"
    request = urllib.request.Request(f"{trap.url}/api/v1/messages/{message['id']}", method="DELETE")
    urllib.request.urlopen(request, timeout=30).close()
    assert trap.subjects() == []


@pytest.mark.real("curl")
def test_the_commands_of_the_documentation_work(trap, write, tmp_path, environment):
    write("order.eml", eml(1))
    write("archive.mbox", FROM + eml(2) + b"\n" + FROM + eml(3))
    write("folder/more.eml", eml(4))
    text = (
        (ROOT / "docs" / "testing.md")
        .read_text()
        .partition("## Import saved messages")[2]
        .partition("\n## ")[0]
    )
    by_command, by_api = re.findall(r"```text\n(.*?)```", text, re.DOTALL)
    command = by_command.replace("gatepost import", f"{sys.executable} -m gatepost import --url {trap.url}")
    options = {"cwd": tmp_path, "env": environment, "capture_output": True, "timeout": 60}
    done = subprocess.run(["/bin/sh", "-ec", command], check=True, **options)
    assert done.stdout == b"imported 4 messages\n"
    script = by_api.replace("http://127.0.0.1:8025", trap.url)
    done = subprocess.run(["/bin/sh", "-ec", script], check=True, **options)
    one, several = (json.loads(answer) for answer in re.findall(rb"{.*?\]}", done.stdout))
    assert [found["line"] for found in one["messages"]] == [1]
    assert [found["line"] for found in several["messages"]] == [1, 7]
    assert trap.subjects() == [f"number {number}" for number in (1, 2, 3, 4, 1, 2, 3)]


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        ([], 2, "Missing argument"),
        (["nothing.eml"], 1, "gatepost: nothing.eml: No such file or directory"),
        (["empty"], 2, "found no .eml or .mbox file and no Maildir"),
        (
            ["one.eml", "--url", "localhost:8025"],
            2,
            "'localhost:8025', expected a URL like http://127.0.0.1:8025",
        ),
        (["one.eml", "--password-file", "none"], 2, "No such file or directory: 'none'"),
        (["one.eml", "--ca", "one.eml"], 1, "--ca: one.eml is not a PEM file of certificates"),
    ],
)
def test_a_wrong_argument_is_named(run, write, tmp_path, arguments, status, says):
    write("one.eml", eml(1))
    (tmp_path / "empty").mkdir()
    done = run("import", *arguments)
    assert done.returncode == status
    assert says in " ".join(done.stderr.replace("│", "").split())


@pytest.mark.long
def test_a_server_that_is_not_there_or_another_one_is_named(run, write, gateway, closed_port):
    write("one.eml", eml(1))
    url = f"http://127.0.0.1:{closed_port}"
    done = run("import", "one.eml", "--url", url)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"gatepost: {url} does not answer ([Errno 111] Connection refused); --url names" in done.stderr
    running = gateway("web: 127.0.0.1:0")
    url = f"http://{running.desk}"
    done = run("import", "one.eml", "--url", url)
    assert done.stderr == f"gatepost: {url} requires a password: --password-file\n"
    write("password", next(iter(running.password.values())).removeprefix("Bearer ").encode())
    done = run("import", "one.eml", "--url", url, "--password-file", "password")
    assert done.stderr == f"gatepost: {url} is a gateway; only gatepost complaints imports messages\n"
    assert done.returncode == 1


@pytest.mark.long
def test_the_desk_may_have_a_password_a_base_path_and_a_certificate_of_its_own(complaints, run, write):
    write("password", b"secret\n")
    write("wrong", b"wrong\n")
    write("one.eml", eml(1))
    options = ("--password-file", "password", "--https", "--base-path", "/mail/")
    running = complaints("--web", "127.0.0.1:0", "-q", *options)
    command = ("import", "one.eml", "--url", f"https://{running.desk}/mail/")
    assert "certificate verify failed" in run(*command).stderr
    assert "requires a password" in run(*command, "--no-verify").stderr
    assert "requires another password" in run(*command, "--no-verify", "--password-file", "wrong").stderr
    done = run(*command, "--no-verify", "--password-file", "password")
    assert (done.stdout, done.stderr) == ("imported 1 message\n", "")


def test_a_server_that_ends_within_a_file_ends_the_import(run, write):
    write("one.eml", eml(1))
    write("two.eml", eml(2))
    info = json.dumps({"product": "gatepost", "mode": "complaints"}).encode()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            for answer in (b"HTTP/1.1 200 Ok\r\nContent-Length: %d\r\n\r\n%b" % (len(info), info), b""):
                client, _ = listener.accept()
                with client:
                    client.recv(65536)
                    client.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        done = run("import", "one.eml", "two.eml", "--url", f"http://127.0.0.1:{listener.getsockname()[1]}")
        thread.join()
    (said,) = done.stderr.splitlines()
    assert said.startswith("gatepost: one.eml: no answer (")
    assert said.endswith("): look in the web desk whether it was imported")
    assert (done.stdout, done.returncode) == ("imported 0 messages\n", 1)


@pytest.mark.long
def test_a_terminal_shows_how_much_was_sent(trap, write, tmp_path, environment):
    write("archive.mbox", FROM + eml(1) + b"x" * 3_000_000)
    mine, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [sys.executable, "-m", "gatepost", "import", "archive.mbox", "--url", trap.url]
    options = {"cwd": tmp_path, "env": environment | {"TERM": "xterm"}, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, stderr=terminal, **options) as process:
        os.close(terminal)
        shown = b""
        with suppress(OSError):  # the end of a terminal
            while piece := os.read(mine, 65536):
                shown += piece
        os.close(mine)
        assert (process.stdout.read(), process.wait(60)) == (b"imported 1 message\n", 0), shown
    assert b"3.0/3.0 MB" in shown


def test_what_is_missing_is_named_and_the_rest_is_imported(trap, run, write, tmp_path):
    write("one.eml", eml(1))
    write("folder/two.eml", eml(2))
    (tmp_path / "folder" / "gone.eml").symlink_to("nowhere")
    done = run("import", tmp_path / "none.eml", tmp_path / "one.eml", tmp_path / "folder", "--url", trap.url)
    assert done.returncode == 1
    assert done.stdout == "imported 2 messages\n"
    assert done.stderr.splitlines() == [
        f"gatepost: {tmp_path}/none.eml: No such file or directory",
        f"gatepost: {tmp_path}/folder/gone.eml: No such file or directory",
    ]
    assert trap.subjects() == ["number 1", "number 2"]
    done = run("import", tmp_path / "none.eml", "--url", trap.url)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"gatepost: {tmp_path}/none.eml: No such file or directory\n"
