"""What the API answers with: names, units and order stay as they are; new names may be added.

Times are RFC 3339 in UTC, sizes octets, durations seconds. Text that came from mail may say anything: it is
for people, who decide nothing by it alone.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from gatepost.mail import Stage
from gatepost.record import Disposition
from gatepost.store import Box, State
from gatepost.verdict import Action, Result

__all__ = [
    "Attachment",
    "Bucket",
    "Changed",
    "Conversation",
    "ConversationLine",
    "Counted",
    "Counts",
    "Deleted",
    "Evaluation",
    "Finding",
    "HeaderField",
    "Info",
    "JournalPage",
    "JournalRecipient",
    "JournalRecord",
    "Match",
    "Message",
    "MessagePage",
    "MessageSummary",
    "MimePart",
    "NothingCame",
    "Released",
    "RuleTally",
    "Session",
    "SessionPage",
    "Statistics",
    "Waited",
]


def _encodable(text: object) -> object:
    """JSON takes no lone surrogates."""
    if isinstance(text, str) and not text.isascii():
        return text.encode("utf-8", "replace").decode()
    return text


def _stage_name(stage: object) -> object:
    return stage.name.lower() if isinstance(stage, Stage) else stage


Text = Annotated[str, BeforeValidator(_encodable)]


class Answer(BaseModel):
    """Made from the value of the same meaning inside of Gatepost."""

    model_config = ConfigDict(from_attributes=True, frozen=True)


class HeaderField(Answer):
    """One header field."""

    name: Text
    value: Text = Field(description="Unfolded and decoded.")


class Attachment(Answer):
    """A part that is not the message's text."""

    number: int = Field(description="Of the part; the attachment's address has it.")
    filename: Text = Field(description="Safe to save under; never empty.")
    content_type: Text
    size: int = Field(description="Octets, decoded.")
    inline: bool = Field(description="True where the HTML shows it in its place.")


class MimePart(Answer):
    """One entity of the MIME tree."""

    number: int = Field(description="1 for the message; then in the order in which the parts begin.")
    content_type: Text
    charset: Text = Field(description="As declared, or empty.")
    transfer_encoding: Text = Field(description="As declared, or empty.")
    filename: Text = Field(description="As the sender wrote it, or empty.")
    disposition: Text = Field(description="`inline`, `attachment`, another one, or empty.")
    size: int = Field(description="Octets.")
    fault: Text = Field(description="What is wrong with its structure, or empty.")
    children: list["MimePart"]


class Finding(Answer):
    """One thing that is wrong with a message."""

    severity: Literal["error", "warning", "note"]
    code: str = Field(description="Stays the same, for programs.")
    text: Text = Field(description="What is wrong.")
    where: Text = Field(description="For example `line 12`; empty for the whole message.")
    advice: Text


class Match(Answer):
    """One place that made a filter say yes."""

    where: Text = Field(description="For example `subject` or `attachment invoice.zip`.")
    text: Text


class Evaluation(Answer):
    """What one rule said."""

    rule: Text
    stage: Annotated[Literal["connect", "helo", "mail", "rcpt", "message"], BeforeValidator(_stage_name)]
    result: Result
    action: Action | None = Field(description="What the hit or the failure led to; null for a pass.")
    observed: bool = Field(description="True where the rule only observes: nothing was done.")
    reason: Text
    recipients: list[Text] = Field(description="Those that it holds for; empty: all.")
    seconds: float
    matches: list[Match]


class JournalRecipient(Answer):
    """One forward-path and its end."""

    address: Text
    disposition: Disposition
    action: Action
    rule: Text | None = Field(description="The one that had the last word; null: none had.")
    reason: Text
    reply: Text = Field(description="What the client was told of this recipient.")


class JournalRecord(Answer):
    """What became of one transaction."""

    id: str
    session_id: str = Field(description="Of its conversation, where conversations are kept.")
    received_at: datetime
    client: Text
    helo: Text
    tls: Text | None
    authenticated: Text | None = Field(description="The user name that AUTH established.")
    mail_from: Text | None = Field(
        description="The reverse-path; empty: the null one; null: the client never got to MAIL."
    )
    recipients: list[JournalRecipient]
    size: int | None = Field(description="Octets; null where no message was received.")
    message_id: Text
    subject: Text = Field(description="As sent, not decoded, at most 200 characters.")
    evaluations: list[Evaluation] = Field(description="What each rule said, in their order.")
    reply: Text = Field(description="The reply that ended the transaction.")
    upstream: Text | None = Field(description="The server that was asked to take it.")
    upstream_reply: Text | None
    seconds: float = Field(description="From the last octet of the message to the reply.")


class JournalPage(Answer):
    """The newest records first."""

    records: list[JournalRecord]
    next: str | None = Field(description="Pass it as `before` for the next page; null: that was the last.")


class MessageSummary(Answer):
    """A kept message in a list."""

    id: str = Field(description="16 letters and digits; later ones sort behind.")
    box: Box
    state: State
    transaction_id: str = Field(description="Of the journal's record.")
    created_at: datetime = Field(description="When it was received.")
    client: Text = Field(description="The IP address that it came from.")
    mail_from: Text = Field(description="The reverse-path; empty: the null one.")
    recipients: list[Text] = Field(description="The forward-paths that it is kept for.")
    rule: Text | None = Field(description="The one that put it into quarantine.")
    reason: Text = Field(description="What that rule said, for a person.")
    size: int = Field(description="Octets.")
    subject: Text = Field(description="Decoded, at most 200 characters.")
    author: Text = Field(description="The From field, decoded, at most 200 characters.")
    message_id: Text = Field(description="The Message-ID field.")
    unread: bool = Field(description="False once somebody has opened it or marked it as seen.")
    attachment_count: int
    snippet: Text = Field(description="The beginning of its text.")
    changed_by: Text | None = Field(description="Who released or deleted it.")
    changed_at: datetime | None = Field(description="When.")
    note: Text = Field(description="Of a release: to whom, and what the server said.")


