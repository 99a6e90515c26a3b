"""One SMTP session: the greeting, the commands one after the other, the end (RFC 5321 section 3)."""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Final, cast

from gatepost.mail import Session, new_id
from gatepost.oddity import Oddity
from gatepost.server import replies
from gatepost.server.any_auth import ANY_MECHANISMS, take_anybody
from gatepost.server.auth import MAX_RESPONSE, MECHANISMS, authenticate
from gatepost.server.connection import SessionEnd, encode
from gatepost.server.endpoint import Endpoint, IPAddress
from gatepost.server.paths import is_mailbox
from gatepost.server.proxy_header import read_proxy_header
from gatepost.server.replies import Refusal
from gatepost.server.transaction import MailTransactions
from gatepost.server.visible import visible_text
from gatepost.verdict import TEMPORARY_FAILURE, Reply

__all__ = ["SmtpSession"]

log = logging.getLogger(__name__)

_PROXY_HEADER_SECONDS: Final = 10.0
_BLANKS: Final = re.compile(rb"[ \t]+")
_ANOTHER_PROTOCOL: Final = frozenset((b"GET", b"POST", b"HEAD", b"PUT", b"OPTIONS", b"CONNECT"))
_TAKES_A_PATH: Final = frozenset((b"MAIL", b"RCPT"))
_BOGUS: Final = frozenset((500, 501, 504, 555))
"""Replies to what is no command; so many of them end a session."""


