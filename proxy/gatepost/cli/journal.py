"""``gatepost journal``: what became of which message."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gatepost.cli.exits import FAILED, exits
from gatepost.cli.listing import clock, moment, print_fields, print_json, readable
from gatepost.cli.serve import SettingsFile
from gatepost.record import Disposition, Record

if TYPE_CHECKING:
    from gatepost.verdict import Evaluation

__all__ = ["journal"]


def journal(
    transaction: Annotated[
        str | None, typer.Argument(help="Show this one transaction in full.", metavar="ID")
    ] = None,
    config: SettingsFile = Path("rules.yaml"),
    client: Annotated[
        str | None, typer.Option(help="Of this client; * stands for any characters.", metavar="IP")
    ] = None,
    sender: Annotated[
        str | None,
        typer.Option(
            help="From this reverse-path (MAIL FROM); * for any characters, '' for <>.", metavar="ADDRESS"
        ),
    ] = None,
    recipient: Annotated[
        str | None,
        typer.Option(help="For this forward-path (RCPT TO); * for any characters.", metavar="ADDRESS"),
    ] = None,
    message_id: Annotated[
        str | None, typer.Option(help="With this Message-ID; * for any characters.", metavar="MESSAGE-ID")
    ] = None,
    rule: Annotated[
        str | None,
        typer.Option(help="Where this rule decided, or hit and was only observed.", metavar="RULE"),
    ] = None,
    disposition: Annotated[
        Disposition | None, typer.Option(help="What became of it, for at least one recipient.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(help="Not older than this: 1h, 7d, 2026-11-30, 2026-11-30T08:00.", metavar="TIME"),
    ] = None,
    until: Annotated[str | None, typer.Option(help="Older than this.", metavar="TIME")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", help="At most so many, the newest.", min=1)] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line; times are UTC.")] = False,
) -> None:
    """List what became of messages, newest first, or show one transaction in full.

    The ID is in the log, in the Received field and in many replies. Times are local.
    """
    from gatepost.config import load  # noqa: PLC0415 - imported by the commands that need it
    from gatepost.store import Archive, JournalQuery  # noqa: PLC0415

    query = JournalQuery(
        client=client,
        mail_from=sender,
        recipient=recipient,
        message_id=message_id,
        rule=rule,
        disposition=disposition,
        since=moment(since) if since else None,
        until=moment(until) if until else None,
    )
    with exits():
        loaded = load(config)
        with Archive.open(loaded.config.store, loaded.base) as archive:
            if transaction is None:
                _list(archive.records(query, limit=limit), as_json=as_json)
                return
            record = archive.record(transaction)
    if record is None:
        print(f"gatepost: there is no transaction {transaction!r} in the journal", file=sys.stderr)
        raise typer.Exit(FAILED)
    if as_json:
        print_json(record)
    else:
        _show(record)


def _list(records: list[Record], *, as_json: bool) -> None:
    if as_json:
        for record in records:
            print_json(record)
        return
    from gatepost.cli.tables import print_list  # noqa: PLC0415 - only who prints a table waits for rich

    print_list(
        ("when", "id", "end", "from", "to", "rule", "client", "subject"),
        (
            (
                clock(record.received_at),
                record.id,
                ", ".join(dict.fromkeys(end.disposition for end in record.recipients)) or record.reply,
                "" if record.mail_from is None else f"<{record.mail_from}>",
                _first([f"<{end.address}>" for end in record.recipients]),
                ", ".join(dict.fromkeys(end.rule for end in record.recipients if end.rule)),
                record.client,
                readable(record.subject),
            )
            for record in records
        ),
    )


def _first(addresses: list[str]) -> str:
    return addresses[0] + (f" +{len(addresses) - 1}" if len(addresses) > 1 else "") if addresses else ""


def _show(record: Record) -> None:
    from gatepost.cli.tables import print_table  # noqa: PLC0415 - likewise

    print_fields(
        (
            ("transaction", record.id),
            ("session", record.session_id),
            ("ended", clock(record.received_at)),
            ("took", f"{record.seconds * 1000:.1f} ms from the final dot to the reply"),
            ("client", f"{record.client}, {record.helo}" if record.helo else record.client),
            ("tls", record.tls),
            ("authenticated", record.authenticated),
            ("from", None if record.mail_from is None else f"<{record.mail_from}>"),
            ("size", None if record.size is None else f"{record.size} octets"),
            ("subject", readable(record.subject) or None),
            ("message-id", record.message_id or None),
            ("reply", record.reply),
            ("upstream", record.upstream),
            ("it said", record.upstream_reply),
        )
    )
    if record.recipients:
        print()
        print_table(
            ("recipient", "end", "action", "rule", "reason", "reply"),
            (
                (f"<{end.address}>", end.disposition, end.action, end.rule or "", end.reason, end.reply)
                for end in record.recipients
            ),
        )
    if record.evaluations:
        print()
        print_table(
            ("rule", "asked at", "result", "action", "time", "for", "reason", "found"),
            (_evaluation(evaluation) for evaluation in record.evaluations),
        )


def _evaluation(evaluation: "Evaluation") -> tuple[str, ...]:
    action = evaluation.action or ""
    return (
        evaluation.rule,
        evaluation.stage.name.lower(),
        evaluation.result,
        f"{action} (observed)" if evaluation.observed and action else action,
        f"{evaluation.seconds * 1000:.1f} ms",
        _first([f"<{address}>" for address in evaluation.recipients]) or "all",
        evaluation.reason,
        "; ".join(f"{match.where}: {match.text}" for match in evaluation.matches),
    )
