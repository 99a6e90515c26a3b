"""One operation of the API: what it takes and gives, and how a request becomes a call of it."""

import json
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gatepost.store import StoreError
from gatepost.web.desk import Desk
from gatepost.web.problems import Kind, Problem, WrongValue
from gatepost.web.rendering import desk_of

__all__ = ["Call", "Method", "NoBody", "NoParameters", "Operation", "Parameters", "make_routes"]

log = logging.getLogger(__name__)

Method = Literal["GET", "POST", "PATCH", "DELETE"]
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
_BODY_OCTETS = 64 << 10
_SHOWN = 200


class Parameters(BaseModel):
    """What stands behind the question mark; an unknown name is a mistake that nobody should search for."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NoParameters(Parameters):
    """For operations without parameters."""


class NoBody(BaseModel):
    """For operations without a body."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One row of the API's table; the OpenAPI document and the routes are made from these."""

    method: Method
    path: str
    """Below ``/api/v1``; parts in braces are ids, those that end in ``:int`` numbers."""
    name: str
    """Stable: the ``operationId``."""
    group: str
    summary: str
    description: str = ""
    run: Callable[[Any], Awaitable[BaseModel | Response]]
    """Takes a Call; raises Problem, StoreError."""
    parameters: type[Parameters] = NoParameters
    body: type[BaseModel] = NoBody
    answer: type[BaseModel] | str
    """A model for JSON, or else a media type."""
    problems: Mapping[Kind, type[BaseModel] | None] | tuple[Kind, ...] = ()
    """Those that it has beside the ones that every operation may have."""


def make_routes(operations: Iterable[Operation], prefix: str) -> list[Route]:
    """One route for each path, so that a wrong method is told apart from a wrong path."""
    by_path: defaultdict[str, dict[str, Operation]] = defaultdict(dict)
    for operation in operations:
        by_path[operation.path][operation.method] = operation
    return [
        Route(f"{prefix}{path}", _endpoint(methods), methods=_METHODS) for path, methods in by_path.items()
    ]


def _endpoint(methods: Mapping[str, Operation]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        operation = methods.get("GET" if request.method == "HEAD" else request.method)
        if operation is None:
            allowed = ", ".join(methods)
            said = f"{request.method} is not taken here, only {allowed}"
            return Problem(Kind.WRONG_METHOD, said, headers={"allow": allowed}).response()
        try:
            return _response(await operation.run(await _call(operation, request)))
        except Problem as problem:
            return problem.response()
        except StoreError as error:
            log.error("the API cannot answer %r: %s", request.url.path, error)  # noqa: TRY400 - it says enough
            return Problem(Kind.STORE, "Try again; the log of gatepost says more").response()
        except Exception:
            log.exception("the API cannot answer %r", request.url.path)
            return Problem(Kind.INTERNAL, "The log of gatepost says what").response()

    return endpoint


def _response(answer: BaseModel | Response) -> Response:
    if isinstance(answer, Response):
        return answer
    return Response(answer.model_dump_json(), media_type="application/json")


async def _call(operation: Operation, request: Request) -> Call[Any, Any]:
    return Call(
        request=request,
        desk=desk_of(request),
        parameters=_parameters(operation.parameters, request),
        body=NoBody() if operation.body is NoBody else await _body(operation.body, request),
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
            again = WrongValue(where=f"query {name}", found=_text(several[1]), expected="it only once")
            raise _wrong([again])
        else:
            values[name] = several[0]
    return _validated(model, values, "query")


async def _body(model: type[BaseModel], request: Request) -> BaseModel:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _BODY_OCTETS:
            expected = f"at most {_BODY_OCTETS} octets"
            raise _wrong([WrongValue(where="body", found=f"{len(body)} octets or more", expected=expected)])
    try:
        content = json.loads(body or b"{}")  # no body is no values: an operation may need none
    except (ValueError, RecursionError):
        found = _text(body.decode("utf-8", "replace"))
        raise _wrong([WrongValue(where="body", found=found, expected="a JSON document")]) from None
    return _validated(model, content, "body")


M = TypeVar("M", bound=BaseModel)


def _validated(model: type[M], values: object, where: str) -> M:
    try:
        return model.model_validate(values)
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
    return message.removeprefix("Value error, ").removeprefix("Input should be ")


def _text(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text.encode("utf-8", "replace").decode()[:_SHOWN]


def _wrong(errors: list[WrongValue]) -> Problem:
    detail = "; ".join(f"{one.where}: found {one.found!r}, expected {one.expected}" for one in errors[:3])
    return Problem(Kind.WRONG_REQUEST, detail, errors=errors)
