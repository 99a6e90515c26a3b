"""The responses about sessions that are held; see `gatepost.web.api.responses`."""

from datetime import datetime
from typing import Any

from pydantic import Field

from gatepost.holding import Breakpoint, HeldSession
from gatepost.model.verdict import Action, OnError
from gatepost.web.api.answer import Answer, Text
from gatepost.web.api.requests import StageName

__all__ = [
    "ArmedBreakpoint",
    "ArmedBreakpoints",
    "Disarmed",
    "Held",
    "HeldList",
    "LetGo",
    "armed_breakpoint",
    "held_session",
]


class HeldDecision(Answer):
    """What happens if the answer is to go on."""

    recipient: Text | None = Field(description="Null before the message: the decision is about the command.")
    action: Action
    rule: Text | None = Field(description="The rule that decided; null: no rule did.")
    reason: Text
    reply: Text = Field(description="The reply of a refusal; empty if nothing is refused.")


class Held(Answer):
    """A session that waits for an answer."""

    id: str = Field(description="Of this stop: a session may be held more than once.")
    stage: StageName
    since: datetime
    deadline: datetime = Field(description="Then `on_error` answers.")
    on_error: OnError
    by: Text = Field(description="The rule that holds it, or `breakpoint` and its id.")
    breakpoint: str | None = Field(description="The id of the breakpoint; null: only a rule holds it.")
    reason: Text = Field(description="The rule's reason, for a person.")
    session_id: str
    transaction_id: str | None = Field(description="Null before MAIL.")
    client: Text
    client_port: int
    listener: Text
    helo: Text = Field(description="The argument of EHLO or HELO; empty before it.")
    extended: bool = Field(description="True after EHLO, false after HELO.")
    tls: Text | None = Field(description="The TLS version; null on a plain connection.")
    authenticated: Text | None = Field(description="The user name from AUTH.")
    mail_from: Text | None = Field(description="The reverse-path, empty: the null one; null before MAIL.")
    parameters: list[Text] = Field(description="Of MAIL.")
    recipients: list[Text] = Field(description="The forward-paths accepted so far.")
    recipient: Text | None = Field(description="At `rcpt`: the forward-path that is asked about.")
    decided: list[HeldDecision] = Field(
        description="What the rules decided: one for the command, or one for each recipient of the message."
    )
    size: int | None = Field(description="Bytes of the message; null before it.")
    is_whole: bool = Field(description="False if only the beginning of the message can be read here.")


class HeldList(Answer):
    """The sessions that are held, the longest first."""

    held: list[Held]


class LetGo(Answer):
    """The worker has taken the answer."""

    id: str


class ArmedBreakpoint(Answer):
    """A breakpoint."""

    id: str
    stage: StageName
    when: dict[str, Any] | None = Field(description="Null: every session.")
    remaining: int | None = Field(description="How many sessions it still holds; null: all.")
    deadline: float = Field(description="Seconds.")
    on_error: OnError
    armed_by: Text


class ArmedBreakpoints(Answer):
    """The breakpoints that are armed, the oldest first."""

    breakpoints: list[ArmedBreakpoint]


class Disarmed(Answer):
    """How many breakpoints were removed."""

    disarmed: int


def held_session(one: HeldSession) -> Held:
    """A session that is held."""
    held, session, envelope = one.held, one.held.session, one.held.envelope
    return Held(
        id=held.id,
        stage=held.stage.name.lower(),
        since=held.since,
        deadline=one.deadline,
        on_error=one.on_error,
        by=one.by,
        breakpoint=one.breakpoint,
        reason=one.reason,
        session_id=session.id,
        transaction_id=held.transaction_id or None,
        client=str(session.client),
        client_port=session.client_port,
        listener=session.listener,
        helo=session.helo,
        extended=session.extended,
        tls=session.tls,
        authenticated=session.authenticated,
        mail_from=envelope.mail_from if envelope else None,
        parameters=list(envelope.parameters) if envelope else [],
        recipients=[recipient.address for recipient in envelope.recipients] if envelope else [],
        recipient=held.recipient.address if held.recipient else None,
        decided=[HeldDecision.model_validate(decided) for decided in held.decided],
        size=held.size,
        is_whole=held.is_whole,
    )


def armed_breakpoint(one: Breakpoint) -> ArmedBreakpoint:
    """A breakpoint that is armed."""
    return ArmedBreakpoint(
        id=one.id,
        stage=one.stage.name.lower(),
        when=dict(one.when) if one.when is not None else None,
        remaining=one.remaining,
        deadline=one.deadline_seconds,
        on_error=one.on_error,
        armed_by=one.armed_by,
    )
