"""One entry of ``rules``, ready to be asked: its hooks, its action and its reply."""

from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any

from gatepost.config.conditions import Condition, Standing
from gatepost.model import replies
from gatepost.model.edits import Edit
from gatepost.model.mail import Envelope, Message, Recipient, Session, Stage
from gatepost.model.reply_template import fill
from gatepost.model.verdict import Action, Hold, OnError, Reply, Verdict
from gatepost.values import value

__all__ = ["Hook", "Rule"]

_DEFAULT_REPLIES = {
    Action.REJECT: replies.REFUSED_BY_POLICY,
    Action.DEFER: replies.DEFERRED_BY_POLICY,
}


@value
class Hook:
    """One hook that a filter implements."""

    function: Callable[..., Any]
    """The bound method."""
    arguments: tuple[str, ...]
    """The names of the arguments that the method takes."""
    is_async: bool
    """True for ``async def``: it runs on the event loop; else in a worker thread."""


@value
class Rule:
    """A filter's hooks together with the operator's settings for the rule."""

    name: str
    hooks: Mapping[Stage, Hook]
    """The ``filter_*`` hooks that the filter implements."""
    finish: Hook | None = None
    """Its ``finish_message``, if it has one."""
    learn: Hook | None = None
    """Its ``learn_message``, if it has one and the settings want it to learn."""
    report: Hook | None = None
    """Its ``report_transaction``, if it has one."""
    report_session: Hook | None = None
    """Its ``report_session``, if it has one."""
    when: Condition | None = None
    """None: the rule is for all mail."""
    action: Action | None = None
    """None: the action that the verdict suggests, see `action_of`."""
    score: float | None = None
    """What a hit counts; None: what the verdict suggests."""
    reply: str | None = None
    """The reply template; its syntax is checked when the settings are loaded."""
    edits: tuple[Edit, ...] = ()
    """The edits of ``tag``."""
    observe: bool = False
    on_error: OnError = "defer"
    timeout_seconds: float = 10.0
    hold_at: Stage | None = None
    """The stage at which a rule that holds is asked; None: at those of its hooks."""
    hold_seconds: float = 60.0
    """How long it holds a session at most."""
    open: Hook | None = field(default=None, compare=False)
    """The filter's own ``open``, without arguments; succeeds once before the rule is asked."""
    side_by_side: bool = False
    """True if its filter says that it may be asked before its turn."""
    close: Hook | None = field(default=None, compare=False)
    """The filter's own ``close``, without arguments; called once, when nothing uses the rule any more."""

    @property
    def is_needed_for_all_mail(self) -> bool:
        """True if no message passes while its filter fails."""
        return self.when is None and self.on_error == "defer" and not self.observe

    def action_of(self, verdict: Verdict) -> Action:
        """A hit's action: the operator's, else the filter's suggestion, else what its parts are for."""
        if self.action:
            return self.action
        if self.score is not None:
            return Action.SCORE
        if verdict.action:
            return verdict.action
        if verdict.edits:
            return Action.TAG
        if verdict.score:
            return Action.SCORE
        return Action.DEFER if verdict.reply and not verdict.reply.permanent else Action.REJECT

    def score_of(self, verdict: Verdict) -> float:
        """What a hit counts: the operator's score, else the filter's suggestion."""
        return verdict.score if self.score is None else self.score

    def why(
        self,
        session: Session,
        envelope: Envelope | None = None,
        recipient: Recipient | None = None,
        message: Message | None = None,
        standing: Standing | None = None,
    ) -> str:
        """The reason of a hit whose filter has none of its own: why the rule was asked."""
        if self.when is None:
            return "the rule has no when"
        return self.when.why(session, envelope, recipient, message, standing) or "the rule's when holds"

    def asked_at(self, own: Stage) -> Stage:
        """The stage at which a hook of that stage is asked: when ``when`` can be decided, and `hold_at`."""
        known_at = self.when.known_at if self.when else Stage.CONNECT
        return max(own, known_at, self.hold_at or own)

    def hold(self, index: int, verdict: Verdict) -> Hold:
        """The request of a hit that holds; ``index`` is the rule's place in the file."""
        return Hold(
            rule=self.name,
            index=index,
            reason=verdict.reason,
            deadline_seconds=self.hold_seconds,
            on_error=self.on_error,
        )

    def reply_of(
        self,
        action: Action,
        verdict: Verdict,
        *,
        session: Session,
        envelope: Envelope | None,
        recipient: Recipient | None,
        record_id: str,
    ) -> Reply:
        """The reply of a hit that refuses: the operator's, else a suggested one of its class, else a default.

        ``record_id`` identifies the journal's record of it, for the template's ``{id}``.
        """
        if self.reply:
            return fill(
                self.reply,
                rule=self.name,
                reason=verdict.reason,
                id=record_id,
                client=str(session.client),
                sender=envelope.mail_from if envelope else "",
                recipient=recipient.address if recipient else "",
            )
        suggested = verdict.reply
        if suggested and not suggested.positive and suggested.permanent == (action is Action.REJECT):
            return suggested
        return _DEFAULT_REPLIES[action]
