"""``gatepost plugin``: the installed filters."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gatepost.cli.output import own_stdout

if TYPE_CHECKING:
    from gatepost.pipeline.catalogue import FilterDescription, FilterSetting

__all__ = ["app", "list_plugins"]

app = typer.Typer(help="Show the installed filters.", no_args_is_help=True)


@app.command("list", short_help="List the installed filters and their settings.")
def list_plugins(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array instead of text.")] = False,
) -> None:
    """List the installed filters and their settings; exit status 1 if one cannot be loaded."""
    from gatepost.pipeline.catalogue import describe_filters  # noqa: PLC0415 - pydantic is slow to import

    with own_stdout() as stdout:
        filters = describe_filters()
        if as_json:
            print(json.dumps([_plain(one) for one in filters], default=repr), file=stdout)
        else:
            for one in filters:
                print("\n".join(_lines(one)), file=stdout)
    if any(one.problem for one in filters):
        raise typer.Exit(1)


def _lines(one: "FilterDescription") -> list[str]:
    origin = f"{one.where}, {one.distribution}" if one.distribution else one.where
    lines = [f"{one.name}  ({origin})"]
    if one.problem:
        return [*lines, f"    cannot be loaded: {one.problem}"]
    if one.summary:
        lines.append(f"    {one.summary}")
    return lines + [f"    {setting.name}: {setting.type}{_default(setting)}" for setting in one.settings]


def _default(setting: "FilterSetting") -> str:
    return " (required)" if setting.required else f" = {setting.default!r}"


def _plain(one: "FilterDescription") -> dict[str, Any]:
    return {
        "name": one.name,
        "where": one.where,
        "distribution": one.distribution,
        "summary": one.summary,
        "problem": one.problem,
        "settings": [
            {
                "name": setting.name,
                "type": setting.type,
                "required": setting.required,
                "default": setting.default,
            }
            for setting in one.settings
        ],
    }
