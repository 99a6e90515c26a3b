"""What the server asks of the gateway and of whoever listens in."""

from datetime import datetime
from typing import Literal, Protocol

from gatepost.mail import Envelope, Recipient, Session
from gatepost.verdict import Reply, Sending

__all__ = ["Gateway", "Reception", "Tap"]


class Reception(Protocol):
    """The gateway's side of one session; the server asks one thing at a time.

    What it raises is answered ``451 4.3.0``, logged, and ends the transaction, not the session.
    """

    @property
    def transaction_id(self) -> str:
        """Of the transaction that has begun; empty where none has."""

    async def connect(self, session: Session) -> Reply | Sending | None:
        """A reply is sent instead of the greeting, and the connection is closed.

        A `Sending` says how the greeting is sent.
        """

    async def helo(self, session: Session) -> Reply | Sending | None:
        """A reply is sent instead of the usual one, and the session has no helo then.

        A `Sending` says how the usual one is sent.
        """

    async def mail(self, session: Session, envelope: Envelope) -> Reply:
        """A positive reply begins a transaction."""

    async def rcpt(self, recipient: Recipient) -> Reply:
        """A positive reply adds the recipient to the transaction."""

    async def message(self, session: Session, content: bytes, received_at: datetime) -> Reply:
        """The whole message; the transaction is over with the reply.

        It goes on when the client is gone; only the end of the grace period of `Server.stop` cancels it.
        """

    async def refused(self, reply: Reply, size: int) -> None:
        """The server has read a message of ``size`` octets and refuses it; the transaction is over."""

    async def reset(self) -> None:
        """The transaction is given up: RSET, EHLO, HELO, STARTTLS, QUIT, a fault or a lost connection."""

    async def close(self) -> None:
        """The connection is gone: always, once, and last."""


class Gateway(Protocol):
    """What stands behind the server."""

    def reception(self) -> Reception:
        """A new one for each connection."""

    def extensions(self) -> frozenset[str]:
        """The extensions that are kept end to end, for example ``DSN``."""


class Tap(Protocol):
    """Sees the conversation live; must neither block nor raise."""

    def __call__(self, session_id: str, direction: Literal["C", "D", "S", "*"], data: bytes, /) -> None:
        """``C``: a command, ``D``: message data, ``S``: of the server, ``*``: about the session.

        The last begins with connected, tls, authenticated, transaction, odd (`Oddity`), not sent (a reply)
        or closed.
        What AUTH keeps secret is ``********``.
        """
