"""``gatepost learn``: say that stored messages are spam, or not, to the filters that learn."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gatepost.cli.errors import FAILED, USAGE, cli_errors, fail
from gatepost.cli.settings import SettingsFile
from gatepost.printable import printable

if TYPE_CHECKING:
    from gatepost.store import Archive, KeptMessage

__all__ = ["learn"]


def learn(
    kind: Annotated[Literal["spam", "ham"], typer.Argument(help="What they are.", metavar="spam|ham")],
    messages: Annotated[
        list[str],
        typer.Argument(help="The IDs of stored messages, or those of their transactions.", metavar="ID..."),
    ],
    config: SettingsFile = Path("rules.yaml"),
) -> None:
    """Have the scanners learn that messages in quarantine or inbox are spam, or that they are not (ham).

    Each rule with `learn: true` learns each message as it was received: rspamd and spamassassin can. The
    messages stay where they are. Exit status 1 if there is no such message, or a filter failed.
    """
    from gatepost.config import load  # noqa: PLC0415 - imported by the commands that need it
    from gatepost.pipeline.learning import learn as learn_message  # noqa: PLC0415
    from gatepost.store import open_archive  # noqa: PLC0415

    failed = False
    with cli_errors():
        loaded = load(config)
        if not any(rule.learn for rule in loaded.config.rules):
            fail(f"no rule in {config} has `learn: true`", USAGE)
        with open_archive(loaded.config.store, loaded.base) as archive:
            for some_id in messages:
                kept = _stored(archive, some_id)
                if kept is None:
                    failed = True
                    continue
                for learnt in learn_message(loaded, kept.content, kept.recipients, kind):
                    text = f"{learnt.rule}: {learnt.text or f'learned as {kind}'}"
                    if learnt.succeeded:
                        print(f"{kept.id} {printable(text)}")
                    else:
                        print(f"gatepost: {kept.id} {printable(text)}", file=sys.stderr)
                        failed = True
    if failed:
        raise typer.Exit(FAILED)


def _stored(archive: "Archive", some_id: str) -> "KeptMessage | None":
    """The one message of that ID; None, with an error, if there is none or a session's ID names several."""
    from gatepost.store import State, find  # noqa: PLC0415

    found = [kept for kept in find(archive, some_id).kept if kept.state is not State.DELETED]
    if len({kept.transaction_id for kept in found}) > 1:
        each = ", ".join(sorted(kept.id for kept in found))
        print(f"gatepost: {some_id!r} names several messages, name one of them: {each}", file=sys.stderr)
        return None
    kept = archive.kept_message(found[0].id) if found else None
    if kept is None:
        print(f"gatepost: there is no stored message {some_id!r}", file=sys.stderr)
    return kept
