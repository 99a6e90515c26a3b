"""A source that is trusted to speak for other clients, with XFORWARD or XCLIENT.

XFORWARD is about one transaction, XCLIENT about the rest of the session. Until the source has said at MAIL or
with XCLIENT which client it speaks for, no rule is asked about it: it is not the client.
"""

from dataclasses import replace
from time import time_ns
from typing import Final

from gatepost.model import replies
from gatepost.model.mail import Envelope, Session
from gatepost.model.verdict import Reply, ReplyTiming
from gatepost.server.clients import IPAddress
from gatepost.server.forwarded import XCLIENT, XFORWARD, Facts, forwarded, parse_facts, replaced
from gatepost.server.replies import Refusal, SessionEnd
from gatepost.server.state import SessionState
from gatepost.server.wire import Wire
from gatepost.traffic.events import ClientNamed

__all__ = ["Forwarder"]

_NOTHING: Final[Facts] = {}


class Forwarder:
    """What a trusted source has said about the original client of the session and of the next transaction.

    The source is the address that has connected, or that a PROXY header names. After XCLIENT it is the
    client's: a proxy may pass on all that its client sends, which must not name another client.
    """

    __slots__ = (
        "_asked_about",
        "_counted",
        "_endpoint",
        "_own",
        "_source",
        "_state",
        "_wire",
        "_xclient",
        "_xclient_is_unclear",
        "_xforward",
        "_xforward_is_unclear",
    )

    def __init__(self, wire: Wire, state: SessionState) -> None:
        self._wire = wire
        self._endpoint = wire.endpoint
        self._state = state
        self._own = state.session
        self._source = state.session.client
        self._xclient = _NOTHING
        """What XCLIENT has said; it is valid until the end of the session."""
        self._xclient_is_unclear = False
        self._xforward = _NOTHING
        """What XFORWARD has said; it is valid until the end of the next transaction."""
        self._xforward_is_unclear = False
        self._asked_about: Session | None = None
        """The session that the rules were asked about last."""
        self._counted: IPAddress | None = None
        """The original client whose connection this is counted as."""

    @property
    def extensions(self) -> tuple[str, ...]:
        """The lines of the reply to EHLO that offer the commands."""
        offered = (
            ("XFORWARD", XFORWARD, self._endpoint.xforward_from),
            ("XCLIENT", XCLIENT, self._endpoint.xclient_from),
        )
        return tuple(
            " ".join((keyword, *names)) for keyword, names, sources in offered if self._source in sources
        )

    def lost_track(self) -> None:
        """A command could not be read. It may have named the client, so MAIL is refused until RSET or EHLO.

        Otherwise the next message would be taken for one of the source itself, which rules may trust.
        """
        self._xforward_is_unclear = True
        self._xclient_is_unclear = self._xclient_is_unclear or (
            not self._xclient and self._source in self._endpoint.xclient_from
        )

    def xforward(self, argument: str, *, in_transaction: bool) -> None:
        """XFORWARD: facts of the next transaction's client; raises `Refusal`, and then no fact is changed."""
        if self._source not in self._endpoint.xforward_from:
            raise Refusal(replies.NOT_TRUSTED)
        if in_transaction:
            raise Refusal(replies.NOT_IN_TRANSACTION)
        try:
            facts = parse_facts(argument, XFORWARD)
        except Refusal:
            self._xforward_is_unclear = True
            raise
        self._xforward = {**self._xforward, **facts}

    async def xclient(self, argument: str, *, in_transaction: bool) -> Reply | ReplyTiming | None:
        """XCLIENT: facts of the session's client, for which the session starts over.

        Returns what the rules answer to the connection. Raises `Refusal`, and then no fact is changed, and
        SessionEnd if this client has too many connections.
        """
        if self._source not in self._endpoint.xclient_from:
            raise Refusal(replies.NOT_TRUSTED)
        if in_transaction:
            raise Refusal(replies.NOT_IN_TRANSACTION)
        try:
            facts = _named_client(argument)
        except Refusal:
            self._xclient_is_unclear = True
            raise
        if "ADDR" in facts:  # another client; no fact of the last one is true of it
            self._xclient = facts
            self._xclient_is_unclear = False
        else:
            self._xclient = {**self._xclient, **facts}
        self.end_transaction()
        self._state.session = session = replaced(self._own, self._xclient)
        self._state.offered = frozenset()
        self._asked_about = None
        self._source = session.client
        self._tell(session)
        if refusal := await self._count(session.client):
            raise SessionEnd(refusal)
        return await self._state.handler.connect(session)

    async def helo(self, session: Session) -> tuple[Session, Reply | ReplyTiming | None]:
        """The session after EHLO or HELO, and what the rules answer to it.

        What XCLIENT has said about the client's HELO and protocol is kept. No rule is asked before XCLIENT:
        the name is that of the source.
        """
        if not self._xclient:
            return session, None
        said = replaced(self._own, self._xclient)
        session = replace(
            session,
            helo=said.helo or session.helo,
            extended=said.extended if "PROTO" in self._xclient else session.extended,
        )
        if said.helo:
            self._tell(session)  # after the name in EHLO, which is the proxy's
        self._asked_about = session
        return session, await self._state.handler.helo(session)

    def named(self) -> Session:
        """The session of the next transaction, of the client that was named for it."""
        return forwarded(self._state.session, self._xforward)

    async def begin(self, envelope: Envelope) -> tuple[Session, Reply | None]:
        """The session of the transaction that MAIL begins, and the refusal of its client, if there is one.

        Rules about the connection and HELO are asked now if they were not asked about this client yet.
        """
        session, handler = self.named(), self._state.handler
        if self._xforward_is_unclear or self._xclient_is_unclear:
            await handler.refused_early(session, envelope, replies.CLIENT_UNCLEAR)
            return session, replies.CLIENT_UNCLEAR
        if session is self._asked_about:
            return session, None
        if session is not self._state.session:
            self._tell(session)
        if await self._count(session.client):
            await handler.refused_early(session, envelope, replies.CLIENT_TOO_BUSY)
            return session, replies.CLIENT_TOO_BUSY
        refusal = await handler.introduce(session, envelope)
        if refusal is None:
            self._asked_about = session
        return session, refusal

    def end_transaction(self) -> None:
        """The transaction has ended, or RSET or EHLO was sent: the next one begins with nothing said."""
        self._xforward = _NOTHING
        self._xforward_is_unclear = False

    async def _count(self, client: IPAddress) -> Reply | None:
        """Count the connection as the client's instead of the last one's; returns the reply that refuses it.

        The source's own connections are not counted: it carries those of many clients.
        """
        if client == self._counted:
            return None
        self.close()
        if client != self._own.client:
            if refusal := await self._endpoint.connections.enter_client(client):
                return refusal
            self._counted = client
        return None

    def _tell(self, session: Session) -> None:
        """The event that this client was named."""
        if tap := self._wire.tap:
            tap(
                ClientNamed(
                    at=time_ns() // 1000,
                    session_id=session.id,
                    client=session.client,
                    client_port=session.client_port,
                    helo=session.helo,
                )
            )

    def close(self) -> None:
        """The session has ended."""
        if self._counted is not None:
            self._endpoint.connections.leave_client(self._counted)
            self._counted = None


def _named_client(argument: str) -> Facts:
    facts = parse_facts(argument, XCLIENT)
    if facts.get("ADDR", "") is None:  # unlike in XFORWARD, this has no meaning of its own
        raise Refusal(replies.BAD_ATTRIBUTE)
    return facts