class MessagePage(Answer):
    """The newest messages first."""

    messages: list[MessageSummary]
    next: str | None = Field(description="Pass it as `before` for the next page; null: that was the last.")


class Message(Answer):
    """All of one kept message but its octets."""

    id: str = Field(description="16 letters and digits; later ones sort behind.")
    box: Box
    state: State
    transaction_id: str = Field(description="Of the journal's record.")
    created_at: datetime = Field(description="When it was received.")
    client: Text = Field(description="The IP address that it came from.")
    mail_from: Text = Field(description="The reverse-path; empty: the null one.")
    recipients: list[Text] = Field(description="The forward-paths that it is kept for.")
    rule: Text | None = Field(description="The one that put it into quarantine.")
    reason: Text = Field(description="What that rule said, for a person.")
    size: int = Field(description="Octets.")
    changed_by: Text | None = Field(description="Who released or deleted it.")
    changed_at: datetime | None = Field(description="When.")
    note: Text = Field(description="Of a release: to whom, and what the server said.")
    headers: list[HeaderField] = Field(description="In the order of the message; at most 2,000.")
    author: Text = Field(description="The From field, decoded; empty where there is none.")
    to: Text = Field(description="The To field, decoded.")
    cc: Text = Field(description="The Cc field, decoded.")
    subject: Text = Field(description="The Subject field, decoded.")
    date: Text = Field(description="As the sender wrote it.")
    message_id: Text = Field(description="The Message-ID field.")
    text: Text | None = Field(
        description="The plain text, or one made of the HTML; null for a message without text."
    )
    html: Text | None = Field(
        description="A sanitised document without scripts and remote images; null for a message without HTML."
    )
    links: list[Text] = Field(description="The http and https addresses in text and HTML, in order.")
    codes: list[Text] = Field(description="What looks like a one-time code, the likeliest first.")
    attachments: list[Attachment]
    tree: MimePart
    lint: list[Finding] = Field(
        description="What is wrong with the message and with the commands before it; errors first."
    )
    notes: list[Text] = Field(description="What is not shown because there is too much of it.")
    record: JournalRecord | None = Field(
        description="What the journal says of its transaction: session, user, verdicts; null: it is too old."
    )


class Waited(Answer):
    """What was waited for, in the order of arrival."""

    messages: list[Message]


class NothingCame(BaseModel):
    """Nothing came in time (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    query: str
    timeout: float = Field(description="Seconds.")
    found: int = Field(description="How many messages match; fewer than were waited for.")
    newest: list[MessageSummary] = Field(description="The newest messages of all, at most 5.")


class Changed(Answer):
    """How many messages were changed."""

    changed: int


class Deleted(Answer):
    """How many messages were deleted."""

    deleted: int


class Released(Answer):
    """A message that was sent on."""

    reply: Text = Field(description="What the server said that has it now.")
    recipients: list[Text]


class Session(Answer):
    """One SMTP connection."""

    id: str
    client: Text
    client_port: int
    listener: str
    started_at: datetime
    ended_at: datetime | None = Field(description="Null: it goes on, or nobody saw its end.")
    helo: Text
    tls: Text | None
    authenticated: Text | None
    transactions: int
    last_reply: Text
    left_out: int = Field(description="Octets of the conversation that are not kept.")


class SessionPage(Answer):
    """The newest sessions first."""

    sessions: list[Session]
    next: str | None = Field(description="Pass it as `before` for the next page; null: that was the last.")


class ConversationLine(Answer):
    """One thing said."""

    at: datetime
    direction: Literal["C", "D", "S", "*"] = Field(
        description="`C` a command, `D` message data, `S` a reply, `*` something about the session."
    )
    text: str = Field(description="Decoded as UTF-8; other octets as `\\xNN`. Secrets of AUTH are blanked.")


class Conversation(Answer):
    """All that was said in a session, as far as it was kept."""

    session: Session
    lines: list[ConversationLine]


class Counts(Answer):
    """How many messages there are."""

    inbox: int
    quarantined: int
    unread: int


class Info(Answer):
    """What this is and where."""

    product: Literal["gatepost"] = "gatepost"
    version: str
    mode: Literal["gateway", "complaints"]
    smtp: list[str] = Field(description="Where mail is taken, as `host:port`.")
    can_release: bool
    counts: Counts


class Bucket(Answer):
    """A span of time."""

    start: datetime
    recipients: dict[Disposition, int] | None = Field(
        description="How many, by what became of the message; null: not counted yet, ask again."
    )


class Counted(Answer):
    """A client or a reverse-path."""

    name: Text
    transactions: int


class RuleTally(Answer):
    """How often a rule was asked, what it said, and how long it took."""

    rule: Text
    asked: int
    actions: dict[Action, int] = Field(
        description="Hits and failures by what they led to, without those that were only observed."
    )
    hits: int = Field(description="With those that were only observed.")
    observed: int = Field(description="Hits and failures that were only observed.")
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


def line_text(octets: bytes) -> str:
    """Of a line of a conversation."""
    return octets.decode("utf-8", "backslashreplace")


def fields_of(value: object) -> dict[str, Any]:
    """Of a slotted dataclass, its bases' first."""
    return {
        name: getattr(value, name)
        for kind in reversed(type(value).__mro__)
        for name in getattr(kind, "__dataclass_fields__", ())
    }
