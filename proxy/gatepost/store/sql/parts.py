"""Conversations to rows and back."""

import json
import zlib
from collections.abc import Iterator

from gatepost.printable import storable
from gatepost.store.conversation import ConversationPart, SessionSummary
from gatepost.store.sql import rows
from gatepost.traffic.events import Event, event_of

__all__ = ["part_row", "read_lines", "session_row", "session_summary"]

_COMPRESSION = 1
"""The fastest level; conversations repeat themselves and become less than half as large."""
_WINDOW_BITS = 13
_MEMORY_LEVEL = 6
_encode = json.JSONEncoder(separators=(",", ":")).encode


def session_row(session: SessionSummary) -> rows.Row:
    """For the table ``sessions``."""
    return (
        session.id,
        session.client,
        session.client_port,
        session.listener,
        rows.microseconds(session.started_at),
        None if session.ended_at is None else rows.microseconds(session.ended_at),
        storable(session.helo),
        session.tls,
        None if session.authenticated is None else storable(session.authenticated),
        session.transactions,
        storable(session.last_reply),
        session.left_out,
    )


def part_row(part: ConversationPart) -> rows.Row:
    """For the table ``conversation_parts``: compressed JSON, each byte as the character of that number."""
    text = _encode([(at, direction, data.decode("latin-1")) for at, direction, data in part.lines])
    # Not zlib.compress(): setting up its large window takes six times as long as all the rest.
    compressor = zlib.compressobj(_COMPRESSION, wbits=_WINDOW_BITS, memLevel=_MEMORY_LEVEL)
    return part.session.id, part.number, compressor.compress(text.encode("ascii")) + compressor.flush()


def read_lines(session_id: str, part: bytes) -> Iterator[Event]:
    """The events of a part, from the column ``lines``."""
    for at, direction, data in json.loads(zlib.decompress(part)):
        yield event_of(at=at, session_id=session_id, direction=direction, data=data.encode("latin-1"))


def session_summary(row: rows.Fields) -> SessionSummary:
    """From a row of ``sessions``."""
    ended_at = row["ended_at"]
    return SessionSummary(
        **{
            **row,
            "started_at": rows.moment(row["started_at"]),
            "ended_at": None if ended_at is None else rows.moment(ended_at),
        }
    )
