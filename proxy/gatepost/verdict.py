"""The answers: what a filter says, what becomes of a recipient, what the client is told."""

import re
from collections.abc import Iterable
from dataclasses import field, replace
from enum import StrEnum
from math import isfinite
from typing import Final, Self

from gatepost.edits import Edit
from gatepost.mail import Recipient, Stage
from gatepost.values import value

__all__ = [
    "TEMPORARY_FAILURE",
    "Action",
    "Decision",
    "Evaluation",
    "Match",
    "Outcome",
    "Reply",
    "Result",
    "Sending",
    "Verdict",
]

_ENHANCED = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?= |$)", re.ASCII)
_REPLY = re.compile(r"([2-5]\d\d)(?: ((?:[245])\.\d{1,3}\.\d{1,3})(?= |$))?(?: (.*))?", re.ASCII | re.DOTALL)
_UNPRINTABLE = re.compile(r"[^\t -~\u00a0-\U0010ffff]|[\u2028\u2029\ud800-\udfff]")
_LINE_LIMIT = 400
"""Octets of text in one reply line; RFC 5321 section 4.5.3.1.5 allows 512 with code and CRLF."""


class Action(StrEnum):
    """What is done with a message for a recipient."""

    ACCEPT = "accept"
    REJECT = "reject"
    """Refused for good, 5xx: the sender's server tells the sender."""
    DEFER = "defer"
    """Refused for now, 4xx: the sender's server tries again."""
    DISCARD = "discard"
    """Answered 250 and dropped; the journal says so."""
    QUARANTINE = "quarantine"
    """Answered 250 and kept in the store until somebody releases or deletes it."""
    TAG = "tag"
    """Edited on its way out; not final, later rules are still asked."""

    @property
    def refuses(self) -> bool:
        """True where the client is told no."""
        return self is Action.REJECT or self is Action.DEFER


@value
class Sending:
    """How a reply is sent where that is not at once and whole; what is done about the mail stays the same."""

    delay_seconds: float = 0.0
    """Before its first octet."""
    drip_seconds: float = 0.0
    """Between one octet and the next."""
    drop: bool = False
    """It is not sent at all: after the delay the connection is closed."""

    def __post_init__(self) -> None:
        for seconds in (self.delay_seconds, self.drip_seconds):
            if not (isfinite(seconds) and seconds >= 0):
                raise ValueError(f"{seconds} seconds: expected a number that is not negative")

    @classmethod
    def joined(cls, sendings: Iterable["Sending | None"]) -> "Sending | None":
        """All of them at once: the longest times, and dropped if one says so; None where there is none."""
        found = [sending for sending in sendings if sending is not None]
        if len(found) < 2:
            return found[0] if found else None
        return cls(
            delay_seconds=max(sending.delay_seconds for sending in found),
            drip_seconds=max(sending.drip_seconds for sending in found),
            drop=any(sending.drop for sending in found),
        )

    def __str__(self) -> str:
        """For logs and the journal, for example ``after 2 s, an octet each 0.1 s``."""
        words = [f"after {self.delay_seconds:g} s"] if self.delay_seconds else []
        if self.drop:
            words.append("not sent, connection dropped")
        elif self.drip_seconds:
            words.append(f"an octet each {self.drip_seconds:g} s")
        return ", ".join(words) or "at once"


