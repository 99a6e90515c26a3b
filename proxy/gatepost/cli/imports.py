"""``gatepost import``: send saved messages to a running complaints server."""

import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from gatepost.cli.errors import FAILED
from gatepost.printable import printable

__all__ = ["import_files"]

_ENDINGS = (".eml", ".mbox")
_MAILDIR = frozenset({"cur", "new", "tmp"})


def _http_url(value: str) -> str:
    if not value.startswith(("http://", "https://")):
        raise typer.BadParameter(f"{value!r}, expected a URL like http://127.0.0.1:8025")
    return value.rstrip("/")


def _password(file: Path | None) -> str | None:
    try:
        return file.read_text().partition("\n")[0].strip() if file else None
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file}: {error}", param_hint="--password-file") from None


def import_files(
    paths: Annotated[
        list[Path],
        typer.Argument(
            help="Files with one message (.eml), mbox files, Maildirs, and folders with such.",
            metavar="FILE...",
        ),
    ],
    url: Annotated[
        str, typer.Option(help="The server's web desk.", metavar="URL", callback=_http_url)
    ] = "http://127.0.0.1:8025",
    password_file: Annotated[
        Path | None, typer.Option(help="File whose first line is its password.", metavar="FILE")
    ] = None,
    ca: Annotated[
        Path | None,
        typer.Option(
            help="PEM file of the authorities to trust for its certificate.", metavar="FILE", exists=True
        ),
    ] = None,
    verify: Annotated[bool, typer.Option("--verify/--no-verify", help="Verify its certificate.")] = True,
) -> None:
    """Send saved messages to a running gatepost complaints, which shows them beside received ones.

    A file that begins with a "From " line is an mbox; any other is one message. Of a folder and the folders
    in it, those whose names end with .eml or .mbox are sent, and all messages of a Maildir; to send others,
    name them. The order of the messages is kept.

    Exit status 1 if something was not imported; it is named with its file and line. The others are imported.
    """
    unseen: list[OSError] = []
    files = [*_files(paths, unseen.append)]
    if not files and not unseen:
        raise typer.BadParameter(f"found no {' or '.join(_ENDINGS)} file and no Maildir", param_hint="FILE")
    from gatepost.cli.importing import Server, WrongServerError  # noqa: PLC0415 - urllib is slow to import

    imported, problems = 0, bool(unseen)
    for error in unseen:
        _print(f"{error.filename}: {error.strerror}")
    if not files:
        raise typer.Exit(FAILED)
    try:
        server = Server(url, password=_password(password_file), ca=ca, verify=verify)
        server.check()
    except WrongServerError as error:
        _print(str(error))
        raise typer.Exit(FAILED) from None
    with _progress(files) as sent:
        for file in files:
            done = server.send(file, sent)
            imported += done.imported
            for problem in done.problems:
                problems = True
                _print(f"{file}: {problem}")
            if done.is_last:
                break
    print(f"imported {imported:,} message{'' if imported == 1 else 's'}")
    if problems:
        raise typer.Exit(FAILED)


def _files(paths: Sequence[Path], unseen: Callable[[OSError], None]) -> Iterator[Path]:
    """The files to send; what does not exist and folders that cannot be read are passed to ``unseen``."""
    for path in paths:
        try:
            is_folder = stat.S_ISDIR(path.stat().st_mode)
        except OSError as error:
            unseen(error)
            continue
        if not is_folder:
            yield path
            continue
        for name, folders, names in os.walk(path, onerror=unseen):
            folders.sort()
            folder = Path(name)
            if folder.name in _MAILDIR and all((folder.parent / one).is_dir() for one in _MAILDIR):
                wanted = [one for one in names if folder.name != "tmp" and not one.startswith(".")]
            else:
                wanted = [one for one in names if one.lower().endswith(_ENDINGS)]
            yield from (folder / one for one in sorted(wanted))


@contextmanager
def _progress(files: Sequence[Path]) -> Iterator[Callable[[int], None]]:
    """Show how many bytes of the files were sent, if somebody looks on."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console  # noqa: PLC0415 - only who sees it waits for rich
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn  # noqa: PLC0415 - likewise

    columns = (TextColumn("sent"), DownloadColumn(), BarColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=sum(file.stat().st_size for file in files if file.exists()))
        yield lambda octets: progress.advance(task, octets)


def _print(text: str) -> None:
    print(f"gatepost: {printable(text)}", file=sys.stderr)
