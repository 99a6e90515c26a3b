"""The conversation of a session, whole or in parts, and a summary of the session."""

import re
from collections.abc import Sequence
from datetime import datetime

from gatepost.traffic.events import Closed, CommandLine, Direction, Event, TransactionBegan
from gatepost.values import value

__all__ = ["Conversation", "ConversationPart", "SessionSummary", "of_transaction"]

_ENDS_TRANSACTION = re.compile(rb"(?:RSET|QUIT|EHLO|HELO|STARTTLS)\b", re.IGNORECASE)
_OF_TRANSACTION = re.compile(rb"(?:RCPT|DATA|BDAT)\b", re.IGNORECASE)


@value
class SessionSummary:
    """A session without its conversation."""

    id: str
    client: str
    client_port: int
    listener: str
    started_at: datetime
    """Aware, UTC."""
    ended_at: datetime | None
    """None while it lasts, or if its end was not seen."""
    helo: str
    tls: str | None
    authenticated: str | None
    transactions: int
    """How many have begun."""
    last_reply: str
    left_out: int
    """Bytes of the conversation that are not kept."""


@value
class ConversationPart:
    """The lines since the part before, and the session as it is now."""

    session: SessionSummary
    number: int
    """From 0."""
    lines: Sequence[tuple[int, Direction, bytes]]
    """Events as they are written: microseconds since 1970, direction, data."""
    octets: int
    """Bytes that it takes in memory, roughly."""


@value
class Conversation:
    """A session and all events of it that are kept."""

    session: SessionSummary
    lines: tuple[Event, ...]


def of_transaction(conversation: Conversation, transaction_id: str) -> tuple[Event, ...]:
    """The events of one transaction: from its MAIL to its last reply; all, if its beginning is missing."""
    lines = conversation.lines
    for index, event in enumerate(lines):
        if isinstance(event, TransactionBegan) and event.transaction_id == transaction_id:
            return lines[max(index - 1, 0) : _end_of_transaction(lines, index + 1)]
    return lines


def _end_of_transaction(lines: Sequence[Event], index: int) -> int:
    """The index behind the last reply to one of its commands; behind all lines, if the session broke off."""
    end = index
    is_part = True
    for number in range(index, len(lines)):
        event = lines[number]
        if isinstance(event, Closed):
            return number + 1
        if isinstance(event, TransactionBegan):
            return end
        if isinstance(event, CommandLine):
            if _ENDS_TRANSACTION.match(event.data):
                return end
            is_part = _OF_TRANSACTION.match(event.data) is not None
        if is_part:
            end = number + 1
    return end
