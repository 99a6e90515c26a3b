"""``gatepost quarantine``: look at what was held back, release or delete it."""

import getpass
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gatepost.cli.exits import FAILED, USAGE, exits
from gatepost.cli.listing import clock, moment, print_fields, print_json, readable, visible
from gatepost.cli.serve import SettingsFile
from gatepost.mail import Message

if TYPE_CHECKING:
    from gatepost.config import LoadedConfig
    from gatepost.store import Archive, KeptMessage, KeptSummary

__all__ = ["app"]

app = typer.Typer(
    help="Messages that were held back: look at them, release or delete them.", no_args_is_help=True
)

Id = Annotated[str, typer.Argument(help="The message's ID, as `list` shows it.", metavar="ID")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line; times are UTC, octets base64.")]


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
    rule: Annotated[str | None, typer.Option(help="Held back by this rule.", metavar="RULE")] = None,
    since: Annotated[
        str | None,
        typer.Option(help="Not older than this: 1h, 7d, 2026-11-30, 2026-11-30T08:00.", metavar="TIME"),
    ] = None,
    until: Annotated[str | None, typer.Option(help="Older than this.", metavar="TIME")] = None,
    all_states: Annotated[bool, typer.Option("--all", help="Released and deleted ones too.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", help="At most so many, the newest.", min=1)] = 50,
    as_json: AsJson = False,
) -> None:
    """List the messages in quarantine, newest first. Times are local."""
    from gatepost.store import Box, KeptQuery, State  # noqa: PLC0415 - SQLAlchemy is slow to import

    query = KeptQuery(
        box=Box.QUARANTINE,
        state=None if all_states else State.HELD,
        mail_from=sender,
        recipient=recipient,
        rule=rule,
        since=moment(since) if since else None,
        until=moment(until) if until else None,
    )
    with _quarantine(config) as (_, archive):
        found = archive.kept(query, limit=limit)
    if as_json:
        for kept in found:
            print_json(kept)
        return
    from gatepost.cli.tables import print_list  # noqa: PLC0415 - only who prints a table waits for rich

    print_list(
        ("when", "id", "reason", "from", "to", "rule", "subject", "octets", "state"),
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
    raw: Annotated[
        bool, typer.Option("--raw", help="Write the octets that would be delivered, nothing else.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show one message: why it was held back, for whom, and its header section.

    To save it, attachments and all: gatepost quarantine show --raw ID > message.eml
    """
    with _quarantine(config) as (_, archive):
        kept = _message(archive, message)
    if raw:
        _require_content(kept)
        sys.stdout.buffer.write(kept.delivered_form)
        sys.stdout.buffer.flush()
    elif as_json:
        print_json(kept)
    else:
        _show(kept)


@app.command("delete")
def delete(
    messages: Annotated[list[str], typer.Argument(help="The messages' IDs.", metavar="ID...")],
    config: SettingsFile = Path("rules.yaml"),
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete messages for good. Exit status 1 where one of them is not in quarantine."""
    with _quarantine(config) as (_, archive):
        found = {message: archive.kept_message(message) for message in messages}
        present = [message for message, kept in found.items() if kept and _is_here(kept)]
        if present and not yes:
            _confirm(len(present))
        deleted = archive.delete(present, who=getpass.getuser())
    for message in deleted:
        print(f"deleted {message}")
    missing = [message for message in found if message not in deleted]
    for message in missing:
        print(f"gatepost: there is no message {message!r} in quarantine", file=sys.stderr)
    if missing:
        raise typer.Exit(FAILED)


@app.command("release", short_help="Deliver a message after all.")
def release(
    message: Id,
    config: SettingsFile = Path("rules.yaml"),
    to: Annotated[
        list[str] | None,
        typer.Option(help="To this address instead of its recipients; may be repeated.", metavar="ADDRESS"),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Though it was released before.")] = False,
) -> None:
    """Deliver a message after all, as it would have been: over the routes, or into the inbox.

    The rules are not asked again. The message stays in quarantine, marked as released.
    """
    from gatepost.release import release as deliver  # noqa: PLC0415 - it brings the servers in
    from gatepost.store import State  # noqa: PLC0415 - SQLAlchemy is slow to import

    with _quarantine(config) as (loaded, archive):
        kept = _message(archive, message)
        _require_content(kept)
        if kept.state is State.RELEASED and not again:
            _fail(f"{_story(kept)}; to release it once more: --again")
        recipients = tuple(to) if to else None
        reply = deliver(loaded.config, loaded.base, kept, recipients)
        if not reply.positive:
            _fail(f"{message} was not taken and stays in quarantine: {visible(str(reply))}")
        archive.mark_released(kept.id, who=getpass.getuser(), to=recipients or kept.recipients, reply=reply)
    print(f"released {message}: {visible(str(reply))}")


@contextmanager
def _quarantine(config: Path) -> Iterator[tuple["LoadedConfig", "Archive"]]:
    """The settings and the store while the block lasts."""
    from gatepost.config import load  # noqa: PLC0415 - imported by the commands that need it
    from gatepost.store import Archive  # noqa: PLC0415

    with exits():
        loaded = load(config)
        with Archive.open(loaded.config.store, loaded.base) as archive:
            yield loaded, archive


def _fail(text: str) -> None:
    print(f"gatepost: {text}", file=sys.stderr)
    raise typer.Exit(FAILED)


def _message(archive: "Archive", kept_id: str) -> "KeptMessage":
    from gatepost.store import Box  # noqa: PLC0415

    kept = archive.kept_message(kept_id)
    if kept is None or kept.box is not Box.QUARANTINE:
        print(f"gatepost: there is no message {kept_id!r} in quarantine", file=sys.stderr)
        raise typer.Exit(FAILED)
    return kept


def _is_here(kept: "KeptMessage") -> bool:
    from gatepost.store import Box, State  # noqa: PLC0415

    return kept.box is Box.QUARANTINE and kept.state is not State.DELETED


def _require_content(kept: "KeptMessage") -> None:
    if not _is_here(kept):
        _fail(_story(kept))


def _confirm(number: int) -> None:
    if not sys.stdin.isatty():
        print("gatepost: nothing was deleted; where nobody can be asked it takes --yes", file=sys.stderr)
        raise typer.Exit(USAGE)
    typer.confirm(f"Delete {number} message{'' if number == 1 else 's'} for good?", abort=True)


def _addresses(addresses: tuple[str, ...]) -> str:
    return ", ".join(f"<{address}>" for address in addresses)


def _what_was_done(kept: "KeptSummary") -> str:
    return f"{kept.state} by {kept.changed_by}" if kept.changed_by else kept.state


def _story(kept: "KeptSummary") -> str:
    """What was done with it."""
    when = clock(kept.changed_at) if kept.changed_at else ""
    note = f" ({visible(kept.note)})" if kept.note else ""
    return f"{kept.id} was {kept.state} by {visible(kept.changed_by or '')} at {when}{note}"


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
            ("size", f"{kept.size} octets"),
            ("state", _story(kept) if kept.changed_at else kept.state),
        )
    )
    header_section = Message(content=kept.delivered_form).header_section
    print()
    for line in header_section.decode("utf-8", "surrogateescape").splitlines():
        print(visible(line))
