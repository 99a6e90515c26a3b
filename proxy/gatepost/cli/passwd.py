"""``gatepost passwd``: a line of the file of users."""

import getpass
import os
import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from gatepost.cli.errors import USAGE, cli_errors, fail
from gatepost.cli.settings import gateway_group
from gatepost.file_changes import only_one, replace_text
from gatepost.printable import printable

__all__ = ["passwd"]

_NOT_IN_A_PASSWORD = re.compile(r"[\0\ud800-\udfff]")
"""NUL, which AUTH PLAIN cannot send (RFC 4616 section 2), and bytes that are not UTF-8."""


def passwd(
    name: Annotated[
        str,
        typer.Argument(
            help="The user's name, as the mail program sends it, or as it is typed into the web desk."
        ),
    ],
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", help="Write the line into this file of users instead.", metavar="FILE"),
    ] = None,
) -> None:
    """Print a user's line for a file of users, with an argon2id hash.

    Such a file is that of `listen: auth: users`, and that of `web: users_file`.

    The password is asked for twice; without a terminal it is the first line of standard input. With --file
    the user's line is added or replaced, and the rest of the file stays as it is. A running gateway reads the
    file at `gatepost reload`. A file that root makes beside rules.yaml can be read by the gateway, too.
    """
    from gatepost.server.auth import hash_password  # noqa: PLC0415 - argon2 and YAML, for this command only
    from gatepost.server.users_file import user_line, with_user  # noqa: PLC0415

    try:
        user_line(name, "")
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="NAME") from None
    hashed = hash_password(_password(name))
    if file is None:
        print(user_line(name, hashed))
        return
    with cli_errors(), only_one(file) as path:
        try:
            text = path.read_bytes().decode() if path.exists() else ""
            changed, is_new = with_user(text, name, hashed, file)
        except ValueError as error:
            fail(str(error))
        replace_text(path, changed, group=_group_beside(path))
    done = "added {} to {}" if is_new else "changed the password of {} in {}"
    print(done.format(printable(name), file))


def _group_beside(file: Path) -> int | None:
    """The group of the gateway whose rules.yaml is beside a file that root makes; None: not known."""
    rules = file.parent / "rules.yaml"
    if os.geteuid() != 0 or file.exists() or not rules.exists():
        return None
    from gatepost.config import examine  # noqa: PLC0415 - pydantic and YAML, for root only

    usable = examine(rules).usable  # the file that is missing is a mistake in these settings
    return gateway_group(usable) if usable else None


def _password(name: str) -> str:
    if not sys.stdin.isatty():
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = getpass.getpass(f"New password of {printable(name)}: ")
        if password != getpass.getpass("The same again: "):
            fail("the two passwords are different; nothing was changed")
    if not password or _NOT_IN_A_PASSWORD.search(password):
        fail("no password, expected a line of text", USAGE)
    return password
