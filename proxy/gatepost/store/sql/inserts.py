"""Statements that insert many rows at once, for the driver itself."""

from collections.abc import Iterator, Sequence
from itertools import chain

from sqlalchemy import Table

__all__ = ["Insert"]

_ROWS_AT_ONCE = (64, 16, 4, 1)
"""Rows in one statement. Prepared statements for 256 would take 0.7 MB more, and be no faster."""
_PLACEHOLDER = {"sqlite": "?", "postgresql": "%s"}
"""What the driver replaces by a value."""


class Insert:
    """SQL that inserts rows in the order of the columns; a row of the same primary key is replaced."""

    def __init__(self, table: Table, dialect: str, *, without: tuple[str, ...] = ()) -> None:
        self.one = _insert_or_replace(table, _PLACEHOLDER[dialect], without)
        """For one row."""
        self._head, values, rest = self.one.partition("VALUES ")
        self._row, closing, self._tail = rest.partition(")")
        self._row += closing
        self._head += values
        self._many = {size: self._sql(size) for size in _ROWS_AT_ONCE}

    def _sql(self, rows: int) -> str:
        return f"{self._head}{', '.join([self._row] * rows)}{self._tail}"

    def batches(self, rows: Sequence[Sequence[object]]) -> Iterator[tuple[str, tuple[object, ...]]]:
        """Statements with their values, each for as many rows as possible.

        The driver releases the interpreter's lock once for each statement, and each time the thread of the
        event loop may have to wait for it: row by row costs a relayed message a tenth more CPU.
        """
        start = 0
        for size in _ROWS_AT_ONCE:
            while len(rows) - start >= size:
                yield self._many[size], tuple(chain.from_iterable(rows[start : start + size]))
                start += size


def _insert_or_replace(table: Table, placeholder: str, without: tuple[str, ...]) -> str:
    """Written here: SQLAlchemy would bring the dialects of both databases in to compile some of these."""
    columns = [column.name for column in table.columns if column.name not in without]
    values = ", ".join([placeholder] * len(columns))
    statement = f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({values})"  # noqa: S608 - our own names
    keys = [column.name for column in table.primary_key]
    if set(keys) & set(without):
        return statement
    replaced = ", ".join(f"{name} = excluded.{name}" for name in columns if name not in keys)
    return f"{statement} ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {replaced}"
