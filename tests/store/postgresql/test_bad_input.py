"""Whatever is wrong with the URL, the server or the database: a clear error, and nothing is written."""

import itertools
import time

import pytest
import typer
from gatepost.cli import app
from gatepost.cli.errors import cli_errors
from gatepost.config import load
from gatepost.config.store import StoreSettings
from gatepost.process.service import Service
from gatepost.store import RunningNode
from gatepost.store.postgresql import clocks, preparing
from gatepost.store.postgresql.database import Database
from typer.testing import CliRunner

NUMBERS = itertools.count()
TABLES = "SELECT relname, relnamespace FROM pg_class WHERE relkind = 'r' AND relowner <> 10 ORDER BY 1"
ALL = "SELECT relname FROM pg_class WHERE relkind IN ('r', 'S', 'i') AND relnamespace >= 2200 ORDER BY 1"


class Server:
    """What a case needs to make something wrong."""

    def __init__(self, server, monkeypatch):
        self.server = server
        self.monkeypatch = monkeypatch
        self.name = None

    def database(self, options=""):
        self.name = f"bad{next(NUMBERS)}"
        self.server.execute(f"CREATE DATABASE {self.name} {options}")
        return self.name

    def store(self):
        """A database with a store in it."""
        Database.create(StoreSettings(url=self.server.url(self.database()))).close()
        return self.name

    def role(self, settings=""):
        name = f"badrole{next(NUMBERS)}"
        self.server.execute(f"CREATE ROLE {name} LOGIN")
        if settings:
            self.server.execute(f"ALTER ROLE {name} {settings}")
        return name

    def execute(self, statement):
        self.server.execute(statement, database=self.name)

    def url(self, **options):
        return self.server.url(self.name, **options)

    def contents(self):
        return self.server.execute(ALL, database=self.name) if self.name else []


def too_old(given):
    given.monkeypatch.setattr(preparing, "_OLDEST", 99)
    given.database()
    return given.url()


def latin(given):
    given.database("ENCODING LATIN1 LOCALE 'C' TEMPLATE template0")
    return given.url()


def sql_ascii(given):
    given.database("ENCODING SQL_ASCII LOCALE 'C' TEMPLATE template0")
    return given.url()


def foreign(given):
    given.database()
    given.execute("CREATE TABLE letters (text text)")
    return given.url()


def newer(given):
    given.store()
    given.execute("UPDATE alembic_version SET version_num = '9999'")
    return given.url()


def unfinished_copy(given):
    given.store()
    given.execute("UPDATE alembic_version SET version_num = 'copying-0123456789abcdef'")
    return given.url()


def no_create(given):
    given.database()
    return given.url(user=given.role())


def no_schema(given):
    given.database()
    return given.url(options="-csearch_path%3Dnowhere")


def reads_only(given):
    given.store()
    role = given.role()
    given.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
    return given.url(user=role)


def read_only_transactions(given):
    given.store()
    return given.url(user=given.role("SET default_transaction_read_only = on"))


def no_such_database(given):
    return given.server.url("none")


def no_such_user(given):
    return given.server.url(user="none")


UNREACHABLE = "cannot be reached: "
CASES = {
    "port too high": ("postgresql://h:99999/mail", 2, 'store.url: invalid port number: "99999"'),
    "port no number": ("postgresql://h:smtp/mail", 2, 'invalid integer value "smtp" for connection option'),
    "one of two ports": ("postgresql://h:5432,i:0/mail", 2, 'store.url: invalid port number: "0"'),
    "unknown option": (
        "postgresql://h/mail?colour=red",
        2,
        "store.url: unknown option 'colour', expected an option of libpq",
    ),
    "option written wrong": (
        "postgresql://h/mail?sslmod=require",
        2,
        "store.url: unknown option 'sslmod' (did you mean 'sslmode'?)",
    ),
    "password with ?": ("postgresql://u:a?hidden=1@h/mail", 2, "a password in the URL, expected it in"),
    "password with / and ?": ("postgresql://u:a/b?hidden=1@h/mail", 2, "store.url is not understood"),
    "wrong sslmode": ("postgresql://h/mail?sslmode=maybe", 2, 'store.url: invalid sslmode value: "maybe"'),
    "wrong attributes": (
        "postgresql://h/mail?target_session_attrs=x",
        2,
        "invalid target_session_attrs value",
    ),
    "wrong timeout": (
        "postgresql://h/mail?connect_timeout=soon",
        2,
        "'soon' of connect_timeout, expected a whole",
    ),
    "open bracket": ("postgresql://[::1/mail", 2, "store.url is not understood"),
    "no UTF-8": ("postgresql://h/%ff", 2, "store.url is not understood"),
    "no host": ("postgres://%zz/mail", 2, "store.url is not understood"),
    "another scheme": ("mysql://h/mail", 2, "not a store URL, expected one like sqlite:///gatepost.db or"),
    "password": ("postgresql://u:hidden@h/mail", 2, "a password in the URL, expected it in password_file"),
    "refused": ("postgresql://hidden@127.0.0.1:1/mail", 1, UNREACHABLE),
    "no socket": ("postgresql:///mail?host=/nowhere", 1, UNREACHABLE),
    "no database": (no_such_database, 1, 'database "none" does not exist'),
    "no user": (no_such_user, 1, 'role "none" does not exist'),
    "too old": (too_old, 2, ", expected 99 or later"),
    "LATIN1": (latin, 2, "has the encoding LATIN1, expected UTF8"),
    "SQL_ASCII": (sql_ascii, 2, "has the encoding SQL_ASCII, expected UTF8"),
    "foreign tables": (foreign, 2, "is a database, but not one of Gatepost's"),
    "newer": (newer, 2, "is of version 9999, newer than this Gatepost's"),
    "unfinished copy": (
        unfinished_copy,
        2,
        "is the unfinished copy of another one; run the same `gatepost migrate`",
    ),
    "no right to make": (no_create, 2, "GRANT CREATE ON SCHEMA public TO badrole"),
    "no schema": (no_schema, 2, "has no schema of the search path nowhere, expected one"),
    "no right to write": (reads_only, 2, "GRANT SELECT, INSERT, UPDATE, DELETE ON"),
    "read-only": (read_only_transactions, 1, "takes no changes: it is a standby, or set to read-only"),
}
WHEN_READ = {"no right to make", "no schema", "no right to write", "read-only"}
"""A command that only reads finds something else to say, or nothing."""


