"""The command ``gatepost``. Only this package prints and sets the exit status.

Exit status: 0 success, 1 the operation failed, 2 wrong usage or settings. A command's module is imported when
the command runs, and imports what it needs only then, so that each starts fast.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Annotated, Any

import typer

from gatepost.cli.wrong_values import PlainGroup

__all__ = ["app", "main"]

_COMMANDS: dict[str, tuple[str, str]] = {
    "serve": ("serve.serve", "Run the gateway: receive, filter, then relay or store."),
    "complaints": ("complaints.complaints", "Accept every message, show it, deliver none."),
    "import": ("imports.import_files", "Show saved messages in a running complaints server."),
    "check": ("check.check", "Check a settings file."),
    "reload": ("reload.reload", "Have the running gateway read its settings again."),
    "explain": ("explain.explain", "Show what each rule decides about a message, and why."),
    "journal": ("journal.journal", "Show what became of messages."),
    "top": ("top.top", "Show who sends and receives most, and which rules hit."),
    "learn": ("learn.learn", "Have the scanners learn that stored messages are spam, or not."),
    "quarantine": ("quarantine.app", "List, show, release or delete quarantined messages."),
    "backup": ("backup.backup", "Copy the store to one file."),
    "restore": ("backup.restore", "Make the store from a backup."),
    "migrate": ("migrate.migrate", "Copy the store from SQLite to PostgreSQL, or back."),
    "passwd": ("passwd.passwd", "Print a user's line for the file of users."),
    "token": ("token.app", "Make, list and revoke the tokens of programs."),
    "dkim": ("dkim.app", "Make a key that signs mail, and its record for DNS."),
    "dns": ("dns.dns", "Ask DNS as the filters do, with the same servers."),
    "state": ("state.app", "Show what filters remember, and delete it."),
    "block": ("block.block", "Add to the list of blocked senders or clients."),
    "allow": ("block.allow", "Add to the list of allowed senders or clients."),
    "plugin": ("plugin.app", "Show the installed filters."),
}
"""Where each command is: a function, or an application with commands of its own; and its line in the list."""
_WITH_VARIABLES = {"serve", "complaints"}
"""The commands whose options are environment variables too."""


def _nothing() -> None:
    """Callback of an application that has one command only, which is not to be taken for the whole."""


@cache
def _made(name: str) -> Any:
    """The command of this name, imported."""
    place, line = _COMMANDS[name]
    module, _, attribute = place.partition(".")
    found = getattr(import_module(f"{__name__}.{module}"), attribute)
    around = typer.Typer(add_completion=False, rich_markup_mode=None)
    around.callback()(_nothing)
    if isinstance(found, typer.Typer):
        around.add_typer(found, name=name, short_help=line)
    elif name in _WITH_VARIABLES:
        from gatepost.cli.variables import CommandWithVariables  # noqa: PLC0415 - for these commands only

        prefix = {"auto_envvar_prefix": f"GATEPOST_{name.upper()}"}
        around.command(name, cls=CommandWithVariables, short_help=line, context_settings=prefix)(found)
    else:
        around.command(name, short_help=line)(found)
    group: Any = typer.main.get_command(around)
    return group.commands[name]


class _Imported(Mapping[str, Any]):
    """The commands by name."""

    def __getitem__(self, name: str) -> Any:
        if name not in _COMMANDS:
            raise KeyError(name)
        return _made(name)

    def __iter__(self) -> Iterator[str]:
        return iter(_COMMANDS)

    def __len__(self) -> int:
        return len(_COMMANDS)


class _Group(PlainGroup):
    """The commands above, of which none is imported to list them."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "commands": _Imported()})

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - as the base class
        return list(_COMMANDS)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - as the base class
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in _COMMANDS.items()])


app = typer.Typer(
    name="gatepost",
    cls=_Group,
    help="A filtering SMTP proxy: it refuses, drops, quarantines or relays mail while the sender waits.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415 - it brings much of email and zipfile in

        print(f"gatepost {version('gatepost')}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line."""
    app(prog_name="gatepost")
