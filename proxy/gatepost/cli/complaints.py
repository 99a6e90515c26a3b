"""``gatepost complaints``: accept every message, show the conversation, deliver none."""

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

from gatepost.cli.criteria import MOST
from gatepost.cli.errors import cli_errors
from gatepost.cli.forwarding import (
    ForwardCa,
    ForwardFrom,
    ForwardOnly,
    ForwardPasswordFile,
    ForwardTls,
    ForwardTo,
    ForwardUser,
    ForwardVerify,
    forward_settings,
)
from gatepost.cli.serve import shown
from gatepost.cli.webhook import WebhookSecretFile, WebhookTo, webhook_settings

if TYPE_CHECKING:
    from gatepost.config.certificate import CertificateSettings
    from gatepost.config.web import WebSettings
    from gatepost.process.service import Addresses
    from gatepost.traffic.watching import Watch

__all__ = ["complaints"]


class AcceptAuth(StrEnum):
    """Which users may log in with AUTH."""

    ANY = "any"
    NONE = "none"


class HoldAt(StrEnum):
    """The stages at which sessions can be held."""

    CONNECT = "connect"
    HELO = "helo"
    MAIL = "mail"
    RCPT = "rcpt"
    MESSAGE = "message"


def _host_port(value: str) -> str:
    from pydantic_core import PydanticCustomError  # noqa: PLC0415 - as below

    from gatepost.config.fields import check_host_port  # noqa: PLC0415

    try:
        return str(check_host_port(value))
    except PydanticCustomError as error:
        raise typer.BadParameter(f"{value!r}, expected {error.message()}") from None


def _optional_host_port(value: str | None) -> str | None:
    return value and _host_port(value)


def _age(value: str | None) -> float | None:
    """Seconds."""
    from pydantic_core import PydanticCustomError  # noqa: PLC0415 - as above

    from gatepost.units import seconds  # noqa: PLC0415

    try:
        return None if value is None else seconds(value)
    except PydanticCustomError:
        raise typer.BadParameter(
            f"{value!r}, expected a time like 90m, 12h or 7d", param_hint="--keep-for"
        ) from None


def _web_settings(
    kind: type["WebSettings"],
    address: str,
    hosts: list[str],
    base_path: str,
    password_file: Path | None,
    certificate: "CertificateSettings | None",
) -> "WebSettings":
    from pydantic import ValidationError  # noqa: PLC0415

    from gatepost.config.validation import in_words  # noqa: PLC0415 - likewise

    try:
        settings = kind(
            address=address,
            base_path=base_path,
            tls=certificate,
            password_file=password_file and password_file.absolute(),
        )
    except ValidationError as error:
        if error.errors()[0]["loc"] == ("base_path",):
            raise typer.BadParameter(in_words(error), param_hint="--base-path") from None
        if password_file:
            raise typer.BadParameter(in_words(error), param_hint="--password-file") from None
        raise typer.BadParameter(
            f"{address!r} is open to other machines without a password, expected --password-file FILE or "
            "--no-password",
            param_hint="--web",
        ) from None
    except OSError as error:
        raise typer.BadParameter(f"{password_file}: {error.strerror}", param_hint="--password-file") from None
    return settings.model_copy(update={"hosts": tuple(hosts)})


def _certificate(option: str, certificate: Path | None, key: Path | None) -> "CertificateSettings | None":
    """The files that ``--OPTION-cert`` and ``--OPTION-key`` name, if they can be used."""
    if certificate is None:
        if key:
            raise typer.BadParameter(f"a key without --{option}-cert", param_hint=f"--{option}-key")
        return None
    from gatepost.config.certificate import CertificateSettings  # noqa: PLC0415
    from gatepost.server import tls_context  # noqa: PLC0415

    settings = CertificateSettings(certificate=certificate.absolute(), key=(key or certificate).absolute())
    hint = f"--{option}-cert with --{option}-key" if key else f"--{option}-cert"
    try:
        tls_context(settings)
    except OSError as error:
        raise typer.BadParameter(f"{error.filename}: {error.strerror}", param_hint=hint) from None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=hint) from None
    return settings


