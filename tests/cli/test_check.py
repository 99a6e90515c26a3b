"""`gatepost check` names everything that it can find in one go, as text and as JSON."""

import json

import pytest
import yaml
from gatepost.cli import app
from typer.testing import CliRunner

FILTER = """
import logging
import os
import sys
from dataclasses import dataclass
from gatepost import hookimpl

print("imported")


@dataclass(kw_only=True)
class F:
    words: tuple[str, ...] = ()
    warns: str = ""

    def __post_init__(self):
        print("made")
        if self.warns:
            logging.getLogger("f").warning("beware of %s", self.warns)

    @hookimpl
    def filter_message(self): ...
"""
MANY = """\
hostname: 5
listen: {address: "127.0.0.1:0", tls: {certificate: c.pem, key: k.pem}}
limits: {message_size: huge, recipients: 0}
relay:
  - {recipients: "*@example.com", to: nowhere}
  - {recipients: "*@example.org", to: inbox}
store: {url: "sqlite:///none/gatepost.db"}
rules:
  - {name: a, filter: ./f.py:F, with: {wrods: []}, action: refuse}
  - {name: b, filter: ./f.py:F, when: {sizes: ">1"}, with: {words: x}}
  - {name: c, filter: ./f.py:F, action: tag, with: {words: [5]}}
  - {name: c, filter: ./f.py:G}
  - {name: e, filter: keyword}
  - {name: f, fitler: ./f.py:F}
  - {name: g, filter: ./f.py:F, action: reject, action: defer}
  - {name: h, filter: clamav, with: {address: here}}
  - 5
group: root
web: {address: localhost}
"""
FOUND = [
    "1:11: 5, expected a domain name like mx.example.com",
    "2:53: 'c.pem', expected a file that exists and can be read",
    "2:65: 'k.pem', expected a file that exists and can be read",
    "3:24: 'huge', expected a size like 32MiB or 500KB",
    "3:42: 0, expected at least 1",
    "5:39: 'nowhere', expected",
    "7:14: the folder ",
    "9:40: unknown key 'wrods' (did you mean 'words'?), expected one of: words, warns",
    "9:60: 'refuse', expected 'accept', ",
    "10:40: unknown key 'sizes' (did you mean 'size'?)",
    "10:68: 'x', expected a list",
    "11:5: action: tag without tag",
    "11:61: 5, expected text (write it in quotes)",
    "12:12: the name 'c' is already used in line 11",
    "12:23: no class 'G' in ./f.py, expected ./f.py:F",
    "13:23: unknown filter 'keyword' (did you mean 'keywords'?)",
    "14:5: the key 'filter' is missing under rules",
    "14:15: unknown key 'fitler' (did you mean 'filter'?)",
    "15:49: duplicate key 'action', expected each key once",
    "16:37: filter 'clamav': ",
    "17:5: 5, expected a mapping",
    "18:8: the group 'root' without a user, expected user too",
    "19:16: 'localhost', expected host:port",
]


@pytest.fixture
def check(tmp_path, monkeypatch):
    """Check these settings; returns the exit status, standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f.py").write_text(FILTER)

    def run(settings, *arguments):
        (tmp_path / "rules.yaml").write_text(settings)
        done = CliRunner().invoke(app, ["check", *arguments])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.stdout, done.stderr

    return run


def test_all_mistakes_are_named_whatever_kinds_they_are(check):
    status, stdout, stderr = check(MANY)
    assert (status, stdout) == (2, "")
    lines = [line for line in stderr.splitlines() if line.startswith("rules.yaml")]
    for line, expected in zip(lines, FOUND, strict=True):
        assert line.startswith(f"rules.yaml:{expected}")
    problems = json.loads(check(MANY, "--json")[1])["problems"]
    assert [(one["line"], one["column"]) for one in problems] == [
        tuple(map(int, line.split(":")[:2])) for line in FOUND
    ]


WARNED = """\
rules:
  - {name: a, filter: ./f.py:F, with: {warns: the dog}}
  - {name: b, filter: ./f.py:F, when: {recipient: "a..b@-example.com"}}
"""


def test_what_a_filter_warns_of_is_in_the_list_with_its_place(check):
    status, stdout, stderr = check(WARNED)
    assert status == 0
    assert stdout.startswith("rules.yaml: ok: ")
    warnings = [line for line in stderr.splitlines() if ": warning: " in line]
    assert warnings[0] == "rules.yaml:2:23: warning: beware of the dog"
    assert warnings[1].startswith("rules.yaml:3:51: warning: 'a..b@-example.com' never matches: ")
    told = json.loads(check(WARNED, "--json")[1])
    assert (told["ok"], told["problems"], told["rules"]) == (True, [], ["a", "b"])
    first, _ = told["warnings"]
    assert (first["line"], first["what"]) == (2, "beware of the dog")


def test_archives_that_cannot_be_opened_are_a_warning_in_json_too(check, monkeypatch):
    monkeypatch.setattr("gatepost_attachments.missing_libraries", lambda: "install something")
    settings = "rules: [{name: a, filter: attachments, with: {encrypted: true}}]\n"
    told = json.loads(check(settings, "--json")[1])
    [warning] = told["warnings"]
    assert (warning["line"], warning["column"]) == (1, 27)
    assert "cannot be inspected" in warning["what"]
    assert "install something" in warning["what"]


def test_mistakes_do_not_hide_warnings(check):
    told = json.loads(check(WARNED + "  - {name: c, filter: keyword}\n", "--json")[1])
    assert (told["ok"], len(told["problems"]), len(told["warnings"])) == (False, 1, 2)


def test_a_broken_web_desk_is_not_taken_for_none(check):
    held = 'rules: [{name: a, filter: match, when: {client: "::1"}, action: hold}]\n'
    assert "nobody can answer for a session that is held" in check(held)[2]
    status, _, stderr = check(f"{held}web: {{address: localhost}}\n")
    assert (status, len(stderr.splitlines())) == (2, 1), stderr


def test_the_settings_are_not_printed_as_json(check, tmp_path):
    status, stdout, stderr = check("node: a\n", "--print", "--json")
    assert (status, stdout) == (2, "")
    assert "--json and --print, expected one of them" in stderr


def test_what_a_filter_prints_is_not_output(check):
    status, stdout, stderr = check(WARNED, "--json")
    assert (status, stdout.count("\n")) == (0, 1)
    assert "imported\nmade\nmade\n" in stderr


SIGNED = """\
from gatepost import hookimpl


