"""``gatepost journal`` and ``gatepost quarantine``, asked as a person would, of a real store."""

import json
import re
import sqlite3
import sys
from contextlib import closing
from types import ModuleType

import pytest
from gatepost.cli import app
from gatepost.model.edits import AddHeader, RemoveHeader
from gatepost.model.mail import Stage
from gatepost.model.verdict import Action, Evaluation, Reply, Result
from gatepost.store import Box, State, Top, open_archive, open_store
from gatepost.store.sqlite import driver as driver_module
from typer.testing import CliRunner

RULES = """
hostname: mx.example.net
relay: [{recipients: "*@example.org", to: inbox}]
store: {url: "sqlite:///gatepost.db"}
"""
REFUSING = Evaluation(
    rule="blocked",
    stage=Stage.CONNECT,
    result=Result.HIT,
    action=Action.REJECT,
    observed=False,
    reason="on the list",
    recipients=(),
    seconds=0.0,
)
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
    store = open_store(settings, tmp_path)
    kept = (
        make_kept(id="q1"),
        make_kept(id="i1", box=Box.INBOX),
        make_kept(id="q2", rule="words", mail_from=""),
    )
    await store.commit(make_record(id="t1", session_id="s1"), kept)
    await store.commit(
        make_record(
            id="t2",
            session_id="s2",
            client="198.51.100.7",
            mail_from="",
            recipients=(),
            authenticated="ann",
            evaluations=(REFUSING,),
            reply="550 5.7.1 Blocked",
        )
    )
    await store.close()


@pytest.fixture
def archive(filled, settings, tmp_path):
    with open_archive(settings, tmp_path) as opened:
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
        (("--user", "ANN"), ["t2"]),
        (("--user", "a*", "--sender", "ann@example.com"), []),
        (("--session", "s1"), ["t1"]),
        (("--session", "unknown"), []),
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


async def test_journal_names_the_node_where_there_are_several(
    filled, gatepost, settings, tmp_path, make_record
):
    assert "NODE" not in gatepost("journal")[1]
    store = open_store(settings, tmp_path)
    for number, node in enumerate(("mx-a", "mx-b")):
        await store.commit(make_record(id=f"n{number}", session_id=f"n{number}", node=node))
    await store.close()
    titles, *rows = gatepost("journal")[1].splitlines()
    assert re.match(r"WHEN +ID +NODE +END +FROM", titles)
    at = titles.index("NODE")
    assert sorted(row[at:].split("  ")[0] for row in rows) == ["", "", "mx-a", "mx-b"]
    assert "NODE" not in gatepost("journal", "--node", "mx-a")[1]


