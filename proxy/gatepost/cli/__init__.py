"""The command ``gatepost``: arguments -> settings -> run; the only print and exit status.

Exit status: 0 fine, 1 the operation failed, 2 wrong usage or settings. Each command imports what it
needs when it runs, so that ``--help`` and ``check`` start fast.
"""

from typing import Annotated

import typer

from gatepost.cli import check, complaints, explain, journal, plugin, quarantine, serve

__all__ = ["app", "main"]

app = typer.Typer(
    name="gatepost",
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


app.command("serve")(serve.serve)
app.command("complaints", short_help="Take every message, show it, deliver none.")(complaints.complaints)
app.command("check", short_help="Find the mistakes in a settings file.")(check.check)
app.command("explain", short_help="Show what each rule says of a message, and why.")(explain.explain)
app.command("journal", short_help="Show what became of messages.")(journal.journal)
app.add_typer(quarantine.app, name="quarantine", short_help="Look at, release or delete what was held back.")
app.add_typer(plugin.app, name="plugin")


def main() -> None:
    """Run the command line."""
    app(prog_name="gatepost")
