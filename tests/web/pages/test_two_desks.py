"""The desks of two nodes with one store: who has logged in at one is logged in at the other."""

import asyncio
import re
from dataclasses import replace

import psycopg
import pytest
from gatepost.model.user import Role, User
from gatepost.store import StoreError, open_store
from gatepost.store.postgresql import desk_sessions
from gatepost.web import access, shared_sessions
from gatepost.web.accounts import Accounts
from gatepost.web.sealed_sessions import seal, unseal

COOKIE = "gatepost-8025"
PASSWORD = "correct horse"
OPERATOR = User(name="operator", role=Role.OPERATOR)
AS_OPERATOR = {"name": "operator", "password": "operator's secret"}


@pytest.fixture
def accounts(hashes):
    """Of a user, and of all who know the password; of each node its own, as read from its files."""
    return lambda: Accounts(password=PASSWORD, users=[OPERATOR], hashes=hashes)


@pytest.fixture
async def nodes(node_of, accounts):
    return await node_of(accounts()), await node_of(accounts())


@pytest.fixture
def sql(postgresql, shared_store):
    with psycopg.connect(shared_store.url, autocommit=True) as connection:
        yield connection.execute


async def log_in(node, *others, **form):
    """Log in at a node, and let the browser go to the others too."""
    entered = await node.http.post("/login", data={"password": PASSWORD, **form})
    assert entered.status_code == 303, entered.text
    for other in others:
        other.http.cookies.set(COOKIE, node.http.cookies[COOKIE])


async def status(node, path="/journal"):
    return (await node.http.get(path)).status_code


async def test_a_session_begun_at_one_is_valid_at_all_and_ended_at_all(nodes, node_of, accounts):
    one, other = nodes
    await log_in(one, other, name="Maria")
    assert "<strong>Maria</strong>" in (await other.http.get("/")).text
    later = await node_of(accounts())
    later.http.cookies = other.http.cookies
    assert await status(later) == 200, "a node that was started later"
    assert (await later.http.post("/logout")).status_code == 303
    assert [await status(node) for node in (one, other)] == [303, 303]


async def test_events_of_one_end_soon_after_the_log_out_at_another_and_not_while_the_database_is_gone(
    nodes, postgresql, monkeypatch
):
    monkeypatch.setattr(access, "_LOOK_SECONDS", 0.01)
    one, other = nodes
    await log_in(one, other)
    began, failed, sent = asyncio.Event(), asyncio.Event(), []
    sessions = one.app.state.sessions
    peek = sessions.peek

    async def peek_and_tell(token):
        try:
            return await peek(token)
        except StoreError:
            failed.set()
            raise

    async def take(message):
        sent.append(message)
        began.set()

    monkeypatch.setattr(sessions, "peek", peek_and_tell)
    cookie = f"{COOKIE}={one.http.cookies[COOKIE]}".encode()
    fields = [(b"host", b"127.0.0.1"), (b"cookie", cookie)]
    scope = {"type": "http", "method": "GET", "path": "/events", "headers": fields, "query_string": b""}
    watching = asyncio.create_task(one.app(scope, asyncio.Event().wait, take))
    await began.wait()
    postgresql.stop()
    try:
        for _ in range(2):  # it asks again
            failed.clear()
            await asyncio.wait_for(failed.wait(), 30)
    finally:
        postgresql.start()
    assert not watching.done()
    assert (await other.http.post("/logout")).status_code == 303
    await asyncio.wait_for(watching, 30)
    assert sent[0]["status"] == 200
    assert sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


@pytest.mark.parametrize("how", ["removed", "password", "role"])
async def test_a_user_is_what_the_settings_of_each_node_say(nodes, hashes, how):
    one, other = nodes
    await log_in(one, other, **AS_OPERATOR)
    changed = {"removed": [], "password": [OPERATOR], "role": [replace(OPERATOR, role=Role.READER)]}[how]
    given = {"operator": hashes["reader"]} if how == "password" else hashes
    other.accounts._take(changed, given)
    assert await status(one) == 200
    assert await status(other) == (200 if how == "role" else 303)
    if how == "role":
        refused = await other.http.post("/messages/change", data={"id": "x", "do": "seen"})
        assert refused.status_code == 403


async def test_another_password_ends_the_sessions_although_their_rows_are_there(nodes, node_of, hashes):
    """With sessions in memory it was the restart that ended them."""
    one, _ = nodes
    changed = await node_of(Accounts(password="another one"))
    without = await node_of(Accounts(users=[OPERATOR], hashes=hashes))
    await log_in(one, changed, without)
    assert [await status(node) for node in (one, changed, without)] == [200, 303, 303]


async def test_the_database_has_neither_tokens_nor_what_they_stand_for(nodes, sql, hashes):
    one, _ = nodes
    await log_in(one, **AS_OPERATOR)
    token = one.http.cookies[COOKIE]
    ((key, sealed, *_),) = sql("SELECT * FROM desk_sessions").fetchall()
    assert len(key) == 32
    for secret in (token, "operator", hashes["operator"], PASSWORD):
        assert secret.encode() not in key + sealed
    logged_in = unseal(token, sealed)
    assert logged_in.user == OPERATOR
    assert unseal("x" * len(token), sealed) is None
    assert unseal(token, seal(token, logged_in)) == logged_in


async def test_what_another_version_has_sealed_is_a_session_that_has_ended(nodes, sql):
    one, other = nodes
    await log_in(one, other)
    sql("UPDATE desk_sessions SET sealed = 'x'")
    assert await status(other) == 303


