"""``gatepost journal``: what happened to messages."""

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from gatepost.cli.errors import FAILED, cli_errors
from gatepost.cli.listing import MOST, clock, moment, print_fields, print_json, readable
from gatepost.cli.serve import SettingsFile
from gatepost.model.record import Disposition, Record

if TYPE_CHECKING:
    from gatepost.model.verdict import Evaluation
    from gatepost.store import KeptSummary

__all__ = ["journal"]

_KEPT_LIMIT = 100


def journal(
    some_id: Annotated[
        str | None,
        typer.Argument(
            help="The ID of a transaction, of its session, or of a message kept from it.", metavar="ID"
        ),
    ] = None,
    config: SettingsFile = Path("rules.yaml"),
    client: Annotated[
        str | None, typer.Option(help="From this client address; * matches any characters.", metavar="IP")
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
    user: Annotated[
        str | None,
        typer.Option(help="Authenticated as this user (AUTH); * for any characters.", metavar="USER"),
    ] = None,
    node: Annotated[
        str | None,
        typer.Option(help="Written by this node of several; * for any characters.", metavar="NAME"),
    ] = None,
    session: Annotated[str | None, typer.Option(help="Of the session with this ID.", metavar="ID")] = None,
    message_id: Annotated[
        str | None, typer.Option(help="With this Message-ID; * for any characters.", metavar="MESSAGE-ID")
    ] = None,
    rule: Annotated[
        str | None,
        typer.Option(help="Decided by this rule, or a hit of it in observe mode.", metavar="RULE"),
    ] = None,
    disposition: Annotated[
        Disposition | None,
        typer.Option(help="With this result for at least one recipient, or at connect, EHLO or MAIL."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(help="Not older than this: 1h, 7d, 2026-11-30, 2026-11-30T08:00.", metavar="TIME"),
    ] = None,
    until: Annotated[str | None, typer.Option(help="Older than this.", metavar="TIME")] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", help="At most this many, the newest.", min=1, max=MOST)
    ] = 50,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on each line; times are UTC.")
    ] = False,
) -> None:
    """List what happened to messages, newest first, or show one transaction in full.

    The ID is in the log, in the Received field and in many replies; that of a session with several
    transactions lists them. Times are local.
    """
    from gatepost.config import load  # noqa: PLC0415 - imported by the commands that need it
    from gatepost.store import JournalQuery, KeptQuery, open_archive  # noqa: PLC0415

    query = JournalQuery(
        id=some_id,
        client=client,
        mail_from=sender,
        recipient=recipient,
        user=user,
        node=node,
        session_id=session,
        message_id=message_id,
        rule=rule,
        disposition=disposition,
        since=moment(since, "--since") if since is not None else None,
        until=moment(until, "--until") if until is not None else None,
    )
    with cli_errors():
        loaded = load(config)
        with open_archive(loaded.config.store, loaded.base) as archive:
            records = archive.records(query, limit=limit)
            if some_id is None or len(records) > 1:
                _list(records, as_json=as_json)
                return
            of_id = KeptQuery(id=records[0].id if records else some_id, state=None)
            kept = archive.kept(of_id, limit=_KEPT_LIMIT)
    if not records:
        _fail(some_id, kept)
    elif as_json:
        short = [{"id": one.id, "box": one.box, "state": one.state} for one in kept]
        _print_record(records[0], kept=short)
    else:
        _show(records[0], kept)


def _fail(some_id: str, kept: list["KeptSummary"]) -> NoReturn:
    problem = f"no transaction, session or stored message has the ID {some_id!r}"
    if kept:
        problem = (
            f"the journal has no transaction {some_id!r} any more, but its message {kept[0].id} is stored"
        )
        problem += "; see gatepost quarantine show or the web desk"
    print(f"gatepost: {problem}", file=sys.stderr)
    raise typer.Exit(FAILED)


def _print_record(record: Record, **more: Any) -> None:
    end = record.early_end
    print_json(record, early_end=dataclasses.asdict(end) if end else None, **more)


def _list(records: list[Record], *, as_json: bool) -> None:
    if as_json:
        for record in records:
            _print_record(record)
        return
    from gatepost.cli.tables import print_list  # noqa: PLC0415 - only who prints a table waits for rich

    several_nodes = len({record.node for record in records if record.node}) > 1
    node = ("node",) if several_nodes else ()
    print_list(
        ("when", "id", *node, "end", "from", "to", "rule", "client", "subject"),
        (
            (
                clock(record.received_at),
                record.id,
                *((record.node or "",) if node else ()),
                ", ".join(record.dispositions),
                "" if record.mail_from is None else f"<{record.mail_from}>",
                _first([f"<{end.address}>" for end in record.recipients]),
                ", ".join(record.rules),
                record.client,
                readable(record.subject),
            )
            for record in records
        ),
    )


def _first(addresses: list[str]) -> str:
    return addresses[0] + (f" +{len(addresses) - 1}" if len(addresses) > 1 else "") if addresses else ""


def _show(record: Record, kept: list["KeptSummary"]) -> None:
    from gatepost.cli.tables import print_table  # noqa: PLC0415 - likewise

    early = record.early_end
    took = f"{record.seconds * 1000:.1f} ms from the end of data to the reply" if record.seconds else None
    print_fields(
        (
            ("transaction", record.id),
            ("session", record.session_id),
            ("node", record.node),
            ("kept", ", ".join(f"{one.id} ({one.box}, {one.state})" for one in kept) or None),
            ("ended", clock(record.received_at)),
            ("took", took),
            ("client", f"{record.client}, {record.helo}" if record.helo else record.client),
            ("tls", record.tls),
            ("authenticated", record.authenticated),
            ("from", None if record.mail_from is None else f"<{record.mail_from}>"),
            ("size", None if record.size is None else f"{record.size} bytes"),
            ("subject", readable(record.subject) or None),
            ("message-id", record.message_id or None),
            ("end", early.disposition if early else None),
            ("rule", early.rule if early else None),
            ("reason", (early.reason if early else "") or None),
            ("reply", record.reply),
            ("upstream", record.upstream),
            ("its reply", record.upstream_reply),
        )
    )
    if record.recipients:
        print()
        print_table(
            ("recipient", "end", "action", "rule", "score", "reason", "reply"),
            (
                (
                    f"<{end.address}>",
                    end.disposition,
                    end.action,
                    end.rule or "",
                    _score(record.score(end.address)),
                    end.reason,
                    end.reply,
                )
                for end in record.recipients
            ),
        )
    if record.evaluations:
        print()
        print_table(
            ("rule", "asked at", "result", "action", "score", "time", "for", "reason", "found"),
            (_evaluation(evaluation) for evaluation in record.evaluations),
        )


def _score(score: float) -> str:
    return f"{score:g}" if score else ""


def _evaluation(evaluation: "Evaluation") -> tuple[str, ...]:
    action = evaluation.action or ""
    return (
        evaluation.rule,
        evaluation.stage.name.lower(),
        evaluation.result,
        f"{action} (observed)" if evaluation.observed and action else action,
        _score(evaluation.score),
        f"{evaluation.seconds * 1000:.1f} ms",
        _first([f"<{address}>" for address in evaluation.recipients]) or "all",
        evaluation.reason,
        "; ".join(f"{match.where}: {match.text}" for match in evaluation.matches),
    )
