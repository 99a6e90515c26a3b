"""What the API answers about sessions and their conversations."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from gatepost.web.api.answer import Answer, Text

__all__ = [
    "Conversation",
    "ConversationLine",
    "Session",
    "SessionPage",
    "line_text",
]


class Session(Answer):
    """One SMTP connection."""

    id: str
    client: Text
    client_port: int
    listener: str
    started_at: datetime
    ended_at: datetime | None = Field(description="Null: it is open, or its end was not recorded.")
    helo: Text
    tls: Text | None
    authenticated: Text | None
    transactions: int
    last_reply: Text
    left_out: int = Field(description="Bytes of the conversation that are not stored.")


class SessionPage(Answer):
    """The newest sessions first."""

    sessions: list[Session]
    next: str | None = Field(description="Pass it as `before` for the next page; null: that was the last.")


class ConversationLine(Answer):
    """One line of a conversation."""

    at: datetime
    direction: Literal["C", "D", "S", "*"] = Field(
        description="`C` a command, `D` message data, `S` a reply, `*` something about the session."
    )
    text: str = Field(description="Decoded as UTF-8; other bytes as `\\xNN`. Secrets of AUTH are blanked.")


class Conversation(Answer):
    """The conversation of a session, as far as it is stored."""

    session: Session
    lines: list[ConversationLine]


def line_text(octets: bytes) -> str:
    """The direction of a line of a conversation."""
    return octets.decode("utf-8", "backslashreplace")
