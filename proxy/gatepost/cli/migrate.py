"""``gatepost migrate``: the store from a file to a server, or back."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gatepost.cli.errors import USAGE, cli_errors, fail

if TYPE_CHECKING:
    from gatepost.config.store import StoreSettings
    from gatepost.store import Copied, Progress

__all__ = ["migrate"]

_LINE_SECONDS = 5.0
"""Between two lines about the same table where no person looks on."""
_TERMINAL_SECONDS = 0.2


def migrate(
    source: Annotated[str, typer.Argument(help="The URL of the store to copy.", metavar="SOURCE")],
    target: Annotated[str, typer.Argument(help="The URL of the store to make.", metavar="TARGET")],
    password_file: Annotated[
        Path | None,
        typer.Option(
            help="A file whose first line is the password of the PostgreSQL server.",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            readable=True,
        ),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Copy nothing, only compare two complete stores.")
    ] = False,
) -> None:
    """Copy the store from SQLite to PostgreSQL, or back, while the gateway is stopped.

    For example: gatepost migrate sqlite:///gatepost.db postgresql://gatepost@db.example/mail

    Journal, quarantine, inbox and conversations are copied with their ids and numbers, then all rows and the
    bytes of all messages are compared. The source is not changed. If it is interrupted, run it again: it
    goes on where it was, and no other command opens the target before it is complete. A target that has
    other mail is refused.

    A relative path of SQLite is relative to the current folder. Without --password-file, libpq finds the
    password (PGPASSWORD, ~/.pgpass).
    """
    from gatepost.store import compare_stores, copy_store  # noqa: PLC0415 - pydantic is slow to import

    here, there = _settings(source, "SOURCE", password_file), _settings(target, "TARGET", password_file)
    if here.url.startswith("sqlite:") == there.url.startswith("sqlite:"):
        fail(
            "SOURCE and TARGET are stores of the same kind, expected a file and a server;"
            " copy a file with `gatepost backup`, a database with pg_dump",
            USAGE,
        )
    line = _Line()
    try:
        with cli_errors():
            run = compare_stores if verify else copy_store
            copied = run(here, there, Path.cwd(), line.show)
    finally:
        line.end()
    _print(copied, "compared" if verify or not copied.written else "copied and compared")


def _settings(url: str, name: str, password_file: Path | None) -> "StoreSettings":
    from pydantic import ValidationError  # noqa: PLC0415 - slow to import

    from gatepost.config.store import StoreSettings  # noqa: PLC0415 - likewise

    given = {"url": url, "password_file": None if url.startswith("sqlite:") else password_file}
    try:
        return StoreSettings.model_validate(given, context={"base": Path.cwd()})
    except ValidationError as error:
        what = str(error.errors()[0].get("ctx", {}).get("error", error.errors()[0]["msg"]))
        fail(f"{name}: {what.replace('password_file', '--password-file')}", USAGE)


class _Line:
    """Progress on standard error: one line that changes on a terminal, else a line every few seconds."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._due = 0.0
        self._is_open = False

    def show(self, progress: "Progress") -> None:
        """Print it, unless something was printed just now."""
        now = time.monotonic()
        if now < self._due and not (progress.done and progress.of):
            return
        if progress.done and not progress.of:
            return
        self._due = now + (_TERMINAL_SECONDS if self._terminal else _LINE_SECONDS)
        text = _shown(progress)
        if self._terminal:
            print(f"\r\x1b[K{text}", end="\n" if progress.done else "", file=sys.stderr, flush=True)
            self._is_open = not progress.done
        else:
            print(text, file=sys.stderr, flush=True)

    def end(self) -> None:
        """End a line that is open."""
        if self._is_open:
            print(file=sys.stderr)


def _shown(progress: "Progress") -> str:
    rate = progress.rows / progress.seconds if progress.seconds else 0.0
    size = f", {_size(progress.size)}" if progress.size else ""
    speed = f", {_size(progress.size / progress.seconds)}/s" if progress.size and progress.seconds else ""
    of = "" if progress.done else f" of {progress.of:,}"
    return f"{progress.what} {progress.table}: {progress.rows:,}{of} rows{size} ({rate:,.0f} rows/s{speed})"


def _print(copied: "Copied", what: str) -> None:
    for table in copied.tables:
        print(f"{table.name:<18} {table.rows:>11,} rows  SHA-256 {table.digest}")
    print(
        f"{'content':<18} {copied.messages:>11,} messages, {_size(copied.size)}"
        f"  SHA-256 {copied.messages_digest}"
    )
    rows = sum(table.rows for table in copied.tables)
    print(f"{what}: {rows:,} rows, {copied.written:,} written now; both stores are the same")


def _size(octets: float) -> str:
    return f"{octets / (1 << 20):,.1f} MiB"
