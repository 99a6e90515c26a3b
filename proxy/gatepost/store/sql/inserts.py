"""Statements that insert many rows at once, for the driver itself."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any

from sqlalchemy import Dialect, Table
from sqlalchemy.dialects import postgresql, sqlite

__all__ = ["Insert"]

_ROWS_AT_ONCE = (64, 16, 4, 1)
"""Rows in one statement. Prepared statements for 256 would take 0.7 MB more, and be no faster."""
_DIALECTS: dict[str, tuple[Callable[[Table], Any], Dialect]] = {
    "sqlite": (sqlite.insert, sqlite.dialect()),
    "postgresql": (postgresql.insert, postgresql.dialect(paramstyle="format")),  # type: ignore[no-untyped-call]
}


class Insert:
    """SQL that inserts rows in the order of the columns; a row of the same primary key is replaced."""

    def __init__(self, table: Table, dialect: str, *, without: tuple[str, ...] = ()) -> None:
        self.one = _insert_or_replace(table, dialect, without)
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


def _insert_or_replace(table: Table, dialect: str, without: tuple[str, ...]) -> str:
    insert, compiled_for = _DIALECTS[dialect]
    names = [column.name for column in table.columns if column.name not in without]
    statement = insert(table).values(dict.fromkeys(names))
    keys = [column.name for column in table.primary_key]
    if not set(keys) & set(without):
        rest = {name: statement.excluded[name] for name in names if name not in keys}
        statement = statement.on_conflict_do_update(index_elements=keys, set_=rest)
    return str(statement.compile(dialect=compiled_for, column_keys=names))
