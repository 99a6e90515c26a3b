"""``gatepost explain``: what the rules decide about a message."""

import dataclasses
import json
import re
import sys
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from gatepost.cli.errors import USAGE, cli_errors, fail
from gatepost.cli.output import own_stdout
from gatepost.cli.settings import SettingsFile
from gatepost.model.verdict import Action
from gatepost.printable import printable

if TYPE_CHECKING:
    from gatepost.explain import Explanation, PartRead, RecipientExplanation
    from gatepost.model.mail import Transaction
    from gatepost.model.verdict import Match

__all__ = ["explain"]

_UNLIMITED_WIDTH = 1_000_000
"""Columns of a file or a pipe: nothing is wrapped."""
_BARE_LF = re.compile(rb"(?<!\r)\n")


def explain(
    message: Annotated[
        Path, typer.Argument(help="File with the message; - reads standard input.", metavar="MESSAGE")
    ],
    config: SettingsFile = Path("rules.yaml"),
    sender: Annotated[str, typer.Option(help="The reverse-path (MAIL FROM).", metavar="ADDRESS")] = "",
    recipient: Annotated[
        list[str] | None, typer.Option(help="A forward-path (RCPT TO); may be repeated.", metavar="ADDRESS")
    ] = None,
    client: Annotated[str, typer.Option(help="The client's address.", metavar="IP")] = "192.0.2.1",
    helo: Annotated[str, typer.Option(help="The client's name in EHLO.", metavar="NAME")] = "client.example",
    authenticated: Annotated[
        str | None, typer.Option(help="The user who is logged in with AUTH.", metavar="USER")
    ] = None,
    tls: Annotated[bool, typer.Option("--tls", help="As if over TLS (TLSv1.3).")] = False,
    early_talker: Annotated[
        bool, typer.Option("--early-talker", help="As if the client had not waited for the greeting.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option(help="Write the message to a file as it would leave.", metavar="FILE")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show what each rule decides about a message, why, and how long it takes.

    Nothing is sent or stored. Line ends of the file are converted to CRLF, as in SMTP. What a filter
    prints goes to standard error.

    --output writes the bytes that the next server or the inbox would get: with the Received field and all
    edits. Exit status 1 if nothing would leave, or if recipients would get different messages.
    """
    from gatepost.config import load  # noqa: PLC0415 - imported by the commands that need it
    from gatepost.explain import explain as ask  # noqa: PLC0415

    with cli_errors(), own_stdout() as stdout:
        octets = sys.stdin.buffer.read() if str(message) == "-" else message.read_bytes()
        transaction = _transaction(
            _as_received(octets),
            sender,
            recipient or ["postmaster"],
            client,
            helo,
            authenticated,
            "TLSv1.3" if tls else None,
            early_talker=early_talker,
        )
        loaded = load(config)
        explanation = ask(loaded, transaction)
        if as_json:
            print(json.dumps(_plain(explanation), default=str, ensure_ascii=False), file=stdout)
        else:
            _show(explanation, stdout)
        if output:
            _write(output, explanation)


def _as_received(octets: bytes) -> bytes:
    """A file's content as SMTP would carry it: lines end with CRLF, the last one too."""
    content = _BARE_LF.sub(b"\r\n", octets)
    return content if content.endswith(b"\r\n") else content + b"\r\n"


def _write(file: Path, explanation: "Explanation") -> None:
    """Write the one message that would leave; exits if there is none, or more than one."""
    messages = explanation.leaving
    if not messages:
        why = "; ".join(f"{end.address}: {_words(end)}" for end in explanation.recipients)
        fail(printable(f"{file} is not written: the message would not leave ({why})", mark="?"))
    if len({message.content for message in messages}) > 1:
        groups = " and ".join(", ".join(message.recipients) for message in messages)
        what = f"{groups} would get different messages, choose one with --recipient"
        fail(printable(f"{file} is not written: {what}", mark="?"))
    file.write_bytes(messages[0].content)


def _transaction(
    content: bytes,
    sender: str,
    recipients: list[str],
    client: str,
    helo: str,
    authenticated: str | None,
    tls: str | None,
    *,
    early_talker: bool,
) -> "Transaction":
    from gatepost.model.mail import Envelope, Message, Recipient, Session, Transaction, new_id  # noqa: PLC0415

    try:
        address = ip_address(client)
    except ValueError:
        fail(f"--client {client!r}: expected an IP address", USAGE)
    now = datetime.now(UTC)
    session = Session(
        id=new_id(),
        client=address,
        client_port=0,
        listener="explain",
        connected_at=now,
        helo=helo,
        extended=True,
        authenticated=authenticated,
        tls=tls,
        early_talker=early_talker,
    )
    envelope = Envelope(mail_from=sender, recipients=tuple(Recipient(address=r) for r in recipients))
    return Transaction(
        id=new_id(), session=session, envelope=envelope, message=Message(content=content), received_at=now
    )


def _show(explanation: "Explanation", stdout: TextIO) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(file=stdout, highlight=False, width=None if stdout.isatty() else _UNLIMITED_WIDTH)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("rule", "stage", "result", "action", "score", "why"):
        table.add_column(column)
    table.add_column("ms", justify="right")
    colours = {"hit": "yellow", "pass": "green", "error": "red", "timeout": "red"}
    for evaluation in explanation.evaluations:
        action = str(evaluation.action or "")
        why = evaluation.reason + "".join(f"\n  {_found(one)}" for one in evaluation.matches)
        if evaluation.recipients:
            why += f"\n  for {', '.join(evaluation.recipients)}"
        table.add_row(
            Text(evaluation.rule),
            evaluation.stage.name.lower(),
            Text(evaluation.result, style=colours[evaluation.result]),
            f"({action}, observed)" if evaluation.observed and action else action,
            f"{evaluation.score:g}" if evaluation.score else "",
            Text(why.strip()),
            f"{evaluation.seconds * 1000:.2f}",
        )
    if explanation.evaluations:
        console.print(table)
    if explanation.not_asked:
        names = ", ".join(explanation.not_asked)
        why = "their `when` does not hold, or an earlier rule decided"
        console.print(Text(f"not asked ({why}): {names}", style="dim"), soft_wrap=True)
    for one in explanation.look_ups:
        asked = f"DNS: {printable(one.name)} {one.type}: {one.status}, {one.seconds * 1000:.2f} ms"
        console.print(Text(asked, style="dim"), soft_wrap=True)
    for part in explanation.read:
        console.print(Text(f"read: {printable(_described(part), mark='?')}", style="dim"), soft_wrap=True)
    for warning in explanation.warnings:
        console.print(Text(f"parsing: {warning}", style="dim"), soft_wrap=True)
    for broken in explanation.broken_signatures:
        console.print(Text(f"warning: {printable(broken)}", style="yellow"), soft_wrap=True)
    console.print()
    for end in explanation.recipients:
        console.print(Text(f"{end.address}: {_words(end)}", style="bold"), soft_wrap=True)
        if end.outcome.action in (Action.ACCEPT, Action.QUARANTINE):
            changes = end.outcome.changes
            if changes and changes.mail_from is not None:
                console.print(
                    Text(f"  edit: change sender to <{printable(changes.mail_from)}>"), soft_wrap=True
                )
            for edit in end.outcome.edits:
                console.print(Text(f"  edit: {printable(str(edit))}"), soft_wrap=True)


def _found(match: "Match") -> str:
    """Where a filter found something, and what; a result like ``spf=pass`` says itself where."""
    return match.text if match.text.startswith(f"{match.where}=") else f"{match.where}: {match.text}"


def _described(part: "PartRead") -> str:
    """One line about a part: what it is, and how it was read."""
    names = ", ".join(repr(name)[1:-1] for name in part.names)
    unit = "characters" if part.kind == "text" else "bytes"
    how = f": {'; '.join(part.how)}" if part.how else ""
    return f"{part.kind}{f' {names}' if names else ''} ({part.content_type}, {part.size} {unit}){how}"


def _words(end: "RecipientExplanation") -> str:
    """What would happen to the message for that recipient."""
    outcome = end.outcome
    words = str(outcome.action)
    words += f" by {outcome.rule} at {end.stage.name.lower()}" if outcome.rule else ""
    words += f", score {end.score:g}" if end.score else ""
    words += f", reply {outcome.reply}" if outcome.reply else ""
    words += f", the reply {outcome.timing}" if outcome.timing else ""
    if not end.route:
        others = (
            " for this client, only for others (--client, --authenticated)" if end.route_for_others else ""
        )
        return f"no route{others}, 550 5.7.1 Relaying denied; the rules decide {words}"
    return f"{words}, to {end.route}" if outcome.action is Action.ACCEPT else words


def _plain(explanation: "Explanation") -> dict[str, Any]:
    """JSON values for the dataclasses; stages by name, edits in words."""
    told = dataclasses.asdict(dataclasses.replace(explanation, leaving=()))
    del told["leaving"]  # --output writes it
    for end, shown in zip(explanation.recipients, told["recipients"], strict=True):
        shown["outcome"]["edits"] = [str(edit) for edit in end.outcome.edits]
    for part in (*told["recipients"], *told["evaluations"]):
        part["stage"] = part["stage"].name.lower()
    return told
