"""Conversations go when they are old, and wait for a locked database."""

import asyncio
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

from gatepost.config.store import Keep
from gatepost.store import open_conversations, open_store
from gatepost.store.sql import writer as writer_module
from gatepost.store.sqlite import driver

NOW = datetime.now(UTC)


async def test_old_sessions_go_with_what_was_said_in_them(
    settings, tmp_path, monkeypatch, until, make_record, make_session, make_part
):
    monkeypatch.setattr(writer_module, "_SWEEP_SECONDS", 0.02)
    settings = settings.model_copy(update={"keep": Keep(settling="100ms")})
    store = open_store(settings, tmp_path)
    old, new = make_session(started_at=NOW - timedelta(days=400)), make_session()
    for one in (old, new):
        store.converse(make_part(one, 0, b"NOOP\r\n"))
    await store.commit(make_record())
    conversations = open_conversations(settings, tmp_path)
    await until(lambda: [session.id for session in conversations.sessions()] == [new.id])
    with store._database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM conversation_parts").scalar() == 1
    conversations.close()
    await store.close()


async def test_conversations_that_wait_for_a_locked_database_are_bounded_and_come_later(
    settings, tmp_path, monkeypatch, until, make_session, make_part
):
    monkeypatch.setattr(writer_module, "_RETRY_SECONDS", 0.02)
    monkeypatch.setattr(driver, "BUSY_SECONDS", 0.01)
    store = open_store(settings, tmp_path)
    store.CONVERSATION_BYTES = 10_000
    every = [make_session() for _ in range(20)]
    with closing(sqlite3.connect(tmp_path / "gatepost.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        taken = [session.id for session in every if store.converse(make_part(session, 0, b"NOOP\r\n"))]
        await asyncio.sleep(0.2)
        assert store._writer.conversation_bytes == 10_000
        assert not store.converse(make_part(make_session()))
        other.execute("ROLLBACK")
    await until(lambda: not store.backlog)
    assert store._writer.conversation_bytes == 0
    assert store.converse(make_part(every[-1], 1, b"QUIT\r\n"))
    await store.close()
    with open_conversations(settings, tmp_path) as conversations:
        assert {session.id for session in conversations.sessions()} == {*taken, every[-1].id}
