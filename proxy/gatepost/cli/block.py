"""``gatepost block`` and ``gatepost allow``: change a list that rules use, and reload."""

import getpass
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gatepost.cli.errors import FAILED, USAGE, cli_errors, fail
from gatepost.cli.reload import reload
from gatepost.cli.settings import SettingsFile

if TYPE_CHECKING:
    from gatepost.config.list_changes import ListChange, Verb

__all__ = ["allow", "block"]

Addresses = Annotated[
    list[str],
    typer.Argument(
        help="An address, a domain, a pattern like *@*.example.com, or a client's address or network.",
        metavar="ADDRESS...",
    ),
]
ListName = Annotated[
    str | None,
    typer.Option("--list", "-l", help="Change this list of the settings instead.", metavar="NAME"),
]
Note = Annotated[str, typer.Option("--note", "-m", help="A remark for the line.", metavar="TEXT")]
Remove = Annotated[bool, typer.Option("--remove", "-r", help="Delete the line of that entry instead.")]


def block(
    addresses: Addresses,
    config: SettingsFile = Path("rules.yaml"),
    list_name: ListName = None,
    note: Note = "",
    remove: Remove = False,
) -> None:
    """Add to the list blocked-senders, or with a client's address to blocked-clients, and reload the rules.

    The settings say in `lists` which file that is, and rules refer to it as $blocked-senders. What a line
    there matches already is not added again. Each line has its date and author. With --remove, the line that
    is this entry is deleted.
    """
    _change("block", addresses, config, list_name, note=note, remove=remove)


def allow(
    addresses: Addresses,
    config: SettingsFile = Path("rules.yaml"),
    list_name: ListName = None,
    note: Note = "",
    remove: Remove = False,
) -> None:
    """Add to the list allowed-senders, or with a client's address to allowed-clients, and reload the rules.

    The settings say in `lists` which file that is, and rules refer to it as $allowed-senders. What a line
    there matches already is not added again. Each line has its date and author. With --remove, the line that
    is this entry is deleted.
    """
    _change("allow", addresses, config, list_name, note=note, remove=remove)


def _change(
    verb: "Verb", addresses: list[str], config: Path, list_name: str | None, *, note: str, remove: bool
) -> None:
    from gatepost.config import load  # noqa: PLC0415 - pydantic is slow to import
    from gatepost.config.list_changes import ListError, add_entry, list_for, remove_entry  # noqa: PLC0415
    from gatepost.config.list_entries import entry_for  # noqa: PLC0415

    try:
        entries = [entry_for(typed) for typed in addresses]
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="ADDRESS") from None
    if remove and note:
        raise typer.BadParameter("a note is for a new line, not for one to remove", param_hint="--note")
    changes: list[ListChange] = []
    with cli_errors():
        loaded = load(config)
        try:
            names = [list_for(loaded, entry, verb, list_name) for entry in entries]
        except ListError as error:
            fail(str(error), USAGE)
        author = os.environ.get("SUDO_USER") or getpass.getuser()
        for entry, name in zip(entries, names, strict=True):
            if remove:
                change = remove_entry(loaded, name, entry)
            else:
                change = add_entry(loaded, name, entry, verb=verb, author=author, note=note)
            print(change, file=sys.stdout if change.succeeded else sys.stderr)
            changes.append(change)
    if any(change.succeeded for change in changes):
        _reload(config)
    if not all(change.succeeded for change in changes):
        raise typer.Exit(FAILED)


def _reload(config: Path) -> None:
    from gatepost.config import load  # noqa: PLC0415
    from gatepost.process.pid_file import pid_file_of, running_process  # noqa: PLC0415

    with cli_errors():
        process = running_process(pid_file_of(load(config)))
    if process is None:
        print("no gateway is running; it takes effect at the next start")
    else:
        reload(config)
