"""The parameters of requests, each with its limits."""

import re
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from gatepost.model.record import Disposition
from gatepost.store import Span
from gatepost.store.query import Query, QueryError, parse_query
from gatepost.web.api.operation import Body, Parameters
from gatepost.web.problems import Kind, Problem, WrongValue
from gatepost.web.recipients import RECIPIENTS, is_recipient

__all__ = [
    "AnswerHeld",
    "Arm",
    "ChangeList",
    "CountJournal",
    "DeleteMessages",
    "Form",
    "Forward",
    "Latest",
    "Learn",
    "ListConversations",
    "ListHeld",
    "ListJournal",
    "ListMessages",
    "MarkSeen",
    "OfTransaction",
    "Release",
    "StageName",
    "Wait",
    "read_query",
]

_QUERY = "In the language of the search field: `to:bob@example.com subject:welcome`; empty: all messages."
_LIMIT = "The maximum number."
_BEFORE = "The `next` of the previous page."

Id = Annotated[str, Field(min_length=1, max_length=64)]


_NUMBER = "[0-9]{1,18}"
_IDENTIFIER = "[0-9a-hjkmnp-tv-z]{16}"


def _written_like(pattern: str) -> AfterValidator:
    """Refuse what is no ``next`` of a page: with it, a loop over the pages might never end."""
    written = re.compile(pattern)

    def check(text: str) -> str:
        if not written.fullmatch(text):
            raise ValueError("the `next` of the previous page; leave it out for the first page")
        return text

    return AfterValidator(check)


