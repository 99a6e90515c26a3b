"""MAIL, RCPT, DATA, BDAT and RSET: one mail transaction after the other (RFC 5321 section 3.3)."""

import re
from datetime import UTC, datetime
from math import inf
from time import time_ns
from typing import TYPE_CHECKING, Final, NoReturn

from gatepost.model import replies
from gatepost.model.mail import Envelope, Recipient
from gatepost.model.verdict import Reply
from gatepost.server.data import Content, DotReader, LineDotReader
from gatepost.server.odd_paths import OddPath, read_mail, read_rcpt
from gatepost.server.paths import parse_mail, parse_rcpt
from gatepost.server.replies import Refusal, SessionEnd
from gatepost.server.state import SessionState
from gatepost.server.wire import Wire
from gatepost.traffic.events import DataChunk, TransactionBegan
from gatepost.traffic.oddity import Oddity

if TYPE_CHECKING:
    from gatepost.server.forwarder import Forwarder

__all__ = ["MailTransactions"]

_BDAT: Final = re.compile(r"([0-9]{1,20})( LAST)?", re.IGNORECASE)


class MailTransactions:
    """The commands of mail transactions, and the state that they share."""

    __slots__ = (
        "_content",
        "_content_ends_at",
        "_endpoint",
        "_recipients",
        "_session",
        "_state",
        "_wire",
        "forwarder",
        "is_open",
    )

    def __init__(self, wire: Wire, state: SessionState) -> None:
        self._wire = wire
        self._endpoint = wire.endpoint
        self._state = state
        self._session = state.session
        """The session of the transaction: that of its original client."""
        self.forwarder: Forwarder | None = None
        """Set if the source may name original clients."""
        self.is_open = False
        """True from MAIL to the reply to the message, or until the transaction ends without a message."""
        self._recipients = 0
        self._content: Content | None = None
        self._content_ends_at = inf

    async def mail(self, argument: str) -> None:
        """MAIL FROM (RFC 5321 section 4.1.1.2)."""
        session = self._state.session
        if not session.helo and not session.extended:
            self._wire.tolerate(Oddity.ORDER, replies.HELO_FIRST)
        if self.is_open:
            raise Refusal(replies.NESTED_MAIL)
        refusal = None
        if self._endpoint.tls_required and session.tls is None:
            refusal = replies.TLS_REQUIRED
        elif self._endpoint.auth_required and session.authenticated is None:
            refusal = replies.AUTH_REQUIRED
        try:
            if self._endpoint.tolerance == "strict":
                mail_from, parameters = parse_mail(argument, self._state.offered)
            else:
                path = read_mail(
                    argument, self._state.offered, everything=self._endpoint.tolerance == "everything"
                )
                mail_from, parameters = self._taken(path)
        except Refusal:
            if refusal:
                await self._refuse(None, refusal)
            raise
        envelope = Envelope(mail_from=mail_from, parameters=parameters)
        if parameters and not refusal:
            size = envelope.declared_size or 0
            if size > self._endpoint.limits.message_size:
                refusal = replies.TOO_BIG
            elif not self._endpoint.memory.has(size):
                refusal = replies.OUT_OF_MEMORY
            self._wire.smtputf8 = envelope.smtputf8
        if refusal:
            await self._refuse(envelope, refusal)
        if self.forwarder is not None:
            session, refusal = await self.forwarder.begin(envelope)
            if refusal:
                self._wire.smtputf8 = False
                await self._wire.answer(refusal)
                return
        self._session = session
        self.is_open = True
        reply = await self._state.handler.mail(session, envelope)
        self.is_open = reply.positive
        if self._wire.tap and reply.positive:
            transaction_id = self._state.handler.transaction_id
            self._wire.tap(
                TransactionBegan(
                    at=time_ns() // 1000, session_id=self._wire.session_id, transaction_id=transaction_id
                )
            )
        await self._wire.answer(reply)
        if not reply.positive:
            self._clear()

    async def _refuse(self, envelope: Envelope | None, refusal: Reply) -> NoReturn:
        """Refuse MAIL without asking the gateway, which journals it; raises Refusal."""
        self._wire.smtputf8 = False
        session = self.forwarder.named() if self.forwarder else self._state.session
        await self._state.handler.refused_early(session, envelope, refusal)
        raise Refusal(refusal)

    async def rcpt(self, argument: str) -> None:
        """RCPT TO (section 4.1.1.3)."""
        if not self.is_open:
            raise Refusal(replies.MAIL_FIRST)
        if self._content:
            raise Refusal(replies.NOT_WITH_BDAT)
        if self._endpoint.tolerance == "strict":
            address, parameters = parse_rcpt(argument, self._state.offered, smtputf8=self._wire.smtputf8)
        else:
            everything = self._endpoint.tolerance == "everything"
            path = read_rcpt(
                argument, self._state.offered, smtputf8=self._wire.smtputf8, everything=everything
            )
            address, parameters = self._taken(path)
        recipient = Recipient(address=address, parameters=parameters)
        if self._recipients >= self._endpoint.limits.recipients:
            await self._state.handler.refused_rcpt(recipient, replies.TOO_MANY_RECIPIENTS)
            raise Refusal(replies.TOO_MANY_RECIPIENTS)
        reply = await self._state.handler.rcpt(recipient)
        self._recipients += reply.positive
        await self._wire.answer(reply)

    async def data(self, argument: str) -> None:
        """DATA (section 4.1.1.4): the message follows, even if the client did not wait for 354."""
        if argument:
            self._wire.tolerate(Oddity.ARGUMENT, replies.NO_ARGUMENT_ALLOWED)
        if self._content:
            raise Refusal(replies.NOT_WITH_BDAT)
        if refusal := self._message_refusal():
            raise Refusal(refusal)
        self._wire.reply(replies.START_DATA)
        content = self._begin_content()
        in_lines = self._wire.oddities and Oddity.LINE_END in self._wire.oddities
        reader = LineDotReader(content) if in_lines else DotReader(content)
        while True:
            chunk = await self._wire.read_some(inf, self._chunk_deadline())
            used = reader.feed(chunk)
            if self._wire.tap:
                data = chunk if used is None else chunk[:used]
                self._wire.tap(DataChunk(at=time_ns() // 1000, session_id=self._wire.session_id, data=data))
                del data
            if used is not None:
                break
            del chunk  # up to 256 KB; the message has these bytes already
        if used < len(chunk):
            self._wire.put_back(chunk[used:])
        del chunk
        await self._end_content(content)

    async def bdat(self, argument: str) -> None:
        """BDAT (RFC 3030); the announced bytes are read even if the reply will be a refusal."""
        found = _BDAT.fullmatch(argument)
        if not found:
            raise SessionEnd(replies.BAD_CHUNK_SIZE)  # where the next command begins is unknown
        refusal = self._message_refusal() if "CHUNKING" in self._state.offered else replies.NOT_OFFERED
        content = self._content or self._begin_content()
        unread = int(found[1])
        while unread:
            chunk = await self._wire.read_some(unread, self._chunk_deadline())
            unread -= len(chunk)
            if self._wire.tap:
                self._wire.tap(DataChunk(at=time_ns() // 1000, session_id=self._wire.session_id, data=chunk))
            if refusal is None:
                content.add(chunk)
            del chunk
        if refusal:
            self._content = None
            raise Refusal(refusal)
        if found[2] or content.refusal:
            await self._end_content(content)
        else:
            self._wire.reply(replies.CHUNK_OK)

    async def rset(self, argument: str) -> None:
        """RSET (section 4.1.1.5)."""
        if argument:
            self._wire.tolerate(Oddity.ARGUMENT, replies.NO_ARGUMENT_ALLOWED)
        await self.give_up()
        self._wire.reply(replies.OK)

    async def give_up(self) -> None:
        """End the transaction, if there is one, without a message."""
        if self.forwarder:
            self.forwarder.end_transaction()
        if self.is_open:
            self._clear()
            await self._state.handler.reset()

    def _taken(self, path: OddPath) -> tuple[str, tuple[str, ...]]:
        self._wire.oddities += path.oddities
        return path.address, path.parameters

    def _message_refusal(self) -> Reply | None:
        if not self.is_open:
            return replies.MAIL_FIRST
        return None if self._recipients else replies.NO_VALID_RECIPIENTS

    def _begin_content(self) -> Content:
        limits = self._endpoint.limits
        self._content = Content(limits, self._endpoint.memory, self._endpoint.bare_newline)
        self._content_ends_at = self._wire.seconds_from_now(limits.message_time)
        return self._content

    def _chunk_deadline(self) -> float:
        return min(self._content_ends_at, self._wire.seconds_from_now(self._endpoint.limits.data_time))

    async def _end_content(self, content: Content) -> None:
        octets = content.finish()
        if content.refusal:
            await self._state.handler.refused(content.refusal, content.size)
            reply = content.refusal
        else:
            # From here on a lost connection does not affect the message: only the end of the grace period
            # cancels a session.
            self._wire.write_output()
            reply = await self._state.handler.message(self._session, octets, datetime.now(UTC))
            if reply.positive:
                self._state.errors = 0
        try:
            await self._wire.answer(reply)
        finally:
            self._clear()
            if self.forwarder:
                self.forwarder.end_transaction()

    def _clear(self) -> None:
        self.is_open = False
        self._wire.smtputf8 = False
        self._recipients = 0
        if self._content:
            self._content.release()
            self._content = None
