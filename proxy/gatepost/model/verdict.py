"""Verdicts of filters, outcomes for recipients, and replies to the client."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import field, replace
from enum import StrEnum
from typing import Literal, Self

from gatepost.model.checks import (
    check_number,
    check_seconds,
    check_type,
    one_line,
    plain,
    raise_type,
    storable_text,
)
from gatepost.model.edits import EDITS, Edit
from gatepost.model.envelope_edits import ENVELOPE_EDITS, EnvelopeChanges, EnvelopeEdit
from gatepost.model.mail import Stage
from gatepost.printable import without_controls
from gatepost.values import value

__all__ = [
    "ACTIONS_ON_ERROR",
    "Action",
    "Decision",
    "Evaluation",
    "Hold",
    "Match",
    "OnError",
    "Outcome",
    "Passed",
    "PerRecipient",
    "Reply",
    "ReplyTiming",
    "Result",
    "Verdict",
    "check_again",
    "total_score",
]

_ENHANCED = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?= |$)", re.ASCII)
_REPLY = re.compile(r"([2-5]\d\d)(?: ((?:[245])\.\d{1,3}\.\d{1,3})(?= |$))?(?: (.*))?", re.ASCII | re.DOTALL)
_LINE_LIMIT = 400
"""Octets of text in one reply line; RFC 5321 section 4.5.3.1.5 allows 512 with code and CRLF."""
_REASON_LIMIT = 1000
_WHERE_LIMIT = 500
_MATCH_LIMIT = 2000
_REPLY_LIMIT = 4096
_MATCHES_LIMIT = 1000
_SCORE_LIMIT = 1000.0
_EDITS = (*EDITS, *ENVELOPE_EDITS)


class Action(StrEnum):
    """What is done with a message for a recipient."""

    ACCEPT = "accept"
    """Delivered as its route says, with the edits; no later rule is asked about that recipient."""
    REJECT = "reject"
    """Refused permanently, 5xx: the sender's server informs the sender."""
    DEFER = "defer"
    """Refused for now, 4xx: the sender's server tries again."""
    DISCARD = "discard"
    """Answered 250 and dropped; the journal says so."""
    QUARANTINE = "quarantine"
    """Answered 250 and kept in the store until somebody releases or deletes it."""
    TAG = "tag"
    """Edited on its way out; not final, later rules are still asked."""
    SCORE = "score"
    """Counted for ``when: {score: ...}`` of later rules; not final."""
    HOLD = "hold"
    """The session stops until somebody answers for it; not final, later rules are still asked.

    Only the settings have it: a filter cannot suggest it.
    """

    @property
    def refuses(self) -> bool:
        """True if the client gets 4xx or 5xx."""
        return self is Action.REJECT or self is Action.DEFER


@value
class ReplyTiming:
    """How a reply is sent if not at once and whole; it does not change what is done with the mail."""

    delay_seconds: float = 0.0
    """Time before its first byte; at most a day."""
    drip_seconds: float = 0.0
    """Time between one byte and the next; at most a day."""
    drop: bool = False
    """It is not sent at all: after the delay the connection is closed."""

    def __post_init__(self) -> None:
        check_seconds("ReplyTiming.delay_seconds", self.delay_seconds)
        check_seconds("ReplyTiming.drip_seconds", self.drip_seconds)
        check_type("ReplyTiming.drop", self.drop, bool, "True or False")

    @classmethod
    def joined(cls, timings: Iterable["ReplyTiming | None"]) -> "ReplyTiming | None":
        """Combine timings: the longest times, and dropped if any of them drops; None if there is none."""
        found = [timing for timing in timings if timing is not None]
        if len(found) < 2:
            return found[0] if found else None
        return cls(
            delay_seconds=max(timing.delay_seconds for timing in found),
            drip_seconds=max(timing.drip_seconds for timing in found),
            drop=any(timing.drop for timing in found),
        )

    def __str__(self) -> str:
        """For logs and the journal, for example ``after 2 s, one byte every 0.1 s``."""
        words = [f"after {self.delay_seconds:g} s"] if self.delay_seconds else []
        if self.drop:
            words.append("not sent, connection dropped")
        elif self.drip_seconds:
            words.append(f"one byte every {self.drip_seconds:g} s")
        return ", ".join(words) or "at once"


