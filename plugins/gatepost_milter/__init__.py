"""The filter ``milter``: asks a milter, the kind of filter that Sendmail and Postfix have.

The milter is told of client, EHLO, sender and recipients when they come, and of the message as the rules
before it have edited it. It answers at any of these steps. What it changes becomes edits of the message.
"""

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Annotated, Literal, TypeVar

from gatepost import (
    Action,
    Envelope,
    EnvelopeEdit,
    Passed,
    PerRecipient,
    Place,
    Recipient,
    Reply,
    Resolver,
    Session,
    SessionRecord,
    Transaction,
    UnreachableError,
    Verdict,
    hookimpl,
)
from pydantic import Field

from gatepost_milter.changes import edits_of, quarantine_reason
from gatepost_milter.connection import Answer, checked_address
from gatepost_milter.conversation import Conversation
from gatepost_milter.conversations import Conversations
from gatepost_milter.macros import Macros
from gatepost_milter.packets import Steps

__all__ = ["Milter"]

T = TypeVar("T")
_FIELDS_BYTES = 1 << 20
"""Of the changes of a message besides its body, which is no longer than the largest message."""
_MACRO = re.compile(r"\w|\{[\w.-]+\}", re.ASCII)
"""A name as Sendmail writes it: longer ones have braces, or no milter finds them."""


