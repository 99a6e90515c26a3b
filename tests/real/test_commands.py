"""check, explain and serve as they are typed: words for people, exit statuses for scripts."""

import json
import re
import socket

import pytest
from gatepost.process.certificate import make_certificate

RULES = """\
hostname: gateway.example.net
listen: 127.0.0.1:0
relay:
  - recipients: "*@example.com"
    to: inbox
rules:
  - name: programs
    filter: attachments
    when: {sender: "*@partner.example"}
    with: {extensions: [exe]}
  - name: words
    filter: keywords
    with: {words: [wire transfer]}
    action: reject
    reply: "550 5.7.1 Not accepted here ({rule})"
  - name: trial
    filter: keywords
    with: {words: [lunch]}
    mode: observe
"""
MESSAGE = """\
Received: from a by b; Mon, 23 Nov 2026 10:00:00 +0000
From: alice@example.org
Subject: =?utf-8?q?A_wire_transf=65r?=

Meet me for lunch.
"""


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("filter: keywords", "filter: keyword"), "rules.yaml:12:13: unknown filter 'keyword'"),
        (("extensions: [exe]", "extension: [exe]"), "rules.yaml:10:12: unknown key 'extension'"),
        (("action: reject", "action: refuse"), "rules.yaml:14:13: 'refuse'"),
        (("550 5.7.1", "250 2.7.1"), "rules.yaml:11:5: the reply code 250"),
        (("to: inbox", "to: smtp//here"), "rules.yaml:5:9: 'smtp//here'"),
        (("listen:", "listens:"), "rules.yaml:2:1: unknown key 'listens'"),
        (("words: [lunch]", "words: yes"), "rules.yaml:18:19: 'yes', expected a list"),
        (('"*@example.com"', "$partners"), "rules.yaml:4:17: "),
        (("mode: observe", "mode: [observe"), "rules.yaml:20:1: not YAML"),
        (("name: trial", "name: words"), "rules.yaml:16:11: "),
        (("rules:\n", "lists: {partners: nowhere.txt}\nrules:\n"), "rules.yaml:6:19: "),
        (("rules:\n", "rules:\n  - {name: mine, filter: './mine.py:Mine'}\n"), "rules.yaml:7:26: "),
    ],
)
def test_a_mistake_is_named_with_its_place(run, tmp_path, change, expected):
    (tmp_path / "rules.yaml").write_text(RULES.replace(*change, 1))
    done = run("check")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(expected), done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["check", "serve"])
def test_files_of_a_listener_that_are_of_no_use_are_named(run, tmp_path, command):
    for name in ("mx.pem", "mx.key", "users.yaml"):
        (tmp_path / name).write_text("alice: secret\n")
    listen = (
        "listen: {address: 127.0.0.1:0, tls: {certificate: mx.pem, key: mx.key}, auth: {users: users.yaml}}"
    )
    (tmp_path / "rules.yaml").write_text(RULES.replace("listen: 127.0.0.1:0", listen))
    done = run(command)
    assert done.returncode == 2
    certificate, users = done.stderr.splitlines()
    assert re.match(r"rules\.yaml:2:37: .*mx\.pem and .*mx\.key: expected a PEM certificate", certificate)
    assert re.match(r"rules\.yaml:2:87: .*users\.yaml: expected lines like .* the hash of 'alice'", users)


def test_serve_says_of_a_mistake_what_check_says(run, tmp_path):
    (tmp_path / "rules.yaml").write_text(RULES.replace("filter: keywords", "filter: keyword"))
    check, serve = run("check"), run("serve")
    assert (serve.returncode, serve.stderr) == (2, check.stderr)
    assert len(check.stderr.splitlines()) == 2


def test_a_fine_file_is_called_fine(run, tmp_path):
    (tmp_path / "rules.yaml").write_text(RULES)
    done = run("check")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "rules.yaml: ok: 1 listener, 1 route, 3 rules, 0 lists\n"