@value
class Reply:
    """One SMTP reply (RFC 5321 section 4.2), safe to send: it cannot hold a control character."""

    code: int
    """200 to 599."""
    text: str
    """Lines are separated by ``\\n``; control characters and lone surrogates become ``?``."""
    enhanced: str | None = None
    """The enhanced status code (RFC 3463), for example ``5.7.1``; its class is that of the code."""
    timing: ReplyTiming | None = None
    """None: at once and whole."""
    positive: bool = field(init=False, repr=False, compare=False)
    """True for 2xx."""

    def __post_init__(self) -> None:
        if (
            self.code.__class__ is not int
            or self.text.__class__ is not str
            or (self.enhanced is not None and self.enhanced.__class__ is not str)
            or (self.timing is not None and self.timing.__class__ is not ReplyTiming)
        ):  # a reply is made for every command: this costs no call
            self._check_types()
        object.__setattr__(self, "positive", self.code < 300)  # a property would take ten times as long
        if not 200 <= self.code <= 599:
            raise ValueError(f"reply code {self.code}: expected 200 to 599")
        if self.enhanced is not None:
            if not _ENHANCED.fullmatch(self.enhanced):
                raise ValueError(f"enhanced status code {self.enhanced!r}: expected like 5.7.1")
            if self.code // 100 != 3 and self.enhanced[0] != str(self.code)[0]:
                raise ValueError(f"enhanced status code {self.enhanced} does not fit reply code {self.code}")
        if not self.text.isprintable():
            lines = self.text.replace("\r\n", "\n").split("\n")
            lines = [without_controls(line, mark="?") for line in lines]
            object.__setattr__(self, "text", "\n".join(lines))

    def _check_types(self) -> None:
        """Raise TypeError for a wrong type; a subclass of int or str becomes a plain one."""
        check_type("Reply.code", self.code, int, "a number from 200 to 599")
        object.__setattr__(self, "code", int.__index__(self.code))
        object.__setattr__(self, "text", plain("Reply.text", self.text))
        if self.enhanced is not None:
            object.__setattr__(self, "enhanced", plain("Reply.enhanced", self.enhanced))
        if self.timing is not None:
            check_type("Reply.timing", self.timing, ReplyTiming, "a ReplyTiming or None")

    @classmethod
    def parse(cls, text: str) -> Self:
        """A reply from text like ``550 5.7.1 Not accepted here``; raises ValueError."""
        if text.__class__ is not str:
            text = plain("the reply", text)
        found = _REPLY.fullmatch(text)
        if not found:
            raise ValueError(f"{text!r} is not a reply: expected like '550 5.7.1 Not accepted here'")
        code, enhanced, rest = found.groups()
        return cls(code=int(code), enhanced=enhanced, text=rest or "")

    def with_timing(self, timing: ReplyTiming | None) -> Self:
        """The same reply with this timing."""
        return self if timing is None else replace(self, timing=timing)

    @property
    def permanent(self) -> bool:
        """True for 5xx."""
        return self.code >= 500

    def __str__(self) -> str:
        """On one line, for logs and the journal; followed by the timing, if there is one."""
        enhanced = f" {self.enhanced}" if self.enhanced else ""
        line = f"{self.code}{enhanced} {self.text}".replace("\n", " / ").rstrip()
        return f"{line} ({self.timing})" if self.timing else line

    def to_bytes(self, *, utf8: bool = False) -> bytes:
        """The bytes for the wire with CRLF; each line carries code and enhanced code.

        Without ``utf8`` (the client did not ask for SMTPUTF8, RFC 6531 section 3.5) non-ASCII characters
        become ``?``.
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


@value
class Match:
    """One match that led to a verdict; shown to the operator, never to the client."""

    where: str
    """For example ``subject``, ``header X-Mailer``, ``text/html``, ``attachment invoice.zip``; one line of at
    most 500 characters."""
    text: str
    """The matched characters, which the filter may shorten, at most 2,000. NUL and lone surrogates become
    U+FFFD."""

    def __post_init__(self) -> None:
        where = one_line("Match.where", self.where, _WHERE_LIMIT)
        object.__setattr__(self, "where", where)
        object.__setattr__(self, "text", storable_text("Match.text", self.text, _MATCH_LIMIT))


@value
class Verdict:
    """A filter's report of a hit, with its reason. A filter without an opinion returns None.

    A field of a wrong type raises TypeError where the verdict is made. Text may come from mail and raises
    nothing: what does not belong in it is replaced, what is too long is cut.
    """

    reason: str
    """One line for the operator, at most 1,000 characters; the client sees it only if the rule's reply
    contains ``{reason}``. Empty: what of the rule's ``when`` holds, such as the score."""
    action: Action | None = None
    """A suggestion, used if the rule has no action."""
    reply: Reply | None = None
    """A suggestion, used if the rule has no reply: 5xx for ``reject``, 4xx for ``defer``; its text is cut at
    4,096 characters."""
    edits: tuple[Edit | EnvelopeEdit, ...] = ()
    """Changes to the message and its envelope, if it is delivered: at once, or on release from quarantine.

    Only `filter_message` may change the envelope."""
    timing: ReplyTiming | None = None
    """How the reply at this stage is sent, whether positive or negative; None: at once and whole."""
    matches: tuple[Match, ...] = ()
    """What was found and where; the first 1,000."""
    score: float = 0.0
    """What this counts against the mail, from -1000 to 1000, negative for it; used if the rule has no score.

    Without an action and edits it is all that the hit does."""
    auth: tuple[str, ...] = ()
    """Results of authentication for ``when: {auth: ...}`` of later rules, each as ``method=result``, for
    example ``("spf=pass", "dmarc=fail", "dmarc=reject")``; and ``signed_by=DOMAIN`` for each domain,
    in lower-case A-labels, with a valid DKIM signature over the whole body."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", one_line("Verdict.reason", self.reason, _REASON_LIMIT))
        if self.score != 0.0:
            check_number("Verdict.score", self.score, -_SCORE_LIMIT, _SCORE_LIMIT)
        if self.auth != ():
            _check_all("Verdict.auth", self.auth, (str,), 'text like "spf=pass"')
        if self.action is not None:
            check_type("Verdict.action", self.action, Action, "an Action like Action.REJECT, or None")
            if self.action is Action.HOLD:
                raise ValueError("Verdict.action is hold, which only a rule's settings may ask for")
        if self.reply is not None:
            expected = 'a Reply or None; of text Reply.parse("550 5.7.1 Not accepted here") makes one'
            check_type("Verdict.reply", self.reply, Reply, expected)
            if len(self.reply.text) > _REPLY_LIMIT:
                shorter = replace(self.reply, text=self.reply.text[:_REPLY_LIMIT])
                object.__setattr__(self, "reply", shorter)
            self._check_class_of_reply(self.reply)
        if self.timing is not None:
            check_type("Verdict.timing", self.timing, ReplyTiming, "a ReplyTiming or None")
        if self.edits != ():
            _check_all("Verdict.edits", self.edits, _EDITS, "an edit like AddHeader")
        if self.matches != ():
            _check_all("Verdict.matches", self.matches, (Match,), "a Match")
            object.__setattr__(self, "matches", self.matches[:_MATCHES_LIMIT])

    def _check_class_of_reply(self, reply: Reply) -> None:
        action = self.action if self.action and self.action.refuses else None
        expected = {Action.REJECT: "5xx", Action.DEFER: "4xx", None: "4xx or 5xx"}[action]
        if str(reply.code)[0] not in expected:
            why = f" for {action!s}" if action else ""
            raise ValueError(f"Verdict.reply has the code {reply.code}, expected {expected}{why}")


def _check_all(name: str, found: object, kinds: tuple[type, ...], expected: str) -> None:
    if not isinstance(found, tuple):
        raise_type(name, found, f"a tuple of {expected}; a tuple of one is written (one,)")
    for number, element in enumerate(found):
        if not isinstance(element, kinds):
            raise_type(f"{name}[{number}]", element, expected)


@value
class PerRecipient:
    """Different verdicts of `filter_message` for the recipients that it was asked about."""

    verdicts: Mapping[str, Verdict | None] = field(hash=False)
    """By the address of the recipient, as in ``recipients``; None, or no entry, for no opinion."""

    def __post_init__(self) -> None:
        if not isinstance(self.verdicts, Mapping):
            raise_type("PerRecipient.verdicts", self.verdicts, "a mapping of addresses to verdicts")
        object.__setattr__(self, "verdicts", dict(self.verdicts))


@value
class Passed:
    """A filter's report that there is no hit, with its reason; for the journal it is more than None."""

    reason: str = ""
    """One line for the operator, at most 1,000 characters, for example ``retried after 312 s``."""
    asked: bool = True
    """False: the filter has not asked the service that it depends on, such as name servers, because there was
    nothing to ask. Of a service that failed nobody knows then whether it answers again."""

    def __post_init__(self) -> None:
        check_type("Passed.asked", self.asked, bool, "True or False")
        object.__setattr__(self, "reason", one_line("Passed.reason", self.reason, _REASON_LIMIT))


