"""``gatepost quarantine``: list, show, release or delete quarantined messages."""

import getpass
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from gatepost.cli.errors import FAILED, USAGE, cli_errors
from gatepost.cli.listing import MOST, clock, moment, print_fields, print_json, readable
from gatepost.cli.serve import SettingsFile
from gatepost.model.mail import Message
from gatepost.printable import printable

if TYPE_CHECKING:
    from gatepost.config import LoadedConfig
    from gatepost.store import Archive, KeptMessage, KeptSummary

__all__ = ["app"]

app = typer.Typer(help="List, show, release or delete quarantined messages.", no_args_is_help=True)

Id = Annotated[
    str,
    typer.Argument(help="The message's ID, as `list` shows it, or that of its transaction.", metavar="ID"),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on each line; times are UTC, bytes are base64.")
]


@app.command("list")
def list_messages(
    config: SettingsFile = Path("rules.yaml"),
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
    rule: Annotated[str | None, typer.Option(help="Quarantined by this rule.", metavar="RULE")] = None,
    since: Annotated[
        str | None,
        typer.Option(help="Not older than this: 1h, 7d, 2026-11-30, 2026-11-30T08:00.", metavar="TIME"),
    ] = None,
    until: Annotated[str | None, typer.Option(help="Older than this.", metavar="TIME")] = None,
    all_states: Annotated[bool, typer.Option("--all", help="Include released and deleted messages.")] = False,
    limit: Annotated[
        int, typer.Option("--limit", "-n", help="At most this many, the newest.", min=1, max=MOST)
    ] = 50,
    as_json: AsJson = False,
) -> None:
    """List the messages in quarantine, newest first. Times are local."""
    from gatepost.store import Box, KeptQuery, State  # noqa: PLC0415 - pydantic is slow to import

    query = KeptQuery(
        box=Box.QUARANTINE,
        state=None if all_states else State.HELD,
        mail_from=sender,
        recipient=recipient,
        rule=rule,
        since=moment(since, "--since") if since is not None else None,
        until=moment(until, "--until") if until is not None else None,
    )
    with _quarantine(config) as (_, archive):
        found = archive.kept(query, limit=limit)
    if as_json:
        for kept in found:
            print_json(kept)
        return
    from gatepost.cli.tables import print_list  # noqa: PLC0415 - only who prints a table waits for rich

    print_list(
        ("when", "id", "reason", "from", "to", "rule", "subject", "bytes", "state"),
        (
            (
                clock(kept.created_at),
                kept.id,
                kept.reason,
                f"<{kept.mail_from}>",
                _addresses(kept.recipients),
                kept.rule or "",
                readable(kept.subject),
                str(kept.size),
                _what_was_done(kept),
            )
            for kept in found
        ),
    )


