"""One upstream transaction: RCPT by RCPT while the client waits, DATA after the decision.

Before the final dot everything may be tried again; once it is on its way only upstream's whole,
well-formed reply counts, and without one the message is in doubt (RFC 1047).
"""

import asyncio
from collections.abc import Sequence
from enum import StrEnum

from gatepost.config.settings import Limits, UpstreamServer
from gatepost.mail import Envelope, Recipient
from gatepost.relay.body import END_OF_DATA, early_refusal, send_body, stuffed
from gatepost.relay.commands import NO_SMTPUTF8, mail_command, mail_obstacle, rcpt_command, rcpt_obstacle
from gatepost.relay.connection import (
    COMMAND_SECONDS,
    LOST,
    UNREACHABLE,
    Connection,
    UpstreamClosingError,
    UpstreamLostError,
)
from gatepost.relay.internationalised import has_internationalised_header
from gatepost.relay.pool import Pool
from gatepost.values import value
from gatepost.verdict import Reply

__all__ = ["Delivered", "Delivery", "DeliveryState"]

_DOT_SECONDS = 10.0
"""The dot is not sent with less time left than this, or a quarter of `Limits.upstream_time`: the message
would probably end in doubt."""
_ONE_WRITE_OCTETS = 64 << 10
"""A message up to this goes out in one write, with its dot."""

_CHANGED = Reply(code=451, enhanced="4.5.0", text="The destination has changed its mind, try again later")
_NO_8BIT = Reply(code=554, enhanced="5.6.3", text="The destination does not take 8-bit messages")
_RSET = b"RSET\r\n"


class DeliveryState(StrEnum):
    """How sending ended."""

    ACCEPTED = "accepted"
    """Upstream said 2xx after the dot."""
    REFUSED = "refused"
    """Upstream said 4xx or 5xx, or does not offer what the message needs."""
    UNSENT = "unsent"
    """Transport trouble before the dot: nothing was delivered."""
    IN_DOUBT = "in doubt"
    """No reply after the dot: it may have been delivered."""


@value
class Delivered:
    """What became of a message upstream."""

    state: DeliveryState
    reply: Reply
    """What the client is to be told."""
    server: str | None
    """``host:port`` of the server that was asked last."""
    upstream_reply: str
    """Its last reply, or what went wrong, on one line; for the journal."""


