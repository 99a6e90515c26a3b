"""What is known of messages is found with indices, and before a message is read."""

import random
from string import ascii_letters

import pytest
from gatepost.store import parse_query
from gatepost.store.postgresql import open_mailbox
from gatepost.store.postgresql.driver import Lock, lock
from gatepost.store.postgresql.schema import kept_texts
from gatepost.store.query.messages import Fact, Named, Query
from gatepost.store.sql.conditions import of_terms
from sqlalchemy import select
from sqlalchemy.dialects import postgresql as dialect


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("tag:t77", "kept_texts_tags"),
        ("user:ann", "kept_texts_user"),
        ("rule:words", "kept_texts_rules"),
    ],
)
async def test_a_fact_of_a_message_is_looked_for_in_an_index(store, settings, tmp_path, text, index):
    query = parse_query(text)
    with open_mailbox(settings, tmp_path) as mailbox, mailbox._database.read() as connection:
        source, _ = mailbox._search.parts(connection, query)[-1]
        statement = select(kept_texts.c.number).where(*of_terms(query, source))
        sql = statement.compile(dialect=dialect.dialect(), compile_kwargs={"literal_binds": True})
        for other in ("seqscan", "indexscan", "indexonlyscan"):  # of an empty table they are better
            connection.exec_driver_sql(f"SET LOCAL enable_{other} = off")
        plan = connection.exec_driver_sql(f"EXPLAIN {sql}").scalars().all()
    assert index in "\n".join(plan)


async def test_messages_are_found_by_what_is_known_of_them_before_they_are_read(
    postgresql, store, settings, tmp_path, make_record, make_kept, until
):
    async def keep(name, user, rule="words"):
        message = make_kept(id=name, recipients=("bob+t77@example.org",), rule=rule)
        await store.commit(make_record(authenticated=user), [message])

    with open_mailbox(settings, tmp_path) as mailbox, postgresql.connect(settings.url) as other:
        await keep("a", "ann")
        await until(lambda: mailbox.count(parse_query("hi")) == 1)
        other.execute(lock(Lock.TEXTS))  # nobody reads from now on
        await keep("b", "ann")
        await keep("c", None, rule=None)
        for text, found in (
            ("tag:t77", "cba"),
            ("rule:words", "cba"),
            ("-rule:other", "cba"),
            ("user:ann", "ba"),
            ("-user:ann", "c"),
            ("mailbox:t77", "cba"),
            ("mailbox:ann", "ba"),
            ("tag:t77 hi", "a"),
        ):
            query = parse_query(text)
            page = mailbox.page(query, limit=9).messages
            assert "".join(one.id for one in page) == found, text
            assert mailbox.count(query) == len(found), text
        first = mailbox.page(parse_query("tag:t77"), limit=1)
        rest = mailbox.page(parse_query("tag:t77"), limit=9, before=first.next).messages
        assert [one.id for one in (*first.messages, *rest)] == ["c", "b", "a"]


async def test_a_user_name_of_any_length_keeps_no_message_from_being_read(
    store, settings, tmp_path, make_record, make_kept, until
):
    """Complaints mode takes any name of up to 9,000 bytes, more than an index does."""
    names = ["".join(random.Random(seed).choices(ascii_letters, k=9000)) for seed in range(2)]
    names.append(names[0][:100])
    with open_mailbox(settings, tmp_path) as mailbox:
        for number, name in enumerate([*names, "ann"]):
            await store.commit(make_record(authenticated=name), [make_kept(id=f"{number}")])
        await until(lambda: mailbox.count(parse_query("hi")) == 4)

        def of(name):
            query = Query(terms=(Named(fact=Fact.USER, value=name),))
            return [one.id for one in mailbox.page(query, limit=9).messages]

        assert [of(name) for name in (*names, names[0].upper(), "ANN", names[0][:64])] == [
            ["0"],
            ["1"],
            ["2"],
            ["0"],
            ["3"],
            [],
        ]
