"""README's commands work as they are written there, and its settings and filter load."""

import re
import shlex
from pathlib import Path

import pytest
from gatepost.cli import app
from gatepost.config import load
from gatepost.config.store import StoreSettings
from gatepost.pipeline.loader import load_rules
from gatepost.store import Box, Kept, open_store
from gatepost.testing import make_message, make_record, make_transaction, run_filter
from typer.testing import CliRunner

PAGE = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = [
    line
    for language, text in BLOCKS
    if language == "sh"
    for line in text.splitlines()
    if re.search(r"\bgatepost\b", line)
]
OF_A_SERVER = ("serve", "complaints", "reload")
"""They run until they are ended, or need one that runs."""
SETTINGS, RULE = (text for language, text in BLOCKS if language == "yaml")
[FILTER] = (text for language, text in BLOCKS if language == "python")
PREFIX = ".venv/bin/gatepost "


def test_every_command_is_run_from_the_environment_that_the_first_one_makes() -> None:
    assert len(COMMANDS) >= 8
    for line in COMMANDS:
        assert all(part.strip().startswith((PREFIX, ".venv/bin/pip", "python3 -m venv")) for part in
                   line.split("&&")), line  # fmt: skip


@pytest.fixture
async def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """README's settings, a saved message, and a store with a refused and a quarantined message."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rules.yaml").write_text(SETTINGS)
    (tmp_path / "suspicious.eml").write_bytes(make_message(subject="Your invoice"))
    (tmp_path / "my_filter.py").write_text(FILTER)
    transaction = make_transaction(recipients="you@example.com")
    kept = Kept(
        box=Box.QUARANTINE,
        mail_from="someone@example.org",
        recipients=("you@example.com",),
        prepended=b"",
        content=transaction.message.content,
        rule="no-executables",
        reason="",
    )
    store = open_store(StoreSettings(), tmp_path)
    store.journal(make_record(disposition="refused", rule="virus"))
    await store.commit(make_record(transaction, disposition="quarantined"), (kept,))
    await store.close()
    return tmp_path


def test_the_commands_do_what_the_page_says(folder: Path) -> None:
    def run(*arguments: str) -> str:
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, (arguments, done.output, done.exception)
        return done.stdout

    ids = {
        "journal": run("journal", "--json").partition('"id":')[2].split('"')[1],
        "quarantine": run("quarantine", "list", "--json").partition('"id":')[2].split('"')[1],
    }
    for line in COMMANDS:
        command, *arguments = shlex.split(line.rpartition("&&")[2].strip(), comments=True)[1:]
        if command in OF_A_SERVER:
            arguments = ["--help"]
        elif "release" in arguments:  # there is no server behind this test
            arguments = ["show" if argument == "release" else argument for argument in arguments]
        output = run(command, *(ids[command] if argument == "ID" else argument for argument in arguments))
        assert output


def test_the_settings_load_and_a_misspelt_key_is_reported_as_shown(folder: Path) -> None:
    assert [rule.name for rule in load_rules(load(Path("rules.yaml")))] == ["no-executables", "virus"]
    (Path("rules.yaml")).write_text(SETTINGS.replace("action: quarantine", "actoin: quarantine"))
    [shown] = (text for language, text in BLOCKS if language == "text")
    done = CliRunner().invoke(app, ["check"])
    assert done.stderr.startswith(shown.partition(", ...")[0])


def test_the_filter_hits_as_its_rule_says(folder: Path) -> None:
    Path("rules.yaml").write_text(RULE)
    [rule] = load_rules(load(Path("rules.yaml")))
    [hook] = rule.hooks.values()
    many = make_transaction(recipients=[f"r{number}@example.com" for number in range(51)])
    verdict = run_filter(hook.function.__self__, many)
    assert verdict is not None
    assert verdict.reason == "51 recipients"
