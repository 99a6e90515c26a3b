"""What went wrong, as ``application/problem+json`` (RFC 9457)."""

import json
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from pydantic import BaseModel, Field
from starlette.responses import Response

__all__ = ["MEDIA_TYPE", "Kind", "Problem", "ProblemAnswer", "WrongValue", "as_problem"]

MEDIA_TYPE = "application/problem+json"


class Kind(Enum):
    """The kinds of problems: name, status and title. Names and statuses stay as they are."""

    WRONG_REQUEST = ("wrong-request", 400, "The request has values that are not taken")
    NO_PASSWORD = ("no-password", 401, "The password is needed")
    FOREIGN = ("foreign", 403, "The request comes from another site")
    NOT_FOUND = ("not-found", 404, "There is no such thing")
    WRONG_METHOD = ("wrong-method", 405, "This address takes no such request")
    NO_RELEASE = ("no-release", 409, "Nothing can be sent on from here")
    STATE = ("state", 409, "The message is not in quarantine any more")
    TOO_LARGE = ("too-large", 413, "The request is too large")
    OTHER_HOST = ("other-host", 421, "The desk does not answer to this name")
    TOO_MANY_TRIES = ("too-many-tries", 429, "Too many wrong passwords")
    INTERNAL = ("internal", 500, "Something went wrong")
    NOT_TAKEN = ("not-taken", 502, "The server did not take the message")
    STORE = ("store", 503, "The store does not answer")
    TOO_MANY_WAIT = ("too-many-wait", 503, "Too many requests wait already")
    NOTHING_CAME = ("nothing-came", 504, "No such message came in time")

    def __init__(self, label: str, status: int, title: str) -> None:
        self.label = label
        self.status = status
        self.title = title

    @property
    def uri(self) -> str:
        """Where people read about it; relative to the desk."""
        return f"/api/#problem-{self.label}"


class WrongValue(BaseModel):
    """One value that was not taken."""

    where: str = Field(description="For example `query limit` or `body ids.0`.")
    found: str = Field(description="The value as text, at most 200 characters; empty where there was none.")
    expected: str = Field(description="What would have been right, for a person.")


class ProblemAnswer(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str = Field(description="The kind of problem, for programs: a URI reference that stays the same.")
    title: str = Field(description="The kind of problem, for a person.")
    status: int = Field(description="The HTTP status code.")
    detail: str = Field(description="What is wrong this time, for a person.")
    errors: list[WrongValue] = Field(
        default=[], description="The values that were not taken; only with status 400."
    )


class Problem(Exception):  # noqa: N818 - RFC 9457's word
    """Ends a request; ``members`` are further members of the answer, ready for JSON."""

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
