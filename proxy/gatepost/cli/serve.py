"""``gatepost serve``: the gateway."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gatepost.cli.errors import cli_errors
from gatepost.cli.settings import SettingsFile

if TYPE_CHECKING:
    from gatepost.process.service import Addresses

__all__ = ["serve", "shown"]


def serve(
    config: SettingsFile = Path("rules.yaml"),
    quiet: Annotated[
        bool, typer.Option("--quiet/--no-quiet", "-q", help="Log warnings and errors only.")
    ] = False,
) -> None:
    """Run the gateway: receive, filter, then relay or store.

    It runs in the foreground and logs one line for each transaction, to standard error unless the settings
    say otherwise (log). SIGTERM stops it after transactions in progress have finished. SIGHUP reloads rules,
    lists, routes and certificates; SIGUSR2 replaces the workers one by one and reloads all settings: see
    `gatepost reload`.
    """
    from gatepost.process import workers  # noqa: PLC0415 - it brings the servers in, which other commands do not need
    from gatepost.process.log import set_up_log  # noqa: PLC0415 - pydantic is slow to import

    set_up_log(logging.WARNING if quiet else logging.INFO)
    with cli_errors():
        workers.serve(config, ready=_greet)


def _greet(addresses: "Addresses", web: str | None) -> None:
    from gatepost.process.log import announce  # noqa: PLC0415 - likewise

    desk = f"; web desk: {web}" if web else ""
    announce(f"gatepost listens on {shown(addresses)}{desk}")


def shown(addresses: "Addresses") -> str:
    """Format addresses as ``host:port``."""
    return ", ".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in addresses)
