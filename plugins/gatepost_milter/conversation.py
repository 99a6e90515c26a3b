"""What a milter is told of one session, on one connection.

A session and its transaction can be told at any time from the start, since they are values. So each method
tells what the milter does not know yet, and returns its answer to the last of it. An answer that ends a
session or a message is remembered: the milter is told no more of it.
"""

from collections.abc import Sequence
from typing import Final

from gatepost import Envelope, Message, Recipient, Session, Transaction

from gatepost_milter.connection import CONTINUE, Answer, Connection
from gatepost_milter.macros import Macros
from gatepost_milter.packets import CHUNK_OCTETS, ProtocolError, Steps, connect, header, macros, packet, words
from gatepost_milter.splitting import split

__all__ = ["Conversation"]

_SILENT: Final = Answer(b"a")
"""What is reported of a milter that has said before that it needs no more of the session."""
ABORT: Final = packet(b"A")
_NOT_TOLD: Final = {
    b"C": Steps.NO_CONNECT,
    b"H": Steps.NO_HELO,
    b"M": Steps.NO_MAIL,
    b"R": Steps.NO_RCPT,
    b"T": Steps.NO_DATA,
    b"L": Steps.NO_HEADERS,
    b"N": Steps.NO_EOH,
    b"B": Steps.NO_BODY,
}
_NOT_ANSWERED: Final = {
    b"C": Steps.NR_CONNECT,
    b"H": Steps.NR_HELO,
    b"M": Steps.NR_MAIL,
    b"R": Steps.NR_RCPT,
    b"T": Steps.NR_DATA,
    b"L": Steps.NR_HEADER,
    b"N": Steps.NR_EOH,
    b"B": Steps.NR_BODY,
}


