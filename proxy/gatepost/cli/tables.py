"""Print rows: a table on a terminal, aligned text elsewhere; safe to show."""

from collections.abc import Iterable, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gatepost.printable import printable

__all__ = ["print_list", "print_table"]

_GAP = 2
"""Spaces between columns."""
_NARROWEST = 12
"""Columns that would be narrower than this on a terminal are not shown."""


def print_list(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a line for each row, the most important columns first.

    A terminal shows the first two columns in full, and of the others as many as fit, shortened.
    """
    console = Console()
    if not console.is_terminal:
        _print_aligned(titles, rows)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    shown = [[printable(cell) for cell in row] for row in rows]
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
    """Print a table without shortening; a terminal wraps long cells."""
    console = Console()
    if not console.is_terminal:
        _print_aligned(titles, rows)
        return
    table = Table(*titles, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(Text(printable(cell), overflow="fold") for cell in row))
    console.print(table)


def _print_aligned(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    lines = [[title.upper() for title in titles], *([printable(cell) for cell in row] for row in rows)]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell + " " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True))
        print((" " * _GAP).join(cells).rstrip())