def _listens_on(addresses: "Addresses") -> str:
    """The address of SMTP, and that of SMTP with TLS from the start."""
    plain, *implicit = addresses
    return " and ".join((shown((plain,)), *(f"{shown((one,))} (TLS)" for one in implicit)))


def _is_on_command_line(context: typer.Context, name: str) -> bool:
    """True for an option that comes neither from the environment nor from its default."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def complaints(
    context: typer.Context,
    smtp: Annotated[
        str, typer.Option(help="Address for SMTP.", metavar="HOST:PORT", callback=_host_port)
    ] = "127.0.0.1:2525",
    web: Annotated[
        str, typer.Option(help="Address of the web desk.", metavar="HOST:PORT", callback=_host_port)
    ] = "127.0.0.1:8025",
    no_web: Annotated[
        bool, typer.Option("--no-web", help="No web desk; show messages only in this terminal.")
    ] = False,
    host: Annotated[
        list[str] | None,
        typer.Option(help="Further host name for --web; may be repeated.", metavar="NAME"),
    ] = None,
    base_path: Annotated[
        str, typer.Option(help="Path under which a proxy serves the web desk, like /mail/.", metavar="PATH")
    ] = "/",
    password_file: Annotated[
        Path | None,
        typer.Option(help="File whose first line is the password for --web.", metavar="FILE"),
    ] = None,
    no_password: Annotated[
        bool,
        typer.Option(
            "--no-password",
            help="Let every machine that can connect to --web read the mail, for example in a container.",
        ),
    ] = False,
    store: Annotated[
        Path | None,
        typer.Option(
            help="SQLite file for the messages; default: a temporary one, deleted at the end.", metavar="FILE"
        ),
    ] = None,
    keep: Annotated[
        int, typer.Option(help="Messages to keep; older ones are deleted.", min=1, max=MOST, metavar="N")
    ] = 10_000,
    keep_for: Annotated[
        str | None,
        typer.Option(
            help="Time to keep a message, for example 12h or 7d; default: as long as --keep allows.",
            metavar="TIME",
        ),
    ] = None,
    accept_auth: Annotated[
        AcceptAuth, typer.Option(help="any: accept every user and password; none: no AUTH.")
    ] = AcceptAuth.ANY,
    tls: Annotated[
        bool | None,
        typer.Option(
            "--tls/--no-tls", help="Offer STARTTLS; without --tls-cert with a generated certificate."
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None,
        typer.Option(
            help="PEM file of the certificate for STARTTLS, --smtps and --https; implies --tls.",
            metavar="FILE",
        ),
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(help="PEM file of its key; default: the same file.", metavar="FILE")
    ] = None,
    smtps: Annotated[
        str | None,
        typer.Option(
            help="Further address for SMTP, with TLS from the start.",
            metavar="HOST:PORT",
            callback=_optional_host_port,
        ),
    ] = None,
    https: Annotated[
        bool | None,
        typer.Option(
            "--https/--no-https", help="Web desk and API over HTTPS; the certificate is that of SMTP."
        ),
    ] = None,
    https_cert: Annotated[
        Path | None,
        typer.Option(help="PEM file of another certificate for HTTPS; implies --https.", metavar="FILE"),
    ] = None,
    https_key: Annotated[
        Path | None, typer.Option(help="PEM file of its key; default: the same file.", metavar="FILE")
    ] = None,
    rules: Annotated[
        Path | None,
        typer.Option(help="A rules.yaml whose rules are used, for example with chaos.", metavar="FILE"),
    ] = None,
    forward_to: ForwardTo = None,
    forward_tls: ForwardTls = None,
    forward_ca: ForwardCa = None,
    forward_verify: ForwardVerify = True,
    forward_user: ForwardUser = None,
    forward_password_file: ForwardPasswordFile = None,
    forward_from: ForwardFrom = None,
    forward_only: ForwardOnly = None,
    webhook: WebhookTo = None,
    webhook_secret_file: WebhookSecretFile = None,
    hold: Annotated[
        list[HoldAt] | None,
        typer.Option(
            help="Hold every session at this stage until somebody answers in the web desk; may be repeated.",
            metavar="STAGE",
        ),
    ] = None,
    quiet: Annotated[
        bool,
        typer.Option("--quiet/--no-quiet", "-q", help="Print one line for each message, no conversation."),
    ] = False,
    lines: Annotated[int, typer.Option(help="Lines to show of each message.", min=0, metavar="N")] = 200,
) -> None:
    """Run the complaints department: accept every message and deliver none.

    Every message is answered with 250, whatever its content and its sender, even if the commands are
    malformed. Any user name and password is accepted. What a strict server would refuse is explained in the
    conversation (* odd), and with advice in the browser under Checks. Only unknown commands, commands in the
    wrong order, messages of more than 128 MiB, and what --rules refuse are refused.

    The raw conversation appears here as it happens (< is the client, > the reply), and in the browser
    together with the messages.

    Each option can be set by an environment variable too; an option on the command line has precedence.
    SIGUSR2 takes a renewed certificate.
    """
    from gatepost.config.web import OpenWebSettings, WebSettings  # noqa: PLC0415 - pydantic
    from gatepost.model.mail import Stage  # noqa: PLC0415 - as the next one
    from gatepost.process.complaints import Complaints, complain  # noqa: PLC0415 - it brings the servers in
    from gatepost.process.log import set_up_log  # noqa: PLC0415 - likewise

    def follow(watch: "Watch", stopped: Callable[[], bool]) -> None:
        from gatepost.cli.conversation import Conversation  # noqa: PLC0415 - rich, in the worker alone

        try:
            Conversation(sys.stdout, lines=lines).follow(watch, stopped)
        except SystemExit:  # rich reports a broken pipe so: the reader is gone, so end as at Ctrl-C
            os.kill(os.getppid(), signal.SIGINT)

    def greet(addresses: "Addresses", desk: str | None) -> None:
        readers = "everybody who can connect" if no_password else "every user of this machine"
        guarded = "" if password_file else f" (no password: {readers} can read it)"
        delivered = f"nothing is delivered{f' unless you forward it to {forward}' if forward else ''}"
        seen = f" Web desk: {desk}{guarded}." if desk else ""
        told = f" New messages are reported to {reported.url}." if desk and reported else ""
        print(
            f"gatepost complaints listens on {_listens_on(addresses)}; {delivered}.{seen}{told} "
            "Press Ctrl-C to stop.",
            file=sys.stderr,
            flush=True,
        )

    age = _age(keep_for)
    forward = forward_settings(
        forward_to,
        tls=forward_tls,
        ca=forward_ca,
        verify=forward_verify,
        user=forward_user,
        password_file=forward_password_file,
        sender=forward_from,
        only=forward_only,
    )
    reported = webhook_settings(webhook, webhook_secret_file)
    if hold and no_web:
        raise typer.BadParameter("nobody can answer without the web desk", param_hint="--hold with --no-web")
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal without UTF-8
    set_up_log(logging.INFO if quiet else logging.WARNING)
    certificate = _certificate("tls", tls_cert, tls_key)
    own = _certificate("https", https_cert, https_key)
    if _is_on_command_line(context, "web") and not _is_on_command_line(context, "no_web"):
        no_web = False
    if no_web and _is_on_command_line(context, "forward_to"):
        raise typer.BadParameter(
            "a message is forwarded in the web desk, so not with --no-web", param_hint="--forward-to"
        )
    if no_web and _is_on_command_line(context, "webhook"):
        raise typer.BadParameter("the web desk does it, so not with --no-web", param_hint="--webhook")
    settings = None
    if not no_web:
        kind = OpenWebSettings if no_password else WebSettings
        settings = _web_settings(kind, web, host or [], base_path, password_file, own)
        settings = settings.model_copy(update={"forward": forward, "webhook": reported})
    with cli_errors():
        complain(
            Complaints(
                smtp=smtp,
                web=settings,
                store=store,
                keep=keep,
                keep_seconds=age,
                accept_auth=accept_auth.value,
                smtps=smtps,
                starttls=certificate is not None if tls is None else tls,
                https=own is not None if https is None else https,
                certificate=certificate,
                rules=rules,
                hold_at=[Stage[stage.upper()] for stage in hold or ()],
            ),
            follow=None if quiet else follow,
            ready=greet,
        )
