"""What a mailbox asks of a backend's way to search texts."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeVar

from sqlalchemy import ColumnElement, Connection, FromClause

from gatepost.store.query.messages import Query
from gatepost.store.sql.conditions import Columns, Source

__all__ = ["Facts", "Search"]

Answer = TypeVar("Answer")


class Facts(NamedTuple):
    """Where the facets of messages are counted."""

    table: FromClause
    columns: Columns
    """Among them number, attachments, and mailboxes and recipients as lines."""
    source: Source
    condition: ColumnElement[bool]
    """For the rows that count."""


class Search(Protocol):
    """Texts that were read from messages, and a thread that reads them while the mailbox is open."""

    @property
    def listed(self) -> FromClause:
        """``kept`` with what was read of each message, if it was read."""

    @property
    def shown(self) -> Sequence[ColumnElement[object]]:
        """The columns of a `Listed` in there: attachments, shown_subject, shown_from and snippet."""

    @property
    def is_read(self) -> ColumnElement[bool]:
        """Whether the text of a row of ``kept`` was read, or the message is deleted."""

    @property
    def facts(self) -> Facts:
        """For facets."""

    def parts(self, connection: Connection, query: Query) -> Sequence[tuple[Source, ColumnElement[bool]]]:
        """Where to look, newest first, each with a condition for the part that is looked for there."""

    def asking(self, ask: Callable[[], Answer]) -> Answer:
        """Ask; a backend may repair what it finds damaged and ask again. Raises StoreError."""

    def clean(self) -> None:
        """Remove deleted messages soon."""

    def settle(self, number: int) -> None:
        """Read what was put back, from a number on, before this returns, if that is possible."""

    def close(self) -> None:
        """End the thread; blocks."""