class Delivery:
    """One transaction with one of the servers; neither `rcpt` nor `send` raises for upstream's trouble."""

    def __init__(
        self,
        pool: Pool,
        limits: Limits,
        servers: tuple[UpstreamServer, ...],
        envelope: Envelope,
        given_up: dict[UpstreamServer, UpstreamLostError] | None = None,
    ) -> None:
        self.servers = servers
        self.given_up = given_up or {}
        """Servers that failed in this transaction, and why: no other recipient waits for them."""
        self._pool = pool
        self._limits = limits
        self._envelope = envelope
        self._server: UpstreamServer | None = None
        """The one that was asked last."""
        self._connection: Connection | None = None
        """Its, from the first answer on."""
        self._mail_reply: Reply | None = None
        """To the MAIL that is open on it; None before MAIL."""
        self._accepted: list[Recipient] = []
        """By upstream, in that transaction."""
        self.dot_was_sent = False
        """True from the first dot on: who breaks off after it leaves the message in doubt."""

    async def rcpt(self, recipient: Recipient) -> Reply:
        """Upstream's own answer to a recipient; transport trouble is 451."""
        if self._mail_reply and not self._mail_reply.positive:
            return self._mail_reply
        deadline = asyncio.get_running_loop().time() + self._limits.upstream_time
        try:
            (reply,) = await self._ask((recipient,), None, deadline)
        except UpstreamLostError as error:
            self._drop(str(error))
            return error.reply
        return reply

    async def send(
        self, recipients: tuple[Recipient, ...], pieces: Sequence[bytes], *, deadline: float
    ) -> Delivered:
        """Send a message to exactly these recipients; may be called again, with others.

        Args:
            recipients: some or all of those whom upstream has accepted.
            pieces: the message; each but the last ends with CRLF.
            deadline: on the event loop's clock: all is over by then, and the dot is sent only while
                there is time for its reply.
        """
        self.given_up = {}  # all of it has one deadline, and a server may be back by now
        size = sum(map(len, pieces))
        dot_by = deadline - min(_DOT_SECONDS, self._limits.upstream_time / 4)
        try:
            return await self._try_twice(recipients, pieces, size, dot_by, deadline)
        except asyncio.CancelledError:
            self._drop("broken off")
            raise

    async def abandon(self) -> None:
        """Give the transaction up; its connection is reset and used again. Does not wait for that."""
        connection, server, mail_reply = self._connection, self._server, self._mail_reply
        self._connection, self._mail_reply, self._accepted = None, None, []
        if connection is None or server is None or connection.is_lost:
            return
        if mail_reply is None or not mail_reply.positive:  # no transaction is open upstream
            self._pool.give_back(server, connection)
            return
        reset = connection.ask(_RSET, connection.now() + COMMAND_SECONDS)

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
        """RCPT for each, in the open transaction or in a new one with the first server that takes part."""
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
            if waiting := self._pool.waiting(server):
                try:
                    return await self._ask_on(waiting, recipients, size, deadline, anew=True)
                except UpstreamLostError as lost:
                    if loop.time() >= deadline:
                        if is_first:  # else others may have used up its time
                            self._give_up(server, lost)
                        raise
                    # It had died while it waited: no fault of the server.
            begun = loop.time()
            try:
                fresh = await self._pool.fresh(server, deadline)
                return await self._ask_on(fresh, recipients, size, deadline, anew=True)
            except UpstreamLostError as lost:
                now = loop.time()
                if now - begun >= min(self._limits.connect_time, self._limits.upstream_time) / 2:
                    self._give_up(server, lost)
                elif now < deadline:
                    self.given_up[server] = lost
                error, is_first = lost, False
        raise error or UpstreamLostError("no server", UNREACHABLE)

    def _give_up(self, server: UpstreamServer, why: UpstreamLostError) -> None:
        """The server had time to answer, and other transactions had better ask another one first."""
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
        """One answer for each recipient; the connection is this delivery's once upstream has answered."""
        begun = connection is self._connection and self._mail_reply is not None
        known_size = self._envelope.declared_size if size is None else size
        extensions = connection.extensions
        obstacle = mail_obstacle(extensions, self._envelope, known_size)
        refused = {r: why for r in recipients if (why := obstacle or rcpt_obstacle(extensions, r))}
        asked = [r for r in recipients if r not in refused] if refused else recipients
        if not asked:
            self._connection = connection
            return [refused[recipient] for recipient in recipients]
        before = []
        if anew or not begun:
            before = [mail_command(extensions, self._envelope, size)]
            if begun:
                before.insert(0, _RSET)
            self._mail_reply, self._accepted = None, []
        commands = [*before, *[rcpt_command(extensions, recipient) for recipient in asked]]
        replies = await _exchange(connection, commands, len(before), deadline)
        self._connection = connection
        if before:
            self._mail_reply = replies[len(before) - 1]
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

    # DATA

    async def _try_twice(
        self,
        recipients: tuple[Recipient, ...],
        pieces: Sequence[bytes],
        size: int,
        dot_by: float,
        deadline: float,
    ) -> Delivered:
        try:
            return await self._try(recipients, pieces, size, dot_by, deadline)
        except UpstreamLostError as error:
            if self._connection is None or asyncio.get_running_loop().time() >= dot_by:
                return self._unsent(error)
            self._drop(str(error))
        try:  # upstream had begun this transaction, so there is some use in beginning it once more
            return await self._try(recipients, pieces, size, dot_by, deadline)
        except UpstreamLostError as error:
            return self._unsent(error)

    async def _try(
        self,
        recipients: tuple[Recipient, ...],
        pieces: Sequence[bytes],
        size: int,
        dot_by: float,
        deadline: float,
    ) -> Delivered:
        """Send it once; raises UpstreamLostError as long as it may be tried again."""
        connection = self._connection
        if connection is None or connection.is_lost or self._accepted != list(recipients):
            replies = await self._ask(recipients, size, dot_by, anew=True)
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
            return await self._refused([_NO_8BIT])
        (reply,) = await connection.ask(b"DATA\r\n", min(dot_by, connection.now() + COMMAND_SECONDS))
        if reply.code != 354:
            if reply.code < 400:
                raise connection.abort(f"nonsense in reply to DATA: {reply}")
            return await self._refused([reply])
        return await self._send_message(connection, pieces, size, dot_by, deadline)

    async def _send_message(
        self, connection: Connection, pieces: Sequence[bytes], size: int, dot_by: float, deadline: float
    ) -> Delivered:
        parts = stuffed(pieces)
        if size > _ONE_WRITE_OCTETS:
            end = connection.ask(b"", dot_by)
            try:
                early = await send_body(connection, parts, end, dot_by)
                if early is None:
                    if connection.now() >= dot_by:
                        raise connection.abort("no time left for the reply to the dot")
                    connection.write(END_OF_DATA, deadline)
            except UpstreamClosingError as error:
                early = error.reply
            except UpstreamLostError:
                early = early_refusal(end)
                if early is None:
                    raise
            if early:
                self._drop(f"{early} in the midst of the message")
                return self._delivered(DeliveryState.REFUSED, early)
        else:
            if connection.now() >= dot_by:
                raise connection.abort("no time left for the reply to the dot")
            end = connection.ask(b"".join((*parts, END_OF_DATA)), deadline)
        self.dot_was_sent = True
        return await self._after_dot(connection, end)

    async def _after_dot(self, connection: Connection, end: asyncio.Future[list[Reply]]) -> Delivered:
        """From here on nothing may be sent again."""
        try:
            (reply,) = await end
            if 300 <= reply.code < 400:
                raise connection.abort(f"nonsense after the dot: {reply}")
        except UpstreamClosingError as error:
            self._drop(str(error))
            return self._delivered(DeliveryState.REFUSED, error.reply, str(error))
        except UpstreamLostError as error:
            self._drop(str(error))
            return self._delivered(DeliveryState.IN_DOUBT, LOST, f"no reply after the dot: {error}")
        self._connection, self._mail_reply, self._accepted = None, None, []
        if self._server:
            self._pool.give_back(self._server, connection)
        return self._delivered(DeliveryState.ACCEPTED if reply.positive else DeliveryState.REFUSED, reply)

    # Ends

    async def _refused(self, replies: list[Reply]) -> Delivered:
        """Refused before the dot, by upstream or because it cannot do what is needed.

        The recipients had been accepted before, so that one answer must do for all of them.
        """
        await self.abandon()
        refusal, *others = [reply for reply in replies if not reply.positive]
        if len(others) + 1 < len(replies) or any(other.code != refusal.code for other in others):
            return self._delivered(DeliveryState.UNSENT, _CHANGED, str(refusal))
        return self._delivered(DeliveryState.REFUSED, refusal)

    def _unsent(self, error: UpstreamLostError) -> Delivered:
        self._drop(str(error))
        return self._delivered(DeliveryState.UNSENT, error.reply, str(error))

    def _drop(self, why: str) -> None:
        if self._connection:
            self._connection.abort(why)
        self._connection, self._mail_reply, self._accepted = None, None, []

    def _delivered(self, state: DeliveryState, reply: Reply, upstream_reply: str | None = None) -> Delivered:
        return Delivered(
            state=state,
            reply=reply,
            server=str(self._server) if self._server else None,
            upstream_reply=str(reply) if upstream_reply is None else upstream_reply,
        )


