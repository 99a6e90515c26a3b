"""``gatepost complaints``: takes every message, shows the conversation, delivers none."""

import logging
import os
import signal
import sys
from collections.abc import Callable
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from proxy.cli.exits import exits
from proxy.cli.serve import set_up_log, shown

if TYPE_CHECKING:
    from proxy.events import Watch

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

    def follow(watch: "Watch", stopped: Callable[[], bool]) -> None:
        try:
            Conversation(sys.stdout, lines=lines).follow(watch, stopped)
        except SystemExit:  # rich's word for a broken pipe: nobody reads any more, so end as at Ctrl-C
            os.kill(os.getpid(), signal.SIGINT)

    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal without UTF-8
    set_up_log(logging.INFO if quiet else logging.WARNING)
    with exits():
        service.complain(
            smtp,
            store,
            follow=None if quiet else follow,
            ready=lambda addresses: print(
                f"gatepost complaints listens on {shown(addresses)}; nothing is delivered. "
                "Press Ctrl-C to stop.",
                file=sys.stderr,
                flush=True,
            ),
        )
