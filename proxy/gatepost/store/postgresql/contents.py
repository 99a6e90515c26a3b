"""The bytes of messages: the beginning in the row, the rest in pieces."""

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, cast

from sqlalchemy import Connection, delete, select

from gatepost.store.postgresql.schema import PIECE, kept_pieces, kept_texts
from gatepost.store.sql.inserts import Insert
from gatepost.store.sql.schema import kept

if TYPE_CHECKING:
    import psycopg

__all__ = ["INSERT_PIECE", "Pieces", "pieces_of"]

INSERT_PIECE = Insert(kept_pieces, "postgresql").one
_READ = "SELECT octets FROM kept_pieces WHERE kept_id = %s AND piece <= %s ORDER BY piece"
_ALL = 1 << 30


def pieces_of(kept_id: str, content: bytes) -> Iterator[tuple[str, int, bytes]]:
    """The rows of ``kept_pieces`` of a message; none for most."""
    view = memoryview(content)
    for number, start in enumerate(range(PIECE, len(content), PIECE), 1):
        yield kept_id, number, bytes(view[start : start + PIECE])


class Pieces:
    """A `gatepost.store.sql.database.Contents`."""

    def rest(self, connection: Connection, kept_id: str, *, pieces: int = _ALL) -> bytes:
        """What follows the bytes in the row, or the first pieces of it; piece by piece."""
        with cast("psycopg.Connection", connection.connection.driver_connection).cursor(
            binary=True
        ) as cursor:
            return b"".join(octets for (octets,) in cursor.stream(_READ, (kept_id, pieces)))

    def remove(self, connection: Connection, kept_ids: Collection[str]) -> None:
        """Remove the pieces of these messages, and what was read of them."""
        connection.execute(delete(kept_pieces).where(kept_pieces.c.kept_id.in_(kept_ids)))
        numbers = select(kept.c.number).where(kept.c.id.in_(kept_ids))
        connection.execute(delete(kept_texts).where(kept_texts.c.number.in_(numbers)))

    def in_row(self, content: bytes) -> bytes:
        """What belongs into the row."""
        return content[:PIECE]

    def put_rest(self, connection: Connection, kept_id: str, content: bytes) -> None:
        """Store what does not belong into the row."""
        for row in pieces_of(kept_id, content):
            connection.exec_driver_sql(INSERT_PIECE, row)
