"""A message that leaves quarantine goes upstream as it would have gone at once."""

import time
from dataclasses import replace
from functools import partial

import pytest
from gatepost.config import Config
from gatepost.gateway.release import release
from gatepost.store import Box, JournalQuery, KeptQuery, StoreError, StoreFull, StoreUnavailable, open_archive
from gatepost.store.sql.store import SqlStore
from gatepost.store.sqlite.database import Database
from gatepost.testing import make_transaction, running_gateway
from gatepost.testing.upstream import Close, FakeUpstream, Then

HOLD = [{"name": "hold", "filter": "match", "action": "quarantine", "when": {"size": ">1B"}}]


def hold(parameters=(), **settings):
    made = make_transaction(**settings)
    transaction = replace(made, envelope=replace(made.envelope, parameters=parameters))
    with running_gateway({"rules": HOLD}) as gateway:
        assert gateway.send(transaction).code == 250
        (kept,) = gateway.quarantine()
    return kept


def let_go(kept, upstream, folder, to=None):
    return release(routed_to(upstream.url), folder, kept, to)


def routed_to(destination):
    return Config.model_validate({"relay": [{"recipients": "*@*", "to": destination}]})


@pytest.fixture
def archive(tmp_path):
    """Opens the store that the release has made."""
    return partial(open_archive, Config().store, tmp_path)


def the_record(archive):
    with archive() as opened:
        (record,) = opened.records(JournalQuery(), limit=10)
    return record


def the_inbox(archive):
    with archive() as opened:
        found = opened.kept(KeptQuery(box=Box.INBOX), limit=10)
        return [opened.kept_message(one.id) for one in found]


@pytest.mark.parametrize("error", [StoreUnavailable, StoreFull, StoreError])
def test_a_message_that_was_sent_counts_as_sent_though_the_store_fails_right_then(
    tmp_path, archive, monkeypatch, error
):
    """Else it would be released again."""

    async def fail(*_):
        raise error("on purpose")

    kept = hold()
    monkeypatch.setattr(SqlStore, "commit", fail)
    with FakeUpstream() as upstream:
        assert let_go(kept, upstream, tmp_path).code == 250
    assert len(upstream.messages) == 1
    assert the_record(archive).recipients[0].disposition == "relayed"


def test_what_was_sent_while_the_store_was_gone_is_journalled_when_it_is_back(
    tmp_path, archive, monkeypatch, caplog
):
    write, kept = Database.write_group, hold()
    back = time.monotonic() + 2

    def fail(database, group, interrupted):
        if time.monotonic() < back:
            raise StoreUnavailable("on purpose")
        write(database, group, interrupted)

    monkeypatch.setattr(Database, "write_group", fail)
    with FakeUpstream() as upstream:
        assert let_go(kept, upstream, tmp_path).code == 250
    assert the_record(archive).recipients[0].disposition == "relayed"
    assert "records lost" not in caplog.text


@pytest.mark.parametrize(
    ("sender", "recipient", "parameters"),
    [
        ("a@example.com", "b@example.com", ()),
        ("ü@example.com", "b@example.com", ("SMTPUTF8",)),
        ("a@example.com", "ü@example.com", ("SMTPUTF8",)),
    ],
)
def test_internationalised_addresses_ask_for_smtputf8(tmp_path, sender, recipient, parameters):
    """RFC 6531 section 3.4: without it no server may take them."""
    with FakeUpstream() as upstream:
        kept = hold(parameters, mail_from=sender, recipients=(recipient,))
        assert let_go(kept, upstream, tmp_path).code == 250
        (message,) = upstream.messages
        declared = [one for one in message.parameters if not one.startswith(("SIZE=", "BODY="))]
        assert (message.mail_from, tuple(declared)) == (sender, parameters)


def test_a_body_without_a_header_section_stays_a_body(tmp_path):
    content = b"Hello\r\nSubject: no\r\n"
    with FakeUpstream() as upstream:
        assert let_go(hold(content=content), upstream, tmp_path).code == 250
        assert upstream.messages[0].content.endswith(b"\r\n\r\n" + content)


