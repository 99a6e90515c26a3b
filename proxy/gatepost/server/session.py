"""One SMTP session: the greeting, the commands one after the other, the end (RFC 5321 section 3)."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from time import time_ns
from typing import TYPE_CHECKING, Final

from gatepost.model import replies
from gatepost.model.mail import Session
from gatepost.model.verdict import Reply, ReplyTiming
from gatepost.server.arrival import accept_client, warn_of_header
from gatepost.server.auth_command import run_auth
from gatepost.server.command_line import read_command, read_odd_command
from gatepost.server.ehlo import extensions, reply_to_ehlo
from gatepost.server.forwarder import Forwarder
from gatepost.server.paths import is_mailbox
from gatepost.server.replies import Refusal, SessionEnd
from gatepost.server.state import SessionState
from gatepost.server.transaction import MailTransactions
from gatepost.server.wire import Wire
from gatepost.traffic.events import Closed, Odd
from gatepost.traffic.oddity import Oddity

if TYPE_CHECKING:
    from gatepost.server.clients import IPAddress

__all__ = ["SmtpSession"]

log = logging.getLogger(__name__)

_INVALID: Final = frozenset((500, 501, 504, 555))
"""Codes of replies to invalid commands; too many of them end the session."""

_INVALID_AND_LAST: Final = (replies.NOT_SMTP, replies.BAD_CHUNK_SIZE)
"""Replies to invalid commands that end the session at once."""

_LONGEST_XFORWARD: Final = 8192
"""Bytes. Postfix passes on a HELO name of its whole command line, 2,048 bytes."""
_UNREAD: Final = (replies.COMMAND_TOO_LONG, replies.BAD_COMMAND_LINE)
"""Replies to lines of which not even the verb counts; they may have been an XFORWARD."""


class SmtpSession:
    """One session, from the accepted connection to its end; it owns a `Wire` and its `MailTransactions`."""

    __slots__ = (
        "_command_deadline",
        "_counted",
        "_endpoint",
        "_greeted",
        "_loop",
        "_mail",
        "_open_sessions",
        "_state",
        "_stopping",
        "task",
        "wire",
    )

    task: asyncio.Task[None]
    """Done when the session has ended and its last reply was passed to the transport."""
    _state: SessionState
    _mail: MailTransactions

    def __init__(self, wire: Wire, open_sessions: "set[SmtpSession]") -> None:
        self.wire = wire
        self._endpoint = wire.endpoint
        self._loop = asyncio.get_running_loop()
        self._open_sessions = open_sessions
        self._counted: IPAddress | None = None
        self._greeted = False  # once it is True, _state and _mail exist
        self._stopping = False
        self._command_deadline = 0.0

    @classmethod
    def begin(cls, wire: Wire, open_sessions: "set[SmtpSession]") -> None:
        """Begin a session on a new connection and add it to the set; replies 421 if there are too many."""
        endpoint, transport = wire.endpoint, wire.transport
        if transport is None:
            return
        peer = transport.get_extra_info("peername")
        if peer and endpoint.connections.enter():
            session = cls(wire, open_sessions)
            session.task = session._loop.create_task(session._handle_client(*peer[:2]))
            open_sessions.add(session)
            return
        if not endpoint.implicit_tls:
            wire.reply(replies.TOO_MANY_CONNECTIONS)
            wire.write_output()
        transport.close()

    def stop(self) -> None:
        """End the session as soon as no transaction is open."""
        self._stopping = True
        if not (self._greeted and self._mail.is_open):
            self.wire.interrupt(replies.SHUTTING_DOWN)

    async def _handle_client(self, source: str, port: int) -> None:
        try:
            session, self._counted = await accept_client(self.wire, source, port)
            await self._greet(session)
            await self._converse()
        except SessionEnd as end:
            if end.reply:
                self.wire.reply(end.reply)
        except asyncio.CancelledError:
            self.wire.reply(replies.SHUTTING_DOWN)  # the grace period of stop() is over
        except Exception:
            log.exception("session %s failed", self.wire.session_id)
            self.wire.reply(replies.SESSION_FAILED)
        await self._finish()

    async def _greet(self, session: Session) -> None:
        if self._endpoint.implicit_tls:
            session = replace(session, tls=await self.wire.start_tls())
        self._state = SessionState(session, self._endpoint.gateway.session_handler(self.wire.left))
        self._mail = MailTransactions(self.wire, self._state)
        self._greeted = True
        if self._endpoint.trusts(session.client):
            self._mail.forwarder = Forwarder(self.wire, self._state)
            answer: Reply | ReplyTiming | None = None
        else:
            answer = await self._state.handler.connect(session)
        if self.wire.has_input() and not isinstance(answer, Reply):  # section 4.3.1: it must wait
            self._note_early_talker()
            if not self._endpoint.accepts_early_talkers:
                await self._state.handler.refused_early(self._state.session, None, replies.EARLY_TALKER)
                raise SessionEnd(replies.EARLY_TALKER)
        await self._send_greeting(answer)
        if self.wire.has_input():  # during a greeting that is late or slow; the rest of it is not sent yet
            self._note_early_talker()

    def _note_early_talker(self) -> None:
        """Note that the client has not waited for the greeting; a trusted source is not the client."""
        warn_of_header(self.wire, self._state.session.client)
        if self._mail.forwarder is None:
            self._state.session = replace(self._state.session, early_talker=True)
        if self._endpoint.tolerance == "everything" and not self.wire.oddities:
            self.wire.oddities += (Oddity.EARLY,)

    async def _send_greeting(self, answer: Reply | ReplyTiming | None) -> None:
        """Reply to the connection as the gateway says; raises SessionEnd if it refuses the client."""
        if isinstance(answer, Reply):
            await self.wire.answer(answer)
            raise SessionEnd
        await self.wire.send_as(f"220 {self._endpoint.hostname} ESMTP Gatepost\r\n".encode(), answer)

    async def _converse(self) -> None:
        limit = self._endpoint.limits.command_line
        if self._mail.forwarder:  # a HELO name of a whole line, each byte of it in xtext
            limit = max(limit, _LONGEST_XFORWARD)
        strict = self._endpoint.tolerance == "strict"
        self._restart_timer()
        if not (self.wire.has_input() or self._stopping):
            await self.wire.more_input(self._command_deadline)
            warn_of_header(self.wire, self._state.session.client)
        while True:
            try:
                while (line := self.wire.next_line(limit)) is None:
                    if self._stopping:
                        self._end_unless_in_transaction()
                    await self.wire.more_input(self._command_deadline)
                if self.wire.output_is_due():
                    await self.wire.flush(self._command_deadline)
                    await asyncio.sleep(0)  # a long batch must not keep the other sessions waiting
                verb, argument = read_command(line) if strict else self._read_odd_command(line)
                if verb in _MAIL_COMMANDS:
                    await _MAIL_COMMANDS[verb](self._mail, argument)
                else:
                    await _COMMANDS[verb](self, argument)
                if self.wire.oddities:
                    self._tell_oddities()
                self._restart_timer()
            except Refusal as refusal:
                self.wire.oddities = ()
                if self._mail.forwarder and refusal.reply in _UNREAD:
                    self._mail.forwarder.lost_track()
                if refusal.reply.code in _INVALID:
                    self._count_error()
                else:
                    self._restart_timer()
                self.wire.reply(refusal.reply)
            except SessionEnd as end:
                if end.reply in _INVALID_AND_LAST:
                    self._state.handler.bad_command(self._state.session)
                raise
            except Exception:
                log.exception("session %s: a command failed", self.wire.session_id)
                self.wire.oddities = ()
                await self._give_up_whatever_happens()
                if self._mail.forwarder:
                    self._mail.forwarder.lost_track()
                self.wire.reply(replies.TEMPORARY_FAILURE)

    def _end_unless_in_transaction(self) -> None:
        if not self._mail.is_open:
            raise SessionEnd(replies.SHUTTING_DOWN)

    def _restart_timer(self) -> None:
        self._command_deadline = self._loop.time() + self._endpoint.limits.command_time

    def _tell_oddities(self) -> None:
        oddities, self.wire.oddities = self.wire.oddities, ()
        if self.wire.tap:
            for oddity in dict.fromkeys(oddities):
                self.wire.tap(Odd(at=time_ns() // 1000, session_id=self.wire.session_id, oddity=oddity))

    def _read_odd_command(self, line: bytes) -> tuple[bytes, str]:
        everything = self._endpoint.tolerance == "everything"
        verb, argument, oddities = read_odd_command(line, everything=everything)
        self.wire.oddities += oddities
        return verb, argument

    def _count_error(self) -> None:
        """Count an invalid command; ends the session with 421 at the limit (section 4.2.4.2)."""
        self._state.errors += 1
        self._state.handler.bad_command(self._state.session)
        if self._state.errors >= self._endpoint.limits.invalid_commands:
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
            self.wire.tolerate(Oddity.HELLO, replies.HELO_NEEDS_NAME)
        elif self._endpoint.tolerance != "strict" and not is_mailbox(f"x@{argument}"):
            self.wire.oddities += (Oddity.HELLO,)
        await self._mail.give_up()
        self._state.offered = frozenset()
        session = _with_helo(self._state.session, argument, extended=extended)
        if self._state.session.helo or self._state.session.extended:
            self._state.session = _with_helo(session, "", extended=False)
        if (forwarder := self._mail.forwarder) is not None:
            session, answer = await forwarder.helo(session)
        else:
            answer = await self._state.handler.helo(session)
        if isinstance(answer, Reply):
            await self.wire.answer(answer)
            return
        self._state.session = session
        more = forwarder.extensions if forwarder else ()
        offered = extensions(self._endpoint, session, more) if extended else ()
        self._state.offered, octets = reply_to_ehlo(self._endpoint.hostname, offered)
        await self.wire.send_as(octets, answer)

    async def starttls(self, argument: str) -> None:
        """STARTTLS (RFC 3207): after the handshake the session starts over, and EHLO is required again."""
        if self._endpoint.tls is None:
            raise Refusal(replies.NOT_IMPLEMENTED)
        if argument:
            self.wire.tolerate(Oddity.ARGUMENT, replies.NO_ARGUMENT_ALLOWED)
        if self._state.session.tls:
            raise Refusal(replies.NOT_OFFERED)
        if "STARTTLS" not in self._state.offered:
            self.wire.tolerate(Oddity.ORDER, replies.NOT_OFFERED)
        await self._mail.give_up()
        self.wire.reply(replies.READY_FOR_TLS)
        await self.wire.flush(self._command_deadline)
        self.wire.drop_input()  # input from before the handshake is not protected by TLS (RFC 3207 section 5)
        version = await self.wire.start_tls()
        self._state.offered = frozenset()
        self._state.session = replace(
            self._state.session, helo="", extended=False, tls=version, authenticated=None
        )

    async def auth(self, argument: str) -> None:
        """AUTH (RFC 4954)."""
        await run_auth(self.wire, self._state, argument, in_transaction=self._mail.is_open)

    async def noop(self, _argument: str) -> None:
        """NOOP (section 4.1.1.9); an argument is ignored."""
        self.wire.reply(replies.NOOP_OK)

    async def vrfy(self, argument: str) -> None:
        """VRFY (section 3.5.3): reveals nothing about addresses."""
        if not argument:
            raise Refusal(replies.BAD_ARGUMENT)
        self.wire.reply(replies.VERIFY_LATER)

    async def expn(self, _argument: str) -> None:
        """EXPN (section 3.5.2)."""
        self.wire.reply(replies.NOT_IMPLEMENTED)

    async def help(self, _argument: str) -> None:
        """HELP (section 4.1.1.8)."""
        self.wire.reply(replies.HELP)

    async def quit(self, argument: str) -> None:
        """QUIT (section 4.1.1.10)."""
        if argument:
            self.wire.tolerate(Oddity.ARGUMENT, replies.NO_ARGUMENT_ALLOWED)
        self._tell_oddities()
        raise SessionEnd(replies.BYE)

    async def xforward(self, argument: str) -> None:
        """XFORWARD, with which Postfix names the original client of the next transaction."""
        if self._mail.forwarder is None:
            raise Refusal(replies.NOT_TRUSTED)
        self._mail.forwarder.xforward(argument, in_transaction=self._mail.is_open)
        self.wire.reply(replies.OK)

    async def xclient(self, argument: str) -> None:
        """XCLIENT, with which a proxy names the original client; the session starts over for it."""
        if self._mail.forwarder is None:
            raise Refusal(replies.NOT_TRUSTED)
        answer = await self._mail.forwarder.xclient(argument, in_transaction=self._mail.is_open)
        await self._send_greeting(answer)

    async def _give_up_whatever_happens(self) -> None:
        try:
            await self._mail.give_up()
        except Exception:
            log.exception("session %s: reset failed", self.wire.session_id)

    async def _finish(self) -> None:
        self.wire.close()
        if self._greeted:
            await self._give_up_whatever_happens()
            try:
                await self._state.handler.close(self._state.session)
            except Exception:
                log.exception("session %s: close failed", self.wire.session_id)
            if self._mail.forwarder:
                self._mail.forwarder.close()
        if self._counted:
            self._endpoint.connections.leave_client(self._counted)
        if self.wire.tap:
            self.wire.tap(Closed(at=time_ns() // 1000, session_id=self.wire.session_id))
        self._endpoint.connections.leave()
        self._open_sessions.discard(self)


def _with_helo(session: Session, helo: str, *, extended: bool) -> Session:
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
        early_talker=session.early_talker,
    )


_MAIL_COMMANDS: Final[dict[bytes, Callable[[MailTransactions, str], Awaitable[None]]]] = {
    b"MAIL": MailTransactions.mail,
    b"RCPT": MailTransactions.rcpt,
    b"DATA": MailTransactions.data,
    b"BDAT": MailTransactions.bdat,
    b"RSET": MailTransactions.rset,
}
_COMMANDS: Final[dict[bytes, Callable[[SmtpSession, str], Awaitable[None]]]] = {
    b"EHLO": SmtpSession.ehlo,
    b"HELO": SmtpSession.helo,
    b"NOOP": SmtpSession.noop,
    b"VRFY": SmtpSession.vrfy,
    b"EXPN": SmtpSession.expn,
    b"HELP": SmtpSession.help,
    b"QUIT": SmtpSession.quit,
    b"STARTTLS": SmtpSession.starttls,
    b"AUTH": SmtpSession.auth,
    b"XCLIENT": SmtpSession.xclient,
    b"XFORWARD": SmtpSession.xforward,
}