async def test_an_open_page_alone_does_not_keep_a_session(nodes, sql):
    """Each use that is written is a change of the store, and at each change pages ask again."""
    one, _ = nodes
    await log_in(one)
    sql("UPDATE desk_sessions SET used_at = used_at - interval '11 hours'")

    def is_old():
        return sql("SELECT used_at < clock_timestamp() - interval '1 hour' FROM desk_sessions").fetchone()[0]

    by_itself = {"hx-request": "true", "desk-refresh": "yes"}
    assert (await one.http.get("/messages/list", headers=by_itself)).status_code == 200
    assert (await one.http.head("/events")).status_code == 204
    assert is_old()
    assert await status(one, "/messages/list") == 200
    assert not is_old()
    sql("UPDATE desk_sessions SET used_at = used_at - interval '12 hours'")
    assert await status(one) == 303


async def test_without_the_database_nobody_is_logged_out_and_each_answer_says_why(nodes, postgresql, caplog):
    one, other = nodes
    await log_in(one, other)
    postgresql.stop()
    try:
        page = await one.http.get("/journal?days=7")
        assert page.status_code == 503
        assert "You are not logged out" in page.text
        assert 'href="/journal?days=7"' in page.text
        assert page.headers["retry-after"] == "5"
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert "set-cookie" not in page.headers
        foreign = await one.http.get("http://127.0.0.1:8025//evil.example/")
        assert 'href="/"' in foreign.text
        assert "evil" not in foreign.text
        program = await one.http.get("/api/v1/messages")
        assert (program.status_code, program.json()["type"]) == (503, "/api/#problem-store")
        assert (await one.http.post("/logout")).status_code == 503
        entered = await other.http.post("/login", data={"password": PASSWORD})
        assert (entered.status_code, "set-cookie" in entered.headers) == (503, False)
        assert "The store is not available" in entered.text
        assert await status(one, "/login") == 200
        assert await status(one, "/healthz") == 200
        one.http.cookies.clear()
        assert await status(one) == 303, "who has not logged in is asked to"
        one.http.cookies.set(COOKIE, "x")
        assert await status(one) == 303, "nor is what can be no token looked up"
    finally:
        postgresql.start()
    assert await status(other) == 200
    assert "audit login ok" not in caplog.text


async def test_a_database_that_does_not_answer_holds_up_only_those_who_need_it(
    nodes, sql, shared_store, monkeypatch, caplog
):
    one, other = nodes
    await log_in(one, other)
    blocked = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%desk_sessions%'"
    with psycopg.connect(shared_store.url) as holder:
        holder.execute("LOCK TABLE desk_sessions")
        waiting = asyncio.create_task(status(one))
        async with asyncio.timeout(30):
            while not sql(blocked).fetchone():
                await asyncio.sleep(0.01)
        assert await status(one, "/login") == 200
        assert not waiting.done()
        holder.rollback()
        assert await waiting == 200
        holder.execute("LOCK TABLE desk_sessions")
        monkeypatch.setattr(shared_sessions, "_PATIENCE_SECONDS", 0.05)
        assert await status(one) == 503
        async with asyncio.timeout(30):  # the desk looks first whether the store is gone altogether
            while "the store did not answer within 0.05 s" not in caplog.text:
                await asyncio.sleep(0.01)
    monkeypatch.undo()
    assert await status(other) == await status(one) == 200


async def test_a_log_in_without_a_session_is_no_log_in_in_the_audit_log(nodes, sql, caplog):
    caplog.set_level("INFO")
    one, _ = nodes
    sql("ALTER TABLE desk_sessions ADD CONSTRAINT full_disk CHECK (false) NOT VALID")
    try:
        assert (await one.http.post("/login", data={"password": PASSWORD})).status_code == 503
    finally:
        sql("ALTER TABLE desk_sessions DROP CONSTRAINT full_disk")
    assert "audit login ok" not in caplog.text
    await log_in(one)
    assert re.search(r"audit login ok .*role=administrator", caplog.text)


async def test_too_many_log_ins_of_one_user_at_all_nodes_end_no_session_of_another_user(nodes, monkeypatch):
    monkeypatch.setattr(desk_sessions, "_SESSIONS_OF_OWNER", 2)
    one, other = nodes
    await log_in(one, name="Maria")
    marias = one.http.cookies[COOKIE]
    scripts = []
    for node in (other, other, one, other):
        node.http.cookies.clear()
        await log_in(node, name="script")
        scripts.append(node.http.cookies[COOKIE])
    found = []
    for token in (marias, *scripts):
        other.http.cookies.clear()
        other.http.cookies.set(COOKIE, token)
        found.append(await status(other))
    assert found == [200, 303, 303, 200, 200]


async def test_a_deletion_is_undone_by_the_node_that_has_made_it_and_another_one_says_so(
    node_of, accounts, postgresql, shared_store, message, tmp_path
):
    one, other = [await node_of(accounts(), node=name, shares_store=True) for name in ("mx-a", "mx-b")]
    await log_in(one, other)
    store = open_store(shared_store, tmp_path)
    record, kept = message()
    await store.commit(record, (kept,))
    await store.close()
    await one.http.post("/messages/change", data={"id": kept.id, "do": "delete"})
    elsewhere = await other.http.post(f"/messages/{kept.id}/undo")
    assert elsewhere.status_code == 410
    assert elsewhere.text == "It is too late, or another node has deleted it: the message is deleted."
    assert (await one.http.post(f"/messages/{kept.id}/undo")).status_code == 204
