"""``gatepost block`` and ``gatepost allow``: one line in the right list, that the rules obey."""

import getpass
import os
import re
from datetime import datetime

import pytest
from gatepost.cli import app
from gatepost.config import load
from typer.testing import CliRunner

RULES = """
lists:
  blocked-senders: lists/senders.txt
  blocked-clients: lists/clients.txt
  allowed-senders: lists/allowed.txt
  partners: lists/partners.txt
  unused: lists/unused.txt
relay: [{recipients: $partners, to: inbox}]
rules:
  - {name: allowed, filter: match, when: {sender: $allowed-senders}, action: accept}
  - {name: clients, filter: match, when: {client: $blocked-clients}}
  - {name: senders, filter: match, when: {any: [{sender: $blocked-senders}]}}
"""


@pytest.fixture
def gatepost(tmp_path):
    """Run a command over the settings in tmp_path; returns status, output and errors."""
    (tmp_path / "rules.yaml").write_text(RULES)
    (tmp_path / "lists").mkdir()
    for name in re.findall(r"lists/(\S+)", RULES):
        (tmp_path / "lists" / name).write_text("postmaster@example.org\n" if "partners" in name else "")

    def run(*arguments):
        done = CliRunner().invoke(app, [*map(str, arguments), "-c", str(tmp_path / "rules.yaml")])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.stdout, done.stderr

    return run


@pytest.mark.parametrize(
    ("arguments", "file", "entry"),
    [
        (("block", "spammer@example.net"), "senders.txt", "spammer@example.net"),
        (("block", "example.net"), "senders.txt", "*@example.net"),
        (("block", "192.0.2.0/24"), "clients.txt", "192.0.2.0/24"),
        (("allow", "boss@example.net"), "allowed.txt", "boss@example.net"),
        (("allow", "new@example.org", "--list", "partners"), "partners.txt", "new@example.org"),
    ],
)
def test_the_line_goes_into_the_list_for_it_with_date_and_author(gatepost, tmp_path, arguments, file, entry):
    status, output, _ = gatepost(*arguments, "--note", "asked\nby Ann")
    path = tmp_path / "lists" / file
    assert status == 0
    assert output == f"{path}: added {entry}\nno gateway is running; it takes effect at the next start\n"
    today = f"{datetime.now().astimezone():%Y-%m-%d}"
    author = os.environ.get("SUDO_USER") or getpass.getuser()
    last = path.read_text().splitlines()[-1]
    assert last == f"{entry}  # {today} {arguments[0]}ed by {author}: asked by Ann"
    load(tmp_path / "rules.yaml")


def test_what_is_there_is_not_added_again(gatepost, tmp_path):
    path = tmp_path / "lists" / "senders.txt"
    path.write_text("# ours\n*@example.net # all of it")
    status, output, _ = gatepost("block", "a@EXAMPLE.net", "b@example.com", "B@example.com")
    assert status == 0
    assert f"{path}:2: *@example.net is there already: a@EXAMPLE.net\n" in output
    assert f"{path}: added b@example.com\n" in output
    assert f"{path}:3: b@example.com is there already: B@example.com\n" in output
    first, second, third = path.read_text().splitlines()
    assert (first, second) == ("# ours", "*@example.net # all of it")
    assert third.startswith("b@example.com  # ")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("block", "localhost"), "'localhost', expected an address or a pattern like"),
        (("block", "a@example..net"), "never matches"),
        (("block", "10.0.0.1/8"), "did you mean '10.0.0.0/8'"),
        (("block", "a@example.net", "x"), "'x', expected an address"),
        (("allow", "192.0.2.1"), "has no list 'allowed-clients', expected for example"),
        (
            ("block", "a@example.net", "-l", "unused"),
            "has no rule or route with $unused, expected for example",
        ),
        (
            ("block", "a@example.net", "-l", "blocked-clients"),
            "'a@example.net' is no entry for $blocked-clients",
        ),
        (("block", "192.0.2.1", "-l", "partners"), "'192.0.2.1' is no entry for $partners"),
    ],
)
def test_what_would_have_no_effect_is_refused_and_nothing_is_written(gatepost, tmp_path, arguments, told):
    before = {path: path.read_bytes() for path in (tmp_path / "lists").iterdir()}
    status, output, errors = gatepost(*arguments)
    assert (status, output) == (2, "")
    assert told in re.sub(r"[│╭╮╰╯─\s]+", " ", errors)
    assert {path: path.read_bytes() for path in (tmp_path / "lists").iterdir()} == before


@pytest.mark.parametrize(
    ("verb", "typed", "action"), [("block", "a@b.example", "reject"), ("allow", "192.0.2.1", "accept")]
)
def test_the_example_of_the_error_is_all_that_is_needed(gatepost, tmp_path, verb, typed, action):
    config = tmp_path / "rules.yaml"
    config.write_text("hostname: mx.example.com\n")
    _, _, errors = gatepost(verb, typed)
    example = re.search(r"for example\n(.*?)\nand a file (\S+) beside it", errors, re.DOTALL)
    config.write_text(example[1])
    (tmp_path / example[2]).touch()
    status, output, _ = gatepost(verb, typed)
    assert status == 0, output
    (rule,) = load(config).config.rules
    assert rule.action == action
    assert (tmp_path / example[2]).read_text().startswith(typed)


def test_a_list_keeps_its_owner_mode_and_inode(gatepost, tmp_path):
    path = tmp_path / "lists" / "senders.txt"
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 65534, 65534)
    before = path.stat()
    assert gatepost("block", "a@example.net")[0] == 0
    after = path.stat()
    for field in ("st_ino", "st_uid", "st_gid", "st_mode"):
        assert getattr(after, field) == getattr(before, field)


def test_wrong_settings_are_told_and_nothing_is_added(gatepost, tmp_path):
    (tmp_path / "rules.yaml").write_text(RULES + "    on_eror: skip\n")
    status, _, errors = gatepost("block", "a@example.net")
    assert status == 2
    assert "unknown key 'on_eror' (did you mean 'on_error'?)" in errors or "rules.yaml:" in errors
    assert (tmp_path / "lists" / "senders.txt").read_text() == ""


def test_a_full_disk_leaves_the_list_as_it_was(gatepost, tmp_path, monkeypatch):
    path = tmp_path / "lists" / "senders.txt"
    path.write_text("b@example.net\n")

    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    status, _, errors = gatepost("block", "a@example.net")
    assert status == 1
    assert "No space left on device" in errors
    assert path.read_text() == "b@example.net\n"


def test_a_list_that_only_an_included_file_uses_is_used(gatepost, tmp_path):
    (tmp_path / "rules.yaml").write_text(f"{RULES}  - include: more.yaml\n")
    (tmp_path / "more.yaml").write_text("- {name: more, filter: match, when: {sender: $unused}}\n")
    status, _, errors = gatepost("block", "spammer@example.net", "--list", "unused")
    assert status == 0, errors
    assert (tmp_path / "lists" / "unused.txt").read_text().startswith("spammer@example.net")
    status, _, errors = gatepost("block", "192.0.2.1", "--list", "unused")
    assert status == 2
    assert re.match(r"gatepost: \S*more\.yaml:1:\d+: '192.0.2.1' is no entry for \$unused", errors), errors
