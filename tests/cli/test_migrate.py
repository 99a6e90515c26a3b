"""``gatepost migrate`` as a person types it; what is copied is tested in tests/store/test_copying.py."""

import sys

import pytest
from gatepost.cli import app
from gatepost.config.store import StoreSettings
from gatepost.store import Copied, CopiedTable, Progress, open_store
from gatepost.testing import make_record, make_transaction
from typer.testing import CliRunner

FILE, SERVER = "sqlite:///gatepost.db", "postgresql://gatepost@127.0.0.1:1/mail"


@pytest.fixture
def migrate(tmp_path, monkeypatch):
    """Run the command in tmp_path; returns status, output and errors."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        done = CliRunner().invoke(app, ["migrate", *map(str, arguments)])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.stdout, done.stderr

    return run


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((FILE,), "Missing argument 'TARGET'"),
        ((FILE, "mysql://h/d"), "TARGET: not a store URL, expected one like sqlite:///gatepost.db or"),
        (("gatepost.db", SERVER), "SOURCE: not a store URL, expected one like"),
        ((FILE, "sqlite:///b.db"), "of the same kind, expected a file and a server; copy a file with"),
        ((SERVER, SERVER), "of the same kind, expected a file and a server"),
        (
            (FILE, "postgresql://u:secret@h/d"),
            "TARGET: a password in the URL, expected it in --password-file",
        ),
        ((FILE, "postgresql://u@h/d?password=secret"), "TARGET: a password in the URL"),
        ((FILE, SERVER, "--password-file", "none"), "'none' does not exist"),
    ],
    ids=str,
)
def test_what_is_typed_wrong_is_named_and_nothing_is_made(migrate, tmp_path, arguments, said):
    status, output, errors = migrate(*arguments)
    assert (status, output) == (2, "")
    assert said in errors
    assert "secret" not in errors
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("options", [(), ("--verify",)])
def test_without_the_extra_it_says_how_to_install_it(migrate, monkeypatch, tmp_path, options):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    missing = "psycopg is not installed, expected: pip install 'gatepost[postgres]'"
    assert migrate(FILE, SERVER, *options) == (2, "", f"gatepost: TARGET: {missing}\n")
    assert migrate(SERVER, FILE, *options) == (2, "", f"gatepost: SOURCE: {missing}\n")
    assert [*tmp_path.iterdir()] == []


async def test_what_is_not_there_is_named(migrate, tmp_path):
    status, output, errors = migrate(FILE, SERVER)
    assert (status, output, errors) == (1, "", f"gatepost: there is no store {tmp_path}/gatepost.db\n")
    store = open_store(StoreSettings(url=FILE), tmp_path)
    await store.commit(make_record(make_transaction()))
    await store.close()
    status, output, errors = migrate(FILE, SERVER)
    assert (status, output) == (1, "")
    assert errors.startswith("gatepost: the store postgresql://127.0.0.1:1/mail cannot be reached: ")


def test_progress_and_result_are_shown_with_figures(migrate, monkeypatch):
    def copy(_source, _target, _base, report):
        for rows, done in ((1000, False), (2000, False), (2500, False), (2500, True)):
            report(
                Progress(
                    table="kept", what="copied", rows=rows, of=2500, size=rows << 20, seconds=5.0, done=done
                )
            )
        return Copied(
            tables=(CopiedTable(name="kept", rows=2500, digest="aa"),),
            messages=2500,
            size=2500 << 20,
            messages_digest="bb",
            written=2500,
        )

    monkeypatch.setattr("gatepost.store.copy_store", copy)
    status, output, errors = migrate(FILE, SERVER)
    assert status == 0
    assert errors.splitlines() == [
        "copied kept: 1,000 of 2,500 rows, 1,000.0 MiB (200 rows/s, 200.0 MiB/s)",
        "copied kept: 2,500 rows, 2,500.0 MiB (500 rows/s, 500.0 MiB/s)",
    ]
    assert output.splitlines() == [
        "kept                     2,500 rows  SHA-256 aa",
        "content                  2,500 messages, 2,500.0 MiB  SHA-256 bb",
        "copied and compared: 2,500 rows, 2,500 written now; both stores are the same",
    ]