class Signed:
    def __init__(self, *, api_key: str, password_file: str): ...

    @hookimpl
    def filter_message(self): ...
"""
HANGING = """
import threading
from gatepost import hookimpl


class Quick:
    @hookimpl
    def filter_message(self): ...


class Hanging(Quick):
    def __init__(self):
        threading.Event().wait()
"""
LATE = """\
limits: {reload_time: 2s}
rules:
  - {name: a, filter: ./h.py:Quick}
  - {name: b, filter: ./h.py:Hanging}
  - {name: c, filter: ./h.py:Quick, with: {wrods: []}}
"""


def test_a_constructor_that_hangs_is_named_with_its_line(check, tmp_path):
    (tmp_path / "h.py").write_text(HANGING)
    status, stdout, stderr = check(LATE)
    assert (status, stdout) == (2, "")
    assert stderr.startswith(
        "rules.yaml:4:23: filter './h.py:Hanging' was not imported and made within 2 s; it is at "
    )
    told = json.loads(check(LATE, "--json")[1])
    assert (told["ok"], told["rules"], len(told["problems"])) == (False, ["a"], 1)


def test_a_memory_of_filters_that_cannot_be_used_is_a_problem(tmp_path):
    rules = tmp_path / "rules.yaml"
    rules.write_text("state: {path: none/memory}")
    result = CliRunner().invoke(app, ["check", "-c", str(rules)])
    assert result.exit_code == 2
    assert f"1:15: the folder {tmp_path}/none does not exist" in result.output
    rules.write_text("state: {path: memory}")
    (tmp_path / "memory").mkdir()
    result = CliRunner().invoke(app, ["check", "-c", str(rules)])
    assert result.exit_code == 2
    assert f"1:15: {tmp_path}/memory is not a file that can be read and written" in result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["memory", "rules.yaml"]


def test_the_settings_are_printed_as_they_were_read_without_secrets(check, tmp_path, monkeypatch):
    monkeypatch.setenv("GATEPOST_SET_LIMITS__RECIPIENTS", "7")
    rules = "rules: [{name: a, filter: ./h.py:Signed, with: {api_key: hunter2, password_file: p.txt}}]\n"
    (tmp_path / "h.py").write_text(SIGNED)
    status, stdout, _ = check(f"node: mx-a\n{rules}", "--print")
    assert status == 0
    assert yaml.safe_load(stdout) == {
        "node": "mx-a",
        "rules": [
            {
                "name": "a",
                "filter": "./h.py:Signed",
                "with": {"api_key": "(not shown)", "password_file": "p.txt"},
            }
        ],
        "limits": {"recipients": 7},
    }


@pytest.mark.parametrize(
    ("webhook", "printed"),
    [
        ("https://joe:pass@h.example:8443/x?token=abc", "https://h.example:8443/(not shown)"),
        ("{url: 'https://h.example/services/abc'}", {"url": "https://h.example/(not shown)"}),
        ("http://h.example/?token=abc", "http://h.example/?(not shown)"),
        ("http://h.example", "http://h.example"),
    ],
)
def test_a_secret_in_a_url_is_not_printed(check, webhook, printed):
    status, stdout, _ = check(f"web: {{address: '127.0.0.1:0', webhook: {webhook}}}\n", "--print")
    assert status == 0
    assert yaml.safe_load(stdout)["web"]["webhook"] == printed


@pytest.mark.parametrize(
    ("options", "printed"),
    [
        ("sslmode=require", "sslmode=require"),
        ("sslkey=k.pem&sslpassword=hunter2&port=1", "sslkey=k.pem&sslpassword=(not shown)&port=1"),
        ("sslpassw%6Frd=hunter2", "sslpassw%6Frd=(not shown)"),
    ],
)
def test_the_password_of_a_clients_key_in_the_url_of_a_store_is_not_printed(check, options, printed):
    _, stdout, _ = check(f"store: {{url: 'postgresql://127.0.0.1/mail?{options}'}}\n", "--print")
    assert yaml.safe_load(stdout)["store"]["url"] == f"postgresql://127.0.0.1/mail?{printed}"
