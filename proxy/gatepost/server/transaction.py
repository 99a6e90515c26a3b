"""MAIL, RCPT, DATA, BDAT and RSET: one mail transaction after the other (RFC 5321 section 3.3)."""

import re
from datetime import UTC, datetime
from math import inf
from typing import Final

from gatepost.mail import Envelope, Recipient, Session
from gatepost.oddity import Oddity
from gatepost.server import replies
from gatepost.server.connection import Connection, SessionEnd, encode
from gatepost.server.contract import Reception
from gatepost.server.data import Content, DotReader, LineDotReader
from gatepost.server.endpoint import Endpoint
from gatepost.server.odd_paths import OddPath, read_mail, read_rcpt
from gatepost.server.paths import parse_mail, parse_rcpt
from gatepost.server.replies import Refusal
from gatepost.verdict import Reply

__all__ = ["MailTransactions"]

_BDAT: Final = re.compile(r"([0-9]{1,20})( LAST)?", re.IGNORECASE)


class MailTransactions(Connection):
    """The commands of a mail transaction and what they keep from one to the next."""

    __slots__ = (
        "_content",
        "_content_ends_at",
        "_recipients",
        "errors",
        "in_transaction",
        "offered",
        "reception",
        "smtp_session",
    )

    smtp_session: Session
    reception: Reception

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self.offered: frozenset[str] = frozenset()
        self.errors = 0
        self.in_transaction = False
        self._recipients = 0
        self._content: Content | None = None
        self._content_ends_at = inf

    async def mail(self, argument: str) -> None:
        """MAIL FROM (RFC 5321 section 4.1.1.2)."""
        session = self.smtp_session
        if not session.helo and not session.extended:
            self._tolerate(Oddity.ORDER, replies.HELO_FIRST)
        if self.endpoint.tls_required and session.tls is None:
            raise Refusal(replies.TLS_REQUIRED)
        if self.endpoint.auth_required and session.authenticated is None:
            raise Refusal(replies.AUTH_REQUIRED)
        if self.in_transaction:
            raise Refusal(replies.NESTED_MAIL)
        if self.endpoint.tolerance == "strict":
            mail_from, parameters = parse_mail(argument, self.offered)
        else:
            path = read_mail(argument, self.offered, everything=self.endpoint.tolerance == "everything")
            mail_from, parameters = self._taken(path)
        envelope = Envelope(mail_from=mail_from, parameters=parameters)
        if parameters:
            size = envelope.declared_size or 0
            if size > self.endpoint.limits.message_size:
                raise Refusal(replies.TOO_BIG)
            if not self.endpoint.memory.has(size):
                raise Refusal(replies.OUT_OF_MEMORY)
            self.smtputf8 = envelope.smtputf8
        self.in_transaction = True
        reply = await self.reception.mail(session, envelope)
        self.in_transaction = reply.positive
        if self.endpoint.tap and reply.positive:
            self.tap("*", f"transaction {self.reception.transaction_id}".encode())
        await self.answer(reply)
        if not reply.positive:
            self._clear()

    async def rcpt(self, argument: str) -> None:
        """RCPT TO (section 4.1.1.3)."""
        if not self.in_transaction:
            raise Refusal(replies.MAIL_FIRST)
        if self._content:
            raise Refusal(replies.NOT_WITH_BDAT)
        if self.endpoint.tolerance == "strict":
            address, parameters = parse_rcpt(argument, self.offered, smtputf8=self.smtputf8)
        else:
            everything = self.endpoint.tolerance == "everything"
            path = read_rcpt(argument, self.offered, smtputf8=self.smtputf8, everything=everything)
            address, parameters = self._taken(path)
        if self._recipients >= self.endpoint.limits.recipients:
            raise Refusal(replies.TOO_MANY_RECIPIENTS)
        reply = await self.reception.rcpt(Recipient(address=address, parameters=parameters))
        self._recipients += reply.positive
        await self.answer(reply)

    async def data(self, argument: str) -> None:
        """DATA (section 4.1.1.4): what follows is the message, even where the client did not wait for 354."""
        if argument:
            self._tolerate(Oddity.ARGUMENT, replies.NO_ARGUMENT_ALLOWED)
        if self._content:
            raise Refusal(replies.NOT_WITH_BDAT)
        if refusal := self._message_refusal():
            raise Refusal(refusal)
        self.reply(replies.START_DATA)
        content = self._begin_content()
        in_lines = self.oddities and Oddity.LINE_END in self.oddities
        reader = LineDotReader(content) if in_lines else DotReader(content)
        while True:
            chunk = await self.read_some(inf, self._chunk_deadline())
            used = reader.feed(chunk)
            if self.endpoint.tap:
                self.tap("D", chunk if used is None else chunk[:used])
            if used is not None:
                break
            del chunk  # it may be 256 KB, and is kept by the message: not once more until the next one comes
        if used < len(chunk):
            self.put_back(chunk[used:])
        del chunk
        await self._end_content(content)

    async def bdat(self, argument: str) -> None:
        """BDAT (RFC 3030); the octets that it announces are read whatever the answer is."""
        found = _BDAT.fullmatch(argument)
        if not found:
            raise SessionEnd(replies.BAD_CHUNK_SIZE)  # where the next command begins, nobody knows
        refusal = self._message_refusal() if "CHUNKING" in self.offered else replies.NOT_OFFERED
        content = self._content or self._begin_content()
        unread = int(found[1])
        while unread:
            chunk = await self.read_some(unread, self._chunk_deadline())
            unread -= len(chunk)
            self.tap("D", chunk)
            if refusal is None:
                content.add(chunk)
            del chunk
        if refusal:
            self._content = None
            raise Refusal(refusal)
        if found[2] or content.refusal:
            await self._end_content(content)
        else:
            self.reply(replies.CHUNK_OK)

    async def rset(self, argument: str) -> None:
        """RSET (section 4.1.1.5)."""
        if argument:
            self._tolerate(Oddity.ARGUMENT, replies.NO_ARGUMENT_ALLOWED)
        await self.give_up()
        self.reply(replies.OK)

    async def give_up(self) -> None:
        """Ends the transaction, where there is one, without a message."""
        if self.in_transaction:
            self._clear()
            await self.reception.reset()

    async def answer(self, reply: Reply) -> None:
        """Sends the gateway's reply as it says; after 421 the connection is closed (section 3.8)."""
        if reply.sending:
            await self.send_as(encode(reply, utf8=self.smtputf8), reply.sending)
        else:
            self.reply(reply)
        if reply.code == 421:
            raise SessionEnd

    def _tolerate(self, oddity: Oddity, refusal: Reply) -> None:
        """Takes it where everything is taken; else raises `Refusal`."""
        if self.endpoint.tolerance != "everything":
            raise Refusal(refusal)
        self.oddities += (oddity,)

    def _taken(self, path: OddPath) -> tuple[str, tuple[str, ...]]:
        self.oddities += path.oddities
        return path.address, path.parameters

    def _message_refusal(self) -> Reply | None:
        if not self.in_transaction:
            return replies.MAIL_FIRST
        return None if self._recipients else replies.NO_VALID_RECIPIENTS

    def _begin_content(self) -> Content:
        limits = self.endpoint.limits
        self._content = Content(limits, self.endpoint.memory, self.endpoint.bare_newline)
        self._content_ends_at = self.seconds_from_now(limits.message_time)
        return self._content

    def _chunk_deadline(self) -> float:
        return min(self._content_ends_at, self.seconds_from_now(self.endpoint.limits.data_time))

    async def _end_content(self, content: Content) -> None:
        octets = content.finish()
        if content.refusal:
            await self.reception.refused(content.refusal, content.size)
            reply = content.refusal
        else:
            # What happens to the connection from here on changes nothing for the message: only the
            # end of the grace period cancels a session.
            self.write_output()
            reply = await self.reception.message(self.smtp_session, octets, datetime.now(UTC))
            if reply.positive:
                self.errors = 0
        try:
            await self.answer(reply)
        finally:
            self._clear()

    def _clear(self) -> None:
        self.in_transaction = False
        self.smtputf8 = False
        self._recipients = 0
        if self._content:
            self._content.release()
            self._content = None
