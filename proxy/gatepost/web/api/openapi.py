"""The OpenAPI 3.1 document, made from the table of operations and their models."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from gatepost.web.api.operation import Link, NoBody, Operation
from gatepost.web.api.responses import MessageSummary
from gatepost.web.problems import MEDIA_TYPE, Kind, ProblemAnswer
from gatepost.web.webhook_server import FIELDS, SIGNATURE

__all__ = ["make_document"]

_REFERENCE = "#/components/schemas/{model}"
_PATH_PART = re.compile(r"\{(\w+)(:int)?\}")
_COMMON = (
    Kind.NO_PASSWORD,
    Kind.FOREIGN,
    Kind.NOT_PERMITTED,
    Kind.OTHER_HOST,
    Kind.TOO_MANY_TRIES,
    Kind.INTERNAL,
)
"""Problems of every operation, whatever is asked."""
_ABOUT = """
Messages, conversations, journal and quarantine of this Gatepost.

Times are RFC 3339 in UTC, sizes are bytes, durations seconds. Lists are newest first; pass `next` of one
page as `before` for the page after it. Errors are returned as a problem (RFC 9457).

If the desk has a password, send it as `Authorization: Bearer PASSWORD`, or a token of `gatepost token new`; a
user's name and password as basic authentication (RFC 7617).
""".strip()


def make_document(operations: Iterable[Operation], *, version: str, prefix: str) -> dict[str, Any]:
    """The document as JSON values.

    Args:
        operations: the table.
        version: the version of Gatepost.
        prefix: the path before that of each operation.
    """
    table = tuple(operations)
    schemas = _schemas(table)
    paths: dict[str, dict[str, Any]] = {}
    for operation in table:
        path = prefix + _PATH_PART.sub(r"{\1}", operation.path)
        paths.setdefault(path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.1",
        "info": {"title": "Gatepost", "version": version, "description": _ABOUT},
        "servers": [{"url": "/"}],
        "tags": [{"name": group} for group in dict.fromkeys(one.group for one in table)],
        "security": [{}, {"password": []}, {"user": []}],
        "paths": paths,
        "webhooks": {"newMessage": {"post": _webhook()}},
        "components": {
            "schemas": schemas,
            "responses": _common_responses(),
            "securitySchemes": {
                "password": {"type": "http", "scheme": "bearer"},
                "user": {"type": "http", "scheme": "basic"},
            },
        },
    }


def _webhook() -> dict[str, Any]:
    """The request that `gatepost.web.webhook` sends."""
    return {
        "operationId": "newMessage",
        "tags": ["Messages"],
        "summary": "A message was stored",
        "description": "Sent to the URL of `--webhook` or `web.webhook`, and again if it is not accepted.",
        "parameters": [
            {
                "name": name,
                "in": "header",
                "required": name != SIGNATURE,
                "description": meaning,
                "schema": {"type": "string"},
            }
            for name, meaning in FIELDS.items()
        ],
        "requestBody": {"required": True, "content": _content(MessageSummary)},
        "responses": {"2XX": {"description": "Accepted."}},
        "security": [],
    }


def _schemas(operations: Iterable[Operation]) -> dict[str, Any]:
    answers: set[type[BaseModel]] = {ProblemAnswer}
    bodies: set[type[BaseModel]] = set()
    for operation in operations:
        if not isinstance(operation.answer, str):
            answers.add(operation.answer)
        if operation.body is not NoBody:
            bodies.add(operation.body)
        answers.update(model for model in _problems(operation).values() if model)
    wanted: list[tuple[type[BaseModel], JsonSchemaMode]] = [
        *((model, "serialization") for model in sorted(answers, key=_name)),
        *((model, "validation") for model in sorted(bodies, key=_name)),
    ]
    _, schema = models_json_schema(wanted, ref_template=_REFERENCE)
    definitions: dict[str, Any] = schema["$defs"]
    return definitions


def _name(model: type[BaseModel]) -> str:
    return model.__name__


def _problems(operation: Operation) -> dict[Kind, type[BaseModel] | None]:
    given = operation.problems
    own = dict(given) if isinstance(given, Mapping) else dict.fromkeys(given)
    has_body = {} if operation.body is NoBody and not operation.files else {Kind.TOO_LARGE: None}
    return {Kind.WRONG_REQUEST: None, **has_body, Kind.STORE: None, **own}


def _operation(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [operation.group],
        "summary": operation.summary,
    }
    if operation.description:
        described["description"] = operation.description
    if parameters := [*_path_parameters(operation.path), *_query_parameters(operation)]:
        described["parameters"] = parameters
    if operation.body is not NoBody:
        described["requestBody"] = {
            "required": any(field.is_required() for field in operation.body.model_fields.values()),
            "content": _content(operation.body),
        }
    if operation.files:
        content = {kind: {"schema": {}, "example": example} for kind, example in operation.files.items()}
        described["requestBody"] = {"required": True, "content": content}
    answer = _answer(operation.answer)
    if operation.links:
        answer["links"] = {link.name: _link(link) for link in operation.links}
    described["responses"] = {"200": answer, **_problem_answers(operation)}
    return described


def _link(link: Link) -> dict[str, Any]:
    parameters = {name: f"$response.body#{pointer}" for name, pointer in link.given.items()}
    return {"operationId": link.to, "parameters": parameters}


def _content(model: type[BaseModel], media_type: str = "application/json") -> dict[str, Any]:
    return {media_type: {"schema": {"$ref": _REFERENCE.format(model=model.__name__)}}}


def _answer(answer: type[BaseModel] | str) -> dict[str, Any]:
    if isinstance(answer, str):
        return {"description": "The bytes.", "content": {answer: {}}}
    return {"description": (answer.__doc__ or "").strip().split("\n", 1)[0], "content": _content(answer)}


def _problem_answers(operation: Operation) -> dict[str, Any]:
    by_status: dict[str, dict[str, Any]] = {}
    for kind, model in _problems(operation).items():
        said = f"{kind.title} (`{kind.label}`)."
        if answer := by_status.get(str(kind.status)):
            answer["description"] += f" Or: {said}"
        else:
            content = _content(model or ProblemAnswer, MEDIA_TYPE)
            by_status[str(kind.status)] = {"description": said, "content": content}
    common = {str(kind.status): {"$ref": f"#/components/responses/{kind.label}"} for kind in _first_of_each()}
    return dict(sorted((common | by_status).items()))


def _common_responses() -> dict[str, Any]:
    return {
        kind.label: {
            "description": " Or: ".join(
                f"{one.title} (`{one.label}`)." for one in _COMMON if one.status == kind.status
            ),
            "content": _content(ProblemAnswer, MEDIA_TYPE),
        }
        for kind in _first_of_each()
    }


def _first_of_each() -> list[Kind]:
    """The first common problem of each status: a response describes all of its status."""
    return [*{kind.status: kind for kind in reversed(_COMMON)}.values()][::-1]


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "integer", "minimum": 0} if number else {"type": "string"},
        }
        for name, number in _PATH_PART.findall(path)
    ]


def _query_parameters(operation: Operation) -> list[dict[str, Any]]:
    schema = operation.parameters.model_json_schema(ref_template=_REFERENCE)
    definitions = schema.get("$defs", {})
    required = schema.get("required", ())
    if "minProperties" in schema:
        return [_choice(schema, definitions)]
    return [
        _query_parameter(name, field, definitions, required=name in required)
        for name, field in schema.get("properties", {}).items()
    ]


def _choice(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters that depend on each other: the properties of an object, each a parameter of the query."""
    fields = [
        _query_parameter(name, field, definitions, required=True)
        for name, field in schema["properties"].items()
    ]
    limits = {key: value for key, value in schema.items() if key in ("minProperties", "maxProperties")}
    properties = {one["name"]: {**one["schema"], "description": one.get("description", "")} for one in fields}
    for one in properties.values():
        one.pop("default", None)
    return {
        "name": "which",
        "in": "query",
        "required": True,
        "style": "form",
        "explode": True,
        "description": schema["description"],
        "schema": {"type": "object", "properties": properties, **limits, "additionalProperties": False},
    }


def _query_parameter(
    name: str, field: Mapping[str, Any], definitions: Mapping[str, Any], *, required: bool
) -> dict[str, Any]:
    described: dict[str, Any] = {"name": name, "in": "query", "required": required}
    schema = {key: value for key, value in field.items() if key not in ("title", "description")}
    choices = [choice for choice in schema.pop("anyOf", ()) if choice != {"type": "null"}]
    for choice in choices or [schema]:  # null stands for leaving it out
        reference = choice.pop("$ref", None)
        schema |= definitions[reference.rpartition("/")[2]] if reference else choice
    if schema.get("default", ...) is None:
        del schema["default"]
    if text := field.get("description"):
        described["description"] = text
    return {**described, "schema": schema}
