"""``gatepost check``: is the settings file fit to be used?"""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gatepost.privileges import become

if TYPE_CHECKING:
    from gatepost.config import Config, LoadedConfig, Problem

__all__ = ["check"]


def check(
    config: Annotated[Path, typer.Option("--config", "-c", help="The settings.", metavar="FILE")] = Path(
        "rules.yaml"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")] = False,
) -> None:
    """Check a settings file: every mistake with its line and column, exit status 2; 0 where it is fine.

    A warning, such as a pattern that can never match, changes nothing about the exit status.

    Where root asks, what the settings name must be readable by their user, as serve reads it.
    """
    from gatepost.config import ConfigError, load  # noqa: PLC0415 - pydantic is slow to import
    from gatepost.loader import load_rules  # noqa: PLC0415 - likewise

    try:
        loaded = load(config)
        if loaded.config.user and os.geteuid() == 0:
            become(loaded.config.user, loaded.config.group)
            loaded = load(config)
        rules = load_rules(loaded)
        _check_files(loaded)
    except ConfigError as error:
        if as_json:
            print(json.dumps({"ok": False, "problems": [_plain(problem) for problem in error.problems]}))
        else:
            print(error, file=sys.stderr)
        raise typer.Exit(2) from error
    if as_json:
        warnings = [_plain(warning) for warning in loaded.warnings]
        names = [rule.name for rule in rules]
        print(json.dumps({"ok": True, "problems": [], "warnings": warnings, "rules": names}))
    else:
        for warning in loaded.warnings:
            print(replace(warning, what=f"warning: {warning.what}"), file=sys.stderr)
        print(f"{config}: fine: {_summary(loaded.config)}")


def _check_files(loaded: "LoadedConfig") -> None:
    """What serve opens when it starts; raises ConfigError."""
    from gatepost.config import ConfigError  # noqa: PLC0415 - pydantic is slow to import

    folder = Path(loaded.config.store.url.removeprefix("sqlite:///")).parent
    if not folder.is_dir():
        what = f"there is no folder {folder}"
        raise ConfigError([loaded.problem(("store", "url"), what, "a file in a folder that exists")])
    if any(listener.tls or listener.auth for listener in loaded.config.listen):
        from gatepost.server import check_listeners  # noqa: PLC0415 - only where there is something to read

        check_listeners(loaded)


def _plain(problem: "Problem") -> dict[str, str | int]:
    return {
        "path": str(problem.path),
        "line": problem.line,
        "column": problem.column,
        "what": problem.what,
        "expected": problem.expected,
    }


def _summary(config: "Config") -> str:
    routes = _count(len(config.relay), "route") + ("" if config.relay else " (every recipient is refused)")
    parts = (
        _count(len(config.listen), "listener"),
        routes,
        _count(len(config.rules), "rule"),
        _count(len(config.lists), "list"),
    )
    return ", ".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
