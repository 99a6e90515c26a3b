"""`gatepost explain`: what it prints, and the message that it writes as it would leave."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from gatepost import Session
from gatepost.cli import app
from gatepost.cli.output import own_stdout
from gatepost.dns import Answer, DnsStatus
from gatepost.testing import FakeUpstream, make_message, make_transaction, running_gateway
from typer.testing import CliRunner

NOISY = """
import ctypes
import os
import subprocess
import sys
from gatepost import Match, Verdict, hookimpl

print("at import")
OUTPUT = sys.stdout


class Noisy:
    def __init__(self):
        print("when made")

    @hookimpl
    def filter_message(self, transaction):
        print("when asked")
        print("to standard output as it was at import", file=OUTPUT)
        sys.__stdout__.write("to the very first standard output\\n")
        os.write(1, b"to the descriptor\\n")
        subprocess.run(["echo", "by a program"], check=True)
        text = " ".join(f"word{number}" for number in range(60))
        return Verdict(reason=text, matches=(Match(where="text/plain", text=text),))
"""
SAID = [
    "at import",
    "when made",
    "when asked",
    "to standard output as it was at import",
    "to the very first standard output",
    "to the descriptor",
    "by a program",
]
NOTHING = Answer(status=DnsStatus.NO_NAME), 60.0
RULES = """
hostname: gateway.example.net
relay: [{recipients: "*@example.com", to: inbox}, {recipients: "*@example.net", to: discard}]
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "noisy.py").write_text(NOISY)
    (tmp_path / "m.eml").write_bytes(make_message(subject="Hello", text="Good day.\n"))
    return tmp_path


@pytest.fixture
def explain(folder):
    """Explain m.eml under these rules; returns the exit status, standard output and standard error."""

    def run(rules, *arguments):
        (folder / "rules.yaml").write_text(RULES + rules)
        done = CliRunner().invoke(app, ["explain", "m.eml", *arguments])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.stdout, done.stderr

    return run


def in_a_process(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "gatepost", *arguments], capture_output=True, text=True, check=False
    )


def test_a_pipe_gets_whole_lines_and_what_a_filter_prints_goes_to_standard_error(folder):
    (folder / "rules.yaml").write_text(RULES + "rules: [{name: noisy, filter: ./noisy.py:Noisy}]\n")
    for arguments in (("explain", "m.eml", "--json"), ("explain", "m.eml"), ("check", "--json")):
        done = in_a_process(*arguments)
        assert done.returncode == 0
        said = SAID if arguments[0] == "explain" else SAID[:2]
        assert sorted(done.stderr.splitlines()) == sorted(said)
        if "--json" in arguments:
            assert json.loads(done.stdout)
        else:
            assert re.search(
                r"^noisy +message +hit +reject +word0 word1 .* word58 word59 ", done.stdout, re.MULTILINE
            )
            assert re.search(r"^ +text/plain: word0 word1 .* word58 word59 *$", done.stdout, re.MULTILINE)