async def _exchange(
    connection: Connection, commands: Sequence[bytes], before: int, deadline: float
) -> list[Reply]:
    """The reply to each command, in one write where upstream can; raises UpstreamLostError.

    Where the connection ends before all replies are there, a refusal among those that came is valid; in place
    of the replies that never came stands what the client is told of a connection that failed.

    Args:
        connection: to send them on.
        commands: the first ``before`` of them are RSET and MAIL: without PIPELINING nothing more is
            said after a refused MAIL, and the rest has its reply.
        before: how many.
        deadline: on the event loop's clock; never longer than the time for one step.
    """
    step_by = min(deadline, connection.now() + COMMAND_SECONDS)
    replies: list[Reply] = []
    lost: UpstreamLostError | None = None
    try:
        if "PIPELINING" in connection.extensions:
            replies = await connection.ask(b"".join(commands), step_by, len(commands))
        else:
            for number, command in enumerate(commands):
                if before and number == before and not replies[-1].positive:
                    return [*replies, *[replies[-1]] * (len(commands) - before)]
                replies += await connection.ask(command, step_by)
    except UpstreamLostError as error:
        lost = error
        replies += error.replies
    except asyncio.CancelledError:
        connection.abort("cancelled")
        raise
    for command, reply in zip(commands, replies, strict=lost is None):
        if reply.code >= 300 and (reply.code < 400 or command == _RSET):
            raise connection.abort(f"nonsense in reply to {command[:4].decode('ascii')}: {reply}")
    if lost is None:
        return replies
    if all(reply.positive for reply in replies):  # they promise nothing before the dot
        raise lost
    return [*replies, *[lost.reply] * (len(commands) - len(replies))]
