"""A role of the server that lacks a right: each command names the right and the role, and what grants it."""

import asyncio
import itertools
import re
import subprocess
import sys

import pytest
from gatepost.cli import app
from gatepost.config.store import StoreSettings
from gatepost.store import State, StoreForbidden, open_archive, open_store
from gatepost.store.postgresql.database import Database
from gatepost.store.postgresql.driver import Place
from gatepost.store.sql.schema import VERSION
from typer.testing import CliRunner

NUMBERS = itertools.count()
PATIENCE_SECONDS = 60
WRITE = "SELECT, INSERT, UPDATE, DELETE"
STATE = """
SELECT relname, relkind::text, relowner::regrole::text, relacl::text FROM pg_class
WHERE relnamespace = 'public'::regnamespace OR relnamespace::regnamespace::text = 'mail' ORDER BY 1
"""
OWNER = re.compile(r"does not own (.*) \(owned by gatepost\).* (ALTER TABLE) \.\.\. (OWNER TO \w+)")


class Case:
    """A database, and a role that has not all rights in it."""

    def __init__(self, server):
        self.server = server
        number = next(NUMBERS)
        self.database, self.role = f"rights{number}", f"limited{number}"
        server.execute(f"CREATE DATABASE {self.database}")
        server.execute(f"CREATE ROLE {self.role} LOGIN")

        self.url = server.url(self.database, user=self.role)
        self.name = Place(self.url, lambda: None).name

    def execute(self, *statements):
        return [self.server.execute(one, database=self.database) for one in statements][-1]

    def store(self, *rights, version=VERSION):
        """Make a store of another role, and grant the role rights in it."""
        Database.create(StoreSettings(url=self.server.url(self.database))).close()
        self.execute(
            *(f"GRANT {right} TO {self.role}" for right in rights),
            f"UPDATE alembic_version SET version_num = '{version}'",
        )
        if version == "0012":
            self.execute("DROP TABLE desk_sessions, positions")

    def found(self):
        """Everything that may be changed by what is refused."""
        made = self.execute("SELECT to_regclass('public.alembic_version') IS NOT NULL")[0][0]
        rows = [
            self.execute(f"SELECT count(*) FROM public.{one}")
            for one in ("transactions", "kept", "sessions")
            if made
        ]
        version = self.execute("SELECT version_num FROM public.alembic_version") if made else None
        schemas = self.execute("SELECT nspname, nspacl::text FROM pg_namespace ORDER BY 1")
        return self.execute(STATE), schemas, rows, version

    def mend(self, said):
        """Do what an error says."""
        if owner := OWNER.search(said):
            tables, alter, to = owner.groups()
            self.execute(*(f"{alter} {table} {to}" for table in tables.split(", ")))
        else:
            self.execute(*re.findall(r"GRANT [^;]* TO \w+", said))


TABLES, SEQUENCES = "ALL TABLES IN SCHEMA public", "ALL SEQUENCES IN SCHEMA public"


def may_not_make(case):
    return ()


def may_not_use_the_schema(case):
    case.execute("CREATE SCHEMA mail", f"ALTER ROLE {case.role} SET search_path = mail")


def may_only_read(case):
    case.store(f"SELECT ON {TABLES}")


def may_not_even_read(case):
    case.store()


def may_read_some(case):
    case.store(f"SELECT ON {TABLES}")
    case.execute(f"REVOKE ALL ON recipients, kept FROM {case.role}")


def may_not_delete(case):
    case.store(f"{WRITE} ON {TABLES}", f"USAGE ON {SEQUENCES}")
    case.execute(f"REVOKE DELETE ON kept FROM {case.role}")


def has_no_sequence(case):
    case.store(f"{WRITE} ON {TABLES}")


def may_not_set_the_sequence(case):
    case.store(f"{WRITE} ON {TABLES}", f"USAGE ON {SEQUENCES}")


def does_not_own_what_is_to_be_migrated(case):
    case.store(f"{WRITE} ON {TABLES}", f"USAGE ON {SEQUENCES}", "CREATE ON SCHEMA public", version="0012")


def owns_but_may_not_make(case):
    case.store(f"USAGE ON {SEQUENCES}", version="0012")
    for (table,) in case.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
        case.execute(f"ALTER TABLE {table} OWNER TO {case.role}")


