"""``gatepost backup`` and ``gatepost restore`` as a person types them."""

import re

import pytest
from gatepost.cli import app
from gatepost.config.store import StoreSettings
from gatepost.store import open_store
from gatepost.testing import make_record, make_transaction
from typer.testing import CliRunner


@pytest.fixture
def gatepost(tmp_path):
    """Run a command over the settings in tmp_path; returns status, output and errors."""
    (tmp_path / "rules.yaml").write_text("store: {url: 'sqlite:///gatepost.db'}\n")

    def run(*arguments):
        done = CliRunner().invoke(app, [*map(str, arguments), "-c", str(tmp_path / "rules.yaml")])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.stdout, done.stderr

    return run


@pytest.fixture
async def store(tmp_path):
    opened = open_store(StoreSettings(url="sqlite:///gatepost.db"), tmp_path)
    await opened.commit(make_record(make_transaction()))
    await opened.close()


def test_both_say_what_the_file_holds(store, gatepost, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, output, _ = gatepost("backup", "copy.db")
    assert (status, output) == (0, "copy.db: 1 record, 0 messages, 0.1 MiB\n")
    (tmp_path / "gatepost.db").unlink()
    status, output, _ = gatepost("restore", "copy.db")
    assert (status, output) == (0, "restored copy.db: 1 record, 0 messages, 0.1 MiB\n")
    status, output, _ = gatepost("restore", "copy.db", "--replace")
    assert status == 0
    assert re.search(r"the store that was there is now .*/gatepost\.db\.replaced-\d{8}-\d{6}\n", output)


def test_what_is_refused_is_one_line_that_says_what_to_do(store, gatepost, tmp_path):
    file = tmp_path / "copy.db"
    assert gatepost("backup", file)[0] == 0
    status, output, errors = gatepost("backup", file)
    assert (status, output, errors) == (
        1,
        "",
        f"gatepost: there is a file {file} already; --replace replaces it\n",
    )
    status, output, errors = gatepost("restore", file)
    assert (status, output) == (1, "")
    assert errors == (
        f"gatepost: there is a store {tmp_path}/gatepost.db; "
        "--replace sets it aside and takes the backup instead\n"
    )
    assert (
        gatepost("restore", tmp_path / "none")[2]
        == f"gatepost: there is no file {tmp_path}/none to restore\n"
    )
