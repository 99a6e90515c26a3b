"""The section `rules`: a filter, when it is asked, and what a hit does."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    Strict,
    field_validator,
    model_validator,
)

from gatepost.config.conditions import Condition
from gatepost.config.fields import (
    check_reply,
    check_rule_name,
    one_or_many,
)
from gatepost.config.patterns import expected
from gatepost.config.section import Settings
from gatepost.model import reply_template
from gatepost.model.edits import AddHeader, Edit, PrefixSubject, RemoveHeader
from gatepost.model.mail import Stage
from gatepost.model.verdict import Action, OnError
from gatepost.units import Bytes, Seconds

__all__ = ["HOLD_SECONDS", "HoldSettings", "RuleSettings", "Tag", "hold_limit_seconds"]

HOLD_SECONDS = 60.0
"""For an answer to a session that is held, if nobody has chosen another time."""
_HOLD_LIMIT_SECONDS = 240.0
"""Below the 5 minutes that clients wait for a reply before the message (RFC 5321 section 4.5.3.2)."""
_MESSAGE_HOLD_LIMIT_SECONDS = 540.0
"""Below the 10 minutes that clients wait for the reply to the end of data (section 4.5.3.2.6)."""


def hold_limit_seconds(stage: Stage | None) -> float:
    """The longest that a session may be held at a stage; None: at any stage."""
    return _MESSAGE_HOLD_LIMIT_SECONDS if stage is Stage.MESSAGE else _HOLD_LIMIT_SECONDS


class Tag(Settings):
    """What ``action: tag`` does to the message."""

    add: dict[str, Annotated[str, Strict()]] = Field({})
    """Header fields to add at the top of the message."""
    remove: Annotated[tuple[str, ...], BeforeValidator(one_or_many)] = ()
    """Header fields to remove."""
    subject: str | None = None
    """Text to put before the subject."""

    @field_validator("add")
    @classmethod
    def _can_be_added(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            AddHeader(name, text)
        return value

    @field_validator("remove")
    @classmethod
    def _can_be_removed(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            RemoveHeader(name)
        return value

    @field_validator("subject")
    @classmethod
    def _can_be_put_before(cls, value: str | None) -> str | None:
        if value is not None:
            PrefixSubject(value)
        return value

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if not self.edits:
            raise ValueError("tag is empty, expected add, remove or subject")
        return self

    @property
    def edits(self) -> tuple[Edit, ...]:
        """The section as changes to a message."""
        edits: list[Edit] = [RemoveHeader(name) for name in self.remove]
        edits += [AddHeader(name, text) for name, text in self.add.items()]
        if self.subject is not None:
            edits.append(PrefixSubject(self.subject))
        return tuple(edits)


def _stage(value: Any) -> Stage:
    """A stage by its name."""
    if isinstance(value, Stage):
        return value
    found = {stage.name.lower(): stage for stage in Stage}.get(value) if isinstance(value, str) else None
    if found is None:
        raise expected("connect, helo, mail, rcpt or message")
    return found


class HoldSettings(Settings):
    """How ``action: hold`` stops a session."""

    stage: Annotated[Stage, BeforeValidator(_stage)] | None = None
    """The stage at which the rule is asked and the session stops; default: those at which it is asked."""
    deadline: Seconds = HOLD_SECONDS
    """After this time without an answer `on_error` answers; at most 4 minutes, at message 9 minutes."""

    @model_validator(mode="after")
    def _is_shorter_than_clients_wait(self) -> Self:
        limit = hold_limit_seconds(self.stage)
        if self.deadline > limit:
            where = "at the stage message" if self.stage is Stage.MESSAGE else "before the stage message"
            raise ValueError(f"deadline is {self.deadline:g} s, expected at most {limit:g} s {where}")
        return self


class RuleSettings(Settings):
    """One entry of ``rules``: one instance of a filter."""

    name: Annotated[str, AfterValidator(check_rule_name)]
    """Unique; the journal, the log and ``{rule}`` show it."""
    filter: str
    """A filter's name, or ``./file.py:Class`` relative to rules.yaml."""
    with_: dict[str, Any] = Field({}, alias="with")
    """The filter's own settings."""
    when: Condition | None = None
    """When the rule is asked; default: always."""
    action: Action | None = None
    """Default: with score only that; else what the filter suggests, else reject."""
    score: Annotated[float, Strict(), Field(ge=-1000, le=1000, allow_inf_nan=False)] | None = None
    """What a hit counts for ``when: {score: ...}`` of later rules; default: what the filter suggests."""
    reply: Annotated[str, AfterValidator(check_reply)] | None = None
    """Template of the reply to a refusal: ``{rule} {reason} {id} {sender} {recipient} {client}``."""
    tag: Tag | None = None
    """What ``action: tag`` does to the message."""
    hold: HoldSettings | None = None
    """How ``action: hold`` stops a session."""
    mode: Literal["enforce", "observe"] = "enforce"
    """observe: evaluated and journalled, but no action."""
    on_error: OnError = "defer"
    """If the filter fails or is too slow, or if nobody answers for a session that is held."""
    timeout: Seconds = 10.0
    """The filter's time for one answer."""
    learn: bool = False
    """True: what people say about stored messages is passed on to the filter, to learn it."""
    isolation: Literal["process", "none"] | None = None
    """process: the filter runs in processes that can be killed; default: what the filter says."""
    memory: Bytes = 512 << 20
    """Memory of each of these processes."""

    @model_validator(mode="after")
    def _agrees_with_its_action(self) -> Self:
        if self.action is Action.TAG and self.tag is None:
            raise ValueError("action: tag without tag, expected a section tag with add, remove or subject")
        if self.tag is not None and self.action is not Action.TAG:
            raise ValueError("tag without action: tag")
        if self.hold is not None and self.action is not Action.HOLD:
            raise ValueError("hold without action: hold")
        if self.score is not None and self.action not in (None, Action.SCORE, Action.TAG, Action.HOLD):
            raise ValueError(f"score with action: {self.action}, after which no rule would look at it")
        if self.reply is not None:
            code = reply_template.check(self.reply).code
            if self.action is not None and not self.action.refuses:
                raise ValueError(f"reply with action: {self.action}, expected it only with reject or defer")
            wanted = {Action.DEFER: (4,), Action.REJECT: (5,)}.get(self.action or Action.ACCEPT, (4, 5))
            if code // 100 not in wanted:
                what = " or ".join(f"{number}xx" for number in wanted)
                raise ValueError(
                    f"the reply code {code}, expected {what} "
                    + (f"with action: {self.action}" if self.action else "without an action")
                )
        return self