@value
class Reply:
    """One SMTP reply (RFC 5321 section 4.2), safe to send: it cannot hold a control character."""

    code: int
    """200 to 599."""
    text: str
    """Lines are divided by ``\\n``; control characters and lone surrogates become ``?``."""
    enhanced: str | None = None
    """The enhanced status code (RFC 3463), for example ``5.7.1``; its class is that of the code."""
    sending: Sending | None = None
    """None: at once and whole."""
    positive: bool = field(init=False, repr=False, compare=False)
    """True for 2xx."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "positive", self.code < 300)  # a property would take ten times as long
        if not 200 <= self.code <= 599:
            raise ValueError(f"reply code {self.code}: expected 200 to 599")
        if self.enhanced is not None:
            if not _ENHANCED.fullmatch(self.enhanced):
                raise ValueError(f"enhanced status code {self.enhanced!r}: expected like 5.7.1")
            if self.code // 100 != 3 and self.enhanced[0] != str(self.code)[0]:
                raise ValueError(f"enhanced status code {self.enhanced} does not fit reply code {self.code}")
        if _UNPRINTABLE.search(self.text):
            lines = (_UNPRINTABLE.sub("?", line) for line in self.text.replace("\r\n", "\n").split("\n"))
            object.__setattr__(self, "text", "\n".join(lines))

    @classmethod
    def parse(cls, text: str) -> Self:
        """A reply from text like ``550 5.7.1 Not accepted here``; raises ValueError."""
        found = _REPLY.fullmatch(text)
        if not found:
            raise ValueError(f"{text!r} is no reply: expected like '550 5.7.1 Not accepted here'")
        code, enhanced, rest = found.groups()
        return cls(code=int(code), enhanced=enhanced, text=rest or "")

    def sent(self, sending: Sending | None) -> Self:
        """The same reply, sent in that way."""
        return self if sending is None else replace(self, sending=sending)

    @property
    def permanent(self) -> bool:
        """True for 5xx."""
        return self.code >= 500

    def __str__(self) -> str:
        """On one line, for logs and the journal; how it is sent stands behind it, where it says that."""
        enhanced = f" {self.enhanced}" if self.enhanced else ""
        line = f"{self.code}{enhanced} {self.text}".replace("\n", " / ").rstrip()
        return f"{line} ({self.sending})" if self.sending else line

    def to_bytes(self, *, utf8: bool = False) -> bytes:
        """The octets for the wire with CRLF; each line carries code and enhanced code.

        Without ``utf8`` (the client did not ask for SMTPUTF8, RFC 6531 section 3.5) other than
        ASCII becomes ``?``.
        """
        prefix = f"{self.enhanced} " if self.enhanced else ""
        lines = [
            f"{prefix}{line[start : start + _LINE_LIMIT]}".rstrip()
            for line in self.text.split("\n")
            for start in range(0, max(len(line), 1), _LINE_LIMIT)
        ]
        last = len(lines) - 1
        wire = "".join(
            f"{self.code}{' ' if number == last else '-'}{line}\r\n" for number, line in enumerate(lines)
        )
        return wire.encode("utf-8") if utf8 else wire.encode("ascii", "replace")


TEMPORARY_FAILURE: Final = Reply(code=451, enhanced="4.3.0", text="Temporary failure, try again later")
"""What the client is told of any trouble of ours."""


@value
class Match:
    """One place that made a filter say yes; shown to the operator, never to the client."""

    where: str
    """For example ``subject``, ``header X-Mailer``, ``text/html``, ``attachment invoice.zip``."""
    text: str
    """The matched characters, shortened by the filter to what is worth showing."""


@value
class Verdict:
    """What a filter reports: *yes, this is what I look for*, and why. No opinion is None."""

    reason: str
    """One line for the operator; the client never sees it unless the rule's reply asks for it."""
    action: Action | None = None
    """A suggestion, used where the rule names no action."""
    reply: Reply | None = None
    """A suggestion, used where the rule names no reply."""
    edits: tuple[Edit, ...] = ()
    """Changes for the action ``tag`` or ``accept``."""
    sending: Sending | None = None
    """How the reply is sent to what the filter was asked about, whatever it will be; None: as usual."""
    matches: tuple[Match, ...] = ()


class Result(StrEnum):
    """How asking a rule ended."""

    HIT = "hit"
    PASS = "pass"  # noqa: S105 - no password
    ERROR = "error"
    """The filter raised, exited or returned something else than a Verdict."""
    TIMEOUT = "timeout"


@value
class Evaluation:
    """One rule asked once: for the journal and for ``explain``."""

    rule: str
    stage: Stage
    result: Result
    action: Action | None
    """What the hit or the failure led to; None for a pass."""
    observed: bool
    """True where the rule only observes: nothing was done."""
    reason: str
    recipients: tuple[str, ...]
    """The addresses that it holds for; empty: all of the session's or transaction's."""
    seconds: float
    matches: tuple[Match, ...] = ()


@value
class Outcome:
    """What becomes of the message for one recipient, and which rule said so."""

    action: Action
    """Never ``tag``: a tagged message is accepted with edits."""
    rule: str | None = None
    """None: no rule had the last word; it is accepted by default."""
    reason: str = ""
    reply: Reply | None = None
    """Set where the action refuses, else None."""
    edits: tuple[Edit, ...] = ()
    sending: Sending | None = None
    """How the reply is sent, whoever gives it."""


@value
class Decision:
    """What the rules say of one transaction: one outcome for each recipient, in their order."""

    outcomes: tuple[Outcome, ...]
    evaluations: tuple[Evaluation, ...] = ()

    def recipients(self, recipients: tuple[Recipient, ...], *actions: Action) -> tuple[Recipient, ...]:
        """Those whose outcome is one of the actions, in order."""
        return tuple(r for r, o in zip(recipients, self.outcomes, strict=True) if o.action in actions)