MAKE = (
    "may not make tables in the schema public of {name}, expected that right: GRANT CREATE ON SCHEMA public"
)
USE = "may not use the schema mail of {name}, expected that right: GRANT USAGE ON SCHEMA mail TO {role}"
INSERT = (
    f"may not INSERT in the table alembic_version of {{name}}, expected that right: GRANT {WRITE} ON alembic"
)
READ = "may not SELECT in the table alembic_version of {name}, expected that right: GRANT SELECT"
DELETE = (
    f"may not DELETE in the table kept of {{name}}, expected that right: GRANT {WRITE} ON kept TO {{role}}"
)
SEQUENCE = (
    "the sequence kept_number_seq of {name}, expected that right: GRANT USAGE, UPDATE ON SEQUENCE kept_num"
)
OWN = "of the older version 0012, and only the owner of its tables may change them: the role {role} does not"
DENIED = " (42501); the role is {role}, expected that right: GRANT SELECT ON recipients, kept TO {role}"
NONE_YET = (1, "there is no store {name} yet; `gatepost serve` makes it")
OLDER = (1, "is of an older version; `gatepost serve` brings it up to date")
NOT_EMPTY = (2, "is of an older version, expected an empty database")
WORKS = (0, "")
CASES = {
    # What is missing, and what serve and check, journal, and migrate (to it, from it) end with and say.
    may_not_make: ((2, MAKE), NONE_YET, (2, MAKE), NONE_YET),
    may_not_use_the_schema: ((2, USE), (2, USE), (2, USE), (2, USE)),
    may_only_read: ((2, INSERT), WORKS, (2, INSERT), WORKS),
    may_not_even_read: ((2, READ), (2, READ), (2, READ), (2, READ)),
    may_read_some: (
        (2, "may not SELECT in the table recipients of {name}, expected that right: GRANT SELECT, INSERT"),
        (2, DENIED),
        (2, "may not SELECT in the table recipients"),
        (2, DENIED),
    ),
    may_not_delete: ((2, DELETE), WORKS, (2, DELETE), WORKS),
    has_no_sequence: ((2, "may not use " + SEQUENCE), WORKS, (2, "may not use " + SEQUENCE), WORKS),
    may_not_set_the_sequence: (WORKS, WORKS, (2, "may not set " + SEQUENCE), WORKS),
    does_not_own_what_is_to_be_migrated: ((2, OWN), OLDER, NOT_EMPTY, OLDER),
    owns_but_may_not_make: ((2, MAKE), OLDER, NOT_EMPTY, OLDER),
}


@pytest.fixture
def case(postgresql):
    return Case(postgresql)


@pytest.fixture
def rules(tmp_path, case):
    file = tmp_path / "rules.yaml"
    file.write_text(f"listen: ['127.0.0.1:0']\nstore:\n  url: '{case.url}'\n")
    return file


def run(*command):
    done = CliRunner().invoke(app, [str(part) for part in command])
    return done.exit_code, done.stderr


def serve(rules):
    command = [sys.executable, "-m", "gatepost", "serve", "-c", rules]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize("missing", CASES, ids=lambda case: case.__name__)
def test_a_missing_right_is_named_by_each_command_with_a_remedy_and_nothing_is_written(
    missing, case, rules, tmp_path
):
    missing(case)
    served, read, copied_to, copied_from = CASES[missing]
    full = f"sqlite:///{tmp_path}/full.db"
    asyncio.run(open_store(StoreSettings(url=full), tmp_path).close())
    before = case.found()
    for command, (status, said) in {
        ("check", "-c", rules): served,
        ("serve",): served,
        ("journal", "-c", rules): read,
        ("migrate", case.url, f"sqlite:///{tmp_path}/copy.db"): copied_from,
        ("migrate", full, case.url): copied_to,
    }.items():
        if status == 0 and command in {("serve",), ("migrate", full, case.url)}:
            continue  # these would go on
        ended, errors = serve(rules) if command == ("serve",) else run(*command)
        expected = said.format(name=case.name, role=case.role)
        assert (ended, expected in errors) == (status, True), (command, expected, errors)
        if status == 2 and command[0] in {"serve", "check"}:
            assert "rules.yaml:3:" in errors
        assert case.found() == before, command
    while (ended := run("check", "-c", rules))[0] == 2:
        before = case.found()
        case.mend(ended[1])
        assert case.found() != before, ended
    assert ended == (0, "")
    Database.create(StoreSettings(url=case.url)).close()


def test_a_member_of_the_owner_may_migrate(case, rules):
    does_not_own_what_is_to_be_migrated(case)
    assert run("check", "-c", rules)[0] == 2
    case.execute(f"GRANT gatepost TO {case.role}")
    assert run("check", "-c", rules) == (0, "")


async def test_a_command_that_writes_names_the_right_that_a_reader_lacks(
    case, rules, tmp_path, make_kept, make_record
):
    may_only_read(case)
    store = open_store(StoreSettings(url=case.server.url(case.database)), tmp_path)
    await store.commit(make_record(), [kept := make_kept()])
    await store.close()
    ended, errors = run("quarantine", "delete", kept.id, "--yes", "-c", rules)
    assert ended == 2
    denied = f"permission denied for table kept (42501); the role is {case.role}, expected that right: GRANT"
    assert denied in errors
    with open_archive(StoreSettings(url=case.url), tmp_path) as archive:
        assert archive.kept_message(kept.id).state is State.HELD
        with pytest.raises(StoreForbidden, match=rf"GRANT {WRITE} ON .* TO {case.role}; GRANT USAGE"):
            archive.delete([kept.id], actor="ann")


def test_a_right_that_is_missing_is_no_reason_to_wait_for_a_store_that_is_not_required(case, rules):
    may_only_read(case)
    rules.write_text(rules.read_text() + "  required: false\n")
    ended, errors = serve(rules)
    assert (ended, INSERT.format(name=case.name) in errors) == (2, True)


def test_check_does_not_ask_for_a_server_that_is_gone(tmp_path):
    rules = tmp_path / "rules.yaml"
    rules.write_text("store: {url: 'postgresql:///mail?host=/nowhere'}\n")
    assert run("check", "-c", rules) == (0, "")