def test_a_release_is_journalled_with_its_message_and_upstreams_answer(tmp_path, archive):
    kept = hold(recipients=("a@example.com", "b@example.com"))
    with FakeUpstream({"dot": "250 2.0.0 Queued"}) as upstream:
        assert str(let_go(kept, upstream, tmp_path)) == "250 2.0.0 Queued"
        (message,) = upstream.messages
        assert message.content == kept.delivered_form
        record = the_record(archive)
        assert record.upstream == upstream.url.removeprefix("smtp://")
    assert record.reply == record.upstream_reply == "250 2.0.0 Queued"
    assert (record.client, record.helo, record.evaluations) == ("127.0.0.1", "", ())
    assert (record.mail_from, record.size) == (kept.mail_from, kept.size)
    assert (record.subject, record.message_id) == (kept.subject, kept.message_id)
    assert [(r.address, r.disposition, r.action, r.rule, r.reason, r.reply) for r in record.recipients] == [
        (address, "relayed", "accept", None, f"released from quarantine: {kept.id}", "250 2.0.0 Queued")
        for address in ("a@example.com", "b@example.com")
    ]


@pytest.mark.parametrize(
    ("script", "reply", "end"),
    [
        ({"rcpt": Then("550 5.1.1 Unknown", None)}, "550 5.1.1 Unknown", "refused"),
        ({"mail": "451 4.7.1 Not now"}, "451 4.7.1 Not now", "deferred"),
        ({"dot": "554 5.7.1 Spam"}, "554 5.7.1 Spam", "refused"),
        ({"dot": "451 4.2.0 Later"}, "451 4.2.0 Later", "deferred"),
        ({"dot": Close()}, "451 4.4.2", "in-doubt"),
        ({"connect": "554 5.3.2 Closed"}, "451 4.4.1", "deferred"),
    ],
)
def test_a_release_that_upstream_does_not_take_is_journalled_as_that(tmp_path, archive, script, reply, end):
    kept = hold(recipients=("a@example.com", "b@example.com"))
    with FakeUpstream(script) as upstream:
        said = str(let_go(kept, upstream, tmp_path))
        assert said.startswith(reply)
        record = the_record(archive)
        server = upstream.url.removeprefix("smtp://")
        assert len(upstream.messages) == ("dot" in script), "no part of it is sent without all recipients"
    assert [(r.disposition, r.reply) for r in record.recipients] == [(end, said)] * 2
    assert record.reply == said
    assert record.upstream == (server if "dot" in script else None)
    assert record.upstream_reply
    assert the_inbox(archive) == []


def test_a_release_to_the_inbox_is_the_message_as_it_was_kept(tmp_path, archive):
    kept = hold()
    reply = release(routed_to("inbox"), tmp_path, kept, ["x@example.com", "y@example.com"])
    assert str(reply) == "250 2.0.0 Put into the inbox"
    (copy,) = the_inbox(archive)
    assert (copy.prepended, copy.content, copy.edits) == (kept.prepended, kept.content, kept.edits)
    assert (copy.mail_from, copy.recipients) == (kept.mail_from, ("x@example.com", "y@example.com"))
    assert (copy.rule, copy.reason) == (kept.rule, kept.reason)
    record = the_record(archive)
    assert [(r.address, r.disposition, r.reply) for r in record.recipients] == [
        ("x@example.com", "inbox", str(reply)),
        ("y@example.com", "inbox", str(reply)),
    ]
    assert (record.upstream, record.upstream_reply) == (None, None)


def test_recipients_whose_routes_differ_are_not_released_together(tmp_path, archive):
    routes = [{"recipients": f"{letter}@*", "to": to} for letter, to in (("a", "inbox"), ("b", "discard"))]
    config = Config.model_validate({"relay": routes})
    kept = hold()
    for to in (["a@example.com", "b@example.com"], ["c@example.com"]):
        assert str(release(config, tmp_path, kept, to))[:9] == "550 5.7.1"
    assert not list(tmp_path.iterdir()), "no store was opened"


