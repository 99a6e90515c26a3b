"""The responses of the API: names, units and order are stable; new names may be added.

Times are RFC 3339 in UTC, sizes bytes, durations seconds. Text from mail may be anything: it is
for people, and no decision should depend on it alone.
"""

from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field

from gatepost.model.saved import IMPORTED
from gatepost.store import Box, State
from gatepost.web.api.answer import Answer, Text
from gatepost.web.api.journal_responses import JournalRecord

__all__ = [
    "Attachment",
    "CalendarAttendee",
    "CalendarMoment",
    "Counts",
    "Finding",
    "HeaderField",
    "Info",
    "Invitation",
    "Link",
    "MainLink",
    "Message",
    "MessagePage",
    "MessageSummary",
    "MimePart",
    "NoText",
    "NothingCame",
    "Removed",
    "Report",
    "ReportedRecipient",
    "Waited",
    "fields_of",
]

_REASON = f"The rule's reason, for a person; or `{IMPORTED}`."


def _isoformat(moment: date | str) -> str:
    return moment if isinstance(moment, str) else moment.isoformat()


class MainLink(Answer):
    """The link that a message is about."""

    text: Text = Field(description="The words one reads; empty if one reads the URL itself.")
    href: Text = Field(description="http or https.")


class Link(Answer):
    """A link of the HTML."""

    text: Text = Field(description="The words one reads; of an image its alternative text in brackets.")
    href: Text = Field(description="http, https, mailto or tel.")
    misleading: bool = Field(description="True if the words name another host than it leads to.")


class HeaderField(Answer):
    """One header field."""

    name: Text
    value: Text = Field(description="Unfolded and decoded.")


class Attachment(Answer):
    """A part other than the message's text."""

    number: int = Field(description="The number of the part; used in the attachment's address.")
    filename: Text = Field(description="A safe file name; never empty.")
    content_type: Text
    size: int = Field(description="Size in bytes, decoded.")
    inline: bool = Field(description="True if the HTML shows it in its place.")


class MimePart(Answer):
    """One entity of the MIME tree."""

    number: int = Field(description="1 for the message; then in the order in which the parts begin.")
    content_type: Text
    charset: Text = Field(description="As declared, or empty.")
    transfer_encoding: Text = Field(description="As declared, or empty.")
    filename: Text = Field(description="As the sender wrote it, or empty.")
    disposition: Text = Field(description="`inline`, `attachment`, another one, or empty.")
    size: int = Field(description="In bytes.")
    fault: Text = Field(description="What is wrong with its structure, or empty.")
    children: list["MimePart"]


class Finding(Answer):
    """One thing that is wrong with a message."""

    severity: Literal["error", "warning", "note"]
    code: str = Field(description="Stable, for programs.")
    text: Text = Field(description="What is wrong.")
    where: Text = Field(description="For example `line 12`; empty for the whole message.")
    advice: Text


class Removed(Answer):
    """Elements of the HTML that are not shown."""

    element: Literal[
        "form", "field", "svg", "video", "audio", "object", "frame", "canvas", "math", "script"
    ] = Field(description="`field`: a form field outside a form; `object`: also embed and applet.")
    count: int


class NoText(Answer):
    """Why a message has no text, or less than was sent."""

    reason: Literal[
        "openpgp",
        "smime-encrypted",
        "smime-signed",
        "smime-compressed",
        "outlook",
        "attachments",
        "images",
        "empty",
    ] = Field(
        description="The first four: the text is sealed; `outlook`: it is in a winmail.dat; `attachments`, "
        "`images`: there is nothing but these."
    )
    text: Text = Field(description="The same, for a person.")


class CalendarMoment(Answer):
    """A date, or a date with a time of day."""

    local: Annotated[str, BeforeValidator(_isoformat)] = Field(
        description="As it is written: `2026-12-03`, or `2026-12-03T14:00:00` in the time zone."
    )
    time_zone: Text = Field(description="`UTC`, the name as it is written, or empty: the time where one is.")
    utc: datetime | None = Field(description="In UTC; null for a date, and if the time zone is unknown.")


