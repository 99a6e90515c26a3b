"""``gatepost complaints``: takes every message, shows the conversation, delivers none."""

import logging
import os
import signal
import sys
from collections.abc import Callable
from enum import StrEnum
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gatepost.cli.exits import exits
from gatepost.cli.serve import set_up_log, shown

if TYPE_CHECKING:
    from gatepost.config.settings import WebSettings
    from gatepost.events import Watch
    from gatepost.service import Addresses

__all__ = ["complaints"]


class AcceptAuth(StrEnum):
    """Whom AUTH lets in."""

    ANY = "any"
    NONE = "none"


def _host_port(value: str) -> str:
    from pydantic_core import PydanticCustomError  # noqa: PLC0415 - as below

    from gatepost.config.fields import check_host_port  # noqa: PLC0415

    try:
        return str(check_host_port(value))
    except PydanticCustomError as error:
        raise typer.BadParameter(f"{value!r}, expected {error.message()}") from None


def _web_settings(address: str, hosts: list[str], password_file: Path | None) -> "WebSettings":
    from pydantic import ValidationError  # noqa: PLC0415

    from gatepost.config.settings import WebSettings  # noqa: PLC0415

    try:
        settings = WebSettings(address=address, password_file=password_file and password_file.absolute())
    except ValidationError as error:
        words = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise typer.BadParameter(words, param_hint="--web with --password-file") from None
    except OSError as error:
        raise typer.BadParameter(f"{password_file}: {error.strerror}", param_hint="--password-file") from None
    return settings.model_copy(update={"hosts": tuple(hosts)})


def complaints(
    smtp: Annotated[
        str, typer.Option(help="Where to take mail.", metavar="HOST:PORT", callback=_host_port)
    ] = "127.0.0.1:2525",
    web: Annotated[
        str, typer.Option(help="Where to show it in a browser.", metavar="HOST:PORT", callback=_host_port)
    ] = "127.0.0.1:8025",
    no_web: Annotated[bool, typer.Option("--no-web", help="Show it in this terminal only.")] = False,
    host: Annotated[
        list[str] | None,
        typer.Option(help="A further name by which browsers reach --web; may be repeated.", metavar="NAME"),
    ] = None,
    password_file: Annotated[
        Path | None,
        typer.Option(help="Its first line is the password that the browser asks for.", metavar="FILE"),
    ] = None,
    store: Annotated[
        Path | None,
        typer.Option(
            help="Keep what comes in this SQLite file; default: until the program ends.", metavar="FILE"
        ),
    ] = None,
    keep: Annotated[int, typer.Option(help="Messages to keep; the oldest go.", min=1, metavar="N")] = 10_000,
    accept_auth: Annotated[
        AcceptAuth, typer.Option(help="any: every user and password is right; none: no AUTH at all.")
    ] = AcceptAuth.ANY,
    tls: Annotated[bool, typer.Option("--tls", help="Offer STARTTLS, with a certificate made now.")] = False,
    rules: Annotated[
        Path | None,
        typer.Option(help="A rules.yaml whose rules are asked, such as chaos.", metavar="FILE"),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="One line a message, no conversation.")
    ] = False,
    lines: Annotated[int, typer.Option(help="Lines of each message to show.", min=0, metavar="N")] = 200,
) -> None:
    """Run the complaints department: it listens politely and delivers nothing.

    Every message is answered 250, whatever it holds, whoever sends it and however its commands are
    spelt; any user name and password will do. What a strict server would mind is written down (* odd), and
    explained in the browser under Checks. Refused are only commands that are unknown or in the wrong order,
    messages of more than 128 MiB, and what --rules refuse.

    The raw conversation appears here as it happens (< is the client, > the answer), and in the browser
    with the messages, to be searched and read.
    """
    from gatepost.cli.conversation import Conversation  # noqa: PLC0415
    from gatepost.complaints import Complaints, complain  # noqa: PLC0415 - it brings the servers in

    def follow(watch: "Watch", stopped: Callable[[], bool]) -> None:
        try:
            Conversation(sys.stdout, lines=lines).follow(watch, stopped)
        except SystemExit:  # rich's word for a broken pipe: nobody reads any more, so end as at Ctrl-C
            os.kill(os.getpid() if no_web else os.getppid(), signal.SIGINT)

    def greet(addresses: "Addresses", desk: tuple[str, int] | None) -> None:
        seen = f" Read it at http://{shown((desk,))}/." if desk else ""
        print(
            f"gatepost complaints listens on {shown(addresses)}; nothing is delivered.{seen} "
            "Press Ctrl-C to stop.",
            file=sys.stderr,
            flush=True,
        )

    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal without UTF-8
    set_up_log(logging.INFO if quiet else logging.WARNING)
    with exits():
        complain(
            Complaints(
                smtp=smtp,
                web=None if no_web else _web_settings(web, host or [], password_file),
                store=store,
                keep=keep,
                accept_auth=accept_auth.value,
                tls=tls,
                rules=rules,
            ),
            follow=None if quiet else follow,
            ready=greet,
        )
