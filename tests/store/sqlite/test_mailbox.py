"""The index follows what is deleted in many steps, and the states of messages are read without them."""

import asyncio
import sqlite3
from contextlib import closing

import pytest
from gatepost.store import Query, open_mailbox, parse_query
from gatepost.store.sql.conditions import STATE_HINT, STORE, conditions
from gatepost.store.sql.schema import kept
from gatepost.store.sqlite.database import Database
from sqlalchemy import event, select, text


async def test_more_are_deleted_than_one_step_takes(store, make_record, make_kept, settings, tmp_path, until):
    await asyncio.gather(*(store.commit(make_record(), [make_kept()]) for _ in range(250)))
    with open_mailbox(settings, tmp_path) as mailbox:
        await until(lambda: mailbox.count(parse_query("hi")) == 250)
        ids = [message.id for message in mailbox.page(Query(), limit=250).messages]
        assert mailbox.mark(ids, seen=True) == 250
        assert len(mailbox.delete(ids[:120], actor="ann")) == 120
        assert mailbox.delete_matching(parse_query("hi"), actor="ann") == 130
        with closing(sqlite3.connect(tmp_path / "gatepost.db-search")) as index:
            await until(lambda: index.execute("SELECT count(*) FROM seen").fetchone() == (0,))


async def test_the_state_of_a_message_is_read_without_its_row(store, settings, tmp_path):
    """A row is as large as its message: SQLite must use the index that has all it needs."""
    statement = select(kept.c.number).where(*conditions(parse_query("larger:1KB"), STORE))
    with closing(Database.existing(settings, tmp_path)) as database, database.read() as connection:
        compiled = str(statement.compile(connection, compile_kwargs={"literal_binds": True}))
        plan = connection.execute(text(f"EXPLAIN QUERY PLAN {compiled}")).scalars("detail").all()
    assert STATE_HINT in compiled
    assert any("COVERING INDEX kept_box" in step for step in plan), plan


@pytest.mark.parametrize(
    ("query", "table", "lists"),
    [
        ("hi", "seen", 0),
        ("hi*", "seen", 0),
        ("from:ann hi", "seen", 0),
        ("header:subject", "fields", 0),
        ("hi is:unread larger:1KB client:192.0.2.1 before:1h", "seen", 0),
        ("hi -from:carol", "seen", 1),
        ("hi header:subject", "seen", 1),
    ],
)
async def test_the_newest_with_a_word_are_found_without_all_others(
    query, table, lists, store, make_record, make_kept, settings, tmp_path, until
):
    """In the order of the full-text table: nothing is sorted, and all that have the word are not listed."""
    plan = []

    def explain(_connection, cursor, statement, parameters, *_):
        if "MATCH" in statement:
            steps = cursor.connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plan.extend(step[-1] for step in steps)

    await store.commit(make_record(), [make_kept()])
    with open_mailbox(settings, tmp_path) as mailbox:
        await until(lambda: mailbox.count(parse_query("hi")) == 1)
        event.listen(mailbox._database._engine, "before_cursor_execute", explain)
        mailbox.page(parse_query(query))
    assert plan[0].startswith(f"SCAN search.{table} VIRTUAL TABLE"), plan
    assert sum("LIST SUBQUERY" in step for step in plan) == lists, plan
    assert not any("TEMP B-TREE" in step for step in plan), plan
