"""``gatepost reload``: have the running gateway read its settings again."""

import grp
import os
import pwd
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gatepost.cli.check import examined, print_found
from gatepost.cli.errors import USAGE, cli_errors, fail
from gatepost.cli.output import own_stdout
from gatepost.cli.settings import SettingsFile
from gatepost.process.privileges import drop_privileges

if TYPE_CHECKING:
    from gatepost.process.pid_file import Operation

__all__ = ["become_owner_of", "reload"]

_PATIENCE_SECONDS = 120.0


def reload(
    config: SettingsFile = Path("rules.yaml"),
    replace: Annotated[
        bool,
        typer.Option(
            "--replace", help="Replace the workers one by one: takes all settings, and new filters."
        ),
    ] = False,
) -> None:
    """Check the settings, have the running gateway read them again, and wait until it has.

    It reads rules, lists, routes and certificates again. If the file has an error, the gateway gets no
    signal, and the exit status is 2. If the gateway cannot use the settings, it continues with the old ones,
    and the exit status is 1.

    The gateway is found by its PID file, beside the store unless `pid_file` is set; it must have been started
    with this settings file. Run this as the gateway's user or as root, which switches to that user.
    """
    with cli_errors():
        from gatepost.config import load  # noqa: PLC0415 - pydantic is slow to import
        from gatepost.process.pid_file import pid_file_of, running_process, settings_of  # noqa: PLC0415
        from gatepost.process.reload_request import NoAnswerError, request  # noqa: PLC0415

        path = pid_file_of(load(config))
        process = running_process(path)
        if process is None:
            fail(
                f"no gateway runs with the PID file {path}; after a change of store.url or pid_file, restart"
            )
        theirs = settings_of(path)
        if theirs and not _is_same(config, theirs):
            fail(
                f"the gateway that runs with the PID file {path} has the settings {theirs}, not {config}; "
                "nothing was reloaded, expected a pid_file for each gateway"
            )
        become_owner_of(path)
        with own_stdout():
            found = examined(config)
        print_found(found)
        if found.problems:
            raise typer.Exit(USAGE)
        operation: Operation = "replace" if replace else "reload"
        try:
            outcome = request(path, process, operation, patience_seconds=_PATIENCE_SECONDS)
        except NoAnswerError as error:
            fail(str(error))
    if not outcome.succeeded:
        fail(outcome.message)
    print(outcome.message)


def _is_same(config: Path, theirs: Path) -> bool:
    """True if both paths name one file, be it through links, or are equal."""
    try:
        return config.absolute() == theirs or config.samefile(theirs)
    except OSError:
        return False


def become_owner_of(path: Path) -> None:
    """Switch to the owner of a file, the user of the gateway, to act with its rights; for root."""
    owner = path.stat()
    if os.geteuid() == 0 and owner.st_uid:
        try:
            user, group = pwd.getpwuid(owner.st_uid).pw_name, grp.getgrgid(owner.st_gid).gr_name
        except KeyError:
            fail(f"the owner of {path} has no name on this machine: run this as the user {owner.st_uid}")
        drop_privileges(user, group)