class SmtpSession(MailTransactions):
    """The protocol object of one connection, from the accepted socket to its end."""

    __slots__ = (
        "_client",
        "_command_deadline",
        "_connected",
        "_failed_auth",
        "_stopping",
        "task",
    )

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self.task: asyncio.Task[None] | None = None
        self._client: IPAddress | None = None
        self._connected = False
        self._failed_auth = 0
        self._stopping = False
        self._command_deadline = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected: begins the session, or says that there are too many."""
        self.transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        if peer and self.endpoint.connections.enter():
            self.task = self._loop.create_task(self._handle_client(*peer[:2]))
            self.endpoint.sessions.add(self)
            return
        if not self.endpoint.implicit_tls:
            self.transport.write(encode(replies.TOO_MANY_CONNECTIONS, utf8=False))
        self.transport.close()

    def stop(self) -> None:
        """Ends the session as soon as it is not in a transaction."""
        self._stopping = True
        if not self.in_transaction:
            self.interrupt(replies.SHUTTING_DOWN)

    async def _handle_client(self, source: str, port: int) -> None:  # type: ignore[override]  # the peer is known here
        try:
            await self._connect(source, port)
            await self._greet()
            await self._converse()
        except SessionEnd as end:
            if end.reply:
                self.reply(end.reply)
        except asyncio.CancelledError:
            self.reply(replies.SHUTTING_DOWN)  # the grace period of stop() is over
        except Exception:
            log.exception("session %s failed", self.session_id)
            self.reply(replies.SESSION_FAILED)
        await self._finish()

    async def _connect(self, source: str, port: int) -> None:
        """Learns who the client is, and negotiates TLS where that comes first."""
        limits = self.endpoint.limits
        self.session_ends_at = self.seconds_from_now(limits.session_time)
        client = _address(source)
        if self.endpoint.is_proxy(client):
            client, port = await self._read_proxy_header() or (client, port)
        if not self.endpoint.connections.enter_client(client):
            raise SessionEnd(None if self.endpoint.implicit_tls else replies.TOO_MANY_CONNECTIONS)
        self._client = client
        self.session_id = new_id()
        if self.endpoint.tap:
            self.tap("*", f"connected {client} {port} to {self.endpoint.name}".encode())
        self.smtp_session = Session(
            id=self.session_id,
            client=client,
            client_port=port,
            listener=self.endpoint.name,
            connected_at=datetime.now(UTC),
            tls=await self.start_tls() if self.endpoint.implicit_tls else None,
        )

    async def _read_proxy_header(self) -> tuple[IPAddress, int] | None:
        deadline = self.seconds_from_now(min(_PROXY_HEADER_SECONDS, self.endpoint.limits.command_time))
        try:
            header = await read_proxy_header(lambda count: self.read_exactly(count, deadline))
        except SessionEnd as end:  # a balancer's health check connects and says nothing
            raise SessionEnd from end
        except ValueError as error:
            log.warning("no valid PROXY header from a source that must send one: %r", str(error))
            raise SessionEnd from error
        return (_address(str(header[0])), header[1]) if header else None

    async def _greet(self) -> None:
        self.reception = self.endpoint.gateway.reception()
        self._connected = True
        answer = await self.reception.connect(self.smtp_session)
        if isinstance(answer, Reply):
            await self.answer(answer)
            raise SessionEnd
        if self.has_input():  # section 4.3.1: the client waits for the greeting
            if self.endpoint.tolerance != "everything":
                raise SessionEnd(replies.EARLY_TALKER)
            self.oddities += (Oddity.EARLY,)
        await self.send_as(f"220 {self.endpoint.hostname} ESMTP Gatepost\r\n".encode(), answer)

    async def _converse(self) -> None:
        limit = self.endpoint.limits.command_line
        strict = self.endpoint.tolerance == "strict"
        self._restart_timer()
        while True:
            try:
                while (line := self.next_line(limit)) is None:
                    if self._stopping:
                        self._end_unless_in_transaction()
                    await self.more_input(self._command_deadline)
                if self.output_is_due():
                    await self.flush(self._command_deadline)
                    await asyncio.sleep(0)  # a long batch must not keep the other sessions waiting
                command, argument = _parse(line) if strict else self._parse_oddly(line)
                await command(self, argument)
                if self.oddities:
                    self._tell_oddities()
                self._restart_timer()
            except Refusal as refusal:
                self.oddities = ()
                if refusal.reply.code in _BOGUS:
                    self._count_error()
                else:
                    self._restart_timer()
                self.reply(refusal.reply)
            except SessionEnd:
                raise
            except Exception:
                log.exception("session %s: a command failed", self.session_id)
                self.oddities = ()
                await self._give_up_whatever_happens()
                self.reply(TEMPORARY_FAILURE)

    def _end_unless_in_transaction(self) -> None:
        if not self.in_transaction:
            raise SessionEnd(replies.SHUTTING_DOWN)

    def _restart_timer(self) -> None:
        self._command_deadline = self._loop.time() + self.endpoint.limits.command_time

    def _tell_oddities(self) -> None:
        for oddity in dict.fromkeys(self.oddities):
            self.tap("*", b"odd " + oddity.encode())
        self.oddities = ()

    def _parse_oddly(self, line: bytes) -> "tuple[Command, str]":
        """As `_parse`, with white space as it comes; where everything is taken, with any octets."""
        words = _BLANKS.split(line.strip(b" \t"), maxsplit=1)
        plain = b" ".join(words)
        if plain != line.rstrip(b" \t"):
            self.oddities += (Oddity.SPACES,)
        if self.endpoint.tolerance != "everything":
            return _parse(plain)
        rest = words[1] if len(words) > 1 else b""
        argument = visible_text(rest)
        if argument.encode() != rest:
            self.oddities += (Oddity.CHARACTERS,)
        return _parse(words[0])[0], argument

    def _count_error(self) -> None:
        """Instead of its own reply, one command too many of no use has 421 (section 4.2.4.2)."""
        self.errors += 1
        if self.errors >= self.endpoint.limits.bogus_commands:
            raise SessionEnd(replies.TOO_MANY_ERRORS)

    async def ehlo(self, argument: str) -> None:
        """EHLO (section 4.1.1.1)."""
        await self._hello(argument, extended=True)

    async def helo(self, argument: str) -> None:
        """HELO (section 4.1.1.1)."""
        await self._hello(argument, extended=False)

    async def _hello(self, argument: str, *, extended: bool) -> None:
        argument = argument.strip()
        if not argument:
            self._tolerate(Oddity.HELLO, replies.HELO_NEEDS_NAME)
        elif self.endpoint.tolerance != "strict" and not is_mailbox(f"x@{argument}"):
            self.oddities += (Oddity.HELLO,)
        await self.give_up()
        self.offered = frozenset()
        session = _greeted(self.smtp_session, argument, extended=extended)
        if self.smtp_session.helo or self.smtp_session.extended:
            self.smtp_session = _greeted(session, "", extended=False)
        answer = await self.reception.helo(session)
        if isinstance(answer, Reply):
            await self.answer(answer)
            return
        self.smtp_session = session
        extensions = tuple(self._extensions()) if extended else ()
        self.offered, octets = _reply_to_ehlo(self.endpoint.hostname, extensions)
        await self.send_as(octets, answer)

    def _extensions(self) -> list[str]:
        endpoint, session = self.endpoint, self.smtp_session
        kept = endpoint.gateway.extensions()
        extensions = [
            f"SIZE {endpoint.limits.message_size}",
            "PIPELINING",
            "CHUNKING",
            "8BITMIME",
            *[extension for extension in ("SMTPUTF8", "DSN") if extension in kept],
            "ENHANCEDSTATUSCODES",
        ]
        if endpoint.tls and session.tls is None:
            extensions.append("STARTTLS")
        if endpoint.users and (session.tls or endpoint.auth_without_tls) and session.authenticated is None:
            extensions.append(f"AUTH {MECHANISMS if endpoint.tolerance != 'everything' else ANY_MECHANISMS}")
        return extensions

    async def starttls(self, argument: str) -> None:
        """STARTTLS (RFC 3207): the session starts anew, protected."""
        if self.endpoint.tls is None:
            raise Refusal(replies.NOT_IMPLEMENTED)
        if argument:
            self._tolerate(Oddity.ARGUMENT, replies.NO_ARGUMENT_ALLOWED)
        if self.smtp_session.tls:
            raise Refusal(replies.NOT_OFFERED)
        if "STARTTLS" not in self.offered:
            self._tolerate(Oddity.ORDER, replies.NOT_OFFERED)
        await self.give_up()
        self.reply(replies.READY_FOR_TLS)
        await self.flush(self._command_deadline)
        self.drop_input()  # what came in before the handshake is not protected by it (section 5)
        version = await self.start_tls()
        self.offered = frozenset()
        self.smtp_session = replace(
            self.smtp_session, helo="", extended=False, tls=version, authenticated=None
        )

    async def auth(self, argument: str) -> None:
        """AUTH (RFC 4954)."""
        endpoint, session = self.endpoint, self.smtp_session
        if endpoint.users is None:
            raise Refusal(replies.NOT_IMPLEMENTED)
        if endpoint.tolerance == "everything":
            await self._take_anybody(argument)
            return
        if not session.extended:
            raise Refusal(replies.HELO_FIRST)
        if session.tls is None and not endpoint.auth_without_tls:
            raise Refusal(replies.AUTH_NEEDS_TLS)
        if session.authenticated is not None:
            raise Refusal(replies.ALREADY_AUTHENTICATED)
        if self.in_transaction:
            raise Refusal(replies.NOT_IN_TRANSACTION)
        if self._failed_auth >= endpoint.limits.auth_tries:
            raise SessionEnd(replies.TOO_MANY_TRIES)
        self._restart_timer()
        mechanism, _, initial = argument.partition(" ")
        user = await authenticate(endpoint.users, mechanism, initial, self._ask_secret)
        if user is None:
            self._failed_auth += 1
            log.info("session %s: AUTH failed for client %s", session.id, session.client)
            raise Refusal(replies.BAD_CREDENTIALS)
        self._authenticated(user)

    async def _take_anybody(self, argument: str) -> None:
        """Whoever it is, and whenever it is said."""
        session = self.smtp_session
        if not session.extended or session.authenticated is not None or self.in_transaction:
            self.oddities += (Oddity.ORDER,)
        self._restart_timer()
        mechanism, _, initial = argument.partition(" ")
        octets = initial.strip().encode() if initial else None
        user, is_right = await take_anybody(mechanism, octets, self._ask_secret)
        if not is_right:
            self.oddities += (Oddity.AUTH,)
        self._authenticated(user)

    def _authenticated(self, user: str) -> None:
        self.smtp_session = replace(self.smtp_session, authenticated=user)
        self.tap("*", b"authenticated " + user.encode("utf-8", "replace"))
        self.reply(replies.AUTHENTICATED)

    async def _ask_secret(self, challenge: bytes) -> bytes:
        self.send(challenge)
        return await self.read_line(MAX_RESPONSE, self._command_deadline, secret=True)

    async def noop(self, _argument: str) -> None:
        """NOOP (section 4.1.1.9); it may have an argument."""
        self.reply(replies.NOOP_OK)

    async def vrfy(self, argument: str) -> None:
        """VRFY (section 3.5.3): tells nothing about addresses."""
        if not argument:
            raise Refusal(replies.BAD_ARGUMENT)
        self.reply(replies.VERIFY_LATER)

    async def expn(self, _argument: str) -> None:
        """EXPN (section 3.5.2)."""
        self.reply(replies.NOT_IMPLEMENTED)

    async def help(self, _argument: str) -> None:
        """HELP (section 4.1.1.8)."""
        self.reply(replies.HELP)

    async def quit(self, argument: str) -> None:
        """QUIT (section 4.1.1.10)."""
        if argument:
            self._tolerate(Oddity.ARGUMENT, replies.NO_ARGUMENT_ALLOWED)
        self._tell_oddities()
        raise SessionEnd(replies.BYE)

    async def untrusted(self, _argument: str) -> None:
        """XCLIENT and XFORWARD of Postfix, by which a client would claim to be another."""
        self.reply(replies.NOT_TRUSTED)

    async def _give_up_whatever_happens(self) -> None:
        try:
            await self.give_up()
        except Exception:
            log.exception("session %s: reset failed", self.session_id)

    async def _finish(self) -> None:
        self.close()
        if self._connected:
            await self._give_up_whatever_happens()
            try:
                await self.reception.close()
            except Exception:
                log.exception("session %s: close failed", self.session_id)
        if self._client:
            self.endpoint.connections.leave_client(self._client)
            self.tap("*", b"closed")
        self.endpoint.connections.leave()
        self.endpoint.sessions.discard(self)


def _parse(line: bytes) -> "tuple[Command, str]":
    """A command and its argument (section 2.4); raises `Refusal`, and SessionEnd for another protocol."""
    verb, _, rest = line.rstrip(b" \t").partition(b" ")
    command = _COMMANDS.get(verb) or _COMMANDS.get(verb := verb.upper())
    if command is None:
        if verb in _ANOTHER_PROTOCOL:
            raise SessionEnd(replies.NOT_SMTP)
        raise Refusal(replies.UNKNOWN_COMMAND)
    try:
        argument = rest.decode()
    except UnicodeDecodeError:
        raise Refusal(replies.BAD_COMMAND_LINE) from None
    if rest and verb not in _TAKES_A_PATH and not argument.isprintable():
        raise Refusal(replies.BAD_COMMAND_LINE)
    return command, argument


def _greeted(session: Session, helo: str, *, extended: bool) -> Session:
    return Session(  # replace() takes ten times as long
        id=session.id,
        client=session.client,
        client_port=session.client_port,
        listener=session.listener,
        connected_at=session.connected_at,
        helo=helo,
        extended=extended,
        tls=session.tls,
        authenticated=session.authenticated,
    )


@lru_cache(maxsize=256)
def _reply_to_ehlo(hostname: str, extensions: tuple[str, ...]) -> tuple[frozenset[str], bytes]:
    """The keywords that are offered, and the reply that offers them."""
    *lines, last = hostname, *extensions
    octets = "".join((*(f"250-{line}\r\n" for line in lines), f"250 {last}\r\n")).encode()
    return frozenset(extension.partition(" ")[0] for extension in extensions), octets


@lru_cache(maxsize=4096)
def _address(text: str) -> IPAddress:
    address = ip_address(text)
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


Command = Callable[[SmtpSession, str], Awaitable[None]]

_COMMANDS: Final[dict[bytes, Command]] = {
    b"EHLO": SmtpSession.ehlo,
    b"HELO": SmtpSession.helo,
    b"MAIL": SmtpSession.mail,
    b"RCPT": SmtpSession.rcpt,
    b"DATA": SmtpSession.data,
    b"BDAT": SmtpSession.bdat,
    b"RSET": SmtpSession.rset,
    b"NOOP": SmtpSession.noop,
    b"VRFY": SmtpSession.vrfy,
    b"EXPN": SmtpSession.expn,
    b"HELP": SmtpSession.help,
    b"QUIT": SmtpSession.quit,
    b"STARTTLS": SmtpSession.starttls,
    b"AUTH": SmtpSession.auth,
    b"XCLIENT": SmtpSession.untrusted,
    b"XFORWARD": SmtpSession.untrusted,
}
