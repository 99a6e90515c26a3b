"""``gatepost serve``: the gateway."""

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from proxy.cli.exits import exits

if TYPE_CHECKING:
    from proxy.service import Addresses

__all__ = ["SettingsFile", "serve", "set_up_log", "shown"]

SettingsFile = Annotated[Path, typer.Option("--config", "-c", help="The settings.", metavar="FILE")]


def serve(
    config: SettingsFile = Path("rules.yaml"),
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Log warnings and errors only.")] = False,
) -> None:
    """Run the gateway: receive, filter, relay, keep.

    It runs in the foreground and logs to standard error, one line for each transaction. SIGTERM lets
    transactions under way finish and stops; SIGHUP reads rules, lists, routes and limits again.
    """
    from proxy import workers  # noqa: PLC0415 - it brings the servers in, which other commands do not need

    set_up_log(logging.WARNING if quiet else logging.INFO)
    with exits():
        workers.serve(config, ready=_greet)


def _greet(addresses: "Addresses") -> None:
    print(f"gatepost listens on {shown(addresses)}", file=sys.stderr, flush=True)


def shown(addresses: "Addresses") -> str:
    """Addresses as one writes them."""
    return ", ".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in addresses)


def set_up_log(level: int) -> None:
    """Log to standard error, one line an event."""
    logging.basicConfig(
        level=level,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(message)s",
        datefmt="%Y-%m-%d %H:%M:%S",
    )
