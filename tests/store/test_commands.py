"""``gatepost journal`` and ``gatepost quarantine``, asked as a person would, of a real store."""

import json
import re
import sqlite3
import sys
from contextlib import closing
from types import ModuleType

import pytest
from gatepost.cli import app
from gatepost.store import Archive, Box, State, Store
from gatepost.store import sqlite as sqlite_module
from gatepost.verdict import Reply
from typer.testing import CliRunner

RULES = """
hostname: mx.example.net
relay: [{recipients: "*@example.org", to: inbox}]
store: {url: "sqlite:///gatepost.db"}
"""
HOSTILE = "[red]\x1b]0;owned\x07\x9b31m\u202eevil\x00\udcff"


@pytest.fixture
def gatepost(tmp_path):
    """Run a command over the settings and the store in tmp_path; gives status, output and errors."""
    (tmp_path / "rules.yaml").write_text(RULES)

    def run(*arguments, **options):
        done = CliRunner().invoke(app, [*arguments, "-c", str(tmp_path / "rules.yaml")], **options)
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.stdout, done.stderr

    return run


@pytest.fixture
async def filled(settings, tmp_path, make_record, make_kept):
    """A closed store: two transactions, the messages q1 and q2 in quarantine, i1 in the inbox."""
    store = Store.open(settings, tmp_path)
    kept = (
        make_kept(id="q1"),
        make_kept(id="i1", box=Box.INBOX),
        make_kept(id="q2", rule="words", mail_from=""),
    )
    await store.commit(make_record(id="t1"), kept)
    await store.commit(make_record(id="t2", client="198.51.100.7", mail_from="", recipients=()))
    await store.close()


@pytest.fixture
def archive(filled, settings, tmp_path):
    with Archive.open(settings, tmp_path) as opened:
        yield opened


def ids(output):
    return [json.loads(line)["id"] for line in output.splitlines()]


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ((), ["t2", "t1"]),
        (("--limit", "1"), ["t2"]),
        (("--client", "198.51.*"), ["t2"]),
        (("--sender", "ann@example.com"), ["t1"]),
        (("--sender", ""), ["t2"]),
        (("--recipient", "*@example.org"), ["t1"]),
        (("--rule", "no-executables", "--disposition", "quarantined"), ["t1"]),
        (
            ("--message-id", "<1@example.com>", "--since", "2026-11-01", "--until", "2030-01-01T08:00"),
            ["t2", "t1"],
        ),
        (("--until", "520w"), []),
    ],
    ids=str,
)
def test_journal_lists_what_is_asked_for(filled, gatepost, arguments, found):
    status, output, _ = gatepost("journal", "--json", *arguments)
    assert (status, ids(output)) == (0, found)


def test_journal_is_aligned_for_people(filled, gatepost):
    _, output, _ = gatepost("journal", "--sender", "ann@*")
    titles, row = output.splitlines()
    assert re.match(r"WHEN +ID +END +FROM +TO +RULE +CLIENT +SUBJECT", titles)
    for title, cell in (("FROM", "<Ann@Example.com>"), ("TO", "<Bob@example.net> +1"), ("SUBJECT", "café")):
        assert row.index(cell) == titles.index(title)
    assert "relayed, quarantined" in row


def test_journal_shows_one_transaction_in_full(filled, gatepost):
    status, output, _ = gatepost("journal", "t1")
    assert status == 0
    for shown in (
        "192.0.2.1, client.example",
        "TLSv1.3",
        "12.3 ms from the final dot",
        "mail.example.net:25",
        "250 2.0.0 Ok: queued",
        "an attachment a.exe",
        'says "viagra"',
        "subject: viagra",
        "reject (observed)",
        "1.5 ms",
        "rcpt",
    ):
        assert shown in output


def test_json_of_one_transaction_has_every_field(filled, gatepost):
    _, output, _ = gatepost("journal", "--json", "t1")
    record = json.loads(output)
    assert record["received_at"] == "2026-11-23T18:00:00.123456+00:00"
    assert record["evaluations"][0]["matches"] == [{"where": "subject", "text": "viagra"}]
    assert [end["disposition"] for end in record["recipients"]] == ["relayed", "quarantined"]


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ((), ["q2", "q1"]),
        (("--sender", ""), ["q2"]),
        (("--rule", "words"), ["q2"]),
        (("--recipient", "DAVE@example.org", "--limit", "1"), ["q2"]),
        (("--since", "10m"), []),
    ],
    ids=str,
)
def test_quarantine_lists_what_is_held(filled, gatepost, arguments, found):
    status, output, _ = gatepost("quarantine", "list", "--json", *arguments)
    assert (status, ids(output)) == (0, [] if "10m" in arguments else found)


