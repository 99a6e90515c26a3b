"""A database is made, or refused with what was found and what was expected, and then nothing is written."""

import itertools
import threading
from datetime import timedelta

import psycopg
import pytest
from gatepost.config.store import StoreSettings
from gatepost.store import JournalQuery, StoreError, StoreUnavailable
from gatepost.store.node import RunningNode
from gatepost.store.postgresql import open_archive, open_store, preparing
from gatepost.store.postgresql.database import Database
from gatepost.store.postgresql.driver import Lock, lock
from gatepost.store.sql.inserts import Insert
from gatepost.store.sql.rows import recipient_rows, transaction_row
from gatepost.store.sql.schema import VERSION, recipients, transactions

NUMBERS = itertools.count()


@pytest.fixture
def database(postgresql):
    """The name of an empty database."""
    name = f"database{next(NUMBERS)}"
    postgresql.execute(f"CREATE DATABASE {name}")
    return name


@pytest.fixture
def role(postgresql):
    """The name of a user without any right that not everybody has."""
    name = f"role{next(NUMBERS)}"
    postgresql.execute(f"CREATE ROLE {name} LOGIN")
    return name


def opened(url, opener=Database.create, **settings):
    opener(StoreSettings(url=url, **settings)).close()


def tables(postgresql, database):
    found = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    return {name for (name,) in postgresql.execute(found, database=database)}


@pytest.mark.parametrize("opener", [Database.create, Database.existing])
@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://h/n?nothing=1", "store.url: unknown option 'nothing', expected an option of libpq"),
        (
            "postgresql://127.0.0.1:1/mail",
            r"the store postgresql://127\.0\.0\.1:1/mail cannot be reached: .*refused",
        ),
        ("postgresql:///mail?host=/nowhere", r"the store postgresql://%2Fnowhere/mail cannot be reached: "),
    ],
)
def test_a_server_that_cannot_be_reached_is_named_without_its_user(url, said, opener):
    with pytest.raises(StoreError, match=said) as raised:
        opened(url.replace("//", "//secret@", 1) if "127" in url else url, opener)
    assert "secret" not in str(raised.value)


def test_a_database_or_user_that_does_not_exist_is_named(postgresql):
    with pytest.raises(StoreUnavailable, match='database "none" does not exist'):
        opened(postgresql.url("none"))
    with pytest.raises(StoreUnavailable, match='role "none" does not exist'):
        opened(postgresql.url(user="none"))


def test_a_server_that_is_too_old_is_refused(postgresql, database, monkeypatch):
    monkeypatch.setattr(preparing, "_OLDEST", 99)
    with pytest.raises(StoreError, match=r"is PostgreSQL [0-9]+, expected 99 or later"):
        opened(postgresql.url(database))
    assert tables(postgresql, database) == set()


def test_a_database_of_another_encoding_is_refused(postgresql):
    postgresql.execute("CREATE DATABASE latin ENCODING LATIN1 LOCALE 'C' TEMPLATE template0")
    with pytest.raises(StoreError, match=r"latin has the encoding LATIN1, expected UTF8"):
        opened(postgresql.url("latin"))
    assert tables(postgresql, "latin") == set()


def test_a_user_who_may_not_make_tables_is_told_which_right_is_missing(postgresql, database, role):
    with pytest.raises(
        StoreError, match=rf"{role} may not make tables .*: GRANT CREATE ON SCHEMA public TO {role}"
    ):
        opened(postgresql.url(database, user=role))
    with pytest.raises(StoreError, match="has no schema of the search path nowhere, expected one"):
        opened(postgresql.url(database, options="-csearch_path%3Dnowhere"))
    assert tables(postgresql, database) == set()


def test_a_user_who_may_not_write_a_table_is_told_which_right_is_missing(postgresql, database, role):
    opened(postgresql.url(database))
    postgresql.execute(
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role};"
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}",
        database=database,
    )
    opened(postgresql.url(database, user=role))
    postgresql.execute(f"REVOKE DELETE ON kept FROM {role}", database=database)
    with pytest.raises(StoreError, match=rf"{role} may not DELETE in the table kept .* ON kept TO {role}"):
        opened(postgresql.url(database, user=role))