def _pattern(pattern: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": f"^{pattern}$"})


_NUMBER_OR_IDENTIFIER = f"(?:{_NUMBER}|{_IDENTIFIER})"
MessageCursor = Annotated[str, _written_like(_NUMBER_OR_IDENTIFIER), _pattern(_NUMBER_OR_IDENTIFIER)]
"""`MessagePage.next`: a number, or for users of some domains an id."""
IdCursor = Annotated[str, _written_like(_IDENTIFIER), _pattern(_IDENTIFIER)]
"""The ``next`` of other lists."""


QueryText = Annotated[str, Field(json_schema_extra={"format": "message-query"})]
"""In the language of `parse_query`, which no pattern describes."""

_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


def _rfc3339(text: object) -> datetime:
    try:
        if isinstance(text, str) and _RFC3339.fullmatch(text):
            return datetime.fromisoformat(text.upper())
    except ValueError:  # the 31st of February
        pass
    raise ValueError("a time with its zone (RFC 3339) like 2026-11-30T08:00:00Z, with + written as %2B")


Moment = Annotated[datetime, BeforeValidator(_rfc3339)]
"""The ``date-time`` of JSON Schema and nothing else that pydantic reads, such as seconds since 1970."""


class ListMessages(Parameters):
    """Which messages."""

    query: QueryText = Field("", max_length=2000, description=_QUERY)
    limit: int = Field(50, ge=1, le=500, description=_LIMIT)
    before: MessageCursor | None = Field(None, description=_BEFORE)


class Latest(Parameters):
    """Of which messages."""

    query: QueryText = Field("", max_length=2000, description=_QUERY)


class DeleteMessages(Parameters):
    """Exactly one of query, id and all."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})
    query: QueryText | None = Field(None, min_length=1, max_length=2000, description="Those that match.")
    id: list[Id] = Field(
        [],
        min_length=1,
        max_length=500,
        description="Those of these ids, or of these transactions or sessions; may be repeated.",
    )
    all: Literal[True] | None = Field(None, description="`true`: all of them, in inbox and quarantine.")

    @model_validator(mode="after")
    def _one_of_three(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise ValueError("exactly one of query, id and all=true")
        return self


class Wait(Parameters):
    """What to wait for, and how long."""

    query: QueryText = Field("", max_length=2000, description=_QUERY)
    timeout: float = Field(10.0, ge=0, le=300, allow_inf_nan=False, description="Seconds.")
    count: int = Field(1, ge=1, le=20, description="The number of messages to wait for.")
    after: Id | None = Field(
        None, description="The id of a message: only later messages count. Default: all messages count."
    )


class Form(Parameters):
    """In which form."""

    remote_images: bool = Field(default=False, description="`true`: the HTML may load remote images.")
    colors: Literal["light", "dark"] = Field(
        "light", description="Which `prefers-color-scheme` the rules of the HTML are to find."
    )


class ListConversations(Parameters):
    """Which sessions."""

    client: str | None = Field(None, max_length=64, description="The client's IP address.")
    address: str | None = Field(
        None, max_length=320, description="A reverse-path or forward-path of one of its transactions."
    )
    limit: int = Field(50, ge=1, le=500, description=_LIMIT)
    before: IdCursor | None = Field(None, description=_BEFORE)


class OfTransaction(Parameters):
    """Which part of a session."""

    transaction: Id | None = Field(None, description="Only the part of this transaction.")


class ListJournal(Parameters):
    """Which records; `*` in an address, a client, a user, a node or a Message-ID matches any characters."""

    id: Id | None = Field(
        None, description="The id of a transaction, of its session, or of a message kept from it."
    )
    client: str | None = Field(None, max_length=64)
    mail_from: str | None = Field(None, max_length=320, description="Empty: the null reverse-path.")
    recipient: str | None = Field(None, max_length=320)
    address: str | None = Field(None, max_length=320, description="The reverse-path or a forward-path.")
    session_id: Id | None = Field(None, description="The session's id, as in conversations.")
    user: str | None = Field(None, max_length=320, description="The user name that AUTH established.")
    node: str | None = Field(None, max_length=64, description="The node that wrote the record.")
    message_id: str | None = Field(None, max_length=1000)
    rule: str | None = Field(
        None,
        max_length=200,
        description="A rule that decided for a recipient, or a hit of it in observe mode.",
    )
    disposition: Disposition | None = Field(
        None, description="The disposition of at least one recipient, or of a refusal before RCPT."
    )
    since: Moment | None = Field(None, description="RFC 3339, with the zone.")
    until: Moment | None = Field(None, description="RFC 3339, with the zone.")
    limit: int = Field(50, ge=1, le=500, description=_LIMIT)
    before: IdCursor | None = Field(None, description=_BEFORE)


class CountJournal(Parameters):
    """How far to look back."""

    span: Span = Field(Span.DAY, description="The last hour, day, week or month.")


class MarkSeen(Body):
    """Which messages, and how."""

    ids: list[Id] = Field(min_length=1, max_length=500)
    seen: bool = True


def _recipient(address: str) -> str:
    if not is_recipient(address):
        raise ValueError("an address like bob@example.com, without brackets")
    return address


Address = Annotated[
    str,
    Field(min_length=1, max_length=320, json_schema_extra={"format": "mail-address"}),
    AfterValidator(_recipient),
]
Recipients = Annotated[list[Address], Field(min_length=1, max_length=RECIPIENTS)]


class Release(Body):
    """To whom."""

    to: Recipients | None = Field(None, description="Addresses to use instead of the message's recipients.")


class Forward(Body):
    """To whom."""

    to: Recipients | None = Field(None, description="Addresses to use instead of the message's recipients.")


class Learn(Body):
    """What the message is."""

    kind: Literal["spam", "ham"] = Field(description="`ham` is mail that is not spam.")


class ChangeList(Body):
    """Which entry, and what to do with it."""

    do: Literal["block", "allow"] = Field(description="Which lists: the blocked ones, or the allowed ones.")
    entry: str = Field(
        min_length=1,
        max_length=320,
        description="An address, a domain, a pattern like `*@*.example.com`, or a client's address or "
        "network.",
    )
    remove: bool = Field(default=False, description="`true`: delete the line that is this entry.")
    list: str | None = Field(
        None, max_length=64, description="Another list of rules.yaml, instead of the one for `do`."
    )
    note: str = Field("", max_length=200, description="A remark for the line.")


StageName = Literal["connect", "helo", "mail", "rcpt", "message"]


class ListHeld(Parameters):
    """Which sessions, and how long to wait for the first."""

    breakpoint: Id | None = Field(None, description="Only those that this breakpoint holds.")
    timeout: float = Field(
        0.0, ge=0, le=300, allow_inf_nan=False, description="Seconds to wait for the first one; then none."
    )


def _whole(number: object) -> object:
    """An integer is a number without a fraction, however it is written (JSON Schema)."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


Count = Annotated[int, Field(ge=1, le=1_000_000), BeforeValidator(_whole)]
ConditionData = Annotated[dict[str, Any], Field(json_schema_extra={"format": "condition"})]
"""As ``when`` in rules.yaml, which the schema does not describe."""


class Arm(Body):
    """Which sessions to hold."""

    stage: StageName
    when: ConditionData | None = Field(None, description="A condition; null: every session.")
    count: Count | None = Field(1, description="How many sessions; null: all.")
    deadline: float = Field(
        60.0, ge=0.01, le=240, allow_inf_nan=False, description="Seconds until `on_error` answers."
    )
    on_error: Literal["defer", "skip"] = Field(
        "defer", description="Without an answer: 451, or `skip`: go on as decided."
    )


_Address = Annotated[str, Field(max_length=320)]


class AnswerHeld(Body):
    """What to reply, and what to change."""

    reply: str | None = Field(
        None,
        min_length=3,
        max_length=2000,
        description="For example `550 5.7.1 No`; null: go on as decided.",
    )
    mail_from: _Address | None = Field(None, description="Another reverse-path; empty: the null one.")
    recipients: list[_Address] | None = Field(
        None, min_length=1, max_length=1000, description="All forward-paths."
    )
    message: str | None = Field(
        None, description="Another message, as text; its lines may end with LF, it is sent as UTF-8."
    )
    message_base64: str | None = Field(None, description="Another message, as exact bytes.")


def read_query(text: str) -> Query:
    """Parse a query; raises Problem with the place of the error."""
    try:
        return parse_query(text)
    except QueryError as error:
        raise Problem(
            Kind.WRONG_REQUEST,
            f"query, character {error.position + 1}: {error}",
            errors=[WrongValue(where="query query", found=text[:200], expected=str(error))],
        ) from None