class CalendarAttendee(Answer):
    """Somebody who invites or is invited."""

    name: Text
    address: Text = Field(description="Without `mailto:`.")
    role: Text = Field(
        description="`chair`, `req-participant`, `opt-participant`, `non-participant` or empty."
    )
    status: Text = Field(
        description="`needs-action`, `accepted`, `declined`, `tentative`, `delegated` or empty."
    )


class Invitation(Answer):
    """The first event of a calendar in a message (RFC 5545, RFC 5546)."""

    method: Text = Field(description="`REQUEST`, `CANCEL`, `REPLY`, another one, or empty.")
    kind: Text = Field(description="`event`, `todo`, `journal` or `freebusy`.")
    summary: Text
    description: Text
    location: Text
    status: Text = Field(description="`confirmed`, `tentative`, `cancelled`, another one, or empty.")
    start: CalendarMoment | None
    end: CalendarMoment | None = Field(
        description="Of a day-long event the day after its last one; of a to-do when it is due."
    )
    when: Text = Field(description="Start and end for a person.")
    recurrence: Text = Field(
        description="In words, for example `every week on Monday, 10 times`; a complicated rule as it is."
    )
    organizer: CalendarAttendee | None
    attendees: list[CalendarAttendee] = Field(description="At most 200.")
    uid: Text
    sequence: int = Field(description="The version of the event, from 0.")
    others: int = Field(description="How many more events the calendar has.")
    problems: list[Text] = Field(description="What a calendar program may not understand, for a person.")


class ReportedRecipient(Answer):
    """What a report says of one recipient."""

    address: Text
    original_address: Text = Field(description="As the sender wrote it, if that is another one.")
    action: Text = Field(
        description="Of a bounce `failed`, `delayed`, `delivered`, `relayed`, `expanded`; of a receipt "
        "`displayed`, `deleted`, `dispatched`, `processed`; empty for a complaint."
    )
    status: Text = Field(description="The enhanced status code, or empty.")
    meaning: Text = Field(description="The status in words, or empty.")
    diagnostic: Text = Field(description="The remote server's reply.")
    remote_server: Text
    last_attempt: Text = Field(description="As written.")
    retry_until: Text = Field(description="As written.")


class Report(Answer):
    """A bounce (RFC 3464), a receipt (RFC 8098) or a complaint (RFC 5965)."""

    kind: Literal["delivery-status", "disposition-notification", "feedback-report"]
    reporter: Text = Field(description="The server or program that reports.")
    recipients: list[ReportedRecipient] = Field(description="At most 100.")
    feedback_type: Text = Field(description="Of a complaint: `abuse`, `fraud`, another one.")
    message_id: Text = Field(description="Of the message that the report is about.")
    subject: Text = Field(description="Of that message.")
    fields: list[HeaderField] = Field(description="What the report says about the whole message.")


class MessageSummary(Answer):
    """A stored message in a list."""

    id: str = Field(description="16 letters and digits; later ids sort after earlier ones.")
    box: Box
    state: State
    transaction_id: str = Field(description="The id of the journal's record.")
    created_at: datetime = Field(description="When it was received.")
    client: Text = Field(description="The client's IP address.")
    mail_from: Text = Field(description="The reverse-path; empty: the null one.")
    recipients: list[Text] = Field(description="The forward-paths for which it is stored.")
    rule: Text | None = Field(description="The rule that quarantined it.")
    reason: Text = Field(description=_REASON)
    size: int = Field(description="In bytes.")
    subject: Text = Field(description="Decoded, at most 200 characters.")
    author: Text = Field(description="The From field, decoded, at most 200 characters.")
    message_id: Text = Field(description="The Message-ID field.")
    unread: bool = Field(description="False after it was opened or marked as seen.")
    attachment_count: int = Field(description="Without the images that the HTML shows in their places.")
    snippet: Text = Field(description="The beginning of its text.")
    changed_by: Text | None = Field(description="Who released or deleted it.")
    changed_at: datetime | None = Field(description="When.")
    note: Text = Field(description="Of a release: the recipients, and the server's reply.")


class MessagePage(Answer):
    """The newest messages first."""

    messages: list[MessageSummary]
    next: str | None = Field(description="Pass it as `before` for the next page; null: that was the last.")


