"""What was said in sessions: pieces go in as they come, whole conversations come out."""

import json
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from sqlalchemy import select, union_all

from gatepost.config.settings import StoreSettings
from gatepost.events import Direction, Line
from gatepost.store import rows, sqlite
from gatepost.store.conditions import is_address
from gatepost.store.database import Database
from gatepost.store.schema import conversation_parts, recipients, sessions, transactions

__all__ = [
    "Conversation",
    "ConversationPart",
    "Conversations",
    "SessionSummary",
    "of_transaction",
]

_COMPRESSION = 1
"""Conversations repeat themselves: the fastest level takes more than half away."""
_WINDOW_BITS = 13
_MEMORY_LEVEL = 6
_FOUND_LIMIT = 1000
"""Transactions of one address in which sessions are looked for, the newest."""
_ENDS_TRANSACTION = re.compile(rb"(?:RSET|QUIT|EHLO|HELO|STARTTLS)\b", re.IGNORECASE)
_OF_TRANSACTION = re.compile(rb"(?:RCPT|DATA|BDAT)\b", re.IGNORECASE)

_encode = json.JSONEncoder(separators=(",", ":")).encode

INSERT_SESSION = sqlite.Insert(sessions)
INSERT_PART = sqlite.Insert(conversation_parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSummary:
    """A session without what was said in it."""

    id: str
    client: str
    client_port: int
    listener: str
    started_at: datetime
    """Aware, UTC."""
    ended_at: datetime | None
    """None while it goes on, or where nobody saw its end."""
    helo: str
    tls: str | None
    authenticated: str | None
    transactions: int
    """How many have begun."""
    last_reply: str
    left_out: int
    """Octets of the conversation that are not kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationPart:
    """What was said since the part before, and the session as it stands now."""

    session: SessionSummary
    number: int
    """From 0."""
    lines: Sequence[tuple[int, Direction, bytes]]
    """Microseconds since 1970, who said it, what; not `Line`, which costs more where SMTP is spoken."""
    octets: int
    """Roughly what it takes in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A session and all that is kept of what was said in it."""

    session: SessionSummary
    lines: tuple[Line, ...]


def of_transaction(conversation: Conversation, transaction_id: str) -> tuple[Line, ...]:
    """The lines of one transaction: from its MAIL to its last reply; all, where its beginning is not kept."""
    lines = conversation.lines
    marker = f"transaction {transaction_id}".encode()
    for index, line in enumerate(lines):
        if line.direction == "*" and line.data == marker:
            return lines[max(index - 1, 0) : _end_of_transaction(lines, index + 1)]
    return lines


def _end_of_transaction(lines: Sequence[Line], index: int) -> int:
    """Behind the last of its commands and what is said to that; behind all, where the session broke off."""
    end = index
    is_part = True
    for number in range(index, len(lines)):
        line = lines[number]
        if line.direction == "*" and line.data == b"closed":
            return number + 1
        if line.direction == "*" and line.data.startswith(b"transaction "):
            return end
        if line.direction == "C":
            if _ENDS_TRANSACTION.match(line.data):
                return end
            is_part = _OF_TRANSACTION.match(line.data) is not None
        if is_part:
            end = number + 1
    return end


class Conversations:
    """To look them up; blocks, and may be used by several threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(cls, settings: StoreSettings, base: Path) -> Self:
        """Open a store that exists; raises StoreError with a text for the operator."""
        return cls(Database.existing(settings, base))

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
            statement = statement.where(sessions.c.id < before)
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
            return [_summary(row) for row in connection.execute(statement).mappings()]

    def conversation(self, session_id: str) -> Conversation | None:
        """All that is kept of one session; None where there is none. Raises StoreError."""
        parts = (
            select(conversation_parts.c.lines)
            .where(conversation_parts.c.session_id == session_id)
            .order_by(conversation_parts.c.part)
        )
        with self._database.read() as connection:
            row = connection.execute(select(sessions).where(sessions.c.id == session_id)).mappings().first()
            if row is None:
                return None
            lines = tuple(
                line for part in connection.scalars(parts) for line in _read_lines(session_id, part)
            )
        return Conversation(session=_summary(row), lines=lines)


def session_row(session: SessionSummary) -> tuple[Any, ...]:
    """For the table ``sessions``."""
    return (
        session.id,
        session.client,
        session.client_port,
        session.listener,
        rows.microseconds(session.started_at),
        None if session.ended_at is None else rows.microseconds(session.ended_at),
        rows.storable(session.helo),
        session.tls,
        None if session.authenticated is None else rows.storable(session.authenticated),
        session.transactions,
        rows.storable(session.last_reply),
        session.left_out,
    )


def part_row(part: ConversationPart) -> tuple[Any, ...]:
    """For the table ``conversation_parts``: JSON, any octet as the character of that number, compressed."""
    octets = _encode([(at, direction, data.decode("latin-1")) for at, direction, data in part.lines])
    # Not zlib.compress(): to set up its large window takes six times as long as all the rest.
    compressor = zlib.compressobj(_COMPRESSION, wbits=_WINDOW_BITS, memLevel=_MEMORY_LEVEL)
    return part.session.id, part.number, compressor.compress(octets.encode("ascii")) + compressor.flush()


def _read_lines(session_id: str, part: bytes) -> Iterator[Line]:
    for at, direction, data in json.loads(zlib.decompress(part)):
        yield Line(
            at=rows.moment(at), session_id=session_id, direction=direction, data=data.encode("latin-1")
        )


def _summary(row: rows.Fields) -> SessionSummary:
    ended_at = row["ended_at"]
    return SessionSummary(
        **{
            **row,
            "started_at": rows.moment(row["started_at"]),
            "ended_at": None if ended_at is None else rows.moment(ended_at),
        }
    )