def check_again(verdict: Verdict) -> None:
    """Check a verdict and its parts as when they were made, since a filter may have got round that.

    For example by ``object.__setattr__``, by a subclass, or by unpickling. Raises TypeError, ValueError or
    AttributeError.
    """
    Verdict.__post_init__(verdict)
    for part in (verdict.reply, verdict.timing, *verdict.matches, *verdict.edits):
        if part is not None:
            replace(part)  # which is made, and checked, anew


class Result(StrEnum):
    """How asking a rule ended."""

    HIT = "hit"
    """The filter returned a verdict."""
    PASS = "pass"  # noqa: S105 - no password
    """The filter had no opinion."""
    ERROR = "error"
    """The filter raised, exited, or returned something other than a Verdict or None."""
    TIMEOUT = "timeout"
    """The filter did not answer within the rule's ``timeout``."""


@value
class Evaluation:
    """One rule asked once: for the journal and for ``explain``."""

    rule: str
    """The rule's name."""
    stage: Stage
    """When it was asked."""
    result: Result
    """How asking it ended."""
    action: Action | None
    """The action of the hit or of the failure; None for a pass."""
    observed: bool
    """True if the rule only observes: the action was not applied."""
    reason: str
    """The verdict's reason, that of `Passed`, or how the filter failed; else empty."""
    recipients: tuple[str, ...]
    """The addresses that it applies to; empty: all recipients of the session or transaction."""
    seconds: float
    """How long the filter took."""
    matches: tuple[Match, ...] = ()
    """The verdict's matches."""
    score: float = 0.0
    """What the hit counts, the rule's score or else the verdict's; it counts for nothing if `observed`."""


