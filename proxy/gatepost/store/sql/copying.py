"""Copies a store into another one, whatever their backends, and compares the two.

Tables are copied in batches in the order of their keys, each batch in one transaction. A batch that the
target has already is only compared, so a copy that was interrupted is completed by copying again. Until then
the target's version says that it is a copy, and nothing else opens it.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import replace
from typing import Any, Final, Protocol

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Table,
    delete,
    func,
    insert,
    literal,
    select,
    true,
    tuple_,
    update,
)

from gatepost.store.contents import Copied, CopiedTable, Progress
from gatepost.store.errors import StoreDiffers, StoreError, StoreUnavailable, StoreUnusable
from gatepost.store.sql.schema import VERSION, kept, metadata, transaction_rules, version
from gatepost.store.sql.versions import COPY_MARK, version_of

__all__ = ["Source", "Target", "begin", "compare", "copy"]

_TABLES: Final = tuple(table for table in metadata.sorted_tables if table not in (version, transaction_rules))
"""Those that others refer to come first; triggers of the target fill `transaction_rules`."""
_ROWS = 1000
"""Rows of one batch; a table with large rows has fewer."""
_FEWER_ROWS = {"kept": 200, "conversation_parts": 50}
_BATCH_BYTES = 16 << 20
"""The content of the messages of one batch, but at least one message."""

Report = Callable[[Progress], None]
Key = tuple[Any, ...]


class _Side(Protocol):
    """An open store. All raise StoreError."""

    @property
    def name(self) -> str:
        """For messages; without a password."""

    def size_of_content(self) -> ColumnElement[int]:
        """The number of bytes of a message's content, in a query of the table ``kept``."""

    def content(self, connection: Connection, number: int, kept_id: str, size: int) -> Iterator[bytes]:
        """The content of a message in pieces."""


class Source(_Side, Protocol):
    """The store that is copied; nothing is written to it."""

    @property
    def identity(self) -> str:
        """What tells it from other stores."""

    def snapshot(self) -> AbstractContextManager[Connection]:
        """A transaction that sees one state, however long it takes."""

    def require_unchanged(self) -> None:
        """Raise StoreUnavailable if somebody changed the store since the snapshot, or may just now."""

    def close(self) -> None:
        """Close the connections."""


class Target(_Side, Protocol):
    """The store that becomes a copy."""

    def read(self) -> AbstractContextManager[Connection]:
        """A transaction that sees one state."""

    def write(self) -> AbstractContextManager[Connection]:
        """A transaction that is committed at its end, or rolled back on any error."""

    def put(self, connection: Connection, messages: Iterator[tuple[Row[Any], int, Iterator[bytes]]]) -> None:
        """Insert messages: a row without its content, the size of the content, and the content in pieces."""

    def set_next_number(self, connection: Connection) -> None:
        """Have new messages get higher numbers than those that are there."""

    def close(self) -> None:
        """Close the connections."""


def copy(source: Source, open_target: Callable[[str], Target], report: Report) -> Copied:
    """Make the target a copy of the source, and compare all of it; raises StoreError.

    A target that is complete is only compared, and has to be the same. ``open_target`` takes the version that
    an unfinished copy of this source has.
    """
    mark = f"{COPY_MARK}{hashlib.sha256(source.identity.encode()).hexdigest()[:16]}"
    with closing(source), source.snapshot() as connection, closing(open_target(mark)) as target:
        with target.read() as there:
            is_unfinished = _is_marked(there, mark)
        if not is_unfinished:
            try:
                return _compare(source, connection, target, report)
            except StoreDiffers as error:
                raise StoreError(
                    f"the store {target.name} has content that is no copy of {source.name},"
                    f" expected an empty database: {error}"
                ) from error
        written = _copy(source, connection, target, mark, report)
        copied = _compare(source, connection, target, report)
        source.require_unchanged()
        with _writing(target, mark) as there:
            target.set_next_number(there)
            there.execute(update(version).values(version_num=VERSION))
    return replace(copied, written=written)


def compare(source: Source, target: Target, report: Report) -> Copied:
    """Compare two stores; raises StoreError if they differ."""
    with closing(source), closing(target), source.snapshot() as connection:
        return _compare(source, connection, target, report)


