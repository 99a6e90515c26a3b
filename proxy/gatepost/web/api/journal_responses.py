"""The responses about the journal: records, evaluations, counts."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from gatepost.model.mail import Stage
from gatepost.model.record import Disposition
from gatepost.model.verdict import Action, Result
from gatepost.store import Box, State
from gatepost.web.api.answer import Answer, Text

__all__ = [
    "Bucket",
    "Counted",
    "EarlyEnd",
    "Evaluation",
    "JournalEntry",
    "JournalPage",
    "JournalRecipient",
    "JournalRecord",
    "KeptReference",
    "Match",
    "RuleTally",
    "Statistics",
]


def _stage_name(stage: object) -> object:
    return stage.name.lower() if isinstance(stage, Stage) else stage


class Match(Answer):
    """One place that led to a filter's hit."""

    where: Text = Field(description="For example `subject` or `attachment invoice.zip`.")
    text: Text


class Evaluation(Answer):
    """The evaluation of one rule."""

    rule: Text
    stage: Annotated[Literal["connect", "helo", "mail", "rcpt", "message"], BeforeValidator(_stage_name)]
    result: Result
    action: Action | None = Field(description="What the hit or the failure led to; null for a pass.")
    observed: bool = Field(description="True if the rule only observes: no action was taken.")
    reason: Text
    recipients: list[Text] = Field(description="The recipients that it applies to; empty: all.")
    seconds: float
    matches: list[Match]
    score: float = Field(description="What the hit counts; for nothing if `observed`.")


class JournalRecipient(Answer):
    """One forward-path and its disposition."""

    address: Text
    disposition: Disposition
    action: Action
    rule: Text | None = Field(description="The rule that decided; null: none did.")
    reason: Text
    reply: Text = Field(description="The reply to the client for this recipient.")


class EarlyEnd(Answer):
    """How a transaction ended that has no recipients: at connect, EHLO, AUTH, MAIL, or before RCPT."""

    disposition: Disposition
    rule: Text | None = Field(description="The rule that refused it; null: none did, see `reply`.")
    reason: Text


class JournalRecord(Answer):
    """One transaction in the journal."""

    id: str
    session_id: str = Field(description="The session's id.")
    received_at: datetime
    client: Text
    helo: Text
    tls: Text | None
    authenticated: Text | None = Field(description="The user name that AUTH established.")
    mail_from: Text | None = Field(
        description="The reverse-path; empty: the null one; null: the client sent no MAIL."
    )
    recipients: list[JournalRecipient]
    size: int | None = Field(description="Size in bytes; null if no message was received.")
    message_id: Text
    subject: Text = Field(description="As sent, not decoded, at most 200 characters.")
    evaluations: list[Evaluation] = Field(description="The evaluations of the rules, in order.")
    reply: Text = Field(description="The reply that ended the transaction.")
    upstream: Text | None = Field(description="The upstream server that was tried.")
    upstream_reply: Text | None
    seconds: float = Field(description="Seconds from the last byte of the message to the reply.")
    failed_user: Text | None = Field(
        description="The user name of an AUTH that failed; null: the record is about something else."
    )
    node: Text | None = Field(
        description="The node that wrote the record; null: it is of a version without names of nodes."
    )
    early_end: EarlyEnd | None = Field(
        description="Of a transaction that ended before RCPT: how, and by which rule; null: see `recipients`."
    )


class KeptReference(Answer):
    """A message that was kept from a transaction."""

    id: str
    box: Box
    state: State


class JournalEntry(JournalRecord):
    """One transaction in the journal, and what was kept from it."""

    kept: list[KeptReference] = Field(description="Its messages in inbox and quarantine, newest first.")


class JournalPage(Answer):
    """The newest records first."""

    records: list[JournalRecord]
    next: str | None = Field(description="Pass it as `before` for the next page; null: that was the last.")


class Bucket(Answer):
    """A span of time."""

    start: datetime
    recipients: dict[Disposition, int] | None = Field(
        description="Number of transactions by disposition; null: not counted yet, ask again."
    )


class Counted(Answer):
    """A client or a reverse-path."""

    name: Text
    transactions: int


class RuleTally(Answer):
    """Counts, results and times of a rule."""

    rule: Text
    asked: int
    actions: dict[Action, int] = Field(
        description="Hits and failures by action, without those in observe mode."
    )
    hits: int = Field(description="Including those in observe mode.")
    observed: int = Field(description="Hits and failures in observe mode.")
    failed: int = Field(description="Errors and timeouts.")
    median_seconds: float
    slowest_seconds: float


class Statistics(Answer):
    """Counts over the journal."""

    bucket_seconds: float
    buckets: list[Bucket] = Field(description="Oldest first.")
    complete: bool = Field(description="False: some buckets are not counted yet, ask again.")
    clients: list[Counted] = Field(description="Most transactions first.")
    records_read: int = Field(description="The newest records that `senders` and `rules` are counted from.")
    senders: list[Counted] = Field(description="Most transactions first.")
    rules: list[RuleTally] = Field(description="Most hits first.")
