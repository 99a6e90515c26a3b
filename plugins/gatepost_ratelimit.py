"""The filter ``ratelimit``: so many messages, recipients or bytes in a time.

    - name: users
      filter: ratelimit
      with:
        by: user
        messages: [100/hour, 500/day]
        recipients: [1000/day]

Each window slides: there is room again as soon as what was counted first is older than the window. What is
refused does not count. All workers share the counts, and they outlive restarts.
"""

import ipaddress
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from gatepost import (
    Action,
    Amount,
    Envelope,
    Passed,
    Place,
    Recipient,
    Reply,
    Session,
    State,
    Transaction,
    Verdict,
    hookimpl,
    mailbox_key,
)
from gatepost_rates import Rate, rates
from pydantic import Field

__all__ = ["Ratelimit"]

_QUOTE = '"'


@dataclass(kw_only=True, eq=False)
class Ratelimit:
    """Defers what is more than so many messages, recipients or bytes in a time."""

    state: State
    place: Place
    by: Literal["client", "network", "sender", "domain", "recipient", "user"]
    """Whose messages are counted together; ``domain`` is that of the sender. Of a sender or recipient without
    what follows a ``+``."""
    messages: list[str] = field(default_factory=list)
    """For example ``100/hour`` and ``500/day``; counted at MAIL, by recipient at RCPT."""
    recipients: list[str] = field(default_factory=list)
    """Counted at RCPT."""
    bytes: list[str] = field(default_factory=list)
    """For example ``1GiB/day``; counted when the message is complete."""
    ipv4_prefix: Annotated[int, Field(ge=8, le=32)] = 24
    """The size of an IPv4 network."""
    ipv6_prefix: Annotated[int, Field(ge=16, le=128)] = 64
    """The size of an IPv6 network."""

    def __post_init__(self) -> None:
        if not (self.messages or self.recipients or self.bytes):
            raise ValueError("nothing is limited: expected messages, recipients or bytes")
        if self.bytes and self.by == "recipient":
            raise ValueError("bytes cannot be counted by recipient: a message has one reply for all of them")
        self._messages = rates("messages", self.messages)
        self._recipients = rates("recipients", self.recipients)
        self._bytes = rates("bytes", self.bytes)
        needed = {
            "filter_mail": self._messages and self.by != "recipient",
            "filter_rcpt": self._recipients or (self._messages and self.by == "recipient"),
            "filter_message": self._bytes,
        }
        for hook, is_needed in needed.items():
            if not is_needed:
                setattr(self, hook, None)

    @hookimpl
    async def filter_mail(self, session: Session, envelope: Envelope) -> Verdict | Passed | None:
        """Count a message."""
        return await self._count([("messages", 1, self._messages)], self._whose(session, envelope))

    @hookimpl
    async def filter_rcpt(
        self, session: Session, envelope: Envelope, recipient: Recipient
    ) -> Verdict | Passed | None:
        """Count a recipient; and a message, if they are counted by recipient."""
        counted = [("recipients", 1, self._recipients)]
        if self.by == "recipient":
            counted.append(("messages", 1, self._messages))
        return await self._count(counted, self._whose(session, envelope, recipient))

    @hookimpl
    async def filter_message(self, transaction: Transaction) -> Verdict | Passed | None:
        """Count the bytes of a message."""
        whose = self._whose(transaction.session, transaction.envelope)
        return await self._count([("bytes", len(transaction.message.content), self._bytes)], whose)

    def _whose(self, session: Session, envelope: Envelope, recipient: Recipient | None = None) -> str:
        """What the limit is for; empty: there is none, as for the domain of a bounce."""
        match self.by:
            case "client":
                return str(session.client)
            case "network":
                prefix = self.ipv4_prefix if session.client.version == 4 else self.ipv6_prefix
                return str(ipaddress.ip_network((session.client, prefix), strict=False))
            case "sender":
                return _without_detail(mailbox_key(envelope.mail_from))
            case "domain":
                return mailbox_key(envelope.mail_from).rpartition("@")[2]
            case "recipient":
                return _without_detail(mailbox_key(recipient.address)) if recipient else ""
            case "user":
                return session.authenticated or ""

    async def _count(
        self, counted: Sequence[tuple[str, int, Sequence[Rate]]], whose: str
    ) -> Verdict | Passed | None:
        """Count it in all windows; a verdict if one of them has no room, and then it counts in none."""
        windows = [(what, amount, rate) for what, amount, rates in counted for rate in rates]
        if not whose or not windows:
            return Passed(asked=False)
        found = await self.state.add(
            *(
                Amount(
                    key=f"{self.place.rule} {what} {whose}",
                    amount=amount,
                    seconds=rate.seconds,
                    limit=rate.limit,
                )
                for what, amount, rate in windows
            )
        )
        wait, what, rate = max(
            ((one.wait_seconds, what, rate) for one, (what, _, rate) in zip(found, windows, strict=True)),
            key=lambda one: one[0],
        )
        if not wait:
            return None
        self.place.count("limited")
        reason = f"{whose} has reached its limit: {what} {rate.text}"
        await self._tell(f"told {self.place.rule} {rate.text} {what} {whose}", reason, rate)
        if math.isinf(wait):
            text = f"Message is larger than the limit of {rate.text}"
            return Verdict(
                reason=reason, action=Action.REJECT, reply=Reply(code=552, enhanced="5.3.4", text=text)
            )
        text = f"Too many {what}, please try again in {math.ceil(wait)} seconds"
        return Verdict(reason=reason, action=Action.DEFER, reply=Reply(code=451, enhanced="4.7.1", text=text))

    async def _tell(self, key: str, reason: str, rate: Rate) -> None:
        """Log it once in the time of the window, however many are refused at once and in other workers."""
        (told,) = await self.state.add(Amount(key=key, amount=1, seconds=rate.seconds, limit=1))
        if not told.wait_seconds:
            self.place.logger.warning("rule %s: %s", self.place.rule, reason)


def _without_detail(address: str) -> str:
    """An address without what follows a ``+`` in its local part: it is the same mailbox (RFC 5233)."""
    local, at, domain = address.rpartition("@")
    return f"{local.strip(_QUOTE).partition('+')[0] or local}{at}{domain}"
