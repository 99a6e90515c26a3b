"""One upstream transaction: RCPT by RCPT while the client waits, DATA or BDAT after the decision.

Before the end of data is sent, everything may be tried again. After it only a complete, well-formed reply
from upstream counts; without one the message is in doubt (RFC 1047).
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from gatepost.config.limits import Limits
from gatepost.config.relay import UpstreamServer
from gatepost.model.mail import Envelope, Recipient, Session
from gatepost.model.replies import INCONSISTENT, LOST, NO_8BIT, NO_SMTPUTF8, UNREACHABLE
from gatepost.model.verdict import Reply
from gatepost.relay.body import early_refusal, send_body
from gatepost.relay.commands import mail_command, mail_obstacle, rcpt_command, rcpt_obstacle
from gatepost.relay.connection import (
    COMMAND_SECONDS,
    ClientRefusedError,
    Connection,
    UpstreamClosingError,
    UpstreamLostError,
)
from gatepost.relay.delivered import Delivered, DeliveryState
from gatepost.relay.exchange import RSET, exchange
from gatepost.relay.framing import Framed, in_chunks, in_lines
from gatepost.relay.internationalised import has_internationalised_header
from gatepost.relay.original_client import before_mail, client_of_connection
from gatepost.relay.pool import Pool

__all__ = ["Delivery"]

_END_SECONDS = 10.0
"""The end of data is sent only if at least this much time is left, or a quarter of `Limits.upstream_time` if
that is less: otherwise the message would probably end in doubt."""
_ONE_WRITE_OCTETS = 64 << 10
"""A message up to this size is sent in one write, together with its end."""
_AT_ONCE_SECONDS = 5.0
"""Upstream is not asked whether it takes the message, if that fits into one write and the last reply is not
older: a connection that was lost without notice is more probably an old one, and after the end of data the
message would be in doubt."""
_UNKNOWN_COMMAND = (500, 502)


class Delivery:
    """One transaction with one of the servers; upstream faults are returned as replies, not raised."""

    def __init__(
        self,
        pool: Pool,
        limits: Limits,
        servers: tuple[UpstreamServer, ...],
        envelope: Envelope,
        session: Session | None = None,
        transaction_id: str = "",
        given_up: dict[UpstreamServer, UpstreamLostError] | None = None,
    ) -> None:
        self.servers = servers
        self.given_up = given_up or {}
        """Servers that failed in this transaction, and why; they are not tried again for other recipients."""
        self._pool = pool
        self._limits = limits
        self._envelope = envelope
        self._session = session
        """The original client's, for servers that are told of it; None: the gateway itself sends the mail."""
        self._transaction_id = transaction_id
        self._server: UpstreamServer | None = None
        """The server that was asked last."""
        self._connection: Connection | None = None
        """The connection to it, after it has answered."""
        self._mail_reply: Reply | None = None
        """The reply to MAIL in the open upstream transaction; None before MAIL."""
        self._accepted: list[Recipient] = []
        """The recipients that upstream has accepted in that transaction."""
        self._sent_to: tuple[Recipient, ...] = ()
        """The recipients of the message that is being sent."""
        self._answered_at = 0.0
        """When upstream has last replied to MAIL and RCPT, on the event loop's clock."""
        self.failure = ""
        """Why the connection failed at the last `rcpt`, for the journal; empty if it did not."""
        self.end_of_data_sent = False
        """True after an end of data was sent; if the transaction is cancelled then, it is in doubt."""

    @property
    def server(self) -> str | None:
        """The server that was asked last, as ``host:port``."""
        return str(self._server) if self._server else None

    async def rcpt(self, recipient: Recipient) -> Reply:
        """Ask upstream about a recipient and return its reply; after a connection failure a 451 of ours."""
        if self._mail_reply and not self._mail_reply.positive:
            return self._mail_reply
        deadline = asyncio.get_running_loop().time() + self._limits.upstream_time
        self.failure = ""
        try:
            (reply,) = await self._ask((recipient,), None, deadline)
        except UpstreamLostError as error:
            self._drop(str(error))
            self.failure = str(error)
            return error.reply
        return reply

    async def send(
        self,
        recipients: tuple[Recipient, ...],
        pieces: Sequence[bytes],
        *,
        deadline: float,
        mail_from: str | None = None,
    ) -> Delivered:
        """Send a message to exactly these recipients; may be called again for others.

        Args:
            recipients: if they are not those that upstream has accepted, its transaction begins again.
            mail_from: the reverse-path; default: that of the envelope. Another one begins it again too.
            pieces: the message; each but the last ends with CRLF, and the first one is the gateway's own.
            deadline: on the event loop's clock; this returns by then, and the end of data is sent only if
                enough time is left for its reply.
        """
        self._sent_to = recipients
        if mail_from is not None and mail_from != self._envelope.mail_from:
            self._envelope = replace(self._envelope, mail_from=mail_from)
            self._accepted = []  # of a transaction that has another sender
        self.given_up = {}  # a failed server may be available again, and the deadline bounds all attempts
        size = sum(map(len, pieces))
        end_by = deadline - min(_END_SECONDS, self._limits.upstream_time / 4)
        try:
            return await self._try_twice(recipients, pieces, size, end_by, deadline)
        except asyncio.CancelledError:
            self._drop("cancelled")
            raise

    async def abandon(self) -> None:
        """End the transaction; sends RSET to reuse the connection, and does not wait for its reply."""
        connection, server, mail_reply = self._connection, self._server, self._mail_reply
        self._connection, self._mail_reply, self._accepted = None, None, []
        if connection is None or server is None or connection.is_lost:
            return
        if mail_reply is None or not mail_reply.positive:  # no transaction is open upstream
            self._pool.give_back(server, connection)
            return
        reset = connection.ask(RSET, connection.now() + COMMAND_SECONDS)

        def give_back(reset: asyncio.Future[list[Reply]]) -> None:
            if reset.cancelled() or reset.exception() or not reset.result()[0].positive:
                connection.abort("RSET failed")
            else:
                self._pool.give_back(server, connection)

        reset.add_done_callback(give_back)

    # MAIL and RCPT

    async def _ask(
        self, recipients: Sequence[Recipient], size: int | None, deadline: float, *, anew: bool = False
    ) -> list[Reply]:
        """Send RCPT for each, in the open transaction or in a new one with the first server that answers."""
        if self._connection and not self._connection.is_lost:
            return await self._ask_on(self._connection, recipients, size, deadline, anew=anew)
        self._connection, self._mail_reply, self._accepted = None, None, []
        error: UpstreamLostError | None = None
        is_first = True
        loop = asyncio.get_running_loop()
        for server in self._pool.in_order(self.servers):
            if self.given_up and (failed := self.given_up.get(server)):
                error = failed
                continue
            if not is_first and loop.time() >= deadline:
                break
            self._server = server
            client = client_of_connection(server, self._session)
            if waiting := self._pool.waiting(server, client):
                try:
                    return await self._ask_on(waiting, recipients, size, deadline, anew=True)
                except UpstreamLostError as lost:
                    if loop.time() >= deadline:
                        if is_first:  # otherwise earlier servers may have used up the time
                            self._give_up(server, lost)
                        raise
                    # The idle connection had been closed, which does not mean that the server is down.
            begun = loop.time()
            try:
                fresh = await self._pool.fresh(server, deadline, client)
                return await self._ask_on(fresh, recipients, size, deadline, anew=True)
            except ClientRefusedError:
                raise
            except UpstreamLostError as lost:
                now = loop.time()
                if now - begun >= min(self._limits.connect_time, self._limits.upstream_time) / 2:
                    self._give_up(server, lost)
                elif now < deadline:
                    self.given_up[server] = lost
                error, is_first = lost, False
        raise error or UpstreamLostError("no server", UNREACHABLE)

    def _give_up(self, server: UpstreamServer, why: UpstreamLostError) -> None:
        """Record that the server did not answer in time; other transactions then try it last."""
        self.given_up[server] = why
        self._pool.is_down(server, why)

    async def _ask_on(
        self,
        connection: Connection,
        recipients: Sequence[Recipient],
        size: int | None,
        deadline: float,
        *,
        anew: bool,
    ) -> list[Reply]:
        """Return a reply for each recipient; stores the connection after upstream has answered."""
        begun = connection is self._connection and self._mail_reply is not None
        known_size = self._envelope.declared_size if size is None else size
        extensions = connection.extensions
        obstacle = mail_obstacle(extensions, self._envelope, known_size)
        refused = {r: why for r in recipients if (why := obstacle or rcpt_obstacle(extensions, r))}
        asked = [r for r in recipients if r not in refused] if refused else recipients
        if not asked:
            self._connection = connection
            return [refused[recipient] for recipient in recipients]
        before: list[bytes] = []
        xforward: Sequence[bytes] = ()
        if anew or not begun:
            xforward = before_mail(self._server, extensions, self._session, self._transaction_id)
            before = [*xforward, mail_command(extensions, self._envelope, size)]
            if begun:
                before.insert(0, RSET)
            self._mail_reply, self._accepted = None, []
        commands = [*before, *[rcpt_command(extensions, recipient) for recipient in asked]]
        replies = await exchange(connection, commands, len(before), deadline)
        self._connection, self._answered_at = connection, connection.now()
        if before:
            self._mail_reply = replies[len(before) - 1]
            if xforward and self._server:
                self._pool.check_replies(
                    self._server, replies[len(before) - 1 - len(xforward) : len(before) - 1]
                )
            if not self._mail_reply.positive:
                return [self._mail_reply] * len(recipients)
        answers = replies[len(before) :]
        for recipient, answer in zip(asked, answers, strict=True):
            if answer.positive:
                self._accepted.append(recipient)
        if not refused:
            return answers
        remaining = iter(answers)
        return [refused.get(recipient) or next(remaining) for recipient in recipients]

    # DATA or BDAT

    async def _try_twice(
        self,
        recipients: tuple[Recipient, ...],
        pieces: Sequence[bytes],
        size: int,
        end_by: float,
        deadline: float,
    ) -> Delivered:
        try:
            return await self._try(recipients, pieces, size, end_by, deadline)
        except UpstreamLostError as error:
            if self._connection is None or asyncio.get_running_loop().time() >= end_by:
                return self._unsent(error)
            self._drop(str(error))
        try:  # upstream had accepted this transaction before, so a second attempt may succeed
            return await self._try(recipients, pieces, size, end_by, deadline)
        except UpstreamLostError as error:
            return self._unsent(error)

    async def _try(
        self,
        recipients: tuple[Recipient, ...],
        pieces: Sequence[bytes],
        size: int,
        end_by: float,
        deadline: float,
    ) -> Delivered:
        """Send it once; raises UpstreamLostError only while it may be tried again."""
        connection = self._connection
        if connection is None or connection.is_lost or self._accepted != list(recipients):
            replies = await self._ask(recipients, size, end_by, anew=True)
            if not all(reply.positive for reply in replies):
                return await self._refused(replies)
            connection = self._connection
            if connection is None:
                raise UpstreamLostError("no connection")
        extensions = connection.extensions
        if obstacle := mail_obstacle(extensions, self._envelope, size):
            return await self._refused([obstacle])
        asked_for = self._envelope.parameters and self._envelope.smtputf8
        if asked_for and "SMTPUTF8" not in extensions and has_internationalised_header(pieces):
            return await self._refused([NO_SMTPUTF8])
        if "8BITMIME" not in extensions and not all(map(bytes.isascii, pieces)):
            return await self._refused([NO_8BIT])
        framed = self._framed(connection, pieces, size)
        if framed.question and (refusal := await self._ask_to_take(connection, framed, end_by)):
            return await self._refused([refusal])
        return await self._send_message(connection, framed, size, end_by, deadline)

    def _framed(self, connection: Connection, pieces: Sequence[bytes], size: int) -> Framed:
        """In chunks if upstream takes them; at once if nothing speaks against it."""
        server = self._server
        if (
            "CHUNKING" not in connection.extensions
            or sum(map(bool, pieces)) < 2
            or (server and (not server.chunking or self._pool.fails_at_chunks(server)))
        ):
            return in_lines(pieces)
        at_once = (
            connection.takes_chunks
            and size <= _ONE_WRITE_OCTETS
            and connection.now() - self._answered_at <= _AT_ONCE_SECONDS
        )
        return in_chunks(pieces, at_once=at_once)

    async def _ask_to_take(self, connection: Connection, framed: Framed, end_by: float) -> Reply | None:
        """Ask upstream whether it takes the message; returns its refusal, None if it does.

        The first chunk on a connection shows whether upstream knows BDAT; if not, it may have read the chunk
        as commands, and DATA is tried on another connection.
        """
        verb = framed.question[:4].decode("ascii")
        is_trial = verb == "BDAT" and not connection.takes_chunks
        try:
            (reply,) = await connection.ask(framed.question, min(end_by, connection.now() + COMMAND_SECONDS))
            is_unknown = is_trial and reply.code in _UNKNOWN_COMMAND
            if is_unknown or (reply.code < 400 and reply.code != framed.go_on):
                raise connection.abort(f"unexpected reply to {verb}: {reply}")
        except UpstreamClosingError:
            raise
        except UpstreamLostError as error:
            if is_trial and self._server:
                self._pool.failed_at_chunks(self._server, error)
            raise
        if reply.code >= 400:
            return reply
        connection.takes_chunks = connection.takes_chunks or is_trial
        return None

    async def _send_message(
        self, connection: Connection, framed: Framed, size: int, end_by: float, deadline: float
    ) -> Delivered:
        if size > _ONE_WRITE_OCTETS:
            end = connection.ask(b"", end_by)
            try:
                early = await send_body(connection, framed.parts, end, end_by)
                if early is None:
                    if connection.now() >= end_by:
                        raise connection.abort("not enough time left for the reply to the end of data")
                    connection.write(framed.end, deadline)
            except UpstreamClosingError as error:
                early = error.reply
            except UpstreamLostError:
                early = early_refusal(end)
                if early is None:
                    raise
            if early:
                self._drop(f"replied before the end of the message: {early}")
                return self._delivered(DeliveryState.REFUSED, early)
        else:
            if connection.now() >= end_by:
                raise connection.abort("not enough time left for the reply to the end of data")
            end = connection.ask(b"".join((*framed.parts, framed.end)), deadline)
        self.end_of_data_sent = True
        return await self._after_end(connection, end)

    async def _after_end(self, connection: Connection, end: asyncio.Future[list[Reply]]) -> Delivered:
        """From here on nothing may be sent again."""
        try:
            (reply,) = await end
            if 300 <= reply.code < 400:
                raise connection.abort(f"unexpected reply after the end of data: {reply}")
        except UpstreamClosingError as error:
            self._drop(str(error))
            return self._delivered(DeliveryState.REFUSED, error.reply, str(error))
        except UpstreamLostError as error:
            self._drop(str(error))
            return self._delivered(DeliveryState.IN_DOUBT, LOST, f"no reply after the end of data: {error}")
        if not reply.positive and connection.takes_chunks:  # maybe no new transaction is allowed before RSET
            await self.abandon()
            return self._delivered(DeliveryState.REFUSED, reply)
        self._connection, self._mail_reply, self._accepted = None, None, []
        if self._server:
            self._pool.give_back(self._server, connection)
        return self._delivered(DeliveryState.ACCEPTED if reply.positive else DeliveryState.REFUSED, reply)

    # Ends

    async def _refused(self, replies: list[Reply]) -> Delivered:
        """The result if a message is refused before the end of data, by upstream or for a missing extension.

        The client was already told that the recipients are accepted, so one reply must fit all of them.
        """
        await self.abandon()
        refusal, *others = [reply for reply in replies if not reply.positive]
        if len(others) + 1 < len(replies) or any(other.code != refusal.code for other in others):
            return self._delivered(DeliveryState.UNSENT, INCONSISTENT, str(refusal))
        return self._delivered(DeliveryState.REFUSED, refusal)

    def _unsent(self, error: UpstreamLostError) -> Delivered:
        self._drop(str(error))
        state = DeliveryState.REFUSED if isinstance(error, ClientRefusedError) else DeliveryState.UNSENT
        return self._delivered(state, error.reply, str(error))

    def _drop(self, why: str) -> None:
        if self._connection:
            self._connection.abort(why)
        self._connection, self._mail_reply, self._accepted = None, None, []

    def _delivered(self, state: DeliveryState, reply: Reply, upstream_reply: str | None = None) -> Delivered:
        return Delivered(
            state=state,
            replies=(reply,) * len(self._sent_to),
            server=self.server,
            upstream_reply=str(reply) if upstream_reply is None else upstream_reply,
        )
