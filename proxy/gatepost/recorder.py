"""WRITE DOWN: what is said in each session, in pieces for the store; bounded, and nothing waits for it."""

import asyncio
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from gatepost.events import Direction
from gatepost.store import ConversationPart, SessionSummary

__all__ = ["Recorder"]

_SAVE_SECONDS: Final = 0.2
"""A line is with the store so soon after it was said."""
_PART_OCTETS: Final = 64 << 10
"""A session with so much to save does not wait for that."""
_SESSION_OCTETS: Final = 16 << 20
"""More of one session is left out."""
_DATA_OCTETS: Final = 16 << 10
"""More of one message is left out: the message itself is kept elsewhere."""
_UNSAVED_OCTETS: Final = 16 << 20
"""Of all sessions together; as much may wait in the store."""
_LINE_OVERHEAD: Final = 100
"""What a line takes beside its octets."""
_REPLY_LIMIT: Final = 500

_HELLO: Final = re.compile(rb"[ \t]*(?:EHLO|HELO)[ \t]+([^\r\n]{0,255})", re.IGNORECASE)


class _Session:
    """One session's lines that are not saved yet, and what is known of it."""

    __slots__ = (
        "at",
        "authenticated",
        "client",
        "data_octets",
        "helo",
        "id",
        "last_reply",
        "left_out",
        "lines",
        "listener",
        "octets",
        "parts",
        "port",
        "tls",
        "transactions",
        "unsaved",
        "waits",
    )

    def __init__(self, session_id: str, at: int) -> None:
        self.id = session_id
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
        self.unsaved = 0
        self.data_octets = 0
        self.left_out = 0
        self.parts = 0
        self.lines: list[tuple[int, Direction, bytes]] = []
        self.waits = False  # for the timer

    def learn(self, data: bytes) -> None:
        """What a line about the session tells."""
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
            case _:
                pass

    def summary(self, ended_at: datetime | None) -> SessionSummary:
        """The session as it stands now."""
        return SessionSummary(
            id=self.id,
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

    ``save`` must neither block nor raise; it says False where a part is lost.
    """

    def __init__(self, save: Callable[[ConversationPart], bool]) -> None:
        self._save_part = save
        self._sessions: dict[str, _Session] = {}
        self._waiting: list[_Session] = []
        self._room = _UNSAVED_OCTETS

    def tap(self, session_id: str, direction: Direction, data: bytes) -> None:
        """Keep a line as far as there is room."""
        at = time.time_ns() // 1000
        session = self._sessions.get(session_id)
        if session is None:
            if direction != "*" or not data.startswith(b"connected "):
                return
            session = self._sessions[session_id] = _Session(session_id, at)
        if direction == "D":
            room = max(_DATA_OCTETS - session.data_octets, 0)
            session.data_octets += len(data)
            if len(data) > room:
                session.left_out += len(data) - room
                data = data[:room]
        else:
            session.data_octets = 0
            if direction == "S":
                session.last_reply = data
            elif direction == "*":
                session.learn(data)
            elif found := _HELLO.match(data):
                session.helo = found[1].rstrip()
        self._keep(session, at, direction, data)
        if direction == "*" and data == b"closed":
            self._save(session, ended_at=_moment(at))
            del self._sessions[session_id]

    def _keep(self, session: _Session, at: int, direction: Direction, data: bytes) -> None:
        size = len(data) + _LINE_OVERHEAD
        if not data or session.octets + size > _SESSION_OCTETS or self._room < size:
            session.left_out += len(data)
            return
        session.octets += size
        session.unsaved += size
        self._room -= size
        session.lines.append((at, direction, data))
        if session.unsaved > _PART_OCTETS:
            self._save(session)
        elif not session.waits:
            if not self._waiting:
                asyncio.get_running_loop().call_later(_SAVE_SECONDS, self._save_waiting)
            session.waits = True
            self._waiting.append(session)

    def _save_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for session in waiting:
            session.waits = False
            if session.lines:
                self._save(session)

    def _save(self, session: _Session, *, ended_at: datetime | None = None) -> None:
        lines, session.lines = session.lines, []
        size, session.unsaved = session.unsaved, 0
        self._room += size
        part = ConversationPart(
            session=session.summary(ended_at), number=session.parts, lines=lines, octets=size
        )
        if self._save_part(part):
            session.parts += 1
        else:
            session.left_out += sum(len(data) for _, _, data in lines)


def _moment(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds / 1_000_000, UTC)