@app.command("show", short_help="Show one message with its header section.")
def show(
    message: Id,
    config: SettingsFile = Path("rules.yaml"),
    raw: Annotated[bool, typer.Option("--raw", help="Write only the bytes that would be delivered.")] = False,
    original: Annotated[
        bool, typer.Option("--original", help="Write only the bytes as received, without edits and Received.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show one message: why it was quarantined, its recipients, its edits, and its header section.

    The header section is that of the message as it would be delivered, with the edits of the rules that hit.

    To save the whole message: gatepost quarantine show --raw ID > message.eml
    """
    with _quarantine(config) as (_, archive):
        kept = _message(archive, message)
    if raw or original:
        _require_content(kept)
        sys.stdout.buffer.write(kept.content if original else kept.delivered_form)
        sys.stdout.buffer.flush()
    elif as_json:
        print_json(kept)
    else:
        _show(kept)


@app.command("delete")
def delete(
    messages: Annotated[
        list[str], typer.Argument(help="The messages' IDs, or those of their transactions.", metavar="ID...")
    ],
    config: SettingsFile = Path("rules.yaml"),
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
) -> None:
    """Delete messages permanently. Exit status 1 if one of them is not in quarantine."""
    with _quarantine(config) as (_, archive):
        found = {some_id: _find(archive, some_id) for some_id in messages}
        present = [kept.id for kept in found.values() if kept and _is_here(kept)]
        if present and not yes:
            _confirm(len(set(present)))
        deleted = archive.delete(present, actor=getpass.getuser())
    for message in deleted:
        print(f"deleted {message}")
    missing = [some_id for some_id, kept in found.items() if not kept or kept.id not in deleted]
    for message in missing:
        kept = found[message]
        problem = (
            f"the message {kept.id} is being released, or was deleted"
            if kept and kept.id in present
            else f"there is no message {message!r} in quarantine"
        )
        print(f"gatepost: {problem}", file=sys.stderr)
    if missing:
        raise typer.Exit(FAILED)


@app.command("release", short_help="Deliver a message after all.")
def release(
    message: Id,
    config: SettingsFile = Path("rules.yaml"),
    to: Annotated[
        list[str] | None,
        typer.Option(
            help="Deliver to this address instead of the recipients; may be repeated.", metavar="ADDRESS"
        ),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Release it even if it was released before.")
    ] = False,
) -> None:
    """Deliver a message after all: over its routes, or into the inbox.

    The rules are not asked again. The message stays in quarantine, marked as released.
    """
    from gatepost.gateway.release import release as deliver  # noqa: PLC0415 - it brings the servers in
    from gatepost.store import State, release_once  # noqa: PLC0415 - pydantic is slow to import

    with _quarantine(config) as (loaded, archive):
        kept = _message(archive, message)
        _require_content(kept)
        if kept.state is State.RELEASED and not again:
            _fail(f"{_story(kept)}; use --again to release it again")
        recipients = tuple(to) if to else None
        reply = release_once(
            archive,
            kept,
            lambda: deliver(loaded.config, loaded.base, kept, recipients),
            to=recipients or kept.recipients,
            actor=getpass.getuser(),
        )
        if not reply.positive:
            _fail(f"{kept.id} was refused and stays in quarantine: {printable(str(reply))}")
    print(f"released {kept.id}: {printable(str(reply))}")


@contextmanager
def _quarantine(config: Path) -> Iterator[tuple["LoadedConfig", "Archive"]]:
    """Open the settings and the store for the block."""
    from gatepost.config import load  # noqa: PLC0415 - imported by the commands that need it
    from gatepost.store import open_archive  # noqa: PLC0415

    with cli_errors():
        loaded = load(config)
        with open_archive(loaded.config.store, loaded.base) as archive:
            yield loaded, archive


def _fail(text: str) -> NoReturn:
    print(f"gatepost: {text}", file=sys.stderr)
    raise typer.Exit(FAILED)


def _message(archive: "Archive", some_id: str) -> "KeptMessage":
    found = _find(archive, some_id)
    kept = archive.kept_message(found.id) if found else None
    if kept is None:
        _fail(f"there is no message {some_id!r} in quarantine")
    return kept


def _find(archive: "Archive", some_id: str) -> "KeptSummary | None":
    """The one message in quarantine of that ID, its own, its transaction's or its session's.

    Exits if there are several, so that nobody deletes or releases more than they know of.
    """
    from gatepost.store import Box, find  # noqa: PLC0415

    found = [kept for kept in find(archive, some_id).kept if kept.box is Box.QUARANTINE]
    found = [kept for kept in found if _is_here(kept)] or found
    if len(found) > 1:
        each = "".join(
            f"\n  {kept.id} for {printable(_addresses(kept.recipients))} ({kept.state})" for kept in found
        )
        _fail(f"{some_id!r} has {len(found)} messages in quarantine, name one of them:{each}")
    return found[0] if found else None


def _is_here(kept: "KeptSummary") -> bool:
    from gatepost.store import Box, State  # noqa: PLC0415

    return kept.box is Box.QUARANTINE and kept.state is not State.DELETED


def _require_content(kept: "KeptMessage") -> None:
    if not _is_here(kept):
        _fail(_story(kept))


def _confirm(number: int) -> None:
    if not sys.stdin.isatty():
        print("gatepost: nothing was deleted; without a terminal to confirm, use --yes", file=sys.stderr)
        raise typer.Exit(USAGE)
    typer.confirm(f"Delete {number} message{'' if number == 1 else 's'} permanently?", abort=True)


def _addresses(addresses: tuple[str, ...]) -> str:
    return ", ".join(f"<{address}>" for address in addresses)


def _what_was_done(kept: "KeptSummary") -> str:
    return f"{kept.state} by {kept.changed_by}" if kept.changed_by else kept.state


def _story(kept: "KeptSummary") -> str:
    """Who changed the message's state, and when."""
    when = clock(kept.changed_at) if kept.changed_at else ""
    note = f" ({printable(kept.note)})" if kept.note else ""
    return f"{kept.id} was {kept.state} by {printable(kept.changed_by or '')} at {when}{note}"


def _show(kept: "KeptMessage") -> None:
    print_fields(
        (
            ("message", kept.id),
            ("transaction", kept.transaction_id),
            ("when", clock(kept.created_at)),
            ("client", kept.client),
            ("from", f"<{kept.mail_from}>"),
            ("to", _addresses(kept.recipients)),
            ("rule", kept.rule),
            ("reason", kept.reason),
            ("size", f"{kept.size} bytes"),
            ("state", _story(kept) if kept.changed_at else kept.state),
            *(("edit", str(edit)) for edit in kept.edits),
        )
    )
    header_section = Message(content=kept.delivered_form).header_section
    print()
    for line in header_section.decode("utf-8", "surrogateescape").splitlines():
        print(printable(line))
