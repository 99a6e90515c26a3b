"""The OpenAPI 3.1 document, made from the table of operations and their models."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from gatepost.web.api.operation import NoBody, Operation
from gatepost.web.problems import MEDIA_TYPE, Kind, ProblemAnswer

__all__ = ["make_document"]

_REFERENCE = "#/components/schemas/{model}"
_PATH_PART = re.compile(r"\{(\w+)(:int)?\}")
_ABOUT = """
Messages, conversations, journal and quarantine of this Gatepost.

Times are RFC 3339 in UTC, sizes are octets, durations seconds. Lists come newest first; pass `next` of one
page as `before` for the page after it. What is wrong with a request is said as a problem (RFC 9457).

Where the desk asks for a password, send it as `Authorization: Bearer PASSWORD`.
""".strip()


def make_document(operations: Iterable[Operation], *, version: str, prefix: str) -> dict[str, Any]:
    """The document as JSON values.

    Args:
        operations: the table.
        version: of Gatepost.
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
        "security": [{}, {"password": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"password": {"type": "http", "scheme": "bearer"}},
        },
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
    takes_values = operation.parameters.model_fields or operation.body is not NoBody
    wrong = {Kind.WRONG_REQUEST: None} if takes_values else {}
    return {**wrong, Kind.NO_PASSWORD: None, **own, Kind.STORE: None}


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
        described["requestBody"] = {"required": True, "content": _content(operation.body)}
    described["responses"] = {"200": _answer(operation.answer), **_problem_answers(operation)}
    return described


def _content(model: type[BaseModel], media_type: str = "application/json") -> dict[str, Any]:
    return {media_type: {"schema": {"$ref": _REFERENCE.format(model=model.__name__)}}}


def _answer(answer: type[BaseModel] | str) -> dict[str, Any]:
    if isinstance(answer, str):
        return {"description": "The octets.", "content": {answer: {}}}
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
    return dict(sorted(by_status.items()))


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
    return [
        _query_parameter(name, field, definitions, required=name in required)
        for name, field in schema.get("properties", {}).items()
    ]


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
