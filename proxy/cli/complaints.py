"""``gatepost complaints``: takes every message, shows the conversation, delivers none."""

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from proxy.cli.exits import exits
from proxy.cli.serve import set_up_log

__all__ = ["complaints"]


def _host_port(value: str) -> str:
    from pydantic_core import PydanticCustomError  # noqa: PLC0415 - as below

    from proxy.config.fields import check_host_port  # noqa: PLC0415

    try:
        return str(check_host_port(value))
    except PydanticCustomError as error:
        raise typer.BadParameter(f"{value!r}, expected {error.message()}") from None


def complaints(
    smtp: Annotated[
        str, typer.Option(help="Where to listen.", metavar="HOST:PORT", callback=_host_port)
    ] = "127.0.0.1:2525",
    store: Annotated[
        Path | None,
        typer.Option(help="Keep every message in this SQLite file; default: keep none.", metavar="FILE"),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="One line a message, no conversation.")
    ] = False,
    lines: Annotated[int, typer.Option(help="Lines of each message to show.", min=0, metavar="N")] = 200,
) -> None:
    """Run the complaints department: it listens politely and delivers nothing.

    Every message is answered 250, whatever it holds and whoever sends it; any user name and password
    will do. The raw conversation appears here as it happens: < is the client, > the answer.
    """
    from proxy import service  # noqa: PLC0415 - it brings the servers in, which other commands do not need
    from proxy.cli.conversation import Conversation  # noqa: PLC0415

    set_up_log(logging.INFO if quiet else logging.WARNING)
    with exits():
        service.complain(
            smtp,
            store,
            follow=None if quiet else Conversation(sys.stdout, lines=lines).follow,
            ready=lambda running: print(
                f"gatepost complaints listens on {_first(running.addresses)}; nothing is delivered. "
                "Press Ctrl-C to stop.",
                file=sys.stderr,
                flush=True,
            ),
        )


def _first(addresses: list[tuple[str, int]]) -> str:
    host, port = addresses[0]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