class Message(Answer):
    """One stored message without its raw bytes."""

    id: str = Field(description="16 letters and digits; later ids sort after earlier ones.")
    box: Box
    state: State
    transaction_id: str = Field(description="The id of the journal's record.")
    created_at: datetime = Field(description="When it was received.")
    client: Text = Field(description="The client's IP address.")
    mail_from: Text = Field(description="The reverse-path; empty: the null one.")
    recipients: list[Text] = Field(description="The forward-paths for which it is stored.")
    rule: Text | None = Field(description="The rule that quarantined it.")
    reason: Text = Field(description=_REASON)
    size: int = Field(description="In bytes.")
    changed_by: Text | None = Field(description="Who released or deleted it.")
    changed_at: datetime | None = Field(description="When.")
    note: Text = Field(description="Of a release: the recipients, and the server's reply.")
    edits: list[Annotated[str, BeforeValidator(str)]] = Field(
        description="What rules changed in the header section, in order; the message is shown with it."
    )
    headers: list[HeaderField] = Field(description="In the order of the message; at most 2,000.")
    author: Text = Field(description="The From field, decoded; empty where there is none.")
    to: Text = Field(description="The To field, decoded.")
    cc: Text = Field(description="The Cc field, decoded.")
    bcc: list[Text] = Field(description="The recipients that neither To nor Cc names.")
    subject: Text = Field(description="The Subject field, decoded.")
    date: Text = Field(description="As the sender wrote it.")
    message_id: Text = Field(description="The Message-ID field.")
    text: Text | None = Field(
        description="The plain text, or one made from the HTML; null for a message without text."
    )
    html: Text | None = Field(
        description="A sanitised document without scripts and remote images; null for a message without HTML."
    )
    removed: list[Removed] = Field(description="What of the HTML is not shown, and a reader might miss.")
    no_text: NoText | None = Field(
        description="Why there is no text, or why it may not be all; null: nothing is missing."
    )
    invitation: Invitation | None = Field(
        description="What the first calendar part says; null: there is none."
    )
    report: Report | None = Field(
        description="What a bounce, a receipt or a complaint says; null: it is none."
    )
    links: list[Text] = Field(description="The http and https addresses in text and HTML, in order.")
    anchors: list[Link] = Field(description="The links of the HTML with their words, in order; at most 500.")
    main_link: MainLink | None = Field(
        description="The link that the message is about, for example to confirm an address; null if none "
        "clearly is."
    )
    codes: list[Text] = Field(description="What looks like a one-time code, the likeliest first.")
    attachments: list[Attachment] = Field(
        description="The parts that are not its text, without `inline_images`."
    )
    inline_images: list[Attachment] = Field(description="The images that the HTML shows in their places.")
    tree: MimePart
    lint: list[Finding] = Field(
        description="What is wrong with the message and with the commands before it; errors first."
    )
    notes: list[Text] = Field(description="What is not shown because the message is too large.")
    record: JournalRecord | None = Field(
        description="The journal's record of its transaction: session, user, verdicts; null: deleted."
    )


class Waited(Answer):
    """The messages, in the order of arrival."""

    messages: list[Message]


class NothingCame(BaseModel):
    """No message arrived in time (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    query: str
    timeout: float = Field(description="Seconds.")
    found: int = Field(description="How many messages match; fewer than were waited for.")
    newest: list[MessageSummary] = Field(description="The newest messages of all, at most 5.")


class Counts(Answer):
    """How many messages there are."""

    inbox: int
    quarantined: int
    unread: int


class Info(Answer):
    """This server: version, mode and addresses."""

    product: Literal["gatepost"] = "gatepost"
    version: str
    mode: Literal["gateway", "complaints"]
    smtp: list[str] = Field(description="The SMTP address, as `host:port`.")
    can_release: bool
    forwards_to: str | None = Field(
        description="The server to which messages can be forwarded, as `host:port`; null: there is none."
    )
    counts: Counts


def fields_of(value: object) -> dict[str, Any]:
    """The fields of a slotted dataclass, those of its bases first."""
    return {
        name: getattr(value, name)
        for kind in reversed(type(value).__mro__)
        for name in getattr(kind, "__dataclass_fields__", ())
    }