@pytest.mark.parametrize(
    ("version", "opener", "said"),
    [
        ("9999", Database.create, rf"is of version 9999, newer than this Gatepost's \({VERSION}\)"),
        ("9999", Database.existing, "is of version 9999, newer"),
        ("0001", Database.existing, "is of an older version; `gatepost serve` brings it up to date"),
    ],
)
def test_a_store_of_another_version_is_left_as_it_is(postgresql, settings, version, opener, said):
    with postgresql.connect(settings.url) as connection:
        connection.execute("UPDATE alembic_version SET version_num = %s", [version])
        connection.commit()
        try:
            with pytest.raises(StoreError, match=said):
                opened(settings.url, opener)
            assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(version,)]
        finally:
            connection.execute("UPDATE alembic_version SET version_num = %s", [VERSION])


def test_a_database_of_something_else_is_left_as_it_is(postgresql, database):
    postgresql.execute("CREATE TABLE letters (text text)", database=database)
    for opener in (Database.create, Database.existing):
        with pytest.raises(StoreError, match="is a database, but not one of Gatepost's"):
            opened(postgresql.url(database), opener)
    assert tables(postgresql, database) == {"letters"}


def test_of_many_nodes_that_start_at_once_one_makes_the_tables(postgresql, database):
    errors = []
    together = threading.Barrier(6)

    def start():
        together.wait()
        try:
            opened(postgresql.url(database))
        except StoreError as error:
            errors.append(error)

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert postgresql.execute("SELECT version_num FROM alembic_version", database=database) == [(VERSION,)]


def as_version_9(postgresql, database):
    """Take from a database what later versions add."""
    for statement in (
        "DROP TABLE desk_sessions, positions",
        "DROP TABLE transaction_rules",
        "DROP FUNCTION note_rules_asked, note_rule_that_decided CASCADE",
        "DROP INDEX kept_texts_tags, kept_texts_rules, kept_texts_user",
        "ALTER TABLE kept_texts ALTER seen SET COMPRESSION default, ALTER fields SET COMPRESSION default",
        "UPDATE alembic_version SET version_num = '0009'",
    ):
        postgresql.execute(statement, database=database)


INDEXED = "SELECT count(*) FROM pg_indexes WHERE indexname IN ('kept_texts_seen', 'kept_texts_fields')"


def test_without_the_extension_for_searches_the_log_says_what_to_do_until_it_is_there(
    postgresql, database, role, caplog
):
    postgresql.execute(f"GRANT CREATE ON SCHEMA public TO {role}", database=database)
    url = postgresql.url(database, user=role)
    opened(url)
    assert "searches in" in caplog.text
    assert "Run CREATE EXTENSION pg_trgm as an administrator, and restart Gatepost" in caplog.text
    assert postgresql.execute(INDEXED, database=database) == [(0,)]
    postgresql.execute("CREATE EXTENSION pg_trgm", database=database)
    caplog.clear()
    opened(url)
    assert "searches" not in caplog.text
    assert postgresql.execute(INDEXED, database=database) == [(2,)]


@pytest.mark.parametrize(("locale", "warned"), [("C", True), ("C.UTF-8", False)])
def test_a_locale_without_letters_is_named_at_each_start(postgresql, caplog, locale, warned):
    database = f"database{next(NUMBERS)}"
    postgresql.execute(f"CREATE DATABASE {database} LOCALE '{locale}' TEMPLATE template0")
    for _ in range(2):
        caplog.clear()
        opened(postgresql.url(database))
        assert (f"{database} for words with other letters than a to z will be slow" in caplog.text) is warned


def test_a_server_that_loses_mail_in_a_power_cut_is_named(postgresql, settings, caplog):
    opened(settings.url)
    assert "has fsync = off: it loses mail when its machine fails" in caplog.text


