"""``gatepost top``: the senders, recipients, clients, rules and users with most transactions."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gatepost.cli.criteria import MOST, Until, moment
from gatepost.cli.errors import cli_errors
from gatepost.cli.listing import clock
from gatepost.cli.settings import SettingsFile

if TYPE_CHECKING:
    from gatepost.store import Counted, Top

__all__ = ["top"]

_SINCE = timedelta(hours=1)


def top(
    config: SettingsFile = Path("rules.yaml"),
    since: Annotated[
        str | None,
        typer.Option(
            help="Not older than this: 1h, 7d, 2026-11-30, 2026-11-30T08:00.",
            metavar="TIME",
            show_default="1h",
        ),
    ] = None,
    until: Until = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", help="At most this many of each.", min=1, max=MOST)
    ] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object; times are UTC.")] = False,
) -> None:
    """Show the senders, recipients, clients, rules and users with most transactions over a time.

    Refused transactions count too. A rule counts where it hit, also if it only observes.
    """
    from gatepost.config import load  # noqa: PLC0415 - imported by the commands that need it
    from gatepost.store import Top, open_archive  # noqa: PLC0415

    start = moment(since, "--since") or datetime.now(UTC) - _SINCE
    end = moment(until, "--until")
    with cli_errors():
        loaded = load(config)
        with open_archive(loaded.config.store, loaded.base) as archive:
            statistics = archive.statistics()
            counted = {of: statistics.top(of, start, end, limit=limit) for of in Top}
    if as_json:
        _print_json(counted, start, end)
    else:
        _print_tables(counted, start, end)


def _print_json(counted: dict["Top", tuple["Counted", ...]], start: datetime, end: datetime | None) -> None:
    ranked = {
        of.value: [{"name": one.name, "transactions": one.transactions} for one in names]
        for of, names in counted.items()
    }
    print(json.dumps({"since": start.isoformat(), "until": end.isoformat() if end else None, **ranked}))


def _print_tables(counted: dict["Top", tuple["Counted", ...]], start: datetime, end: datetime | None) -> None:
    from gatepost.cli.tables import print_table  # noqa: PLC0415 - only who prints a table waits for rich

    print(f"Transactions since {clock(start)}" + (f", before {clock(end)}" if end else ""))
    for of, names in counted.items():
        print()
        if not names:
            print(f"{of.value}: none")
            continue
        print_table(
            ("transactions", of.value), ((f"{one.transactions:>12}", one.name or "<>") for one in names)
        )
