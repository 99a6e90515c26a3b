"""The conversation of each session, recorded in parts for the store; bounded, and nothing waits for it."""

import asyncio
import re
from collections.abc import Callable
from datetime import datetime
from typing import Final

from gatepost.store import ConversationPart, SessionSummary
from gatepost.traffic.events import (
    Authenticated,
    ClientNamed,
    Closed,
    CommandLine,
    DataChunk,
    Direction,
    Event,
    ReplyLines,
    SessionOpened,
    TlsStarted,
    TransactionBegan,
    moment,
)

__all__ = ["Recorder"]

_SAVE_SECONDS: Final = 0.2
"""An event is passed to the store within this time."""
_PART_OCTETS: Final = 64 << 10
"""A session with more than this is saved at once."""
_SESSION_OCTETS: Final = 16 << 20
"""More of one session is left out."""
_DATA_OCTETS: Final = 16 << 10
"""More of one message is left out: the message itself is stored elsewhere."""
_UNSAVED_OCTETS: Final = 16 << 20
"""Of all sessions together; as much may wait in the store."""
_LINE_OVERHEAD: Final = 100
"""What a line takes in memory beside its bytes."""
_REPLY_LIMIT: Final = 500

_HELO_LIMIT: Final = 255
_HELLO: Final = re.compile(rb"[ \t]*(?:EHLO|HELO)[ \t]+([^\r\n]{0,%d})" % _HELO_LIMIT, re.IGNORECASE)


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

    def __init__(self, opened: SessionOpened) -> None:
        self.id = opened.session_id
        self.at = opened.at
        self.client = str(opened.client)
        self.port = opened.client_port
        self.listener = opened.listener
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

    def summary(self, ended_at: datetime | None) -> SessionSummary:
        """The session so far."""
        return SessionSummary(
            id=self.id,
            client=self.client,
            client_port=self.port,
            listener=self.listener,
            started_at=moment(self.at),
            ended_at=ended_at,
            helo=self.helo.decode("utf-8", "replace"),
            tls=self.tls,
            authenticated=self.authenticated,
            transactions=self.transactions,
            last_reply=self.last_reply[:_REPLY_LIMIT].decode("utf-8", "replace").rstrip(),
            left_out=self.left_out,
        )


class Recorder:
    """A tap that passes conversations to ``save``, part by part. For one event loop.

    ``save`` must neither block nor raise; it returns False where a part is lost.
    """

    def __init__(self, save: Callable[[ConversationPart], bool]) -> None:
        self._save_part = save
        self._sessions: dict[str, _Session] = {}
        self._waiting: list[_Session] = []
        self._room = _UNSAVED_OCTETS

    def tap(self, event: Event) -> None:
        """Record an event as far as there is room."""
        session = self._sessions.get(event.session_id)
        if session is None:
            if not isinstance(event, SessionOpened):
                return
            session = self._sessions[event.session_id] = _Session(event)
        data = event.data
        ended_at = None
        message_octets, session.data_octets = session.data_octets, 0
        match event:  # not isinstance(), which is a function call for each event
            case ReplyLines():
                session.last_reply = data
            case CommandLine():
                if found := _HELLO.match(data):
                    session.helo = found[1].rstrip()
            case DataChunk():
                room = max(_DATA_OCTETS - message_octets, 0)
                session.data_octets = message_octets + len(data)
                if len(data) > room:
                    session.left_out += len(data) - room
                    data = data[:room]
            case TransactionBegan():
                session.transactions += 1
            case TlsStarted(version=version):
                session.tls = version
            case Authenticated(user=user):
                session.authenticated = user.encode("utf-8", "replace").decode()
            case ClientNamed(client=client, client_port=port, helo=helo):
                session.client, session.port = str(client), port
                session.helo = helo.encode("utf-8", "replace")[:_HELO_LIMIT] or session.helo
            case Closed(at=at):
                ended_at = moment(at)
            case _:
                pass
        self._keep(session, event.at, event.direction, data)
        if ended_at:
            self._save(session, ended_at=ended_at)
            del self._sessions[event.session_id]

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
