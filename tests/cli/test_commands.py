"""The commands are listed without being imported, and each is there when it is asked for."""

import re

import pytest
from gatepost.cli import _COMMANDS, app
from typer.testing import CliRunner


def run(*arguments):
    return CliRunner().invoke(app, [*arguments])


def test_all_commands_are_listed_in_their_order_with_a_line_each():
    said = run("--help").output
    listed = re.findall(r"^  ([a-z]+)  +(\S.*)$", said.partition("Commands:")[2], re.MULTILINE)
    assert listed == [(name, line) for name, (_, line) in _COMMANDS.items()]


@pytest.mark.parametrize("name", _COMMANDS)
def test_a_command_is_there(name):
    found = run(name, "--help")
    assert found.exit_code == 0
    assert re.match(rf"Usage: gatepost {name}\b", found.output.lstrip())
    assert run(name, "--no-such-option").exit_code == 2


def test_a_misspelt_command_is_refused_with_what_it_may_be():
    found = run("serv")
    assert found.exit_code == 2
    assert "No such command 'serv'. Did you mean 'serve'?" in found.output