async def test_a_node_is_warned_once_and_not_by_each_worker_and_release(settings, tmp_path, caplog):
    node = RunningNode(name="mx-a", instance=1)
    opened = [open_store(settings, tmp_path, node=given) for given in (node, node, None)]
    assert caplog.text.count("fsync = off") == 1
    for one in opened:
        await one.close()
    await open_store(settings, tmp_path, node=node).close()
    assert caplog.text.count("fsync = off") == 2


def test_a_password_is_read_for_each_connection_and_never_shown(postgresql, settings, tmp_path):
    file = tmp_path / "password"
    file.write_text("secret\n")
    with open_archive(settings.model_copy(update={"password_file": file}), tmp_path) as archive:
        assert archive.record("none") is None
    file.unlink()
    with pytest.raises(StoreUnavailable, match=r"store\.password_file: .*No such file"):
        opened(
            settings.url, lambda given: Database.existing(given.model_copy(update={"password_file": file}))
        )


async def test_older_nodes_write_while_a_newer_one_brings_the_store_up_to_date(
    postgresql, database, tmp_path, make_record, make_kept, everything, monkeypatch
):
    """A migration adds a column, as all migrations do."""
    newer = f"{int(VERSION) + 1:04}"
    settings = StoreSettings(url=postgresql.url(database))
    older = open_store(settings, tmp_path)

    def migrate(connection):
        connection.exec_driver_sql("ALTER TABLE transactions ADD COLUMN mood text")
        connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{newer}'")

    monkeypatch.setattr(preparing, "migrate", migrate)
    monkeypatch.setattr(preparing, "VERSION", newer)
    monkeypatch.setattr("gatepost.store.sql.versions.VERSION", newer)
    written = []

    def upgrade():
        opened(settings.url)

    thread = threading.Thread(target=upgrade)
    for number in range(60):
        if number == 20:
            thread.start()
        record, kept = make_record(), make_kept()
        await older.commit(record, [kept])
        written.append((record.id, kept.id))
    thread.join()
    await older.commit(last := make_record())
    assert postgresql.execute("SELECT version_num FROM alembic_version", database=database) == [(newer,)]
    assert everything(older) == ({last.id, *(r for r, _ in written)}, {k for _, k in written})
    await older.close()


async def test_a_node_without_a_name_goes_on_writing_beside_one_that_has_a_name(
    postgresql, database, tmp_path, make_record
):
    settings = StoreSettings(url=postgresql.url(database))
    opened(settings.url)
    as_version_9(postgresql, database)
    postgresql.execute("ALTER TABLE transactions DROP COLUMN node", database=database)
    postgresql.execute("DROP TABLE live_watchers, live_batches", database=database)
    postgresql.execute("UPDATE alembic_version SET version_num = '0007'", database=database)
    old_insert = Insert(transactions, "postgresql", without=("node",)).one

    def write_as_before(name):
        with psycopg.connect(settings.url) as connection:
            connection.execute(old_insert, transaction_row(make_record(id=name))[:-1])

    write_as_before("before")
    store = open_store(settings, tmp_path)
    write_as_before("after")
    await store.commit(make_record(id="named", node="mx-a"))
    nodes = {record.id: record.node for record in store.archive.records(JournalQuery(), limit=9)}
    await store.close()
    assert nodes == {"before": None, "after": None, "named": "mx-a"}
    unlogged = "SELECT relname FROM pg_class WHERE relpersistence = 'u' AND relkind = 'r' ORDER BY relname"
    assert postgresql.execute(unlogged, database=database) == [("live_batches",), ("live_watchers",)]


MADE = """
SELECT pg_get_indexdef(indexrelid) FROM pg_index JOIN pg_class ON pg_class.oid = indrelid
WHERE relnamespace = 'public'::regnamespace
UNION ALL SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
UNION ALL SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname LIKE 'note_rule%'
UNION ALL SELECT conrelid::regclass::text || pg_get_constraintdef(oid) FROM pg_constraint
UNION ALL SELECT concat_ws(
  ' ', attrelid::regclass, attname, atttypid::regtype, attcollation, attnotnull, attcompression)
FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND attnum > 0 AND NOT attisdropped
"""
"""What a database has, but for the order of columns."""


