"""A node that can do without its store starts while the server does, and not if the login can never work."""

import logging
import subprocess
import sys
import time
from contextlib import closing

import psycopg
import pytest
from gatepost.cli import app
from gatepost.config.store import StoreSettings
from gatepost.store import StoreUnavailable
from gatepost.store.postgresql.database import Database
from typer.testing import CliRunner

REFUSED = "failed: FATAL: +"
NO_PASSWORD = "asks for a password, expected one in a password file, PGPASSWORD or ~/.pgpass"


def optional(url, **settings):
    """Open a store that is not required."""
    return Database.create(StoreSettings(url=url, required=False, **settings))


@pytest.fixture
def secured(postgresql, monkeypatch):
    """The server has a role that must send a password, and one that is excluded."""
    monkeypatch.delenv("PGPASSWORD", raising=False)
    monkeypatch.setenv("PGPASSFILE", "/nowhere")
    file = postgresql.folder / "data" / "pg_hba.conf"
    before = file.read_text()
    postgresql.execute("CREATE ROLE secured LOGIN PASSWORD 'right'; CREATE ROLE excluded LOGIN")
    file.write_text(f"local all secured scram-sha-256\nlocal all excluded reject\n{before}")
    postgresql.execute("SELECT pg_reload_conf()")
    until = time.monotonic() + 60
    while takes(postgresql.url(user="secured")):
        assert time.monotonic() < until
    yield postgresql
    file.write_text(before)
    postgresql.execute("SELECT pg_reload_conf(); DROP ROLE secured; DROP ROLE excluded")


def takes(url):
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.mark.parametrize(
    ("user", "database", "password", "said"),
    [
        ("secured", "postgres", None, NO_PASSWORD),
        ("secured", "postgres", "wrong", f'{REFUSED}password authentication failed for user "secured"'),
        ("secured", "none", "right", f'{REFUSED}database "none" does not exist'),
        ("none", "postgres", None, f'{REFUSED}role "none" does not exist'),
        ("excluded", "postgres", None, f"{REFUSED}pg_hba.conf rejects connection"),
    ],
)
def test_a_login_that_can_never_work_fails_the_start(secured, tmp_path, user, database, password, said):
    given = {}
    if password:
        (tmp_path / "password").write_text(password)
        given["password_file"] = tmp_path / "password"
    with pytest.raises(StoreUnavailable, match=said) as raised:
        optional(secured.url(database, user=user), **given)
    assert "wrong" not in str(raised.value)
    assert "right" not in str(raised.value)


def test_migrate_without_a_password_says_where_it_looks_for_one(secured, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["migrate", secured.url(user="secured"), "sqlite:///new.db"])
    assert (done.exit_code, NO_PASSWORD in done.stderr, len(done.stderr.splitlines())) == (1, True, 1)


def test_a_refusal_that_may_end_by_itself_is_an_error_in_the_log(postgresql, caplog):
    postgresql.execute("CREATE ROLE limited LOGIN CONNECTION LIMIT 0")
    settings = StoreSettings(url=postgresql.url(user="limited"), required=False)
    try:
        with closing(Database.opened(settings, lambda *_: None)) as database:
            assert levels(caplog) == [logging.ERROR]
            assert "; the server answers: it is used as soon as it accepts the login" in caplog.text
            postgresql.execute("ALTER ROLE limited SUPERUSER CONNECTION LIMIT -1")
            with database.transaction() as connection:
                assert connection.exec_driver_sql("SELECT current_user").scalar() == "limited"
    finally:
        postgresql.execute("DROP ROLE limited")


GERMAN = """
import socket, sys

octets = sys.argv[1].encode().replace(b"|", b"\\0") + b"\\0\\0"
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    client, _ = listener.accept()
    with client:
        client.recv(4096)
        client.sendall(b"E" + (len(octets) + 4).to_bytes(4, "big") + octets)
"""


@pytest.fixture
def german():
    """A server that refuses each connection with this code, in German; returns its URL."""
    servers = []

    def refuse(code, text):
        command = [sys.executable, "-c", GERMAN, f"SFATAL|C{code}|M{text}"]
        servers.append(server := subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        port = int(server.stdout.readline())
        return f"postgresql://joe@127.0.0.1:{port}/mail?sslmode=disable&gssencmode=disable"

    yield refuse
    for one in servers:
        one.terminate()
        one.wait(60)
        one.stdout.close()


@pytest.mark.parametrize(
    ("code", "text", "level"),
    [
        ("57P03", "das Datenbanksystem startet", logging.WARNING),
        ("57P03", "das Datenbanksystem fährt herunter", logging.WARNING),
        ("28P01", "Passwort-Authentifizierung für Benutzer »joe« fehlgeschlagen", logging.ERROR),
    ],
)
def test_a_server_that_starts_is_known_in_any_language(german, caplog, code, text, level):
    optional(german(code, text)).close()
    assert levels(caplog) == [level]
    assert f"failed: FATAL:  {text}; " in caplog.text


def levels(caplog):
    return [one.levelno for one in caplog.records if "it is used as soon as it" in one.getMessage()]


@pytest.mark.parametrize(
    ("hosts", "said"),
    [
        (
            "127.0.0.1:1",
            (
                'cannot be reached: connection to server at "127.0.0.1", port 1 failed: Connection refused'
                " (Is the server running on that host and accepting TCP/IP connections?)"
            ),
        ),
        (
            "127.0.0.1:1,127.0.0.1:2",
            (
                'cannot be reached: connection to server at "127.0.0.1", port 1 failed: Connection refused'
                " (Is the server running on that host and accepting TCP/IP connections?);"
                ' connection to server at "127.0.0.1", port 2 failed: Connection refused'
                " (Is the server running on that host and accepting TCP/IP connections?)"
            ),
        ),
    ],
)
def test_what_libpq_says_is_one_line_without_repetition(hosts, said):
    with pytest.raises(StoreUnavailable) as raised:
        Database.create(StoreSettings(url=f"postgresql://{hosts}/mail"))
    assert str(raised.value).endswith(said)
    assert "\t" not in str(raised.value)
