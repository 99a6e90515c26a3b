"""``gatepost state`` shows what filters remember, and deletes it in the running gateway's file."""

import asyncio
import re

import pytest
from gatepost.cli import app
from gatepost.state import Amount, State
from gatepost.state.sqlite import SqliteState
from typer.testing import CliRunner

KNOWN = ["ann@example.com joe@partner.example", "bob@example.com eve@else.example"]


@pytest.fixture
def remembered(tmp_path):
    """A settings file, and the state beside its store with entries of two filters."""
    (tmp_path / "rules.yaml").write_text("hostname: mx.example.com\n")

    async def fill():
        backend = SqliteState(tmp_path / "gatepost.db-state", max_entries=1000)
        known, limits = State(backend, "known"), State(backend, "ratelimit")
        for key in KNOWN:
            await known.set(key, 1, seconds=86400)
        await known.set("gone", 1, seconds=1e-9)
        await limits.add(Amount(key="r 192.0.2.7", amount=1, seconds=60, limit=9))
        await backend.close()

    asyncio.run(fill())
    return tmp_path


@pytest.fixture
def state(tmp_path):
    def run(*arguments):
        done = CliRunner().invoke(app, ["state", *arguments, "-c", str(tmp_path / "rules.yaml")])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.stdout, done.stderr

    return run


def keys(output):
    return [line.partition("  until ")[0] for line in output.splitlines()]


@pytest.mark.usefixtures("remembered")
def test_it_lists_filters_keys_and_times(state):
    status, output, _ = state("list")
    assert (status, re.sub(r"known: [23]", "known: 2", output)) == (0, "known: 2\nratelimit: 1\n")
    status, output, _ = state("list", "known", "*@*")
    assert (status, keys(output)) == (0, KNOWN)
    assert re.fullmatch(r"\S+ \S+  until \d{4}-\d\d-\d\d \d\d:\d\d:\d\d", output.splitlines()[0])
    assert keys(state("list", "known", "ANN@*")[1]) == KNOWN[:1]
    assert state("list", "ratelimit")[1].endswith(", counted over 60 s\n")
    assert state("list", "nothing")[:2] == (0, "")


def test_it_forgets_what_matches_and_nothing_else(state, remembered):
    status, output, _ = state("forget", "known", "ann@example.com *")
    assert (status, output) == (0, f"forgotten: {KNOWN[0]}\n")
    assert keys(state("list", "known", "*@*")[1]) == KNOWN[1:]
    assert keys(state("list", "ratelimit")[1]) == ["r 192.0.2.7"]
    status, output, errors = state("forget", "known", "ann@example.com *")
    assert (status, output) == (1, "")
    assert "known remembers nothing like 'ann@example.com *'; others do: known" in errors

    async def get():
        backend = SqliteState(remembered / "gatepost.db-state", max_entries=1000)
        found = [await State(backend, "known").get(key) for key in KNOWN]
        await backend.close()
        return found

    assert asyncio.run(get()) == [None, 1]


def test_the_number_of_entries_stays_right(state, remembered):
    import sqlite3  # noqa: PLC0415

    state("forget", "known", "*")
    with sqlite3.connect(remembered / "gatepost.db-state") as database:
        told = dict(database.execute("SELECT space, entries FROM spaces WHERE entries"))
        there = dict(database.execute("SELECT space, count(*) FROM entries GROUP BY space"))
    assert told == there
    assert state("list", "known")[1] == ""


def test_without_a_file_it_says_so_and_makes_none(state, tmp_path):
    (tmp_path / "rules.yaml").write_text("hostname: mx.example.com\n")
    status, _, errors = state("list")
    assert status == 1
    assert "gatepost.db-state does not exist: no filter has remembered anything" in errors
    assert [path.name for path in tmp_path.iterdir()] == ["rules.yaml"]