def total_score(evaluations: Iterable[Evaluation], address: str) -> float:
    """The sum of the scores that count for a recipient, with three decimals.

    A client may name a recipient several times; what a rule says about it at a stage counts once.
    """
    scores: dict[tuple[str, Stage], float] = {}
    for one in evaluations:
        if one.score and not one.observed and (not one.recipients or address in one.recipients):
            scores.setdefault((one.rule, one.stage), one.score)
    return round(sum(scores.values()), 3)


OnError = Literal["defer", "skip", "quarantine"]
"""What is done if nobody answers: a filter, or a person for a session that is held."""
ACTIONS_ON_ERROR: Mapping[OnError, Action | None] = {
    "defer": Action.DEFER,
    "skip": None,
    "quarantine": Action.QUARANTINE,
}
"""The action of each; None: later rules go on."""


@value
class Hold:
    """A rule's request to stop the session at a stage until somebody answers for it."""

    rule: str
    """The rule's name."""
    index: int
    """The rule's place in the file."""
    reason: str
    """The reason of the rule's verdict."""
    deadline_seconds: float
    """After this time `on_error` answers."""
    on_error: OnError


@value
class Outcome:
    """The action for one recipient, and the rule that led to it."""

    action: Action
    """Never ``tag``, ``score`` or ``hold``: such a message is accepted, or what was answered for it."""
    rule: str | None = None
    """None: no rule had a final action, so the message is accepted."""
    reason: str = ""
    reply: Reply | None = None
    """Set if the action refuses, else None."""
    edits: tuple[Edit, ...] = ()
    """Of all rules that hit, in their order: for the message as it is delivered, also on release from
    quarantine."""
    timing: ReplyTiming | None = None
    """How the reply is sent, Gatepost's or upstream's."""
    changes: EnvelopeChanges | None = None
    """Of the envelope, by the rules that hit; None: it stays as it is."""


@value
class Decision:
    """The outcomes of all recipients of one transaction, in their order."""

    outcomes: tuple[Outcome, ...]
    evaluations: tuple[Evaluation, ...] = ()
    holds: tuple[Hold, ...] = ()
    """Of all rules that hold the session before this decision is carried out; in file order."""