def test_journal_shows_one_transaction_in_full(filled, gatepost):
    status, output, _ = gatepost("journal", "t1")
    assert status == 0
    for shown in (
        "192.0.2.1, client.example",
        "TLSv1.3",
        "12.3 ms from the end of data",
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


@pytest.mark.parametrize("some_id", ["t1", "s1", "q1", "i1"], ids=["its own", "session", "kept", "inbox"])
def test_journal_knows_a_transaction_by_all_of_its_ids_and_shows_them(filled, gatepost, some_id):
    status, output, _ = gatepost("journal", some_id)
    assert status == 0
    shown = dict(
        line.split(maxsplit=1) for line in output.splitlines() if line.startswith(("tra", "se", "k"))
    )
    assert (shown["transaction"], shown["session"]) == ("t1", "s1")
    assert shown["kept"] == "q2 (quarantine, held), i1 (inbox, held), q1 (quarantine, held)"
    record = json.loads(gatepost("journal", some_id, "--json")[1])
    assert (record["id"], record["session_id"], record["early_end"]) == ("t1", "s1", None)
    assert [one["id"] for one in record["kept"]] == ["q2", "i1", "q1"]
    assert record["kept"][0] == {"id": "q2", "box": "quarantine", "state": "held"}


async def test_the_id_of_a_session_with_several_transactions_lists_them(
    settings, tmp_path, gatepost, make_record
):
    store = open_store(settings, tmp_path)
    for name in ("t1", "t2", "t3"):
        await store.commit(make_record(id=name, session_id="s2" if name == "t3" else "s1"))
    await store.close()
    assert ids(gatepost("journal", "s1", "--json")[1]) == ["t2", "t1"]
    assert "t3" not in gatepost("journal", "s1")[1]
    assert "session      s2" in gatepost("journal", "s2")[1]


def test_what_was_refused_before_rcpt_is_shown_like_any_other(filled, gatepost):
    assert ids(gatepost("journal", "--json", "--disposition", "refused")[1]) == ["t2"]
    assert ids(gatepost("journal", "--json", "--rule", "blocked")[1]) == ["t2"]
    titles, row = gatepost("journal", "--user", "ann")[1].splitlines()
    for title, cell in (("END", "refused"), ("RULE", "blocked"), ("FROM", "<>")):
        assert row.index(cell) == titles.index(title)
    shown = gatepost("journal", "t2")[1]
    for line in ("end            refused", "rule           blocked", "reason         on the list"):
        assert line in shown
    end = {"disposition": "refused", "rule": "blocked", "reason": "on the list"}
    assert json.loads(gatepost("journal", "t2", "--json")[1])["early_end"] == end


def test_top_ranks_over_a_time(filled, gatepost):
    status, output, _ = gatepost("top", "--since", "2026-11-01", "--until", "2030-01-01", "--json")
    assert status == 0
    top = json.loads(output)
    named = {of: {one["name"]: one["transactions"] for one in top[of]} for of in (*Top,)}
    assert named == {
        "senders": {"": 1, "ann@example.com": 1},
        "recipients": {"bob@example.net": 1, "carol@example.org": 1},
        "clients": {"192.0.2.1": 1, "198.51.100.7": 1},
        "rules": {"blocked": 1, "words": 1},
        "users": {"ann": 1},
    }
    assert top["since"].startswith("2026-1")
    assert top["until"].startswith("20")
    one = json.loads(gatepost("top", "--since", "2026-11-01", "--json", "-n", "1")[1])
    assert (len(one["clients"]), one["until"]) == (1, None)


def test_top_is_aligned_for_people_and_by_default_of_the_last_hour(filled, gatepost):
    status, output, _ = gatepost("top", "--since", "2026-11-01")
    assert status == 0
    assert re.search(r"TRANSACTIONS  SENDERS\n +1  <>\n +1  ann@example.com\n", output)
    assert "USERS\n           1  ann\n" in output
    assert "users: none" in gatepost("top")[1]


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


async def test_show_tells_the_edits_and_writes_the_message_with_or_without_them(
    store, gatepost, make_record, make_kept, tmp_path
):
    edits = (RemoveHeader("Subject"), AddHeader("X-Kind", "news\u202e"))
    kept = make_kept(edits=edits)
    await store.commit(make_record(), (kept,))
    _, output, _ = gatepost("quarantine", "show", kept.id)
    words = [line.split("  ", 1)[1].strip() for line in output.splitlines() if line.startswith("edit ")]
    assert words == ["remove Subject", "add X-Kind: news\\u202e"]
    assert "Subject: Hello" not in output, "the header section is that of the edited message"
    written = {}
    for option in ("--raw", "--original"):
        command = ["quarantine", "show", kept.id, option, "-c", str(tmp_path / "rules.yaml")]
        written[option] = CliRunner().invoke(app, command).stdout_bytes
    assert written == {"--raw": b"".join(kept.pieces), "--original": kept.content}
    _, output, _ = gatepost("quarantine", "show", kept.id, "--json")
    assert json.loads(output)["edits"] == ["remove Subject", "add X-Kind: news\u202e"]


def test_delete_asks_nobody_with_yes_and_names_what_is_unknown(archive, gatepost):
    assert gatepost("quarantine", "delete", "q1", "--yes") == (0, "deleted q1\n", "")
    status, output, errors = gatepost("quarantine", "delete", "q1", "q2", "i1", "unknown", "--yes")
    assert (status, output) == (1, "deleted q2\n")
    assert [name for name in ("q1", "i1", "unknown") if repr(name) in errors] == ["q1", "i1", "unknown"]
    assert archive.kept_message("i1").state is State.HELD
    status, output, _ = gatepost("quarantine", "list", "--all")
    assert output.count("deleted") == 2
    assert "deleted" in gatepost("quarantine", "show", "q1")[1]


@pytest.fixture
async def one_kept(filled, settings, tmp_path, make_record, make_kept):
    """The message q3 in quarantine, of the transaction t3 in the session s3."""
    store = open_store(settings, tmp_path)
    await store.commit(
        make_record(id="t3", session_id="s3"), (make_kept(id="q3"), make_kept(id="i3", box=Box.INBOX))
    )
    await store.close()


@pytest.mark.parametrize("some_id", ["q3", "t3", "s3"])
def test_quarantine_takes_any_id_of_a_message(one_kept, archive, gatepost, deliver, some_id):
    assert "message      q3\ntransaction  t3" in gatepost("quarantine", "show", some_id)[1]
    assert gatepost("quarantine", "release", some_id) == (0, "released q3: 250 2.0.0 Ok\n", "")
    assert gatepost("quarantine", "delete", some_id, "q3", "--yes") == (0, "deleted q3\n", "")
    assert "deleted" in gatepost("quarantine", "show", some_id)[1]
    assert archive.kept_message("i3").state is State.HELD


def test_delete_leaves_what_is_being_released(archive, gatepost):
    claim = archive.claim_release(archive.kept_message("q1"), actor="ann")
    told = "gatepost: the message q1 is being released, or was deleted\n"
    assert gatepost("quarantine", "delete", "q1", "--yes") == (1, "", told)
    archive.abandon_release(claim)
    assert gatepost("quarantine", "delete", "q1", "--yes") == (0, "deleted q1\n", "")


@pytest.mark.parametrize("command", ["show", "release", "delete"])
def test_an_id_of_several_messages_names_them_and_does_nothing(archive, gatepost, deliver, command):
    yes = ["--yes"] if command == "delete" else []
    status, output, errors = gatepost("quarantine", command, "t1", *yes)
    assert (status, output) == (1, "")
    assert "'t1' has 2 messages in quarantine, name one of them:" in errors
    assert "  q2 for <carol@example.org>, <dave@example.org> (held)" in errors
    assert {archive.kept_message(name).state for name in ("q1", "q2")} == {State.HELD}
    archive.delete(["q1"], actor="Ann")
    assert gatepost("quarantine", command, "t1", *yes)[0] == 0, "only one is left"


def test_delete_does_nothing_where_nobody_can_be_asked(archive, gatepost):
    status, _, errors = gatepost("quarantine", "delete", "q1")
    assert (status, "--yes" in errors) == (2, True)
    assert archive.kept_message("q1").state is State.HELD


@pytest.fixture
def deliver(monkeypatch):
    """Stands for the delivery; what it was asked for, and what it answers."""
    asked = []
    module = ModuleType("gatepost.gateway.release")
    module.reply = Reply(code=250, enhanced="2.0.0", text="Ok")

    def release(config, base, kept, to):
        asked.append((config.hostname, base, kept.id, kept.delivered_form, to))
        return module.reply

    module.release, module.asked = release, asked
    monkeypatch.setitem(sys.modules, "gatepost.gateway.release", module)
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


def test_a_message_that_a_desk_is_releasing_is_not_delivered(archive, gatepost, deliver):
    claim = archive.claim_release(archive.kept_message("q1"), actor="web desk (ann)")
    status, output, errors = gatepost("quarantine", "release", "q1")
    assert (status, output, "web desk (ann) has been releasing the message q1" in errors) == (1, "", True)
    assert deliver.asked == []
    archive.abandon_release(claim)
    assert gatepost("quarantine", "release", "q1")[0] == 0
    assert len(deliver.asked) == 1


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
        (("journal", "unknown"), 1, "no transaction, session or stored message has the ID 'unknown'"),
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
    archive.delete(["q1"], actor="ann")
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
    monkeypatch.setattr(driver_module, "BUSY_SECONDS", 0.05)
    with closing(sqlite3.connect(tmp_path / "gatepost.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert gatepost("quarantine", "list")[0] == 0
        status, _, errors = gatepost("quarantine", "delete", "q1", "--yes")
    assert (status, "locked by another process" in errors) == (1, True)


@pytest.mark.parametrize("terminal", [False, True], ids=["pipe", "terminal"])
async def test_mail_cannot_command_the_terminal(
    settings, tmp_path, make_record, make_kept, gatepost, terminal
):
    store = open_store(settings, tmp_path)
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
