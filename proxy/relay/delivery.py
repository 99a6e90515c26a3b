"""One upstream transaction: RCPT by RCPT while the client waits, DATA after the decision.

Before the final dot everything may be tried again; once it is on its way only upstream's whole,
well-formed reply counts, and without one the message is in doubt (RFC 1047).
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from proxy.config.settings import Limits, UpstreamServer
from proxy.mail import Envelope, Recipient
from proxy.relay.commands import mail_command, rcpt_command, unfit
from proxy.relay.connection import Connection, UpstreamLostError
from proxy.relay.pool import Pool
from proxy.verdict import Reply

__all__ = ["Delivered", "Delivery", "DeliveryState"]

_STEP_SECONDS = 30.0
"""For the reply to MAIL, RCPT, RSET or DATA."""
_JOIN_OCTETS = 128 << 10
"""A message up to this goes out in one write, with its dot."""
_CHUNK_OCTETS = 1 << 20
_END = b".\r\n"

_UNREACHABLE = Reply(
    code=451, enhanced="4.4.1", text="The destination cannot be reached now, try again later"
)
_LOST = Reply(code=451, enhanced="4.4.2", text="The connection to the destination was lost, try again later")
_CHANGED = Reply(code=451, enhanced="4.5.0", text="The destination has changed its mind, try again later")
_NO_8BIT = Reply(code=554, enhanced="5.6.3", text="The destination does not take 8-bit messages")


class DeliveryState(StrEnum):
    """How sending ended."""

    ACCEPTED = "accepted"
    """Upstream said 2xx after the dot."""
    REFUSED = "refused"
    """Upstream said 4xx or 5xx."""
    UNSENT = "unsent"
    """Transport trouble before the dot: nothing was delivered."""
    IN_DOUBT = "in doubt"
    """No reply after the dot: it may have been delivered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """What became of a message upstream."""

    state: DeliveryState
    reply: Reply
    """What the client is to be told."""
    server: str | None
    """``host:port`` of the server that was asked last."""
    upstream_reply: str
    """Its last reply, or what went wrong; for the journal."""


