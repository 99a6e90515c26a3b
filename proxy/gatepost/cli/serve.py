"""``gatepost serve``: the gateway."""

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gatepost.cli.exits import exits

if TYPE_CHECKING:
    from gatepost.service import Addresses

__all__ = ["SettingsFile", "serve", "set_up_log", "shown"]

SettingsFile = Annotated[Path, typer.Option("--config", "-c", help="The settings.", metavar="FILE")]


def serve(
    config: SettingsFile = Path("rules.yaml"),
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Log warnings and errors only.")] = False,
) -> None:
    """Run the gateway: receive, filter, relay, keep.

    It runs in the foreground and logs to standard error, one line for each transaction. SIGTERM lets
    transactions under way finish and stops; SIGHUP takes new rules, lists and routes; SIGUSR2 replaces
    the workers one by one, with all settings read anew.
    """
    from gatepost import workers  # noqa: PLC0415 - it brings the servers in, which other commands do not need

    set_up_log(logging.WARNING if quiet else logging.INFO)
    with exits():
        workers.serve(config, ready=_greet)


def _greet(addresses: "Addresses", web: tuple[str, int] | None) -> None:
    desk = f"; the web desk is http://{shown((web,))}/" if web else ""
    print(f"gatepost listens on {shown(addresses)}{desk}", file=sys.stderr, flush=True)


def shown(addresses: "Addresses") -> str:
    """Addresses as one writes them."""
    return ", ".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in addresses)


class _Formatter(logging.Formatter):
    """One line an event; what belongs to it, such as a traceback, is indented below.

    Control characters are escaped: an exception may hold what a client sent.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The event as text for a terminal or a file."""
        first, *rest = super().format(record).split("\n")
        return "\n    ".join((_printable(first), *map(_printable, rest)))


def _printable(line: str) -> str:
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def set_up_log(level: int) -> None:
    """Log to standard error, one line an event."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    logging.basicConfig(level=level, handlers=[handler])
