"""Conversations by client, by address and page by page; they go when they are old."""

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from gatepost.events import Line
from gatepost.mail import new_id
from gatepost.store import (
    Conversation,
    ConversationPart,
    Conversations,
    SessionSummary,
    Store,
    age,
    of_transaction,
    sqlite,
)
from gatepost.store import writer as writer_module

NOW = datetime.now(UTC)


def summary(**given):
    return SessionSummary(
        **{
            "id": new_id(), "client": "192.0.2.1", "client_port": 40000, "listener": "127.0.0.1:2525",
            "started_at": NOW, "ended_at": None, "helo": "client.example", "tls": None,
            "authenticated": None, "transactions": 0, "last_reply": "250 Ok", "left_out": 0, **given,
        }
    )  # fmt: skip


def part(session, number=0, *said, octets=1000):
    at = int(NOW.timestamp() * 1_000_000)
    lines = [(at, "C", data) for data in said]
    return ConversationPart(session=session, number=number, lines=lines, octets=octets)


@pytest.fixture
async def keep(settings, tmp_path):
    """Puts parts and records into a store; gives what looks them up."""
    opened = []

    async def keep(*parts, records=()):
        store = Store.open(settings, tmp_path)
        for one in parts:
            store.converse(one)
        for record in records:
            store.journal(record)
        await store.close()
        opened.append(Conversations.open(settings, tmp_path))
        return opened[-1]

    yield keep
    for conversations in opened:
        conversations.close()


async def test_parts_come_back_in_order_with_any_octets_and_the_latest_summary(keep):
    first = summary()
    last = replace(first, ended_at=NOW, last_reply="221 Bye\ud800", transactions=2)
    every = bytes(range(256))
    conversations = await keep(part(first, 0, b"EHLO x\r\n"), part(last, 1, every, b"QUIT\r\n"))
    found = conversations.conversation(first.id)
    assert [line.data for line in found.lines] == [b"EHLO x\r\n", every, b"QUIT\r\n"]
    assert found.session == replace(last, last_reply="221 Bye\ufffd")
    assert conversations.conversation("nobody") is None


async def test_sessions_are_found_by_client_and_by_the_addresses_of_their_transactions(keep, make_record):
    ours, other = summary(), summary(client="2001:db8::1")
    record = replace(make_record(), session_id=ours.id)
    conversations = await keep(part(ours), part(other), records=[record])
    assert [s.id for s in conversations.sessions()] == [other.id, ours.id]
    assert [s.id for s in conversations.sessions(client="2001:db8::1")] == [other.id]
    for address in ("ann@example.com", "BOB@example.net", '"bob"@example.net.'):
        assert [s.id for s in conversations.sessions(address=address)] == [ours.id]
    assert conversations.sessions(address="nobody@example.com") == []


async def test_pages_follow_one_another(keep):
    every = [summary() for _ in range(5)]
    conversations = await keep(*map(part, every))
    ids = [session.id for session in every[::-1]]
    assert [s.id for s in conversations.sessions(limit=2)] == ids[:2]
    assert [s.id for s in conversations.sessions(limit=9, before=ids[1])] == ids[2:]


async def test_old_sessions_go_with_what_was_said_in_them(
    settings, tmp_path, monkeypatch, until, make_record
):
    monkeypatch.setattr(writer_module, "_SWEEP_SECONDS", 0.02)
    monkeypatch.setattr(age, "SETTLING", timedelta(seconds=0.1))
    store = Store.open(settings, tmp_path)
    old, new = summary(started_at=NOW - timedelta(days=400)), summary()
    for one in (old, new):
        store.converse(part(one, 0, b"NOOP\r\n"))
    await store.commit(make_record())
    conversations = Conversations.open(settings, tmp_path)
    await until(lambda: [session.id for session in conversations.sessions()] == [new.id])
    with store._database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM conversation_parts").scalar() == 1
    conversations.close()
    await store.close()


@pytest.mark.parametrize("limit", ["CONVERSATION_LIMIT", "CONVERSATION_OCTETS"])
async def test_a_store_that_cannot_keep_up_loses_conversations_and_no_mail(
    settings, tmp_path, make_record, limit, caplog
):
    store = Store.open(settings, tmp_path)
    setattr(store, limit, 0)
    session = summary()
    assert not store.converse(part(session))
    assert "no more conversations" in caplog.text
    await store.commit(make_record())
    await store.close()
    with Conversations.open(settings, tmp_path) as conversations:
        assert conversations.conversation(session.id) is None


async def test_conversations_that_wait_for_a_locked_database_are_bounded_and_come_later(
    settings, tmp_path, monkeypatch, until
):
    monkeypatch.setattr(writer_module, "_RETRY_SECONDS", 0.02)
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.01)
    store = Store.open(settings, tmp_path)
    store.CONVERSATION_OCTETS = 10_000
    every = [summary() for _ in range(20)]
    with closing(sqlite3.connect(tmp_path / "gatepost.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        taken = [session.id for session in every if store.converse(part(session, 0, b"NOOP\r\n"))]
        await asyncio.sleep(0.2)
        assert store._writer.unsaid == 10_000
        assert not store.converse(part(summary()))
        other.execute("ROLLBACK")
    await until(lambda: not store.backlog)
    assert store._writer.unsaid == 0
    assert store.converse(part(every[-1], 1, b"QUIT\r\n"))
    await store.close()
    with Conversations.open(settings, tmp_path) as conversations:
        assert {session.id for session in conversations.sessions()} == {*taken, every[-1].id}


BEGIN = "C EHLO x|S 250 x|C MAIL FROM:<a@b>|* transaction one|S 250 ok|"


@pytest.mark.parametrize(
    ("rest", "count"),
    [
        ("C RCPT TO:<c@d>|S 250 ok|C DATA|S 354 go|D text|S 250 ok|C QUIT|S 221 bye|* closed", 6),
        ("C DATA|S 503 no|C NOOP|S 250 ok|C BDAT 1|D t|S 250 ok|C BDAT 0 LAST|S 250 ok|C NOOP|S 250 ok", 9),
        ("C DATA|S 354 go|D text|S 250 ok|C MAIL FROM:<>|S 550 no|C MAIL FROM:<e@f>|* transaction two", 4),
        ("C RCPT TO:<c@d>|S 550 no|C RSET|S 250 ok|C MAIL FROM:<e@f>|* transaction two|S 250 ok", 2),
        ("C RCPT TO:<c@d>|S 250 ok|C DATA|S 354 go|D te|* closed", 6),
        ("C RCPT TO:<c@d>", 1),
        ("", 0),
    ],
    ids=["quit", "bdat", "refused-mail", "rset", "broken-off", "goes-on", "begun"],
)
def test_a_transaction_is_cut_out_whole_and_with_nothing_of_its_neighbours(rest, count):
    lines = tuple(
        Line(at=NOW, session_id="s", direction=line[0], data=line[2:].encode())
        for line in (BEGIN + rest).split("|")
        if line
    )
    whole = Conversation(session=summary(), lines=lines)
    assert of_transaction(whole, "one") == lines[2 : 5 + count]
    assert of_transaction(whole, "another") == lines
