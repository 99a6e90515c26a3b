"""Rows for people: a table on a terminal, aligned text elsewhere, or JSON; safe to show."""

import dataclasses
import json
from base64 import b64encode
from collections.abc import Iterable, Sequence
from datetime import datetime
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from typing import Any

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = [
    "clock",
    "moment",
    "print_fields",
    "print_json",
    "print_list",
    "print_table",
    "readable",
    "visible",
]

_GAP = 2
"""Spaces between columns."""
_NARROWEST = 12
"""A column that a terminal has less room for is not worth showing."""


def moment(text: str) -> datetime:
    """Of an option: how long ago (``90m``, ``1h``, ``7d``), or local date and time. Raises BadParameter."""
    from proxy.store.moments import past_moment  # noqa: PLC0415 - the store is slow to import

    try:
        return past_moment(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r}: expected a time like 1h, 30m, 7d, 2026-11-30 or 2026-11-30T08:00"
        ) from None


def clock(when: datetime) -> str:
    """In local time."""
    return when.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def readable(value: str) -> str:
    """A header field's value with its encoded-words (RFC 2047) decoded, as far as they can be."""
    if "=?" not in value:
        return value
    try:
        return str(make_header(decode_header(value)))
    except (HeaderParseError, LookupError, ValueError):
        return value


def visible(text: str) -> str:
    """The text with escapes for what a terminal would obey or hide: control characters, bidi marks."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode("ascii")
        for char in text
    )


def print_list(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a line for each row, the most important columns first.

    A terminal shows the first two columns whole, others shortened, and as many as there is room for.
    """
    console = Console()
    if not console.is_terminal:
        _print_aligned(titles, rows)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    shown = [[visible(cell) for cell in row] for row in rows]
    room = console.width
    for number, title in enumerate(titles):
        whole = max([cell_len(title), *(cell_len(row[number]) for row in shown)])
        room -= whole + _GAP if number < 2 else _NARROWEST + _GAP
        if room < 0:
            break
        table.add_column(title, no_wrap=True, min_width=whole if number < 2 else min(whole, _NARROWEST))
    for row in shown:
        table.add_row(*(Text(cell, overflow="ellipsis") for cell in row[: len(table.columns)]))
    console.print(table)


def print_table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table with everything in it; a terminal shows what is too long on several lines."""
    console = Console()
    if not console.is_terminal:
        _print_aligned(titles, rows)
        return
    table = Table(*titles, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(Text(visible(cell), overflow="fold") for cell in row))
    console.print(table)


def _print_aligned(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    lines = [[title.upper() for title in titles], *([visible(cell) for cell in row] for row in rows)]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell + " " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True))
        print((" " * _GAP).join(cells).rstrip())


def print_fields(fields: Iterable[tuple[str, str | None]]) -> None:
    """Print names and values, one a line; a value of None is left out."""
    present = [(name, value) for name, value in fields if value is not None]
    width = max(len(name) for name, _ in present)
    for name, value in present:
        print(f"{name:<{width}}  {visible(value)}".rstrip())


def print_json(value: Any) -> None:
    """Print a dataclass as one JSON object on one line; octets become base64."""
    print(json.dumps(dataclasses.asdict(value), default=_plain))


def _plain(value: Any) -> str:
    if isinstance(value, bytes):
        return b64encode(value).decode("ascii")
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)