def test_explain_says_what_each_rule_says(run, tmp_path):
    (tmp_path / "rules.yaml").write_text(RULES)
    (tmp_path / "message.eml").write_text(MESSAGE)
    arguments = (
        "explain",
        "message.eml",
        "--recipient",
        "bob@example.com",
        "--recipient",
        "bob@elsewhere.example",
    )
    text = run(*arguments)
    assert (text.returncode, text.stderr) == (0, "")
    for line in (
        r"rule +stage +result +action +score +why +ms",
        r'words +message +hit +reject +"wire transfer" in subject +\d+\.\d\d',
        r" +subject: A wire transfer",
        r"not asked \(.*\): programs, trial",
        r"bob@example.com: reject by words at message, reply 550 5.7.1 Not accepted here \(words\)",
        r"bob@elsewhere.example: no route, 550 5.7.1 Relaying denied; the rules decide .*",
    ):
        assert re.search(f"^ *{line} *$", text.stdout, re.MULTILINE), (line, text.stdout)
    told = json.loads(run(*arguments, "--json").stdout)
    assert [(e["rule"], e["stage"], e["result"]) for e in told["evaluations"]] == [
        ("words", "message", "hit")
    ]
    assert told["not_asked"] == ["programs", "trial"]
    assert [end["address"] for end in told["recipients"]] == ["bob@example.com", "bob@elsewhere.example"]
    observed = run("explain", "-", "--recipient", "bob@example.com", input=MESSAGE.replace("wire", "wired"))
    assert re.search(r"^trial +message +hit +\(reject, observed\) +", observed.stdout, re.MULTILINE)
    assert observed.stdout.endswith("bob@example.com: accept, to inbox\n")


def test_explain_says_what_was_read_and_how(run, tmp_path):
    (tmp_path / "rules.yaml").write_text(RULES)
    message = (
        "Content-Type: application/x; name=a.txt\nContent-Disposition: attachment; filename*=utf-8''b%00.exe"
    )
    text = run("explain", "-", input=f"{message}\n\nMZ\n").stdout
    line = r"read: attachment b\x00.exe, a.txt (application/x, 4 bytes): filename from RFC 2231"
    assert line in text.splitlines()
    (part,) = json.loads(run("explain", "-", "--json", input=f"{message}\n\nMZ\n").stdout)["read"]
    assert (part["names"], part["how"]) == (["b\0.exe", "a.txt"], ["filename from RFC 2231"])
    assert "read: text (text/plain, 4 characters)" in run("explain", "-", input="A: b\n\nhi\n").stdout


@pytest.mark.parametrize(
    ("arguments", "status", "expected"),
    [
        (("explain", "missing.eml"), 1, "gatepost: missing.eml: No such file or directory"),
        (("explain", "rules.yaml", "--client", "me"), 2, "gatepost: --client 'me': expected an IP address"),
        (("check", "-c", "missing.yaml"), 2, "missing.yaml: cannot be read: No such file or directory"),
        (("serve", "-c", "missing.yaml"), 2, "missing.yaml: cannot be read: No such file or directory"),
        (("complaints", "--smtp", "2525"), 2, "expected host:port like 127.0.0.1:2525"),
        (("complaints", "--no-web", "--store", "no/such/folder.db"), 1, "gatepost: the store "),
        (("serve", "--port", "25"), 2, "No such option: --port"),
    ],
)
@pytest.mark.long
def test_what_cannot_be_done_is_said_in_a_line(run, tmp_path, arguments, status, expected):
    (tmp_path / "rules.yaml").write_text(RULES)
    done = run(*arguments)
    assert done.returncode == status
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["serve", "complaints"])
def test_an_address_in_use_is_said_in_a_line(run, tmp_path, command):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        (tmp_path / "rules.yaml").write_text(RULES.replace("127.0.0.1:0", address))
        done = run(command, *(("--smtp", address) if command == "complaints" else ()))
    assert done.returncode == 1
    assert done.stderr == f"gatepost: cannot listen on {address}: Address already in use\n"


@pytest.mark.parametrize(
    "url", ["sqlite:///no/such/folder/gatepost.db", "sqlite:///rules.yaml", "sqlite:////proc/gatepost.db"]
)
@pytest.mark.long
def test_a_store_that_cannot_be_opened_is_said_in_a_line(run, tmp_path, url):
    (tmp_path / "rules.yaml").write_text(f"{RULES}store: {{url: '{url}'}}\n")
    done = run("serve")
    assert done.returncode == 1
    assert re.fullmatch(r"gatepost: the store \S+ .*\n", done.stderr), done.stderr
    assert (tmp_path / "rules.yaml").read_text().startswith(RULES)


