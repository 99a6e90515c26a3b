"""The contract between the server and the gateway: the calls that the server makes."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from gatepost.model.mail import Envelope, Recipient, Session
from gatepost.model.verdict import Reply, ReplyTiming

__all__ = ["Gateway", "SessionHandler"]


class SessionHandler(Protocol):
    """The gateway's side of one session; the server makes one call at a time.

    If a method raises, the server logs the exception and replies ``451 4.3.0``; the transaction ends, the
    session goes on.
    """

    @property
    def transaction_id(self) -> str:
        """The identifier of the open transaction; empty if there is none."""

    async def connect(self, session: Session) -> Reply | ReplyTiming | None:
        """A client has connected; a reply is sent instead of the greeting, and the session ends.

        A returned `ReplyTiming` applies to the greeting.
        """

    async def helo(self, session: Session) -> Reply | ReplyTiming | None:
        """The client has sent EHLO or HELO; a reply is sent instead of the usual one and refuses it.

        A returned `ReplyTiming` applies to the usual reply.
        """

    async def auth_failed(self, session: Session, user: str, reply: Reply) -> None:
        """The client has sent wrong credentials; ``user`` is their name, of any length and content."""

    def bad_command(self, session: Session) -> None:
        """The client has sent an invalid command, one that `limits.invalid_commands` counts."""

    async def introduce(self, session: Session, envelope: Envelope) -> Reply | None:
        """The next transaction is of another client than the last one, as a trusted source has said.

        Takes the place of `connect` and `helo`; a reply is sent instead of that to MAIL and refuses it.
        """

    async def mail(self, session: Session, envelope: Envelope) -> Reply:
        """A positive reply begins a transaction."""

    async def rcpt(self, recipient: Recipient) -> Reply:
        """A positive reply adds the recipient to the transaction."""

    async def refused_early(self, session: Session, envelope: Envelope | None, reply: Reply) -> None:
        """The server refuses the client, or its MAIL, without having asked; no transaction begins.

        ``envelope`` is None at the greeting, and if the arguments of MAIL cannot be parsed.
        """

    async def refused_rcpt(self, recipient: Recipient, reply: Reply) -> None:
        """The server refuses a recipient of the open transaction without having asked."""

    async def message(self, session: Session, content: bytes, received_at: datetime) -> Reply:
        """The message is complete; the transaction ends with the returned reply.

        The call continues if the client disconnects; only the end of the grace period of `Server.stop`
        cancels it.
        """

    async def refused(self, reply: Reply, size: int) -> None:
        """The server has read a message of ``size`` bytes and refuses it; the transaction ends."""

    async def reset(self) -> None:
        """The transaction ends without a message: by RSET, EHLO, QUIT, a fault or a lost connection."""

    async def close(self, session: Session) -> None:
        """The connection is closed or lost; always called, once, as the last call."""


class Gateway(Protocol):
    """Makes the gateway's side of each session."""

    def session_handler(self, left: Callable[[], asyncio.Future[None]]) -> SessionHandler:
        """A new one for each connection.

        ``left`` returns a future that is done when the client disconnects from then on. A call may end early
        then, but it need not: the server makes the next one, or `SessionHandler.close`, after it.
        """

    def extensions(self) -> frozenset[str]:
        """The extensions that are kept end to end, for example ``DSN``."""
