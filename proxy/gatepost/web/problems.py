"""Errors as ``application/problem+json`` (RFC 9457)."""

import json
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from pydantic import BaseModel, Field
from starlette.responses import Response

from gatepost.model.replies import (
    BAD_MAIL_FROM,
    BAD_RECIPIENT,
    BARE_NEWLINE,
    LOST,
    NO_8BIT,
    NO_SMTPUTF8,
    TOO_LARGE_UPSTREAM,
    UNREACHABLE,
)
from gatepost.model.verdict import Reply

__all__ = ["MEDIA_TYPE", "Kind", "Problem", "ProblemAnswer", "WrongValue", "as_problem", "why_not_taken"]

MEDIA_TYPE = "application/problem+json"
_WITHOUT_AN_ANSWER = (UNREACHABLE, LOST)
_WITHOUT_ASKING = (BAD_MAIL_FROM, BAD_RECIPIENT, BARE_NEWLINE, NO_8BIT, NO_SMTPUTF8, TOO_LARGE_UPSTREAM)


class Kind(Enum):
    """The kinds of problems: name, status and title. Names and statuses stay as they are."""

    WRONG_REQUEST = ("wrong-request", 400, "The request has invalid values")
    NO_PASSWORD = ("no-password", 401, "A password is required")
    FOREIGN = ("foreign", 403, "The request comes from another site")
    NOT_PERMITTED = ("not-permitted", 403, "The user's rights do not include this")
    NOT_ALLOWED = ("not-allowed", 403, "Mail is not forwarded to this recipient")
    NOT_FOUND = ("not-found", 404, "Not found")
    WRONG_METHOD = ("wrong-method", 405, "Method not allowed")
    AMBIGUOUS = ("ambiguous", 409, "The id names several")
    NO_RELEASE = ("no-release", 409, "This server cannot send mail")
    NO_FORWARD = ("no-forward", 409, "This server does not forward mail")
    NO_LEARNING = ("no-learning", 409, "No rule learns from messages")
    NO_IMPORT = ("no-import", 409, "This server does not import messages")
    NO_LIST = ("no-list", 409, "There is no list for this entry")
    NO_HOLDS = ("no-holds", 409, "No session can be held here")
    TOO_MANY_BREAKPOINTS = ("too-many-breakpoints", 409, "No more breakpoints can be armed")
    NOT_HELD = ("not-held", 409, "The session is not held any more")
    STATE = ("state", 409, "The message is no longer in quarantine")
    TOO_LARGE = ("too-large", 413, "The request is too large")
    WRONG_MEDIA_TYPE = ("wrong-media-type", 415, "The body has another media type")
    OTHER_HOST = ("other-host", 421, "Unknown host name")
    TOO_MANY_TRIES = ("too-many-tries", 429, "Too many wrong passwords")
    INTERNAL = ("internal", 500, "Something went wrong")
    LIST_FILE = ("list-file", 500, "The list's file cannot be changed")
    NOT_RELOADED = ("not-reloaded", 500, "The gateway has not reloaded its rules")
    NOT_TAKEN = ("not-taken", 502, "The server has not taken the message")
    NOT_LEARNED = ("not-learned", 502, "Not every rule has learned the message")
    STORE = ("store", 503, "The store is not available")
    STOPPING = ("stopping", 503, "The web desk stops")
    TOO_MANY_WAIT = ("too-many-wait", 503, "Too many waiting requests")
    IN_DOUBT = ("in-doubt", 504, "It is not known whether the server has the message")
    NOTHING_CAME = ("nothing-came", 504, "No matching message in time")

    def __init__(self, label: str, status: int, title: str) -> None:
        self.label = label
        self.status = status
        self.title = title

    @property
    def uri(self) -> str:
        """The address of its description, relative to the desk."""
        return f"/api/#problem-{self.label}"


class WrongValue(BaseModel):
    """One invalid value."""

    where: str = Field(description="For example `query limit` or `body ids.0`.")
    found: str = Field(description="The value as text, at most 200 characters; empty if there was none.")
    expected: str = Field(description="What was expected, for a person.")


class ProblemAnswer(BaseModel):
    """An error (RFC 9457)."""

    type: str = Field(description="The kind of problem, for programs: a stable URI reference.")
    title: str = Field(description="The kind of problem, for a person.")
    status: int = Field(description="The HTTP status code.")
    detail: str = Field(description="What is wrong with this request, for a person.")
    errors: list[WrongValue] = Field(default=[], description="The invalid values; only with status 400.")


class Problem(Exception):  # noqa: N818 - RFC 9457's word
    """Ends a request; ``members`` are further JSON members of the response."""

    def __init__(
        self,
        kind: Kind,
        detail: str,
        *,
        errors: Sequence[WrongValue] = (),
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self._errors = list(errors)
        self._headers = dict(headers or {})
        self._members = members

    def response(self) -> Response:
        """The answer."""
        answer = ProblemAnswer(
            type=self.kind.uri,
            title=self.kind.title,
            status=self.kind.status,
            detail=str(self),
            errors=self._errors,
        )
        content = answer.model_dump(mode="json", exclude_defaults=True) | self._members
        return Response(json.dumps(content), self.kind.status, self._headers, MEDIA_TYPE)


def as_problem(refusal: Response) -> Response:
    """A refusal in plain text as a problem, with the same status, detail and headers."""
    kind = next((kind for kind in Kind if kind.status == refusal.status_code), Kind.INTERNAL)
    headers = {name: value for name, value in refusal.headers.items() if not name.startswith("content-")}
    return Problem(kind, bytes(refusal.body).decode().strip(), headers=headers).response()


def why_not_taken(reply: Reply) -> str:
    """Why a server has not taken a message, for a person: its own reply, or what we say in its place."""
    if reply in _WITHOUT_AN_ANSWER:
        return f"The server has not answered: {reply}"
    if reply in _WITHOUT_ASKING:
        return f"Nothing was sent: {reply}"
    return f"The server's reply: {reply}"