@pytest.mark.parametrize(
    ("mistake", "place"),
    [
        ("store: {url: 'postgresql://u:secret@h/n'}", "1:14: a password in the URL"),
        ("listen: ['127.0.0.1:9', '127.0.0.1:9']", "1:25: the address '127.0.0.1:9' is used twice"),
        ("web: {address: '127.0.0.1:0', password_file: empty}", "1:6: no password in "),
        ("listen: {address: '127.0.0.1:0', tls: {certificate: c.pem, key: other.pem}}", "1:39: "),
        ("listen: {address: '127.0.0.1:0', tls: {certificate: c.pem, key: gone.pem}}", "1:65: 'gone.pem'"),
        ("listen: {address: '127.0.0.1:0', auth: {users: empty, without_tls: true}}", "1:48: "),
        ("rules: [{name: av, filter: clamav, with: {address: clamd}}]", "1:42: filter 'clamav': address"),
        ("relay: [{recipients: '*', to: {host: h, ca: empty}}]", "1:45: 'empty', expected a PEM file"),
        (
            "relay: [{recipients: '*', to: {host: h, auth: {username: u, password_file: empty}}}]",
            "1:76: no password in ",
        ),
    ],
)
def test_what_serve_would_refuse_check_refuses_at_the_same_place(run, tmp_path, mistake, place):
    (tmp_path / "empty").touch()
    make_certificate(tmp_path)[0].rename(tmp_path / "c.pem")
    make_certificate(tmp_path)[1].rename(tmp_path / "other.pem")
    (tmp_path / "rules.yaml").write_text(f"{mistake}\n")
    checked, served = run("check"), run("serve")
    assert checked.stderr.startswith(f"rules.yaml:{place}")
    assert (checked.returncode, served.returncode, served.stderr) == (2, 2, checked.stderr)
    assert "secret" not in checked.stderr


def test_check_sees_that_there_is_no_folder_for_the_store(run, tmp_path):
    (tmp_path / "rules.yaml").write_text("store: {url: 'sqlite:///no/where/x.db'}\n")
    checked = run("check")
    assert checked.returncode == 2
    assert checked.stderr.startswith(
        f"rules.yaml:1:14: the folder {tmp_path}/no/where does not exist, expected a file"
    )


def test_the_log_has_one_line_a_transaction_and_no_raw_control_characters(gateway):
    running = gateway()
    with running.smtp() as smtp:
        smtp.ehlo("client.example.org")
        assert smtp.transact("Subject: \x1b[31m\r\n\r\n", '"a b"@example.com').startswith("250 2.0.0 ")
        assert smtp.transact("x\r\n", "bob@elsewhere.example", sender="").startswith("550 5.7.1 ")
    assert running.stop() == 0
    lines = running.log.splitlines()
    assert " INFO gatepost listens on 127.0.0.1:" in lines[0]
    transactions = [line for line in lines if " client=" in line]
    assert len(transactions) == 2, running.log
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d INFO \w{16} inbox client=127\.0\.0\.1 ", transactions[0])
    assert lines[-2].endswith("INFO stopping: waiting for transactions in progress")
    assert lines[-1].endswith("INFO all workers have ended")
    assert all(line.isprintable() for line in lines)


def test_no_exception_of_a_filter_forges_a_line_of_the_log(gateway):
    broken = """
        from gatepost import hookimpl

        class Broken:
            @hookimpl
            def filter_message(self, transaction):
                raise ValueError(transaction.message.content.decode())
    """
    rules = """
        rules:
          - {name: broken, filter: "./broken.py:Broken", action: reject}
    """
    running = gateway(rules, files={"broken.py": broken}, errors=["Traceback", "broken"])
    with running.smtp() as smtp:
        smtp.ehlo("client.example.org")
        forged = "2026-01-01 00:00:00 INFO forged client=192.0.2.1"
        content = f"a: b\r\n\r\n{forged}\r\n\x1b[31m{forged}\r\n"
        assert smtp.transact(content, "bob@example.com").startswith("451 4.3.0 ")
    assert running.stop() == 0
    lines = running.log.splitlines()
    assert all(line.isprintable() for line in lines)
    assert forged in running.log, "it is there, within the traceback"
    assert not [line for line in lines if line.startswith(forged)]
    assert len([line for line in lines if re.match(r"\S+ \S+ INFO .* client=", line)]) == 1
