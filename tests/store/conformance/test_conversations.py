"""Conversations by client, by address and page by page."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

NOW = datetime.now(UTC)


@pytest.fixture
async def keep(backend, settings, tmp_path):
    """Puts parts and records into a store; gives what looks them up."""
    opened = []

    async def keep(*parts, records=()):
        store = backend.open_store(settings, tmp_path)
        for one in parts:
            store.converse(one)
        for record in records:
            store.journal(record)
        await store.close()
        opened.append(backend.open_conversations(settings, tmp_path))
        return opened[-1]

    yield keep
    for conversations in opened:
        conversations.close()


async def test_parts_come_back_in_order_with_any_octets_and_the_latest_summary(keep, make_session, make_part):
    first = make_session()
    last = replace(first, ended_at=NOW, last_reply="221 Bye\ud800", transactions=2)
    every = bytes(range(256))
    conversations = await keep(make_part(first, 0, b"EHLO x\r\n"), make_part(last, 1, every, b"QUIT\r\n"))
    found = conversations.conversation(first.id)
    assert [line.data for line in found.lines] == [b"EHLO x\r\n", every, b"QUIT\r\n"]
    assert found.session == replace(last, last_reply="221 Bye\ufffd")
    assert conversations.conversation("nobody") is None


async def test_sessions_are_found_by_client_and_by_the_addresses_of_their_transactions(
    keep, make_record, make_session, make_part
):
    ours, other = make_session(), make_session(client="2001:db8::1")
    record = replace(make_record(), session_id=ours.id)
    conversations = await keep(make_part(ours), make_part(other), records=[record])
    assert [s.id for s in conversations.sessions()] == [other.id, ours.id]
    assert [s.id for s in conversations.sessions(client="2001:db8::1")] == [other.id]
    for address in ("ann@example.com", "BOB@example.net", '"bob"@example.net.'):
        assert [s.id for s in conversations.sessions(address=address)] == [ours.id]
    assert conversations.sessions(address="nobody@example.com") == []


async def test_pages_follow_one_another(keep, make_session, make_part):
    every = [make_session() for _ in range(5)]
    conversations = await keep(*map(make_part, every))
    ids = [session.id for session in every[::-1]]
    assert [s.id for s in conversations.sessions(limit=2)] == ids[:2]
    assert [s.id for s in conversations.sessions(limit=9, before=ids[1])] == ids[2:]


@pytest.mark.parametrize("limit", ["CONVERSATION_LIMIT", "CONVERSATION_BYTES"])
async def test_a_store_that_cannot_keep_up_loses_conversations_and_no_mail(
    backend, settings, tmp_path, make_record, limit, caplog, make_session, make_part
):
    store = backend.open_store(settings, tmp_path)
    setattr(store, limit, 0)
    session = make_session()
    assert not store.converse(make_part(session))
    assert "no more conversations" in caplog.text
    await store.commit(make_record())
    await store.close()
    with backend.open_conversations(settings, tmp_path) as conversations:
        assert conversations.conversation(session.id) is None
