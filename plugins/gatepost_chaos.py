"""The filter ``chaos``: failures on purpose, to test how a client handles them.

A rule says at which stage it fails, how, and for which attempts. It is deterministic: the same
settings fail the same attempts in every run. The counts are reset when the rules are
reloaded, and each worker counts separately.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Annotated, Literal

from gatepost import (
    Action,
    Envelope,
    Recipient,
    Reply,
    ReplyTiming,
    Seconds,
    Session,
    Transaction,
    Verdict,
    hookimpl,
    mailbox_key,
)
from pydantic import AfterValidator, Field

__all__ = ["Chaos"]

_STAGES = ("connect", "helo", "mail", "rcpt", "message")
_LONGEST_SECONDS = 3600.0
_REMEMBERED = 50_000
"""Addresses whose attempts are counted; beyond it the least recent ones start again."""
_DROPPED = Reply(code=421, enhanced="4.3.2", text="Connection dropped on purpose")


def _at_most_an_hour(seconds: float) -> float:
    if seconds > _LONGEST_SECONDS:
        raise ValueError(f"{seconds:g} seconds, expected at most an hour")
    return seconds


def _refusal(text: str) -> str:
    if Reply.parse(text).code < 400:
        raise ValueError(f"{text!r} does not refuse: expected 4xx or 5xx like '450 4.2.0 Try again'")
    return text


_AtMostAnHour = Annotated[Seconds, AfterValidator(_at_most_an_hour)]
_Count = Annotated[int, Field(ge=1)]


@dataclass(kw_only=True)
class Chaos:
    """Fails on purpose: refuses, replies late or slowly, or drops the connection; the same in every run."""

    at: Literal["connect", "helo", "mail", "rcpt", "message"]
    """The stage whose reply is affected."""
    reply: Annotated[str, AfterValidator(_refusal)] = ""
    """Refuse with this reply."""
    do: Literal["drop", "drop-before-reply"] | None = None
    """``drop``: do nothing more and close; ``drop-before-reply``: process as usual, then close."""
    delay: _AtMostAnHour = 0.0
    """Time before the reply's first byte, or before the connection is dropped."""
    drip: _AtMostAnHour = 0.0
    """Time between one byte of the reply and the next."""
    first: _Count = 0
    """Only the first N attempts of each sender and recipient; 0: all."""
    every: _Count = 1
    """Only every Nth attempt of all."""
    chance: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Only this fraction of the attempts."""
    seed: int = 0
    """Another seed makes ``chance`` select other attempts."""

    _attempts: int = field(default=0, init=False)
    _attempts_of: OrderedDict[bytes, int] = field(default_factory=OrderedDict, init=False)
    _failure: Verdict = field(init=False)

    def __post_init__(self) -> None:
        if not (self.reply or self.do or self.delay or self.drip):
            raise ValueError("nothing to do: expected reply, do, delay or drip")
        if self.do and (self.reply or self.drip):
            raise ValueError(f"do: {self.do} sends no reply: expected no reply and no drip")
        self._failure = self._verdict()
        for stage in _STAGES:
            if stage != self.at:
                setattr(self, f"filter_{stage}", None)

    def _verdict(self) -> Verdict:
        timing = ReplyTiming(delay_seconds=self.delay, drip_seconds=self.drip, drop=self.do is not None)
        slow = None if timing == ReplyTiming() else timing
        if self.do == "drop":
            return Verdict(reason="dropped", action=Action.DEFER, reply=_DROPPED, timing=slow)
        if not self.reply:
            return Verdict(reason=f"the reply: {timing}", action=Action.TAG, timing=slow)
        reply = Reply.parse(self.reply)
        action = Action.REJECT if reply.permanent else Action.DEFER
        reason = f"the reply: {reply.with_timing(slow)}"
        return Verdict(reason=reason, action=action, reply=reply, timing=slow)

    @hookimpl
    async def filter_connect(self, session: Session) -> Verdict | None:
        """Count an attempt of a client's address."""
        return self._attempt(str(session.client))

    @hookimpl
    async def filter_helo(self, session: Session) -> Verdict | None:
        """Count an attempt of a client's address and name."""
        return self._attempt(str(session.client), session.helo)

    @hookimpl
    async def filter_mail(self, envelope: Envelope) -> Verdict | None:
        """Count an attempt of a sender."""
        return self._attempt(mailbox_key(envelope.mail_from))

    @hookimpl
    async def filter_rcpt(self, envelope: Envelope, recipient: Recipient) -> Verdict | None:
        """Count an attempt of a sender to reach a recipient."""
        return self._attempt(mailbox_key(envelope.mail_from), mailbox_key(recipient.address))

    @hookimpl
    async def filter_message(self, transaction: Transaction) -> Verdict | None:
        """Count an attempt of a sender to reach all recipients of one message."""
        envelope = transaction.envelope
        addresses = (envelope.mail_from, *(recipient.address for recipient in envelope.recipients))
        return self._attempt(*map(mailbox_key, addresses))

    def _attempt(self, *who: str) -> Verdict | None:
        """Count it; returns a verdict if it should fail."""
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
        """A number from 0 to 1, the same in every run: it depends only on seed, addresses and attempt."""
        octets = blake2b(whose + f"{attempt} {self.seed}".encode(), digest_size=8).digest()
        return int.from_bytes(octets) / (1 << 64)
