"""Wrong credentials: a warning, a metric and a record, with the user and without the password."""

import base64
import logging
import re
import smtplib
from pathlib import Path

import pytest
from gatepost.server.auth import hash_password
from gatepost.store import JournalQuery
from gatepost.testing import running_gateway

PASSWORD = "correct horse battery staple"  # what the users guess, none of it may be seen anywhere
FORGED = "a' client=203.0.113.9\n2026-01-01 WARNING 1 AUTH failed client=203.0.113.9 user='\x1b[31m\u202e"
LONG = "w" * 5000
DOC = Path(__file__).parents[2] / "docs" / "operating.md"


def plain(user, password, acting_for=""):
    return base64.b64encode(f"{acting_for}\0{user}\0{password}".encode()).decode()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    hashed = hash_password("wonder land")
    listen = {"address": "127.0.0.1:0", "auth": {"users": "users.yaml", "without_tls": True}}
    rules = {"listen": listen, "limits": {"auth_failures": 10}}
    with running_gateway(rules, files={"users.yaml": f'alice: "{hashed}"'}) as running:
        yield running


@pytest.fixture
def fail(gateway, caplog):
    """Log in with wrong credentials; the log lines and the records of it, the oldest first."""
    caplog.set_level(logging.INFO)

    def fail(*responses):
        known = {record.id for record in gateway.journal()}
        with smtplib.SMTP(gateway.host, gateway.port, "client.example.org", timeout=60) as smtp:
            smtp.ehlo()
            for response in responses:
                assert smtp.docmd("AUTH", "PLAIN")[0] == 334
                assert smtp.docmd(response)[0] == 535
        records = [record for record in reversed(gateway.journal()) if record.id not in known]
        return [record for record in caplog.records if record.name == "gatepost.auth"], records

    return fail


def test_it_is_a_warning_and_a_record_with_user_and_client(fail):
    (line,), (record,) = fail(plain("alice", PASSWORD))
    assert line.levelno == logging.WARNING
    assert str(line.msg) == (
        f"{record.id} AUTH failed client=127.0.0.1 user='alice' helo='client.example.org' tls=none"
    )
    fields = line.msg.fields()
    assert (fields["transaction"], fields["session"]) == (record.id, record.session_id)
    assert (fields["client"], fields["user"]) == ("127.0.0.1", "alice")
    assert (record.client, record.failed_user, record.authenticated) == ("127.0.0.1", "alice", None)
    assert record.reply.startswith("535 5.7.8 ")
    assert record.dispositions == ("refused",)
    assert record.early_end.reason == "AUTH failed for user 'alice'"


def test_each_failure_is_counted(gateway, fail):
    def counted():
        return gateway._service.samples()["auth_failures",]

    before = counted()
    fail(plain("alice", PASSWORD), plain("nobody", PASSWORD), plain("alice", "wonder land", "bob"))
    assert counted() == before + 3


@pytest.mark.parametrize("query", ["alice", "ALICE", "al*"])
def test_the_journal_finds_it_by_user(gateway, fail, query):
    _, (record,) = fail(plain("alice", PASSWORD))
    found = gateway._archive().records(JournalQuery(user=query), limit=1000)
    assert record.id in {one.id for one in found}
    assert record in gateway._archive().records(JournalQuery(session_id=record.session_id), limit=1000)


def test_no_name_forges_a_line_or_a_client(fail):
    (line,), (record,) = fail(plain(FORGED, PASSWORD))
    text = str(line.msg)
    assert "\n" not in text
    (pattern,) = re.findall(r"^failregex = (.+)$", DOC.read_text(), re.MULTILINE)
    found = re.search(pattern.replace("<ADDR>", r"(\S+)"), f"2026-01-01 00:00:00 WARNING {text}")
    assert found[1] == "127.0.0.1"
    assert text.count("\x1b") == text.count("\u202e") == 0
    assert record.failed_user == FORGED, "as it was sent; what shows it escapes it"


def test_a_long_name_is_cut(fail):
    (line,), (record,) = fail(plain(LONG, PASSWORD))
    assert record.failed_user == "w" * 256
    assert len(str(line.msg)) < 500


def test_the_password_is_nowhere(fail, caplog):
    responses = [plain("alice", PASSWORD), plain("alice", PASSWORD, "bob"), plain("", PASSWORD)]
    _, records = fail(*responses)
    assert len(records) == 3
    seen = f"{caplog.text} {[vars(record) for record in caplog.records]} {records}"
    for secret in (PASSWORD, *responses):
        assert secret not in seen


def test_a_right_login_is_none_of_it(gateway, caplog):
    known = len(gateway.journal())
    with smtplib.SMTP(gateway.host, gateway.port, timeout=60) as smtp:
        smtp.ehlo()
        assert smtp.docmd("AUTH PLAIN", plain("alice", "wonder land"))[0] == 235
    assert not [record for record in caplog.records if record.name == "gatepost.auth"]
    assert len(gateway.journal()) == known