def begin(connection: Connection, name: str, mark: str, prepare: Callable[[], None]) -> None:
    """Make the target, or go on with it; a complete store with content is left as it is.

    Raises StoreError for a database of no use. ``prepare`` makes the tables, or checks those that are there.
    """
    if _is_marked(connection, mark):
        return
    found = version_of(connection, name)
    if found is not None and found < VERSION:
        raise StoreUnusable(f"the store {name} is of an older version, expected an empty database")
    prepare()
    if not any(connection.execute(select(literal(1)).select_from(one).limit(1)).first() for one in _TABLES):
        connection.execute(update(version).values(version_num=mark))


def _is_marked(connection: Connection, mark: str) -> bool:
    """True if the database is an unfinished copy with this mark; StoreUnusable if it has another one."""
    if not connection.dialect.has_table(connection, version.name):
        return False
    found = connection.scalar(select(version.c.version_num)) or ""
    if found != mark and found.startswith(COPY_MARK):
        raise StoreUnusable("the target is the unfinished copy of another store, expected an empty database")
    return found == mark


def _copy(source: Source, connection: Connection, target: Target, mark: str, report: Report) -> int:
    """Copy what the target has not got, and remove from it what the source has not; returns the rows written.

    ``connection`` is the source's, in its snapshot.
    """
    written = 0
    for table in _TABLES:
        progress = _Progress(table, _count(connection, table), "copied", report)
        last: Key | None = None
        for batch in _batches(source, connection, table):
            with _writing(target, mark) as into:
                written += _write_batch(source, connection, target, into, table, batch, last)
            last = _key(table, batch[-1])
            progress.add(batch)
        with _writing(target, mark) as into:
            into.execute(delete(table).where(_after(table, last)))
        progress.end()
    return written


@contextmanager
def _writing(target: Target, mark: str) -> Iterator[Connection]:
    """A transaction of the target, while it is an unfinished copy of this source."""
    with target.write() as connection:
        if not _is_marked(connection, mark):
            raise StoreUnavailable(f"the copy {target.name} was completed by somebody else meanwhile")
        yield connection


def _write_batch(
    source: Source,
    connection: Connection,
    target: Target,
    into: Connection,
    table: Table,
    batch: Sequence[Row[Any]],
    before: Key | None,
) -> int:
    """Make the target's rows of a batch's range those of the batch; returns how many were written."""
    within = _within(table, before, _key(table, batch[-1]))
    present = into.execute(_rows(target, table).where(within)).all()
    if _plain(present) == _plain(batch):
        return 0
    if present:
        into.execute(delete(table).where(within))
    if table is kept:
        target.put(
            into,
            ((row, row.octets, source.content(connection, row.number, row.id, row.octets)) for row in batch),
        )
    else:
        into.execute(insert(table), [dict(zip(table.columns.keys(), row, strict=True)) for row in batch])
    return len(batch)


def _compare(source: Source, connection: Connection, target: Target, report: Report) -> Copied:
    """Compare all rows and the bytes of all messages; raises StoreError at the first difference.

    ``connection`` is the source's, in its snapshot. What is returned is of the target.
    """
    tables: list[CopiedTable] = []
    messages = octets = 0
    digest_of_messages = hashlib.sha256()
    with target.read() as there:
        for table in _TABLES:
            progress = _Progress(table, _count(connection, table), "compared", report)
            digest = hashlib.sha256()
            last: Key | None = None
            rows = 0
            for batch in _batches(source, connection, table):
                within = _within(table, last, _key(table, batch[-1]))
                present = there.execute(_rows(target, table).where(within)).all()
                _require_same(table, batch, present, source.name, target.name)
                for row in present:
                    digest.update(repr(tuple(row)).encode())
                for row in batch if table is kept else ():
                    here_digest = _sha256(source.content(connection, row.number, row.id, row.octets))
                    there_digest = _sha256(target.content(there, row.number, row.id, row.octets))
                    if here_digest != there_digest:
                        raise StoreDiffers(
                            f"the content of message {row.id} differs: SHA-256 {here_digest.hex()} in"
                            f" {source.name}, {there_digest.hex()} in {target.name}"
                        )
                    digest_of_messages.update(there_digest)
                    messages += 1
                    octets += row.octets
                rows += len(batch)
                last = _key(table, batch[-1])
                progress.add(batch)
            further = there.execute(_rows(target, table).where(_after(table, last)).limit(1)).first()
            if further:
                raise _differs(table, _key(table, further), target.name, source.name)
            tables.append(CopiedTable(name=table.name, rows=rows, digest=digest.hexdigest()))
            progress.end()
    return Copied(
        tables=tuple(tables), messages=messages, size=octets, messages_digest=digest_of_messages.hexdigest()
    )