def test_show_tells_why_for_whom_and_the_header_section(filled, gatepost):
    status, output, _ = gatepost("quarantine", "show", "q1")
    assert status == 0
    for shown in (
        "no-executables",
        "an attachment a.exe",
        "<carol@example.org>, <dave@example.org>",
        "Subject: Hello",
    ):
        assert shown in output
    assert "Hi" not in output.split()


def test_raw_writes_the_octets_that_would_be_delivered(archive, filled, tmp_path):
    (tmp_path / "rules.yaml").write_text(RULES)
    done = CliRunner().invoke(app, ["quarantine", "show", "q1", "--raw", "-c", str(tmp_path / "rules.yaml")])
    assert done.stdout_bytes == archive.kept_message("q1").delivered_form


def test_delete_asks_nobody_with_yes_and_names_what_is_unknown(archive, gatepost):
    assert gatepost("quarantine", "delete", "q1", "--yes") == (0, "deleted q1\n", "")
    status, output, errors = gatepost("quarantine", "delete", "q1", "q2", "i1", "unknown", "--yes")
    assert (status, output) == (1, "deleted q2\n")
    assert [name for name in ("q1", "i1", "unknown") if repr(name) in errors] == ["q1", "i1", "unknown"]
    assert archive.kept_message("i1").state is State.HELD
    status, output, _ = gatepost("quarantine", "list", "--all")
    assert output.count("deleted") == 2
    assert "deleted" in gatepost("quarantine", "show", "q1")[1]


def test_delete_does_nothing_where_nobody_can_be_asked(archive, gatepost):
    status, _, errors = gatepost("quarantine", "delete", "q1")
    assert (status, "--yes" in errors) == (2, True)
    assert archive.kept_message("q1").state is State.HELD


@pytest.fixture
def deliver(monkeypatch):
    """Stands for the delivery; what it was asked for, and what it answers."""
    asked = []
    module = ModuleType("gatepost.release")
    module.reply = Reply(code=250, enhanced="2.0.0", text="Ok")

    def release(config, base, kept, to):
        asked.append((config.hostname, base, kept.id, kept.delivered_form, to))
        return module.reply

    module.release, module.asked = release, asked
    monkeypatch.setitem(sys.modules, "gatepost.release", module)
    return module


def test_release_delivers_and_remembers(archive, gatepost, deliver, tmp_path):
    status, output, _ = gatepost(
        "quarantine", "release", "q1", "--to", "x@example.org", "--to", "y@example.org"
    )
    assert (status, output) == (0, "released q1: 250 2.0.0 Ok\n")
    kept = archive.kept_message("q1")
    asked = ("mx.example.net", tmp_path, "q1", kept.delivered_form, ("x@example.org", "y@example.org"))
    assert deliver.asked == [asked]
    assert (kept.state, kept.note) == (State.RELEASED, "x@example.org, y@example.org: 250 2.0.0 Ok")
    status, _, errors = gatepost("quarantine", "release", "q1")
    assert (status, "--again" in errors) == (1, True)
    assert gatepost("quarantine", "release", "q1", "--again")[0] == 0
    assert [to for *_, to in deliver.asked[1:]] == [None]


def test_what_was_not_taken_stays_held(archive, gatepost, deliver):
    deliver.reply = Reply(code=451, enhanced="4.4.1", text="No\x1b route")
    status, _, errors = gatepost("quarantine", "release", "q1")
    assert (status, "451 4.4.1 No? route" in errors) == (1, True)
    assert archive.kept_message("q1").state is State.HELD


def test_release_puts_a_message_into_the_inbox_by_its_route(archive, gatepost):
    status, output, errors = gatepost("quarantine", "release", "q1")
    assert (status, output[:15]) == (0, "released q1: 25"), errors
    assert archive.kept_message("q1").state is State.RELEASED


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("journal", "unknown"), 1, "no transaction 'unknown'"),
        (("quarantine", "show", "unknown"), 1, "no message 'unknown'"),
        (("quarantine", "show", "i1"), 1, "no message 'i1'"),
        (("quarantine", "release", "i1"), 1, "no message 'i1'"),
        (("journal", "--since", "yesterday"), 2, "expected a time like 1h"),
        (("journal", "--since", "99999999999w"), 2, "expected a time like 1h"),
        (("journal", "--disposition", "lost"), 2, "relayed"),
        (("journal", "--limit", "0"), 2, "limit"),
        (("quarantine", "delete"), 2, "ID"),
    ],
    ids=str,
)
def test_the_exit_status_tells_failure_from_wrong_usage(filled, gatepost, arguments, status, words):
    found, _, errors = gatepost(*arguments)
    assert (found, words in errors) == (status, True), errors


