"""What requests may ask with, each value with its limits."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from gatepost.record import Disposition
from gatepost.store.query import Query, QueryError, parse_query
from gatepost.store.statistics import Span
from gatepost.web.api.operation import Parameters
from gatepost.web.problems import Kind, Problem, WrongValue

__all__ = [
    "CountJournal",
    "DeleteMessages",
    "Form",
    "ListConversations",
    "ListJournal",
    "ListMessages",
    "MarkSeen",
    "OfTransaction",
    "Release",
    "Wait",
    "read_query",
]

_QUERY = "In the language of the search field: `to:bob@example.com subject:welcome`; empty: all messages."
_LIMIT = "How many at most."
_BEFORE = "The `next` of the page before."

Id = Annotated[str, Field(min_length=1, max_length=64)]


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


Moment = Annotated[datetime, AfterValidator(_aware)]
"""RFC 3339; without a zone UTC."""


class ListMessages(Parameters):
    """Which messages."""

    query: str = Field("", max_length=2000, description=_QUERY)
    limit: int = Field(50, ge=1, le=500, description=_LIMIT)
    before: Id | None = Field(None, description=_BEFORE)


class DeleteMessages(Parameters):
    """Exactly one of the three."""

    query: str | None = Field(None, min_length=1, max_length=2000, description="Those that match.")
    id: list[Id] = Field([], max_length=500, description="Those of these ids; may be repeated.")
    all: bool = Field(default=False, description="`true`: all of them, in inbox and quarantine.")


class Wait(Parameters):
    """What to wait for, and how long."""

    query: str = Field("", max_length=2000, description=_QUERY)
    timeout: float = Field(10.0, ge=0, le=300, allow_inf_nan=False, description="Seconds.")
    count: int = Field(1, ge=1, le=20, description="Wait for so many messages.")
    after: Id | None = Field(
        None, description="The id of a message: only what came after it counts. Default: all that is there."
    )


class Form(Parameters):
    """In which form."""

    remote_images: bool = Field(default=False, description="`true`: whoever shows it may load remote images.")


class ListConversations(Parameters):
    """Which sessions."""

    client: str | None = Field(None, max_length=64, description="The client's IP address.")
    address: str | None = Field(
        None, max_length=320, description="A reverse-path or forward-path of one of its transactions."
    )
    limit: int = Field(50, ge=1, le=500, description=_LIMIT)
    before: Id | None = Field(None, description=_BEFORE)


class OfTransaction(Parameters):
    """Which part of a session."""

    transaction: Id | None = Field(None, description="Only what was said in this transaction.")


class ListJournal(Parameters):
    """Which records; `*` in an address, a client or a Message-ID stands for any characters."""

    client: str | None = Field(None, max_length=64)
    mail_from: str | None = Field(None, max_length=320, description="Empty: the null reverse-path.")
    recipient: str | None = Field(None, max_length=320)
    address: str | None = Field(None, max_length=320, description="The reverse-path or a forward-path.")
    session_id: Id | None = Field(None, description="The session's, as conversations have it.")
    message_id: str | None = Field(None, max_length=1000)
    rule: str | None = Field(
        None, max_length=200, description="It decided for a recipient, or hit and was only observed."
    )
    disposition: Disposition | None = Field(None, description="Of at least one recipient.")
    since: Moment | None = Field(None, description="RFC 3339; without a zone UTC.")
    until: Moment | None = Field(None, description="RFC 3339; without a zone UTC.")
    limit: int = Field(50, ge=1, le=500, description=_LIMIT)
    before: Id | None = Field(None, description=_BEFORE)


class CountJournal(Parameters):
    """How far to look back."""

    span: Span = Field(Span.DAY, description="The last hour, day, week or month.")


class MarkSeen(BaseModel):
    """Which messages, and how."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    ids: list[Id] = Field(min_length=1, max_length=500)
    seen: bool = True


class Release(BaseModel):
    """To whom."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    to: list[Annotated[str, Field(min_length=1, max_length=320)]] | None = Field(
        None, min_length=1, max_length=100, description="Instead of its own recipients."
    )


def read_query(text: str) -> Query:
    """Raises Problem with the place where it went wrong."""
    try:
        return parse_query(text)
    except QueryError as error:
        raise Problem(
            Kind.WRONG_REQUEST,
            f"query, character {error.position + 1}: {error}",
            errors=[WrongValue(where="query query", found=text[:200], expected=str(error))],
        ) from None