def _require_same(
    table: Table, wanted: Sequence[Row[Any]], found: Sequence[Row[Any]], source: str, target: str
) -> None:
    here, there = (
        dict(zip([_key(table, one) for one in rows], _plain(rows), strict=True)) for rows in (wanted, found)
    )
    for key in sorted(here.keys() | there.keys()):
        if key not in there:
            raise _differs(table, key, source, target)
        if key not in here:
            raise _differs(table, key, target, source)
        if here[key] != there[key]:
            raise StoreDiffers(
                f"the row {_shown(key)} of the table {table.name} differs in {source} and {target}"
            )


def _differs(table: Table, key: Key, one: str, other: str) -> StoreDiffers:
    return StoreDiffers(f"the row {_shown(key)} of the table {table.name} is in {one} and not in {other}")


def _shown(key: Key) -> str:
    return ", ".join(map(str, key))


def _sha256(pieces: Iterator[bytes]) -> bytes:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.digest()


def _plain(rows: Sequence[Row[Any]]) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in rows]


def _rows(side: _Side, table: Table) -> Any:
    if table is not kept:
        return select(table)
    columns = [column for column in table.columns if column is not table.c.content]
    return select(*columns, side.size_of_content().label("octets"))


def _batches(source: _Side, connection: Connection, table: Table) -> Iterator[Sequence[Row[Any]]]:
    statement = _rows(source, table).order_by(*table.primary_key).limit(_FEWER_ROWS.get(table.name, _ROWS))
    last: Key | None = None
    while found := connection.execute(statement.where(_after(table, last))).all():
        batch = found if table is not kept else _of_bounded_size(found)
        yield batch
        last = _key(table, batch[-1])


def _of_bounded_size(rows: Sequence[Row[Any]]) -> Sequence[Row[Any]]:
    size = 0
    for number, row in enumerate(rows):
        size += row.octets
        if number and size > _BATCH_BYTES:
            return rows[:number]
    return rows


def _key(table: Table, row: Row[Any]) -> Key:
    return tuple(getattr(row, column.name) for column in table.primary_key)


def _place(table: Table) -> Any:
    columns = [*table.primary_key]
    return columns[0] if len(columns) == 1 else tuple_(*columns)


def _value(key: Key) -> Any:
    return key[0] if len(key) == 1 else tuple_(*key)


def _after(table: Table, key: Key | None) -> ColumnElement[bool]:
    return true() if key is None else _place(table) > _value(key)


def _within(table: Table, after: Key | None, last: Key) -> ColumnElement[bool]:
    up_to: ColumnElement[bool] = _place(table) <= _value(last)
    return up_to if after is None else _after(table, after) & up_to


def _count(connection: Connection, table: Table) -> int:
    return connection.scalar(select(func.count()).select_from(table)) or 0


class _Progress:
    """Reports on one table."""

    def __init__(self, table: Table, of: int, what: str, report: Report) -> None:
        self._table, self._of, self._what, self._report = table.name, of, what, report
        self._rows = self._octets = 0
        self._started = time.monotonic()

    def add(self, batch: Sequence[Row[Any]]) -> None:
        self._rows += len(batch)
        self._octets += sum(row.octets for row in batch) if self._table == kept.name else 0
        self._tell(done=False)

    def end(self) -> None:
        self._tell(done=True)

    def _tell(self, *, done: bool) -> None:
        self._report(
            Progress(
                table=self._table,
                what=self._what,
                rows=self._rows,
                of=self._of,
                size=self._octets,
                seconds=time.monotonic() - self._started,
                done=done,
            )
        )
