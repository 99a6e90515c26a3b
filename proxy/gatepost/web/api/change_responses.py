"""What the API answers to a change: what was changed, released, forwarded, learned, imported or deleted."""

from typing import Literal

from pydantic import BaseModel, Field

from gatepost.model.record import Disposition
from gatepost.web.api.answer import Answer, Text

__all__ = [
    "Changed",
    "Deleted",
    "Forwarded",
    "ForwardedTo",
    "Imported",
    "ImportedMessage",
    "Learned",
    "LearnedBy",
    "ListChanged",
    "NotForwarded",
    "NotImported",
    "NotLearned",
    "NotStored",
    "Released",
]


class Changed(Answer):
    """How many messages were changed."""

    changed: int


class Deleted(Answer):
    """How many messages were deleted."""

    deleted: int


class Released(Answer):
    """A released message."""

    reply: Text = Field(description="The reply of the server that accepted it.")
    recipients: list[Text]


class ListChanged(Answer):
    """A list of the rules was changed, or needed no change."""

    list: str = Field(description="The name of the list in rules.yaml.")
    file: Text = Field(description="Its file, on the server.")
    entry: Text = Field(description="The entry as a line has it: a domain became `*@example.com`.")
    done: Literal["added", "there", "removed", "missing"] = Field(
        description="`there`: a line matches all of it already; `missing`: there was no such line to remove."
    )
    line: int | None = Field(
        description="The number of another line that matches the entry, so that removing it has no effect; "
        "null: there is none."
    )
    reloaded: bool = Field(description="`true`: all workers have the list as it is now.")
    message: Text = Field(description="The same in words.")


class ForwardedTo(Answer):
    """One recipient of a forwarded message."""

    address: Text
    disposition: Disposition = Field(
        description="`relayed`, or why not: `refused`, `deferred`, `in-doubt`; `abandoned`: the server "
        "accepted this recipient, but refused another, so nothing was sent."
    )
    reply: Text = Field(description="The server's reply for this recipient; empty if `abandoned`.")


class Forwarded(Answer):
    """A forwarded message: the server has it for all recipients."""

    transaction_id: str = Field(description="The id of the journal's record of this.")
    server: Text = Field(description="The server that has it, as `host:port`.")
    mail_from: Text = Field(description="The reverse-path that was used; empty: the null one.")
    reply: Text = Field(description="The server's reply to the message.")
    recipients: list[ForwardedTo]


class NotForwarded(BaseModel):
    """The server did not accept the message, or nobody knows (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    transaction_id: str = Field(description="The id of the journal's record of this.")
    server: str | None = Field(description="The server that was asked last; null: none was asked.")
    mail_from: str = Field(description="The reverse-path that was used; empty: the null one.")
    reply: str = Field(description="The reply of the server, or of Gatepost if there is none.")
    recipients: list[ForwardedTo] = Field(description="Each with its own reply.")


class LearnedBy(Answer):
    """What one rule answered."""

    rule: str = Field(description="Its name in rules.yaml.")
    succeeded: bool
    text: Text = Field(description="What its filter says to it, for a person; may be empty if it succeeded.")


class Learned(Answer):
    """A message that all rules with `learn: true` have learned."""

    kind: Literal["spam", "ham"]
    rules: list[LearnedBy] = Field(description="Each of them.")


class NotLearned(BaseModel):
    """Not all rules have learned the message (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    rules: list[LearnedBy] = Field(description="Each of them; empty: nothing was learned.")


class ImportedMessage(Answer):
    """One message that was imported."""

    id: str = Field(description="Its id in the store.")
    line: int = Field(description="Where it begins in the file, from 1; in an mbox that is its separator.")


class NotImported(Answer):
    """One message of an mbox that was not imported."""

    line: int = Field(description="Where, in the file, from 1.")
    reason: Text = Field(description="What was found and what was expected, for a person.")


class Imported(Answer):
    """What was imported of a file, in its order, and what was not."""

    messages: list[ImportedMessage]
    refused: list[NotImported] = Field(description="Empty: all was imported.")


class NotStored(BaseModel):
    """The store failed before all was imported (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    messages: list[ImportedMessage] = Field(default=[], description="What was imported before.")
    refused: list[NotImported] = Field(default=[], description="What was not, so far.")