class Conversation:
    """A connection, and what the milter at its other end knows."""

    def __init__(self, connection: Connection, values: Macros) -> None:
        self.connection = connection
        self._macros = values
        self._client: tuple[object, ...] = ()
        """The client that the milter knows; empty: none."""
        self._helo: tuple[object, ...] = ()
        self._mail: tuple[object, ...] = ()
        self._recipients: list[str] = []
        """Those that it has been told of and has not refused."""
        self._session_end: Answer | None = None
        """Its answer if it needs no more of the session."""
        self._message_end: Answer | None = None
        """Its answer if it needs no more of the message."""

    @property
    def is_over(self) -> bool:
        """True if the milter needs no more of the session."""
        return self._session_end is not None

    @property
    def in_transaction(self) -> bool:
        """True if the milter knows a sender and waits for more."""
        return bool(self._mail)

    async def connect(self, session: Session, name: str) -> Answer:
        """Tell of the client."""
        client = (session.id, session.client, session.client_port)
        if self._client == client:
            return _SILENT if self._session_end else CONTINUE
        if self._client:
            raise ProtocolError("knows another client of the session")  # a new connection is made
        self._client = client
        where = connect(name, str(session.client), session.client_port)
        return self._ends_session(await self._tell(b"C", where, self._macros.connect(session, name)))

    async def helo(self, session: Session) -> Answer:
        """Tell of EHLO or HELO, after `connect`."""
        helo = (session.helo, session.tls)
        if self._session_end or self._helo == helo:
            return _SILENT if self._session_end else CONTINUE
        self._reset()
        self._helo = helo
        data = packet(b"H", words(session.helo.encode()))
        return self._ends_session(await self._tell(b"H", data, self._macros.helo(session)))

    async def mail(self, session: Session, envelope: Envelope, transaction_id: str) -> Answer:
        """Tell of MAIL, after `helo`; a transaction that the milter knows ends."""
        if self._session_end:
            return _SILENT
        self._reset()
        self._mail = _key(session, envelope)
        data = packet(b"M", words(_path(envelope.mail_from), *_octets(envelope.parameters)))
        values = self._macros.mail(session, envelope, transaction_id)
        return self._ends_message(await self._tell(b"M", data, values))

    async def rcpt(
        self, session: Session, envelope: Envelope, recipient: Recipient, transaction_id: str
    ) -> Answer:
        """Tell of a recipient; first of MAIL and the recipients before, if the milter does not know them."""
        before = [one.address for one in envelope.recipients]
        knows = self._mail == _key(session, envelope)
        if knows and self._message_end:
            return self._message_end
        if not knows or self._recipients != before:
            answer = await self.mail(session, envelope, transaction_id)
            if answer.letter != b"c":
                return answer
            for one in envelope.recipients:
                answer = await self._rcpt(one, transaction_id)
                if self._message_end:
                    return answer
        return await self._rcpt(recipient, transaction_id)

    async def _rcpt(self, recipient: Recipient, transaction_id: str) -> Answer:
        data = packet(b"R", words(_path(recipient.address), *_octets(recipient.parameters)))
        answer = await self._tell(b"R", data, self._macros.rcpt(recipient, transaction_id))
        if answer.reply:  # of this recipient alone
            return answer
        self._recipients.append(recipient.address)
        return self._ends_message(answer)

    async def envelope(
        self, transaction: Transaction, recipients: Sequence[Recipient]
    ) -> tuple[Answer, dict[str, Answer]]:
        """Tell of MAIL and all recipients, unless the milter knows just them.

        Returns the answer about the message, and those that refuse a recipient.
        """
        session, envelope, refused = transaction.session, transaction.envelope, dict[str, Answer]()
        wanted = [one.address for one in recipients]
        if self._session_end:
            return _SILENT, refused
        if self._mail != _key(session, envelope) or (self._recipients != wanted and not self._message_end):
            answer = await self.mail(session, envelope, transaction.id)
            for one in recipients if answer.letter == b"c" else ():
                answer = await self._rcpt(one, transaction.id)
                if self._message_end:
                    break
                if answer.reply:
                    refused[one.address] = answer
        return self._message_end or CONTINUE, refused

    async def content(self, transaction_id: str, content: bytes, changes_limit: int) -> Answer:
        """Tell of a message, after `envelope`; the answer has changes of at most so many bytes."""
        values = self._macros.message(transaction_id)
        steps = self.connection.negotiated.steps
        if (answer := await self._tell(b"T", packet(b"T"), values)).letter != b"c":
            return self._ends_message(answer)
        fields, body = split(Message(content=content).header_section, content)
        if not steps & Steps.NO_HEADERS:
            for name, value in fields:
                raw = value
                if not steps & Steps.LEADING_SPACE:
                    raw = value[1:] if value[:1] in (b" ", b"\t") else value
                if (answer := await self._tell(b"L", header(name, raw))).letter != b"c":
                    return self._ends_message(answer)
        if (answer := await self._tell(b"N", packet(b"N"), values)).letter != b"c":
            return self._ends_message(answer)
        if not steps & Steps.NO_BODY:
            for start in range(0, len(body), CHUNK_OCTETS):
                answer = await self._tell(b"B", packet(b"B", body[start : start + CHUNK_OCTETS]))
                if answer.letter == b"s":
                    break
                if answer.letter != b"c":
                    return self._ends_message(answer)
        wanted = self._names(b"E", values)
        answer = await self.connection.ask(macros(b"E", wanted) + packet(b"E"), changes_limit=changes_limit)
        if answer.letter == b"s":
            raise ProtocolError("answered skip to the end of the message")
        self._mail, self._recipients, self._message_end = (), [], None
        return answer

    def end(self) -> None:
        """End the session; a transaction that the milter knows ends first, as with Postfix."""
        self._reset()
        self.connection.quit()

    def _reset(self) -> None:
        if self._mail:
            self.connection.send(ABORT)
        self._mail, self._recipients, self._message_end = (), [], None

    def _ends_session(self, answer: Answer) -> Answer:
        if answer.letter != b"c":
            self._session_end = answer
        return answer

    def _ends_message(self, answer: Answer) -> Answer:
        if answer.letter != b"c":
            self._message_end = answer
        return answer

    def _names(self, command: bytes, values: dict[str, str]) -> dict[str, str]:
        """The macros that the milter wants before a command, with their values."""
        names = self.connection.negotiated.macros.get(command)
        if names is None:
            names = self._macros.usual(command)
        return {name: values[name] for name in names if values.get(name)}

    async def _tell(self, command: bytes, data: bytes, values: dict[str, str] | None = None) -> Answer:
        """Send a command as was negotiated; raises OSError."""
        steps = self.connection.negotiated.steps
        if steps & _NOT_TOLD[command]:
            return CONTINUE
        octets = (macros(command, self._names(command, values)) if values else b"") + data
        if steps & _NOT_ANSWERED[command]:
            self.connection.send(octets)
            return CONTINUE
        answer = await self.connection.ask(octets)
        if answer.letter == b"s" and not (command == b"B" and steps & Steps.SKIP):
            raise ProtocolError(f"answered skip to {command!r}")
        return answer


def _key(session: Session, envelope: Envelope) -> tuple[object, ...]:
    return (envelope.mail_from, envelope.parameters, session.authenticated)


def _path(address: str) -> bytes:
    return f"<{address}>".encode()


def _octets(parameters: tuple[str, ...]) -> list[bytes]:
    return [parameter.encode() for parameter in parameters]
