"""``gatepost state``: what filters remember, to look at it and to delete it."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gatepost.cli.errors import cli_errors, fail
from gatepost.cli.listing import clock
from gatepost.cli.reload import become_owner_of
from gatepost.cli.settings import SettingsFile
from gatepost.printable import printable

if TYPE_CHECKING:
    from gatepost.config import LoadedConfig
    from gatepost.config.state import StateSettings
    from gatepost.state.contract import Entry
    from gatepost.state.database import Database
    from gatepost.state.redis import RedisKeys

    Memory = Database | RedisKeys

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Show what filters remember, and delete it.")

FilterName = Annotated[
    str, typer.Argument(help="As rules.yaml names it, for example known or greylist.", metavar="FILTER")
]
Pattern = Annotated[str, typer.Argument(help="Keys; * is any text, case is ignored.", metavar="PATTERN")]


@app.command("list")
def list_entries(
    filter_name: Annotated[
        str | None,
        typer.Argument(help="For example known; default: how much each remembers.", metavar="FILTER"),
    ] = None,
    pattern: Pattern = "*",
    config: SettingsFile = Path("rules.yaml"),
) -> None:
    """Show what a filter remembers: one key on each line, and when it is forgotten.

    Of known, a key is the address of a user and that of a correspondent. Its rules share the keys.
    """
    with _state(config) as database:
        if filter_name is None:
            for name, number in database.spaces().items():
                print(f"{printable(name)}: {number:,}")
            return
        for entry in _matching(database, filter_name, pattern):
            window = f", counted over {entry.window_seconds} s" if entry.window_seconds else ""
            until = clock(datetime.fromtimestamp(entry.ends, UTC))
            print(f"{printable(entry.key)}  until {until}{window}")


@app.command()
def forget(filter_name: FilterName, pattern: Pattern, config: SettingsFile = Path("rules.yaml")) -> None:
    """Delete what a filter remembers under the keys that match; takes effect at once.

    Exit status 1 if there is none. For example, gatepost state forget known 'ann@example.com *'.
    """
    with _state(config) as database:
        keys = list(dict.fromkeys(entry.key for entry in _matching(database, filter_name, pattern)))
        if not keys:
            others = ", ".join(database.spaces()) or "none"
            fail(printable(f"{filter_name} remembers nothing like {pattern!r}; others do: {others}"))
        database.forget(filter_name, keys)
    for key in keys:
        print(f"forgotten: {printable(key)}")


def _matching(database: "Memory", filter_name: str, pattern: str) -> Iterator["Entry"]:
    from gatepost.config.patterns import Glob  # noqa: PLC0415 - pydantic is slow to import

    glob = Glob.of(pattern)
    return (entry for entry in database.entries(filter_name) if glob.matches(entry.key))


@contextmanager
def _state(config: Path) -> Iterator["Memory"]:
    """The file or the server on which filters remember."""
    from gatepost.config import load  # noqa: PLC0415 - pydantic is slow to import

    with cli_errors():
        loaded = load(config)
        settings = loaded.config.state
        database = _server(settings) if settings.url else _file(loaded)
        try:
            yield database
        finally:
            database.close()


def _server(settings: "StateSettings") -> "RedisKeys":
    from gatepost.state.redis import RedisKeys  # noqa: PLC0415 - an extra, and few settings name a server

    return RedisKeys(settings.url or "", password=settings.read_password, ca=settings.ca)


def _file(loaded: "LoadedConfig") -> "Database":
    """The file; root becomes its owner first."""
    from gatepost.pipeline.provided import state_file  # noqa: PLC0415 - pydantic is slow to import
    from gatepost.state.database import Database  # noqa: PLC0415 - likewise

    path = state_file(loaded)
    if not path.exists():
        fail(f"{printable(str(path))} does not exist: no filter has remembered anything")
    become_owner_of(path)
    return Database(path, max_entries=loaded.config.state.max_entries)