class Delivery:
    """One transaction with one of the servers."""

    def __init__(
        self, pool: Pool, limits: Limits, servers: Sequence[UpstreamServer], envelope: Envelope
    ) -> None:
        self._pool = pool
        self._limits = limits
        self._servers = servers
        self._envelope = envelope
        self._server: UpstreamServer | None = None
        self._connection: Connection | None = None
        self._mail_refused: Reply | None = None
        self._open: list[Recipient] = []
        """Accepted in the transaction that is open upstream."""

    async def rcpt(self, recipient: Recipient) -> Reply:
        """Upstream's own answer to a recipient; transport trouble is 451."""
        if self._mail_refused:
            return self._mail_refused
        try:
            if self._connection is None or self._connection.is_lost:
                return (await self._begin((recipient,), None))[0]
            if reply := unfit(self._connection, self._envelope, recipient, self._envelope.declared_size):
                return reply
            return (await self._rcpt(self._connection, (recipient,)))[0]
        except UpstreamLostError:
            return _LOST if self._connection else _UNREACHABLE

    async def send(
        self, recipients: tuple[Recipient, ...], pieces: Sequence[bytes], *, deadline: float
    ) -> Delivered:
        """Send a message to exactly these recipients.

        Args:
            recipients: some or all of those whom upstream has accepted.
            pieces: the message; each piece ends with a line end, except perhaps the last.
            deadline: on the event loop's clock; the dot is not sent after it, and upstream's reply is
                waited for until then.
        """
        size = sum(map(len, pieces))
        for last_try in (False, True):
            try:
                refused = await self._ready(recipients, size, deadline)
                if refused:
                    await self.abandon()
                    return self._delivered(DeliveryState.REFUSED, refused)
                return await self._data(pieces, size, deadline)
            except UpstreamLostError as error:
                unreachable = self._connection is None
                self._forget(str(error))
                if last_try or unreachable or asyncio.get_running_loop().time() >= deadline:
                    reply = _UNREACHABLE if unreachable else _LOST
                    return self._delivered(DeliveryState.UNSENT, reply, str(error))
        raise AssertionError("unreachable")

    async def abandon(self) -> None:
        """Give the transaction up; the connection is reset and used again. Does not wait for that."""
        connection, server = self._connection, self._server
        self._connection, self._open, self._mail_refused = None, [], None
        if connection is None or server is None or connection.is_lost:
            return
        try:
            (reset,) = connection.write(b"RSET\r\n", 1)
        except UpstreamLostError:
            return
        timer = asyncio.get_running_loop().call_later(_STEP_SECONDS, connection.abort, "no reply to RSET")

        def return_it(reset: asyncio.Future[Reply]) -> None:
            timer.cancel()
            if reset.cancelled() or reset.exception() or not reset.result().positive:
                connection.abort("RSET failed")
            else:
                self._pool.give_back(server, connection)

        reset.add_done_callback(return_it)

    # MAIL and RCPT

    async def _begin(self, recipients: Sequence[Recipient], size: int | None) -> list[Reply]:
        """MAIL and RCPT on a waiting or a fresh connection of the first server that takes part."""
        error = UpstreamLostError("no server")
        for server in self._pool.in_order(self._servers):
            self._server, self._connection = server, None
            while connection := self._pool.waiting(server):
                try:
                    return await self._mail(connection, recipients, size)
                except UpstreamLostError:
                    continue  # it had been closed while it waited
            try:
                connection = await self._pool.fresh(server)
                return await self._mail(connection, recipients, size)
            except UpstreamLostError as lost:
                error = lost
        self._connection = None
        raise error

    async def _mail(
        self, connection: Connection, recipients: Sequence[Recipient], size: int | None
    ) -> list[Reply]:
        """A new transaction; the connection is this delivery's if upstream answers."""
        wanted = size or self._envelope.declared_size
        for recipient in recipients:
            if reply := unfit(connection, self._envelope, recipient, wanted):
                self._connection = connection
                self._mail_refused = reply
                return [reply] * len(recipients)
        reset = b"RSET\r\n" if connection is self._connection else b""
        before = reset + mail_command(connection, self._envelope)
        self._open = []
        replies = await self._exchange(connection, before, 2 if reset else 1, recipients)
        if reset and not replies.pop(0).positive:
            raise _lost(connection, "RSET was refused")
        mail, *answers = replies
        self._connection = connection
        if not mail.positive:
            self._mail_refused = mail
            return [mail] * len(recipients)
        self._open = [r for r, answer in zip(recipients, answers, strict=True) if answer.positive]
        return answers

    async def _rcpt(self, connection: Connection, recipients: Sequence[Recipient]) -> list[Reply]:
        answers = await self._exchange(connection, b"", 0, recipients)
        self._open += [r for r, answer in zip(recipients, answers, strict=True) if answer.positive]
        return answers

    async def _exchange(
        self, connection: Connection, before: bytes, count: int, recipients: Sequence[Recipient]
    ) -> list[Reply]:
        """Commands and their replies, in one write where upstream can; raises UpstreamLostError."""
        commands = [*before.splitlines(keepends=True), *map(rcpt_command, recipients)]
        groups = [commands] if "PIPELINING" in connection.extensions else [[command] for command in commands]
        replies: list[Reply] = []
        deadline = asyncio.get_running_loop().time() + _STEP_SECONDS
        for group in groups:
            for future in connection.write(b"".join(group), len(group)):
                reply = await connection.reply(future, deadline)
                if 300 <= reply.code < 400:
                    raise _lost(connection, f"nonsense: {reply}")
                if reply.code == 421:
                    connection.abort(str(reply))
                    raise UpstreamLostError(str(reply))
                replies.append(reply)
            if groups[0] is not commands and len(replies) == count and not replies[-1].positive:
                # without pipelining nothing is said after a refused MAIL
                return [*replies, *[replies[-1]] * len(recipients)]
        return replies

    # DATA

    async def _ready(self, recipients: tuple[Recipient, ...], size: int, deadline: float) -> Reply | None:
        """See to it that upstream's transaction has exactly these recipients; gives a refusal."""
        connection = self._connection
        if connection is None or connection.is_lost:
            self._connection = None
            replies = await self._begin(recipients, size)
        elif self._open != list(recipients):
            replies = await self._mail(connection, recipients, size)
        else:
            return unfit(connection, self._envelope, recipients[0], size)
        refused = [reply for reply in replies if not reply.positive]
        if not refused:
            return None
        return refused[0] if len(set(replies)) == 1 else _CHANGED

    async def _data(self, pieces: Sequence[bytes], size: int, deadline: float) -> Delivered:
        connection = self._connection
        if connection is None:
            raise UpstreamLostError("no connection")
        if "8BITMIME" not in connection.extensions and not all(map(bytes.isascii, pieces)):
            await self.abandon()
            return self._delivered(DeliveryState.REFUSED, _NO_8BIT)
        loop = asyncio.get_running_loop()
        (data,) = connection.write(b"DATA\r\n", 1)
        reply = await connection.reply(data, min(deadline, loop.time() + _STEP_SECONDS))
        if reply.code != 354:
            return await self._no_data(connection, reply)
        parts = list(_stuffed(pieces))
        (end,) = connection.write(b"", 1)
        if size <= _JOIN_OCTETS:
            parts = [b"".join((*parts, _END))]
        else:
            if early := await self._write_body(connection, parts, end, deadline):
                return early
            parts = [_END]
        if loop.time() >= deadline or end.done():
            raise _lost(
                connection, "no time left for the dot" if not end.done() else "a reply before the dot"
            )
        connection.write(parts[0], 0)
        return await self._after_dot(connection, end, deadline)

    async def _no_data(self, connection: Connection, reply: Reply) -> Delivered:
        if reply.positive or reply.code < 400:
            raise _lost(connection, f"nonsense: {reply}")
        if reply.code == 421:
            self._forget(str(reply))
        else:
            await self.abandon()
        return self._delivered(DeliveryState.REFUSED, reply)

    async def _write_body(
        self, connection: Connection, parts: Iterable[bytes], end: asyncio.Future[Reply], deadline: float
    ) -> Delivered | None:
        """All but the dot; gives the end if upstream refuses in the midst of it."""
        for part in parts:
            view = memoryview(part)
            for start in range(0, len(part), _CHUNK_OCTETS):
                if not connection.is_lost and not end.done():
                    connection.write(view[start : start + _CHUNK_OCTETS], 0)
                    await connection.drain(deadline)
                if end.done():
                    if end.exception() is None and end.result().code >= 400:
                        self._forget("refused in the midst of the message")
                        return self._delivered(DeliveryState.REFUSED, end.result())
                    raise _lost(connection, "a reply before the dot")
        return None

    async def _after_dot(
        self, connection: Connection, end: asyncio.Future[Reply], deadline: float
    ) -> Delivered:
        try:
            reply = await connection.reply(end, deadline)
            if reply.code < 400 and not reply.positive:
                raise _lost(connection, f"nonsense: {reply}")
        except UpstreamLostError as error:
            self._forget(str(error))
            return self._delivered(DeliveryState.IN_DOUBT, _LOST, f"no reply after the dot: {error}")
        self._connection, self._open = None, []
        if reply.code == 421:
            connection.abort(str(reply))
        elif self._server:
            self._pool.give_back(self._server, connection)
        state = DeliveryState.ACCEPTED if reply.positive else DeliveryState.REFUSED
        return self._delivered(state, reply)

    def _forget(self, why: str) -> None:
        if self._connection:
            self._connection.abort(why)
        self._connection, self._open, self._mail_refused = None, [], None

    def _delivered(self, state: DeliveryState, reply: Reply, upstream: str = "") -> Delivered:
        server = str(self._server) if self._server else None
        words = upstream or str(reply)
        if reply.code == 421:  # it closes, we do not
            reply = replace(reply, code=451)
        return Delivered(state=state, reply=reply, server=server, upstream_reply=words)


def _lost(connection: Connection, why: str) -> UpstreamLostError:
    connection.abort(why)
    return UpstreamLostError(why)


def _stuffed(pieces: Iterable[bytes]) -> Iterable[bytes]:
    """The pieces with transparency dots (RFC 5321 section 4.5.2) and a line end at their end."""
    piece = b"\r\n"
    for piece in pieces:
        dotted = piece.replace(b"\r\n.", b"\r\n..")  # the same object where there is none
        yield b"." + dotted if piece.startswith(b".") else dotted
    if not piece.endswith(b"\r\n"):
        yield b"\r\n"
