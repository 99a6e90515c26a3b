"""One operation of the API: its parameters and response, and how a request is checked and called."""

import json
import logging
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gatepost.model.user import Need
from gatepost.store import StoreError
from gatepost.values import value
from gatepost.web.access import Guarded
from gatepost.web.desk import Desk
from gatepost.web.problems import Kind, Problem, WrongValue
from gatepost.web.rendering import desk_of
from gatepost.web.store_trouble import trouble_of

__all__ = [
    "Body",
    "Call",
    "Link",
    "Method",
    "NoBody",
    "NoParameters",
    "Operation",
    "Parameters",
    "Resource",
    "make_routes",
]

log = logging.getLogger(__name__)

Method = Literal["GET", "POST", "PATCH", "DELETE"]
_BODY_OCTETS = 64 << 10
_SHOWN = 200
_LITERAL = re.compile(r"true|false|-?(?:0|[1-9][0-9]{0,99})(?:\.[0-9]{1,99})?(?:[eE][+-]?[0-9]{1,3})?")
"""How the parameters that are numbers, true or false are written: as in JSON."""


class Parameters(BaseModel):
    """The query parameters; an unknown name is an error."""

    # Its schema is made when the first request is checked: those of all operations take 15 ms.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class NoParameters(Parameters):
    """The parameters of operations that have none."""


class Body(BaseModel):
    """A body that is JSON; an unknown name is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class NoBody(BaseModel):
    """The body of operations that have none."""


P_co = TypeVar("P_co", bound=Parameters, covariant=True)
B_co = TypeVar("B_co", bound=BaseModel, covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[P_co, B_co]):
    """One request, checked."""

    request: Request
    desk: Desk
    parameters: P_co
    body: B_co

    def path(self, name: str) -> str:
        """A part of the path."""
        return str(self.request.path_params[name])


@value
class Link:
    """What to call next with values of a response (an OpenAPI link)."""

    name: str
    """Unique in its operation."""
    to: str
    """The name of the operation."""
    given: Mapping[str, str]
    """Its parameters, each as a JSON pointer into the response."""


@value
class Operation:
    """One row of the API's table; the OpenAPI document and the routes are made from these."""

    method: Method
    path: str
    """Below ``/api/v1``; parts in braces are ids, those that end in ``:int`` numbers."""
    name: str
    """Stable: the ``operationId``."""
    needs: Need
    """What a user needs to call it."""
    audit: str = ""
    """The action under which it is noted in the audit log; empty: it reads no message and changes nothing."""
    group: str
    summary: str
    description: str = ""
    run: Callable[[Any], Awaitable[BaseModel | Response]]
    """Takes a Call; raises Problem, StoreError."""
    parameters: type[Parameters] = NoParameters
    body: type[BaseModel] = NoBody
    body_octets: int = _BODY_OCTETS
    """The largest body."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Media types of a body that ``run`` reads from the request, each with an example; empty: it is JSON."""
    answer: type[BaseModel] | str
    """A model for JSON, or else a media type."""
    problems: Mapping[Kind, type[BaseModel] | None] | tuple[Kind, ...] = ()
    """Problems in addition to those of every operation."""
    links: tuple[Link, ...] = ()


def make_routes(operations: Iterable[Operation], prefix: str) -> list[Guarded]:
    """One route for each path and any method, so that a wrong method gets 405 and a wrong path 404."""
    by_path: defaultdict[str, dict[str, Operation]] = defaultdict(dict)
    for operation in operations:
        by_path[operation.path][operation.method] = operation
    return [
        Guarded(
            f"{prefix}{path}",
            Resource(methods),
            needs={method: operation.needs for method, operation in methods.items()},
            audit={method: operation.audit for method, operation in methods.items()},
        )
        for path, methods in by_path.items()
    ]