def test_closed_descriptors_are_no_error(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    with own_stdout() as stdout:
        print("of a filter")  # noqa: T201
        print("of the command", file=stdout)
        assert stdout.getvalue() == "of the command\n"


def test_tls_is_what_conditions_and_filters_see(explain):
    rules = "rules: [{name: plain, filter: match, when: {tls: false}, action: reject}]\n"
    to = ("--recipient", "a@example.com")
    assert "a@example.com: reject by plain" in explain(rules, *to)[1]
    assert "a@example.com: accept, to inbox" in explain(rules, *to, "--tls")[1]
    assert explain(rules, *to, "--tls", "--authenticated", "ann", "--output", "out.eml")[0] == 0
    assert b"with ESMTPSA id " in Path("out.eml").read_bytes()


TAGGED = """
rules:
  - name: mark
    filter: match
    action: tag
    tag: {add: {X-One: "1"}, remove: Date, subject: "[x] "}
  - {name: hold, filter: match, when: {recipient: "held@*"}, action: quarantine}
  - {name: no, filter: match, when: {recipient: "no@*"}, action: reject}
  - {name: early, filter: match, when: {recipient: "early@*", size: "<1GB"}, action: discard}
  - {name: vip, filter: match, when: {recipient: "vip@*"}, action: tag, tag: {add: {X-Vip: "yes"}}}
"""
CHANGING = re.compile(rb"(?<= id )\w{16}(?=\r\n|;)|(?<=;\r\n\t)[^\r\n]+")
"""The transaction's identifier and the time, in the Received field."""


@pytest.mark.parametrize(
    ("recipients", "facts"),
    [
        (["a@example.com"], {}),
        (["a@example.com", "b@example.com"], {"authenticated": "ann", "tls": "TLSv1.3"}),
        (["vip@example.com", "held@example.com"], {"client": "2001:db8::1", "helo": "[IPv6:2001:db8::1]"}),
        (["vip@example.com", "early@example.com", "nobody@elsewhere.example"], {}),
    ],
)
def test_the_file_holds_the_bytes_that_the_next_server_would_get(folder, recipients, facts):
    content = (folder / "m.eml").read_bytes().replace(b"Good day.", b"..\r\nGood day.\r\n.")
    (folder / "m.eml").write_bytes(content.replace(b"\r\n", b"\n").removesuffix(b"\n"))
    with FakeUpstream() as upstream, running_gateway(TAGGED, upstream=upstream) as gateway:
        transaction = make_transaction(content, recipients=recipients, mail_from="s@example.org", **facts)
        assert gateway.send(transaction).code == 250
        [sent] = upstream.messages
        rules = RULES.replace("to: inbox", f"to: {upstream.url}")
    (folder / "rules.yaml").write_text(rules + TAGGED)
    options = [word for one in recipients for word in ("--recipient", one)]
    options += as_options(transaction.session)
    done = CliRunner().invoke(app, ["explain", "m.eml", "--output", "out.eml", *options])
    assert (done.exit_code, done.stderr) == (0, "")
    written = Path("out.eml").read_bytes()
    assert CHANGING.sub(b"", written) == CHANGING.sub(b"", sent.content)
    assert len(CHANGING.findall(written)) == 2
    assert written.startswith(b"Received: ")
    assert b"X-One: 1\r\n" in written
    assert b"Date: Thu" not in written


def as_options(session: Session) -> list[str]:
    options = ["--client", str(session.client), "--helo", session.helo]
    options += ["--authenticated", session.authenticated] if session.authenticated else []
    return options + (["--tls"] if session.tls else [])


@pytest.mark.parametrize(
    ("recipients", "said"),
    [
        (
            ["no@example.com"],
            "out.eml is not written: the message would not leave (no@example.com: reject by",
        ),
        (["held@example.com"], "would not leave (held@example.com: quarantine by hold"),
        (["a@example.net"], "would not leave (a@example.net: accept"),
        (["a@elsewhere.example"], "would not leave (a@elsewhere.example: no route"),
        (
            ["a@example.com", "vip@example.com"],
            "a@example.com and vip@example.com would get different messages, choose one with --recipient",
        ),
    ],
)
def test_without_one_message_that_would_leave_nothing_is_written(explain, recipients, said):
    options = [word for one in recipients for word in ("--recipient", one)]
    status, stdout, stderr = explain(TAGGED, "--output", "out.eml", *options)
    assert (status, said in stderr) == (1, True), stderr
    assert f"\n{recipients[0]}: " in stdout
    assert not Path("out.eml").exists()


@pytest.mark.parametrize(
    ("client", "recipient", "end"),
    [
        (
            "192.0.2.1",
            "postmaster@elsewhere.example",
            "no route for this client, only for others (--client, ",
        ),
        ("127.0.0.1", "postmaster@elsewhere.example", "accept, to inbox"),
        ("192.0.2.1", "a@closed.example", "no route for this client, only for others (--client, "),
        ("192.0.2.1", "a@example.com", "accept, to inbox"),
    ],
)
def test_a_route_that_takes_mail_only_of_other_clients_is_not_said_to_be_none(
    explain, client, recipient, end
):
    routes = (
        '  - {recipients: "*@closed.example", clients: 10.0.0.0/8, to: inbox}\n'
        '  - {recipients: "*", to: inbox}\n'
    )
    Path("r.yaml").write_text('relay:\n  - {recipients: "*@example.com", to: inbox}\n' + routes)
    arguments = ("--config", "r.yaml", "--client", client, "--recipient", recipient)
    _, stdout, _ = explain("", *arguments)
    assert f"\n{recipient}: {end}" in stdout
    _, stdout, _ = explain("", *arguments, "--json")
    [told] = json.loads(stdout)["recipients"]
    assert told["route_for_others"] is end.startswith("no route for")


def test_a_recipient_of_no_route_has_none_for_others_either(explain):
    _, stdout, _ = explain("", "--recipient", "a@elsewhere.example")
    assert "\na@elsewhere.example: no route, 550 5.7.1 " in stdout


def test_a_file_that_cannot_be_written_is_named(explain):
    status, _, stderr = explain(TAGGED, "--output", "none/out.eml", "--recipient", "a@example.com")
    assert (status, stderr) == (1, "gatepost: none/out.eml: No such file or directory\n")


def test_nothing_is_remembered_of_a_message_that_is_only_explained(folder):
    limit = {"by": "client", "messages": ["1/hour"]}
    (folder / "rules.yaml").write_text(
        RULES + f"rules: [{{name: one, filter: ratelimit, with: {json.dumps(limit)}}}]\n"
    )
    before = sorted(path.name for path in folder.iterdir())
    arguments = ["explain", "m.eml", "--sender", "ann@example.org", "--recipient", "bob@example.com"]
    for _ in range(3):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0
        assert "bob@example.com: accept" in result.output
    assert sorted(path.name for path in folder.iterdir()) == before


def test_look_ups_are_shown_once_with_status_and_time(folder, monkeypatch):
    async def ask(self, name, kind):
        return (Answer(status=DnsStatus.FOUND, records=("192.0.2.7",)), 60.0) if kind == "A" else NOTHING

    monkeypatch.setattr("gatepost.dns.cares.Cares.ask", ask)
    rule = "{{name: {}, filter: helo, on_error: skip}}"
    (folder / "rules.yaml").write_text(f"{RULES}rules: [{rule.format('a')}, {rule.format('b')}]\n")
    arguments = ["explain", "m.eml", "--client", "192.0.2.7", "--helo", "mx.example.org"]
    done = CliRunner().invoke(app, arguments)
    assert re.findall(r"^DNS: (.+), \d+\.\d\d ms$", done.stdout, re.MULTILINE) == [
        "mx.example.org A: found",
        "mx.example.org AAAA: no such name",
    ]
    told = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)["look_ups"]
    assert [(one["name"], one["type"], one["status"]) for one in told] == [
        ("mx.example.org", "A", "found"),
        ("mx.example.org", "AAAA", "no such name"),
    ]
    assert all(one["seconds"] > 0 for one in told)


def test_an_early_talker_is_one_if_the_command_says_so(explain):
    rules = "early_talkers: accept\nrules: [{name: e, filter: match, when: {early_talker: true}, score: 3}]\n"
    recipient = ("--recipient", "bob@example.com")
    assert "score 3" not in explain(rules, *recipient)[1]
    assert "bob@example.com: accept, score 3" in explain(rules, *recipient, "--early-talker")[1]