@pytest.fixture
def given(postgresql, monkeypatch):
    return Server(postgresql, monkeypatch)


def status_of(rules):
    """Of a gateway that starts."""
    with pytest.raises(typer.Exit) as ended, cli_errors():
        Service(load(rules), node=RunningNode.started("mx1"))
    return ended.value.exit_code


@pytest.mark.parametrize("case", CASES)
async def test_what_is_wrong_is_said_where_it_is_and_nothing_is_written(given, tmp_path, capsys, case):
    wrong, status, said = CASES[case]
    url = wrong if isinstance(wrong, str) else wrong(given)
    rules = tmp_path / "rules.yaml"
    rules.write_text(f"store:\n  url: '{url}'\n")
    before = given.contents()
    assert status_of(rules) == status
    errors = capsys.readouterr().err
    assert said in errors
    assert "hidden" not in errors
    if isinstance(wrong, str):  # what can be known without the server
        checked = CliRunner().invoke(app, ["check", "-c", str(rules)])
        assert (checked.exit_code == 2, said in checked.stderr) == (status == 2, status == 2), checked.stderr
        assert "hidden" not in checked.stderr
    if status == 2:
        assert "rules.yaml:2:" in errors
    if case not in WHEN_READ:
        done = CliRunner().invoke(app, ["journal", "-c", str(rules)])
        assert (done.exit_code, said in done.stderr) == (status, True), done.stderr
    assert given.contents() == before
    assert [file.name for file in tmp_path.iterdir() if "gatepost.db" in file.name] == []


@pytest.fixture
def clock(monkeypatch):
    """Sets the clock of this machine, for the store alone."""
    now = time.time

    def clock(seconds_ahead):
        monkeypatch.setattr(clocks.time, "time", lambda: now() + seconds_ahead)

    return clock


def said_of_clocks(caplog):
    found = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return [line for line in found if "the clock of this machine" in line]


@pytest.mark.parametrize(
    ("seconds", "word"), [(60, "ahead of"), (-60, "behind"), (290, "ahead of"), (-290, "behind"), (0, None)]
)
def test_a_clock_that_differs_from_the_servers_is_named(given, clock, caplog, seconds, word):
    given.database()
    clock(seconds)
    Database.create(StoreSettings(url=given.url())).close()
    found = said_of_clocks(caplog)
    if word is None:
        assert found == []
    else:
        assert len(found) == 1
        assert f"seconds {word} that of the server of postgresql://" in found[0]


@pytest.mark.parametrize(("seconds", "word"), [(310, "ahead of"), (-310, "behind"), (-4e9, "behind")])
@pytest.mark.parametrize("required", ["true", "false"])
@pytest.mark.parametrize("is_new", [True, False])
async def test_a_clock_five_minutes_off_is_refused_and_nothing_is_written(
    given, clock, tmp_path, capsys, seconds, word, required, is_new
):
    given.database() if is_new else given.store()
    rules = tmp_path / "rules.yaml"
    rules.write_text(f"store:\n  url: '{given.url()}'\n  required: {required}\n")
    before = given.contents()
    clock(seconds)
    assert status_of(rules) == 2
    said = f"seconds {word} that of the server of postgresql://"
    errors = capsys.readouterr().err
    assert "rules.yaml:2:" in errors
    assert said in errors
    assert "expected less than 300; set the clocks" in errors
    checked = CliRunner().invoke(app, ["check", "-c", str(rules)])
    assert (checked.exit_code, said in checked.stderr) == (2, True), checked.stderr
    assert given.contents() == before
    done = CliRunner().invoke(app, ["journal", "-c", str(rules)])  # it dates nothing
    assert done.exit_code == (1 if is_new else 0), "there is no store yet"
    assert "clock" not in done.stderr


def test_a_clock_that_is_set_while_the_gateway_runs_is_named_once(given, clock, caplog):
    given.database()
    database = Database.create(StoreSettings(url=given.url()))
    with database.read() as connection:
        for ahead, lines in (
            (0, 0),
            (3, 0),
            (-3, 0),
            (600, 1),
            (602, 0),
            (-7200, 1),
            (-7200, 0),
            (1, 0),
            (9, 1),
        ):
            clock(ahead)
            for _ in range(3):
                assert abs(database.now(connection).timestamp() + ahead - clocks.time.time()) < 5
            assert len(said_of_clocks(caplog)) == lines, ahead
    database.close()


def test_the_encoding_that_the_environment_wants_makes_no_difference(given, monkeypatch):
    given.database()
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    database = Database.create(StoreSettings(url=given.url()))
    with database.transaction() as connection:
        assert connection.exec_driver_sql("SHOW client_encoding").scalar() == "UTF8"
    database.close()
