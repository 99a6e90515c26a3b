"""The filter ``chaos``: failures on purpose, for those who test what a client does about them.

A rule says at which stage it fails, how, and for which attempts. Nothing is left to chance: the same
settings fail the same attempts in every run. What the rule counts is forgotten when the rules are
reloaded, and each worker counts for itself.
"""

import re
from collections import OrderedDict
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Annotated, Literal

from gatepost import (
    Action,
    Envelope,
    Recipient,
    Reply,
    Sending,
    Session,
    Transaction,
    Verdict,
    hookimpl,
    mailbox_key,
)
from pydantic import AfterValidator, BeforeValidator, Field

__all__ = ["Chaos"]

_STAGES = ("connect", "helo", "mail", "rcpt", "message")
_TIME = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)\s*(ms|s|m)?", re.ASCII)
_UNIT_SECONDS = {None: 1.0, "ms": 0.001, "s": 1.0, "m": 60.0}
_LONGEST_SECONDS = 3600.0
_REMEMBERED = 50_000
"""Whose attempts are counted at once; past it those that were seen least recently begin anew."""
_DROPPED = Reply(code=421, enhanced="4.3.2", text="Connection dropped on purpose")


def _seconds(value: object) -> object:
    if isinstance(value, str) and (found := _TIME.fullmatch(value)):
        value = float(found[1]) * _UNIT_SECONDS[found[2]]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _LONGEST_SECONDS:
        raise ValueError(f"{value!r}: expected a time like 2s or 100ms, at most an hour")
    return float(value)


def _refusal(text: str) -> str:
    if Reply.parse(text).code < 400:
        raise ValueError(f"{text!r} refuses nothing: expected 4xx or 5xx like '450 4.2.0 Try again'")
    return text


_Seconds = Annotated[float, BeforeValidator(_seconds)]
_Count = Annotated[int, Field(ge=1)]


@dataclass(kw_only=True)
class Chaos:
    """Fails on purpose: refuses, answers late or slowly, or drops the connection; the same in every run."""

    at: Literal["connect", "helo", "mail", "rcpt", "message"]
    """Whose reply it is about."""
    reply: Annotated[str, AfterValidator(_refusal)] = ""
    """Refuse with that."""
    do: Literal["drop", "drop-before-reply"] | None = None
    """``drop``: do nothing more and close; ``drop-before-reply``: do what else is to be done, then close."""
    delay: _Seconds = 0.0
    """Before the reply's first octet, or before the connection is dropped."""
    drip: _Seconds = 0.0
    """Between one octet of the reply and the next."""
    first: _Count = 0
    """Only the first so many attempts of each sender and recipient; 0: all."""
    every: _Count = 1
    """Only every so many-th attempt, whoever makes it."""
    chance: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Only this part of the attempts."""
    seed: int = 0
    """Another one picks others by ``chance``."""

    _attempts: int = field(default=0, init=False)
    _attempts_of: OrderedDict[bytes, int] = field(default_factory=OrderedDict, init=False)
    _failure: Verdict = field(init=False)

    def __post_init__(self) -> None:
        if not (self.reply or self.do or self.delay or self.drip):
            raise ValueError("nothing to do: expected reply, do, delay or drip")
        if self.do and (self.reply or self.drip):
            raise ValueError(f"do: {self.do} sends no reply: expected neither reply nor drip with it")
        self._failure = self._verdict()
        for stage in _STAGES:
            if stage != self.at:
                setattr(self, f"filter_{stage}", None)

    def _verdict(self) -> Verdict:
        sending = Sending(delay_seconds=self.delay, drip_seconds=self.drip, drop=self.do is not None)
        slow = None if sending == Sending() else sending
        if self.do == "drop":
            return Verdict(reason="dropped", action=Action.DEFER, reply=_DROPPED, sending=slow)
        if not self.reply:
            return Verdict(reason=f"the reply: {sending}", action=Action.TAG, sending=slow)
        reply = Reply.parse(self.reply)
        action = Action.REJECT if reply.permanent else Action.DEFER
        return Verdict(reason=f"the reply: {reply.sent(slow)}", action=action, reply=reply, sending=slow)

    @hookimpl
    async def filter_connect(self, session: Session) -> Verdict | None:
        """An attempt of a client's address."""
        return self._attempt(str(session.client))

    @hookimpl
    async def filter_helo(self, session: Session) -> Verdict | None:
        """An attempt of a client's address and name."""
        return self._attempt(str(session.client), session.helo)

    @hookimpl
    async def filter_mail(self, envelope: Envelope) -> Verdict | None:
        """An attempt of a sender."""
        return self._attempt(mailbox_key(envelope.mail_from))

    @hookimpl
    async def filter_rcpt(self, envelope: Envelope, recipient: Recipient) -> Verdict | None:
        """An attempt of a sender to reach a recipient."""
        return self._attempt(mailbox_key(envelope.mail_from), mailbox_key(recipient.address))

    @hookimpl
    async def filter_message(self, transaction: Transaction) -> Verdict | None:
        """An attempt of a sender to reach all the recipients of one message."""
        envelope = transaction.envelope
        addresses = (envelope.mail_from, *(recipient.address for recipient in envelope.recipients))
        return self._attempt(*map(mailbox_key, addresses))

    def _attempt(self, *who: str) -> Verdict | None:
        """Counts it; a verdict where it is to fail."""
        self._attempts += 1
        whose = blake2b("\0".join(who).lower().encode(), digest_size=16).digest()
        attempt = self._attempts_of.pop(whose, 0) + 1
        self._attempts_of[whose] = attempt
        if len(self._attempts_of) > _REMEMBERED:
            self._attempts_of.popitem(last=False)
        fails = (
            (not self.first or attempt <= self.first)
            and self._attempts % self.every == 0
            and (self.chance == 1 or self._draw(whose, attempt) < self.chance)
        )
        return self._failure if fails else None

    def _draw(self, whose: bytes, attempt: int) -> float:
        """A number from 0 to 1, the same in every run: it depends on nothing but seed, who, and attempt."""
        octets = blake2b(whose + f"{attempt} {self.seed}".encode(), digest_size=8).digest()
        return int.from_bytes(octets) / (1 << 64)