WAITING = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"


async def test_of_nodes_that_start_at_once_one_migrates_to_what_a_new_store_is(
    postgresql, database, make_record, until
):
    """The migration is stopped after its first commit, until the other node waits too."""
    url = postgresql.url(database)
    opened(url)
    made = sorted(postgresql.execute(MADE, database=database))
    as_version_9(postgresql, database)
    with psycopg.connect(url) as connection:
        connection.execute(Insert(transactions, "postgresql").one, transaction_row(make_record()))
    errors = []

    def start():
        try:
            opened(url)
        except StoreError as error:
            errors.append(error)

    threads = [threading.Thread(target=start) for _ in range(2)]
    with psycopg.connect(url) as connection:
        connection.execute(lock(Lock.RETENTION))
        for number, thread in enumerate(threads, 1):
            thread.start()
            await until(lambda number=number: postgresql.execute(WAITING, database=database) == [(number,)])
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(postgresql.execute(MADE, database=database)) == made


def test_a_user_cannot_have_the_triggers_act_on_a_temporary_table_with_the_rights_of_the_owner(
    postgresql, database, role, make_record
):
    opened(postgresql.url(database))
    postgresql.execute(
        f"GRANT SELECT, INSERT, UPDATE ON transactions, recipients TO {role}", database=database
    )
    insert = Insert(transactions, "postgresql").one
    with psycopg.connect(postgresql.url(database, user=role)) as connection:
        connection.execute(
            "CREATE TEMPORARY TABLE transaction_rules"
            " (transaction_id text, rule text, received_at bigint, UNIQUE (transaction_id, rule))"
        )
        connection.execute("GRANT ALL ON pg_temp.transaction_rules TO PUBLIC")
        connection.execute(insert, transaction_row(make_record(id="a")))
        assert connection.execute("SELECT rule FROM pg_temp.transaction_rules").fetchall() == []
    noted = "SELECT DISTINCT transaction_id FROM transaction_rules"
    assert postgresql.execute(noted, database=database) == [("a",)]


async def test_records_that_older_nodes_write_are_found_by_their_rules(
    postgresql, database, role, tmp_path, make_record
):
    """Before a migration and after it, by a user who has no rights to what is new, and if it was killed."""
    settings = StoreSettings(url=postgresql.url(database))
    opened(settings.url)
    as_version_9(postgresql, database)
    rights = f"GRANT SELECT, INSERT, UPDATE ON transactions, recipients TO {role}"
    postgresql.execute(rights, database=database)
    inserts = [Insert(table, "postgresql").one for table in (transactions, recipients)]

    def write_as_before(name, received_at):
        record = make_record(id=name, received_at=received_at)
        with psycopg.connect(postgresql.url(database, user=role)) as connection:
            connection.execute(inserts[0], transaction_row(record))
            for row in recipient_rows(record):
                connection.execute(inserts[1], row)

    def of_rules():
        with open_archive(settings, tmp_path) as archive:
            return [
                "".join(record.id for record in archive.records(JournalQuery(rule=rule), limit=9))
                for rule in ("words", "no-executables", "quiet")
            ]

    start = make_record().received_at
    for number, name in enumerate("abc"):
        write_as_before(name, start + timedelta(minutes=number))
    opened(settings.url)
    assert of_rules() == ["cba", "cba", ""]
    write_as_before("d", start)
    write_as_before("a", start + timedelta(hours=1))
    assert of_rules() == ["acbd", "acbd", ""]

    postgresql.execute("DELETE FROM transaction_rules WHERE transaction_id > 'a'", database=database)
    postgresql.execute("DROP TABLE desk_sessions, positions", database=database)
    postgresql.execute("UPDATE alembic_version SET version_num = '0011'", database=database)
    opened(settings.url)
    assert of_rules() == ["acbd", "acbd", ""]
    postgresql.execute("DELETE FROM transactions", database=database)
    assert postgresql.execute("SELECT * FROM transaction_rules", database=database) == []