@dataclass(kw_only=True)
class Milter:
    """What a milter answers, at each stage."""

    resolver: Resolver
    """The gateway's own."""
    place: Place
    """For the largest message."""
    address: str
    """Where the milter listens: ``unix:/path``, ``host:port`` or ``[IPv6]:port``."""
    hostname: str = ""
    """This server's name, the macro ``j``; default: that of the machine."""
    macros: dict[str, str] = field(default_factory=dict)
    """Values of macros, for example ``{"{daemon_name}": ORIGINATING}``."""
    early: bool = True
    """Ask at each stage; False: only when the message is complete."""
    names: bool = True
    """Look up the client's name in DNS; False: it is ``unknown``."""
    connections: Annotated[int, Field(ge=1, le=10_000)] = 100
    """How many there are at most, in each worker."""
    _talks: Conversations | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        checked_address(self.address)
        for name in self.macros:
            if not _MACRO.fullmatch(name):
                expected = f"expected '{{{name.strip('{}')}}}', or one letter"
                raise ValueError(f"macros: {name!r}, {expected}")
        if not self.early:
            for stage in ("connect", "helo", "mail", "rcpt"):
                setattr(self, f"filter_{stage}", None)

    @hookimpl
    async def filter_connect(self, session: Session) -> Verdict | None:
        """Tell the milter of the client."""

        async def told(talk: Conversation) -> Verdict | None:
            return _early(await self._connect(talk, session))

        return await self._ask(session, told)

    @hookimpl
    async def filter_helo(self, session: Session) -> Verdict | None:
        """Tell it of EHLO or HELO."""

        async def told(talk: Conversation) -> Verdict | None:
            return _early(await self._greet(talk, session))

        return await self._ask(session, told)

    @hookimpl
    async def filter_mail(self, session: Session, envelope: Envelope) -> Verdict | None:
        """Tell it of the sender."""

        async def told(talk: Conversation) -> Verdict | None:
            answer = await self._greet(talk, session)
            return _early(answer if _ends(answer) else await talk.mail(session, envelope, ""))

        return await self._ask(session, told)

    @hookimpl
    async def filter_rcpt(self, session: Session, envelope: Envelope, recipient: Recipient) -> Verdict | None:
        """Tell it of a recipient."""

        async def told(talk: Conversation) -> Verdict | None:
            answer = await self._greet(talk, session)
            return _early(answer if _ends(answer) else await talk.rcpt(session, envelope, recipient, ""))

        return await self._ask(session, told)

    @hookimpl
    async def filter_message(
        self, transaction: Transaction, recipients: tuple[Recipient, ...], content: bytes
    ) -> Verdict | PerRecipient | Passed | None:
        """Tell it of the message, and of what it does not know yet of the rest."""
        session = transaction.session

        async def told(talk: Conversation) -> Verdict | PerRecipient | Passed | None:
            answer = await self._greet(talk, session)
            if _ends(answer):
                return _early(answer) or Passed(reason="accepted before the message")
            answer, refused = await talk.envelope(transaction, recipients)
            if _ends(answer) or len(refused) == len({one.address for one in recipients}):
                if refused and not _ends(answer):
                    return PerRecipient(verdicts={address: _early(one) for address, one in refused.items()})
                return _early(answer) or Passed(reason="accepted before the message")
            spaces = Steps.LEADING_SPACE in talk.connection.negotiated.steps
            most = self.place.message_size + _FIELDS_BYTES
            verdict = _final(await talk.content(transaction.id, content, most), leading_space=spaces)
            if not refused:
                return verdict or Passed(reason="accepted")
            verdicts = {one.address: verdict for one in recipients}
            return PerRecipient(verdicts=verdicts | {at: _early(one) for at, one in refused.items()})

        return await self._ask(session, told)

    @hookimpl
    async def report_session(self, record: SessionRecord) -> None:
        """Close its connection."""
        if self._talks:
            self._talks.end(record.id)

    async def close(self) -> None:
        """Close all connections."""
        if self._talks:
            self._talks.close()

    def _error(self, what: str) -> ConnectionError:
        return ConnectionError(f"milter at {self.address}: {what}")

    async def _connect(self, talk: Conversation, session: Session) -> Answer:
        return await talk.connect(session, await self._name(talk, session))

    async def _greet(self, talk: Conversation, session: Session) -> Answer:
        """Tell of the client and of EHLO, as far as the milter does not know them."""
        answer = await self._connect(talk, session)
        return answer if _ends(answer) else await talk.helo(session)

    async def _name(self, talk: Conversation, session: Session) -> str:
        """The client's name that leads back to its address (RFC 1912 section 2.1), as Postfix has it."""
        client = session.client
        if client.is_loopback:
            return "localhost"
        if not self.names or Steps.NO_CONNECT in talk.connection.negotiated.steps:
            return "unknown"
        for name in (await self.resolver.look_up(client.reverse_pointer, "PTR")).records[:3]:
            kind: Literal["A", "AAAA"] = "A" if client.version == 4 else "AAAA"
            found = await self.resolver.look_up(name, kind)
            if client in map(ip_address, found.records):
                return str(name).rstrip(".")
        return "unknown"

    async def _ask(self, session: Session, told: Callable[[Conversation], Awaitable[T]]) -> T:
        """Tell the milter and return its answer; a connection that it has closed meanwhile is replaced."""
        if self._talks is None:
            values = Macros(hostname=self.hostname or socket.gethostname(), fixed=self.macros)
            self._talks = Conversations(self.address, values, self.connections)
        is_new = True
        try:
            try:
                async with self._talks.of(session.id) as (talk, is_new):
                    return await told(talk)
            except OSError:
                if is_new:
                    raise
            async with self._talks.of(session.id, fresh=True) as (talk, _):
                return await told(talk)
        except UnreachableError:
            raise
        except OSError as error:
            raise self._error(str(error)) from error
        except ValueError as error:
            raise self._error(f"sent what cannot be done: {error}") from error
        except asyncio.CancelledError:
            raise self._error("connected, no answer") from None  # the rule's time is over: the log shows it


def _ends(answer: Answer) -> bool:
    return answer.letter != b"c"


def _early(answer: Answer) -> Verdict | None:
    """The verdict before the message: an acceptance needs none, since nothing more is asked."""
    if answer.reply:
        return _refusal(answer.reply)
    if answer.letter == b"d":
        return Verdict(reason="discards", action=Action.DISCARD)
    return None


def _final(answer: Answer, *, leading_space: bool) -> Verdict | None:
    """The verdict about the message."""
    early = _early(answer)
    if early or not answer.changes:
        return early
    edits = edits_of(answer.changes, leading_space=leading_space)
    why = quarantine_reason(answer.changes)
    if why is not None:
        return Verdict(reason=f"quarantines: {why}", action=Action.QUARANTINE, edits=edits)
    of_message = [str(edit) for edit in edits if not isinstance(edit, EnvelopeEdit)]  # the journal has all
    reason = f"changes: {', '.join(of_message)}" if of_message else "changes the envelope"
    return Verdict(reason=reason, action=Action.TAG, edits=edits)


def _refusal(reply: Reply) -> Verdict:
    action = Action.REJECT if reply.permanent else Action.DEFER
    return Verdict(reason=f"refuses: {reply}", action=action, reply=reply)
