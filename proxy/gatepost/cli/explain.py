"""``gatepost explain``: what the rules say of a message."""

import dataclasses
import json
import re
import sys
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gatepost.cli.exits import USAGE, exits
from gatepost.cli.serve import SettingsFile
from gatepost.verdict import Action

if TYPE_CHECKING:
    from gatepost.explain import Explanation, PartRead, RecipientExplanation
    from gatepost.mail import Transaction

__all__ = ["explain"]

_BARE_LF = re.compile(rb"(?<!\r)\n")


def explain(
    message: Annotated[
        Path, typer.Argument(help="A message as a file; - reads standard input.", metavar="MESSAGE")
    ],
    config: SettingsFile = Path("rules.yaml"),
    sender: Annotated[str, typer.Option(help="The reverse-path (MAIL FROM).", metavar="ADDRESS")] = "",
    recipient: Annotated[
        list[str] | None, typer.Option(help="A forward-path (RCPT TO); may be repeated.", metavar="ADDRESS")
    ] = None,
    client: Annotated[str, typer.Option(help="The client's address.", metavar="IP")] = "192.0.2.1",
    helo: Annotated[
        str, typer.Option(help="What the client calls itself.", metavar="NAME")
    ] = "client.example",
    authenticated: Annotated[
        str | None, typer.Option(help="The user that AUTH established.", metavar="USER")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show what each rule says of a message, why, and how long it took.

    Nothing is sent and nothing is kept. Line ends of the file become CRLF, as they are on the wire.
    """
    from gatepost.config import load  # noqa: PLC0415 - imported by the commands that need it
    from gatepost.explain import explain as ask  # noqa: PLC0415

    with exits():
        octets = sys.stdin.buffer.read() if str(message) == "-" else message.read_bytes()
        transaction = _transaction(
            _BARE_LF.sub(b"\r\n", octets), sender, recipient or ["postmaster"], client, helo, authenticated
        )
        explanation = ask(load(config), transaction)
    if as_json:
        print(json.dumps(_plain(explanation), default=str, ensure_ascii=False))
    else:
        _show(explanation)


def _transaction(
    content: bytes, sender: str, recipients: list[str], client: str, helo: str, authenticated: str | None
) -> "Transaction":
    from gatepost.mail import Envelope, Message, Recipient, Session, Transaction, new_id  # noqa: PLC0415

    try:
        address = ip_address(client)
    except ValueError:
        print(f"gatepost: --client {client!r}: expected an IP address", file=sys.stderr)
        raise typer.Exit(USAGE) from None
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
    )
    envelope = Envelope(mail_from=sender, recipients=tuple(Recipient(address=r) for r in recipients))
    return Transaction(
        id=new_id(), session=session, envelope=envelope, message=Message(content=content), received_at=now
    )


def _show(explanation: "Explanation") -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("rule", "stage", "result", "action", "why"):
        table.add_column(column)
    table.add_column("ms", justify="right")
    colours = {"hit": "yellow", "pass": "green", "error": "red", "timeout": "red"}
    for evaluation in explanation.evaluations:
        action = str(evaluation.action or "")
        why = evaluation.reason + "".join(f"\n  {m.where}: {m.text}" for m in evaluation.matches)
        if evaluation.recipients:
            why += f"\n  for {', '.join(evaluation.recipients)}"
        table.add_row(
            Text(evaluation.rule),
            evaluation.stage.name.lower(),
            Text(evaluation.result, style=colours[evaluation.result]),
            f"({action}, observed)" if evaluation.observed and action else action,
            Text(why.strip()),
            f"{evaluation.seconds * 1000:.2f}",
        )
    if explanation.evaluations:
        console.print(table)
    if explanation.not_asked:
        names = ", ".join(explanation.not_asked)
        why = "their `when` does not hold, or the matter was decided before"
        console.print(Text(f"not asked ({why}): {names}", style="dim"), soft_wrap=True)
    for part in explanation.read:
        console.print(Text(f"read: {_printable(_described(part))}", style="dim"), soft_wrap=True)
    for warning in explanation.warnings:
        console.print(Text(f"parsing: {warning}", style="dim"), soft_wrap=True)
    console.print()
    for end in explanation.recipients:
        console.print(Text(f"{end.address}: {_words(end)}", style="bold"), soft_wrap=True)


def _described(part: "PartRead") -> str:
    """A part in one line: what it is, and how it was read."""
    names = ", ".join(repr(name)[1:-1] for name in part.names)
    unit = "characters" if part.kind == "text" else "bytes"
    how = f": {'; '.join(part.how)}" if part.how else ""
    return f"{part.kind}{f' {names}' if names else ''} ({part.content_type}, {part.size} {unit}){how}"


def _printable(text: str) -> str:
    """The text without what a terminal would obey or not show."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _words(end: "RecipientExplanation") -> str:
    """What would become of the message for that recipient."""
    outcome = end.outcome
    words = str(outcome.action)
    words += f" by {outcome.rule} at {end.stage.name.lower()}" if outcome.rule else ""
    words += f", edited: {len(outcome.edits)}" if outcome.edits else ""
    words += f", reply {outcome.reply}" if outcome.reply else ""
    words += f", the reply {outcome.sending}" if outcome.sending else ""
    if not end.route:
        return f"no route takes it, 550 5.7.1 Relaying denied; the rules say {words}"
    return f"{words}, to {end.route}" if outcome.action is Action.ACCEPT else words


def _plain(explanation: "Explanation") -> dict[str, Any]:
    """As values of JSON; stages by their names."""
    told = dataclasses.asdict(explanation)
    for part in (*told["recipients"], *told["evaluations"]):
        part["stage"] = part["stage"].name.lower()
    return told