def test_deleted_octets_cannot_be_shown_or_released(archive, gatepost, deliver):
    archive.delete(["q1"], who="ann")
    for arguments in (("show", "q1", "--raw"), ("release", "q1")):
        status, output, errors = gatepost("quarantine", *arguments)
        assert (status, output, "deleted by ann" in errors) == (1, "", True)
    assert deliver.asked == []


def test_a_missing_store_and_bad_settings_are_said(gatepost, tmp_path):
    status, _, errors = gatepost("journal")
    assert (status, "there is no store" in errors) == (1, True)
    (tmp_path / "rules.yaml").write_text("hostnam: x")
    assert CliRunner().invoke(app, ["journal", "-c", str(tmp_path / "rules.yaml")]).exit_code == 2


async def test_commands_work_while_the_gateway_runs(store, gatepost, make_record, make_kept):
    kept = make_kept()
    await store.commit(make_record(id="t1"), (kept,))
    assert ids(gatepost("journal", "--json")[1]) == ["t1"]
    assert gatepost("quarantine", "delete", kept.id, "--yes")[0] == 0
    await store.commit(make_record(id="t2"))
    assert store.archive.kept_message(kept.id).state is State.DELETED


def test_a_locked_store_is_said_at_once(filled, gatepost, tmp_path, monkeypatch):
    """RELIABILITY 106"""
    monkeypatch.setattr(sqlite_module, "BUSY_SECONDS", 0.05)
    with closing(sqlite3.connect(tmp_path / "gatepost.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert gatepost("quarantine", "list")[0] == 0
        status, _, errors = gatepost("quarantine", "delete", "q1", "--yes")
    assert (status, "locked by another process" in errors) == (1, True)


@pytest.mark.parametrize("terminal", [False, True], ids=["pipe", "terminal"])
async def test_mail_cannot_command_the_terminal(
    settings, tmp_path, make_record, make_kept, gatepost, terminal
):
    store = Store.open(settings, tmp_path)
    record = make_record(id="t1", helo=HOSTILE, mail_from=HOSTILE, subject=HOSTILE, upstream_reply=HOSTILE)
    content = b"Subject: \x1b]0;owned\x07 \x9b31m\r\nX: [red]\xe2\x80\xae\r\n\r\n"
    await store.commit(record, (make_kept(id="q1", reason=HOSTILE, content=content, mail_from=HOSTILE),))
    await store.close()
    environment = {"FORCE_COLOR": "1" if terminal else "", "NO_COLOR": "1", "COLUMNS": "300"}
    for arguments in (("journal",), ("journal", "t1"), ("quarantine", "list"), ("quarantine", "show", "q1")):
        status, output, _ = gatepost(*arguments, env=environment)
        assert status == 0
        assert "show" in arguments or ("RULE" in output) is not terminal
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", re.sub(r"\x1b\[[\d;]*m", "", output))
        assert "[red]" in output
        assert r"\x1b]0;owned\x07" in output


@pytest.mark.parametrize("arguments", [("journal",), ("quarantine",), ("quarantine", "release")], ids=str)
def test_help_explains_itself(arguments):
    done = CliRunner().invoke(app, [*arguments, "--help"], env={"COLUMNS": "200"})
    assert done.exit_code == 0
    assert "-c" in done.stdout or "release" in done.stdout


@pytest.mark.parametrize(
    ("columns", "titles"), [(80, "when id end from to"), (300, "when id end from to rule client subject")]
)
def test_a_terminal_shows_each_transaction_on_a_line_with_its_id(filled, gatepost, columns, titles):
    environment = {"FORCE_COLOR": "1", "NO_COLOR": "1", "COLUMNS": str(columns)}
    _, output, _ = gatepost("journal", "--sender", "ann@*", env=environment)
    head, row = re.sub(r"\x1b\[[\d;]*m", "", output).splitlines()
    assert head.split() == titles.split()
    assert row.split()[2] == "t1"
