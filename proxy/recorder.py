"""WRITE DOWN: what is said in each session, in pieces for the store; bounded, and nothing waits for it."""

import asyncio
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from proxy.events import Direction, Line
from proxy.store import ConversationPart, SessionSummary

__all__ = ["Recorder"]

_SAVE_SECONDS: Final = 0.2
"""A line is with the store so soon after it was said."""
_TRANSACTION_OCTETS: Final = 256 << 10
"""More of one transaction, or between two, is left out."""
_DATA_OCTETS: Final = 16 << 10
"""More of one message is left out: the message itself is kept elsewhere."""
_UNSAVED_OCTETS: Final = 32 << 20
"""Of all sessions together."""
_LINE_OVERHEAD: Final = 100
_REPLY_LIMIT: Final = 500

_HELLO: Final = re.compile(rb"(?:EHLO|HELO) +(\S{1,255})", re.IGNORECASE)


class _Session:
    """One session's lines that are not saved yet, and what is known of it."""

    __slots__ = (
        "at",
        "authenticated",
        "client",
        "data_octets",
        "helo",
        "last_reply",
        "left_out",
        "lines",
        "listener",
        "octets",
        "parts",
        "port",
        "timer",
        "tls",
        "transactions",
    )

    def __init__(self, at: int) -> None:
        self.at = at
        self.client = ""
        self.port = 0
        self.listener = ""
        self.helo = b""
        self.tls: str | None = None
        self.authenticated: str | None = None
        self.transactions = 0
        self.last_reply = b""
        self.octets = 0
        self.data_octets = 0
        self.left_out = 0
        self.parts = 0
        self.lines: list[tuple[int, Direction, bytes]] = []
        self.timer: asyncio.TimerHandle | None = None

    def learn(self, direction: Direction, data: bytes) -> None:
        """What a line tells about the session."""
        if direction == "S":
            self.last_reply = data
        elif direction == "C":
            if found := _HELLO.match(data):
                self.helo = found[1]
        elif direction == "*":
            word, _, rest = data.decode("utf-8", "replace").partition(" ")
            match word:
                case "connected":
                    self.client, port, _, self.listener = rest.split(" ", 3)
                    self.port = int(port)
                case "tls":
                    self.tls = rest
                case "authenticated":
                    self.authenticated = rest
                case "transaction":
                    self.transactions += 1
                    self.octets = 0
                case _:
                    pass

    def summary(self, session_id: str, ended_at: datetime | None) -> SessionSummary:
        """The session as it stands now."""
        return SessionSummary(
            id=session_id,
            client=self.client,
            client_port=self.port,
            listener=self.listener,
            started_at=_moment(self.at),
            ended_at=ended_at,
            helo=self.helo.decode("utf-8", "replace"),
            tls=self.tls,
            authenticated=self.authenticated,
            transactions=self.transactions,
            last_reply=self.last_reply[:_REPLY_LIMIT].decode("utf-8", "replace").rstrip(),
            left_out=self.left_out,
        )


class Recorder:
    """A tap that hands what it hears to ``save``, part by part. For one event loop.

    ``save`` must neither block nor raise.
    """

    def __init__(self, save: Callable[[ConversationPart], None]) -> None:
        self._save_part = save
        self._sessions: dict[str, _Session] = {}
        self._unsaved = 0

    def tap(self, session_id: str, direction: Direction, data: bytes) -> None:
        """Keep a line as far as there is room."""
        at = time.time_ns() // 1000
        session = self._sessions.get(session_id)
        if session is None:
            session = self._sessions[session_id] = _Session(at)
        if direction == "D":
            room = max(_DATA_OCTETS - session.data_octets, 0)
            session.data_octets += len(data)
            if len(data) > room:
                session.left_out += len(data) - room
                data = data[:room]
        else:
            session.learn(direction, data)
            session.data_octets = 0
        cost = len(data) + _LINE_OVERHEAD
        if session.octets + cost > _TRANSACTION_OCTETS or self._unsaved + cost > _UNSAVED_OCTETS:
            session.left_out += len(data)
        elif data:
            session.octets += cost
            self._unsaved += cost
            session.lines.append((at, direction, data))
        if direction == "*" and data == b"closed":
            self._save(session_id, _moment(at))
            del self._sessions[session_id]
        elif session.timer is None:
            loop = asyncio.get_running_loop()
            session.timer = loop.call_later(_SAVE_SECONDS, self._save, session_id, None)

    def _save(self, session_id: str, ended_at: datetime | None) -> None:
        session = self._sessions[session_id]
        if session.timer:
            session.timer.cancel()
            session.timer = None
        lines, session.lines = session.lines, []
        self._unsaved -= sum(len(data) + _LINE_OVERHEAD for _, _, data in lines)
        number = session.parts
        session.parts += 1
        self._save_part(
            ConversationPart(
                session=session.summary(session_id, ended_at),
                number=number,
                lines=tuple(
                    Line(at=_moment(at), session_id=session_id, direction=direction, data=data)
                    for at, direction, data in lines
                ),
            )
        )


def _moment(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds / 1_000_000, UTC)