class Resource:
    """The operations at one path, by method; an ASGI application, to which Starlette passes any method."""

    def __init__(self, operations: Mapping[str, Operation]) -> None:
        self._operations = operations
        head = ["HEAD"] if "GET" in operations else []
        self._allow = {"allow": ", ".join([*operations, *head, "OPTIONS"])}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102 - ASGI says it
        response = await self._answer(Request(scope, receive))
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        if request.method == "OPTIONS":
            return Response(None, 204, self._allow)
        operation = self._operations.get("GET" if request.method == "HEAD" else request.method)
        if operation is None:
            said = f"{request.method[:20]} is not allowed here, only {self._allow['allow']}"
            return Problem(Kind.WRONG_METHOD, said, headers=self._allow).response()
        try:
            return _response(await operation.run(await _call(operation, request)))
        except Problem as problem:
            return problem.response()
        except StoreError as error:
            trouble_of(request).note(f"the API cannot answer {request.url.path!r}", error)
            return Problem(Kind.STORE, "Try again; see the log of gatepost").response()
        except Exception:
            log.exception("the API cannot answer %r", request.url.path)
            return Problem(Kind.INTERNAL, "See the log of gatepost").response()


def _response(answer: BaseModel | Response) -> Response:
    if isinstance(answer, Response):
        return answer
    return Response(answer.model_dump_json(), media_type="application/json")


async def _call(operation: Operation, request: Request) -> Call[Any, Any]:
    return Call(
        request=request,
        desk=desk_of(request),
        parameters=_parameters(operation.parameters, request),
        body=NoBody() if operation.body is NoBody else await _body(operation, request),
    )


def _parameters(model: type[Parameters], request: Request) -> Parameters:
    given = request.query_params
    values: dict[str, Any] = {}
    for name in given:
        several = given.getlist(name)
        field = model.model_fields.get(name)
        if field and get_origin(field.annotation) is list:
            values[name] = several
        elif len(several) > 1:
            again = WrongValue(where=f"query {name}", found=_text(several[1]), expected="it once")
            raise _wrong([again])
        elif field and not _is_text(field.annotation) and _LITERAL.fullmatch(several[0]):
            values[name] = json.loads(several[0])
        else:
            values[name] = several[0]
    return _validated(model, json.dumps(values), "query")


def _is_text(annotation: object) -> bool:
    """False for numbers and booleans, also where they may be left out."""
    return not (
        isinstance(annotation, bool)
        or annotation in (int, float, bool)
        or any(not _is_text(one) for one in get_args(annotation))
    )


async def _body(operation: Operation, request: Request) -> BaseModel:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > operation.body_octets:
            limit = operation.body_octets
            raise Problem(Kind.TOO_LARGE, f"The body has {len(body)} bytes or more, at most {limit}")
    return _validated(operation.body, body or b"{}", "body")  # an operation may need no values


M = TypeVar("M", bound=BaseModel)


def _validated(model: type[M], document: str | bytes, where: str) -> M:
    """The values of a JSON document; strictly, so that what the schema does not allow is an error."""
    try:
        return model.model_validate_json(document, strict=True)
    except ValidationError as error:
        raise _wrong(
            [
                WrongValue(
                    where=" ".join((where, ".".join(map(str, one["loc"])))).rstrip(),
                    found="" if one["type"] == "missing" else _text(one["input"]),
                    expected=_expected(one["type"], one["msg"], model),
                )
                for one in error.errors(include_url=False, include_context=False)
            ]
        ) from None


def _expected(kind: str, message: str, model: type[BaseModel]) -> str:
    if kind == "extra_forbidden":
        return f"one of: {', '.join(model.model_fields)}" if model.model_fields else "no parameters"
    if kind == "missing":
        return "a value"
    if kind == "json_invalid":
        return message.replace("Invalid JSON: ", "a JSON document in UTF-8: ")
    return message.removeprefix("Value error, ").removeprefix("Input should be ")


def _text(value: object) -> str:
    if isinstance(value, bytes):
        value = value[: 4 * _SHOWN].decode("utf-8", "replace")
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text.encode("utf-8", "replace").decode()[:_SHOWN]


def _wrong(errors: list[WrongValue]) -> Problem:
    detail = "; ".join(f"{one.where}: found {one.found!r}, expected {one.expected}" for one in errors[:3])
    return Problem(Kind.WRONG_REQUEST, detail, errors=errors)
