"""``gatepost backup`` and ``gatepost restore``: the store as one file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gatepost.cli.errors import cli_errors
from gatepost.cli.settings import SettingsFile

if TYPE_CHECKING:
    from gatepost.store import Contents

__all__ = ["backup", "restore"]


def backup(
    file: Annotated[Path, typer.Argument(help="The file to write.", metavar="FILE")],
    config: SettingsFile = Path("rules.yaml"),
    replace: Annotated[bool, typer.Option("--replace", help="Replace the file if there is one.")] = False,
) -> None:
    """Copy the store to one file, also while the gateway is running.

    The file has the journal, quarantine, inbox and conversations as they are now, and is readable by its
    owner only. It is checked before it gets its name. Settings, lists and certificates are not in it.
    """
    from gatepost.config import load  # noqa: PLC0415 - imported by the commands that need it
    from gatepost.store import back_up  # noqa: PLC0415

    with cli_errors():
        loaded = load(config)
        contents = back_up(loaded.config.store, loaded.base, file.absolute(), replace=replace)
    print(f"{file}: {_shown(contents)}")


def restore(
    file: Annotated[Path, typer.Argument(help="A file that `gatepost backup` wrote.", metavar="FILE")],
    config: SettingsFile = Path("rules.yaml"),
    replace: Annotated[
        bool, typer.Option("--replace", help="Set the store aside if there is one, under a new name.")
    ] = False,
) -> None:
    """Make the store that the settings name from a backup, while the gateway is stopped.

    A backup of an older version is brought up to date by `gatepost serve`. The index of the web desk is
    rebuilt. If root runs it, the store belongs to the owner of the one before it, or else of its folder.
    """
    from gatepost.config import load  # noqa: PLC0415 - imported by the commands that need it
    from gatepost.store import restore as put_back  # noqa: PLC0415

    with cli_errors():
        loaded = load(config)
        done = put_back(loaded.config.store, loaded.base, file.absolute(), replace=replace)
    print(f"restored {file}: {_shown(done.contents)}")
    if done.replaced:
        print(f"the store that was there is now {done.replaced}")


def _shown(contents: "Contents") -> str:
    records, messages = _count(contents.records, "record"), _count(contents.messages, "message")
    return f"{records}, {messages}, {contents.size / (1 << 20):,.1f} MiB"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