def test_a_release_over_a_route_that_discards_is_told_and_journalled_as_that(tmp_path, archive):
    reply = release(routed_to("discard"), tmp_path, hold(), None)
    assert str(reply) == "250 2.0.0 Discarded"
    assert the_inbox(archive) == []
    assert [(r.disposition, r.reply) for r in the_record(archive).recipients] == [("discarded", str(reply))]


FORGED = b"Authentication-Results: mx.example.com; dmarc=pass header.from=bank.example\r\n"
LETTER = FORGED + b"From: x@bank.example\r\nSubject: pay\r\n\r\nAuthentication-Results: in the body\r\n"
OWN = """\
from gatepost import Action, AddHeader, RemoveHeader, Verdict, hookimpl


class Own:
    @hookimpl
    def filter_message(self, transaction):
        edits = (RemoveHeader("X-Checked"), AddHeader("X-Checked", "twice"))
        return Verdict(reason="own", action=Action.QUARANTINE, edits=edits)
"""
CLEANED = {"remove": "Authentication-Results", "add": {"X-Checked": "once"}, "subject": "[held] "}
CHECKED_ONCE = b"X-Checked: once\r\nFrom: x@bank.example\r\nSubject: [held] pay\r\n\r\n"


@pytest.fixture(scope="module")
def held():
    """A message that a rule has edited, held by a rule, for mixed recipients, and by a filter with edits."""
    mixed = {"recipient": "mixed@*", "size": ">1B"}  # known when the message is there
    rules = [
        {"name": "clean", "filter": "match", "action": "tag", "tag": CLEANED},
        {"name": "hold", "filter": "match", "action": "quarantine", "when": {"recipient": "held@*"}},
        {"name": "refuse", "filter": "match", "action": "reject", "when": mixed},
        {"name": "own", "filter": "./own.py:Own", "when": {"recipient": "own@*"}},
    ]
    recipients = tuple(f"{name}@example.com" for name in ("held", "mixed", "own", "relayed"))
    with (
        FakeUpstream() as upstream,
        running_gateway({"rules": rules}, upstream=upstream, files={"own.py": OWN}) as gateway,
    ):
        assert gateway.send(make_transaction(LETTER, recipients=recipients)).code == 250
        (relayed,) = upstream.messages
        assert relayed.content.endswith(CHECKED_ONCE + b"Authentication-Results: in the body\r\n")
        assert FORGED not in relayed.content
        return {kept.recipients[0].partition("@")[0]: kept for kept in gateway.quarantine()}


@pytest.mark.parametrize("name", ["held", "mixed", "own"])
def test_edits_made_before_a_quarantine_are_kept_and_made_at_release(held, name, tmp_path, archive):
    kept = held[name]
    section = CHECKED_ONCE.replace(b"once", b"twice") if name == "own" else CHECKED_ONCE
    assert kept.content == LETTER, "what was received stays as evidence"
    assert kept.delivered_form.endswith(section + b"Authentication-Results: in the body\r\n")
    with FakeUpstream() as upstream:
        assert let_go(kept, upstream, tmp_path).code == 250
        assert upstream.messages[0].content == kept.delivered_form
        assert FORGED not in kept.delivered_form
        assert kept.delivered_form.startswith(b"Received: ")
    assert release(routed_to("inbox"), tmp_path, kept, None).code == 250
    (copy,) = the_inbox(archive)
    assert (copy.content, copy.delivered_form) == (LETTER, kept.delivered_form)
    assert copy.edits == kept.edits


def test_the_edits_of_a_held_message_are_in_words_in_their_order(held):
    words = ["remove Authentication-Results", "add X-Checked: once", 'put "[held] " before the subject']
    assert [str(edit) for edit in held["held"].edits] == words
    assert [str(edit) for edit in held["mixed"].edits] == words
    assert [str(edit) for edit in held["own"].edits] == [*words, "remove X-Checked", "add X-Checked: twice"]
