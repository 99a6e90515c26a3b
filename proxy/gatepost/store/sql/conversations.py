"""Conversations of sessions: written in parts, read as a whole."""

from typing import Self

from sqlalchemy import select, union_all

from gatepost.store.conversation import Conversation, SessionSummary
from gatepost.store.query.criteria import cursor_id
from gatepost.store.sql.conditions import is_address
from gatepost.store.sql.database import Database
from gatepost.store.sql.parts import read_lines, session_summary
from gatepost.store.sql.schema import conversation_parts, recipients, sessions, transactions

__all__ = ["SqlConversations"]

_FOUND_LIMIT = 1000
"""Transactions of one address in which sessions are looked for, the newest."""


class SqlConversations:
    """A `gatepost.store.contract.Conversations`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def close(self) -> None:
        """Close the connections."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def sessions(
        self,
        *,
        client: str | None = None,
        address: str | None = None,
        limit: int = 50,
        before: str | None = None,
    ) -> list[SessionSummary]:
        """The newest, newest first; raises StoreError.

        Args:
            client: an IP address.
            address: a reverse-path or forward-path of one of the session's transactions.
            limit: how many at most.
            before: the id of the last one of the page before.
        """
        statement = select(sessions).order_by(sessions.c.id.desc()).limit(limit)  # ids sort by time
        if before is not None:
            statement = statement.where(sessions.c.id < cursor_id(before))
        if client is not None:
            statement = statement.where(sessions.c.client == client)
        if address is not None:
            sent = select(transactions.c.session_id).where(is_address(transactions.c.mail_from, address))
            received = (
                select(transactions.c.session_id)
                .join(recipients, recipients.c.transaction_id == transactions.c.id)
                .where(is_address(recipients.c.address, address))
            )
            newest = [
                select(found.order_by(transactions.c.id.desc()).limit(_FOUND_LIMIT).subquery())
                for found in (sent, received)
            ]
            statement = statement.where(sessions.c.id.in_(union_all(*newest)))
        with self._database.read() as connection:
            return [session_summary(row) for row in connection.execute(statement).mappings()]

    def conversation(self, session_id: str) -> Conversation | None:
        """All that is stored of one session; None where there is nothing."""
        parts = (
            select(conversation_parts.c.lines)
            .where(conversation_parts.c.session_id == session_id)
            .order_by(conversation_parts.c.part)
        )
        with self._database.read() as connection:
            row = connection.execute(select(sessions).where(sessions.c.id == session_id)).mappings().first()
            if row is None:
                return None
            lines = tuple(line for part in connection.scalars(parts) for line in read_lines(session_id, part))
        return Conversation(session=session_summary(row), lines=lines)
