"""What pydantic finds wrong -> problems at their line, in an administrator's words."""

import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError

from gatepost.config.document import Document, Location
from gatepost.config.problems import Mark, Problem, did_you_mean, shown

__all__ = ["problems_of", "setting_names"]

_EXPECTED = {
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "string_type": "text",
    "path_type": "a path",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "dataclass_type": "a mapping",
    "literal_error": "{expected}",
    "enum": "{expected}",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "expected": "{what}",
}
"""Expected, for pydantic's error types; others keep pydantic's own words."""


def problems_of(
    error: ValidationError, document: Document, model: type[BaseModel], within: Location = ()
) -> Iterator[Problem]:
    """The problems of a validation.

    Args:
        error: what pydantic raised.
        document: the file that the data came from.
        model: what the data was validated against; its keys are what a wrong key is compared with.
        within: where in the document the data stands.
    """
    merged: dict[tuple[Mark, str], list[str]] = {}
    for one in error.errors(include_url=False):
        location = (*within, *one["loc"])
        is_key = one["type"] in ("extra_forbidden", "unknown_key") or "[key]" in one["loc"]
        known = one.get("ctx", {}).get("known") or setting_names(model, one["loc"][:-1])
        what, expected = _said(one, known, location[:-1])
        found = merged.setdefault((document.mark(location, key=is_key), what), [])
        if expected and expected not in found:
            found.append(expected)
    for (mark, what), expectations in merged.items():
        yield Problem.at(mark, what, " or ".join(expectations))


def _said(one: Any, known: tuple[str, ...], section: Location) -> tuple[str, str]:
    """What was found, and what was expected."""
    kind, value, context = one["type"], one["input"], one.get("ctx", {})
    name = str(one["loc"][-1]) if one["loc"] else ""
    if kind in ("extra_forbidden", "unknown_key"):
        choice = f"one of: {', '.join(known)}" if known else "no key of that name"
        return f"unknown key {shown(name)}{did_you_mean(name, known)}", choice
    if kind in ("missing", "missing_argument", "missing_keyword_only_argument"):
        within = [part for part in section if isinstance(part, str)]
        return f"the key {shown(name)} is missing" + (f" under {within[-1]}" if within else ""), ""
    if kind == "value_error":
        return str(context["error"]), ""
    if kind in _EXPECTED:
        expected = _EXPECTED[kind].format_map(context)
        if kind == "string_type" and isinstance(value, bool | int | float):
            expected += " (write it in quotes)"
        choices = [choice.strip("'") for choice in str(context.get("expected", "")).split(" or ") if choice]
        choices = [part.strip("'") for choice in choices for part in choice.split(", ")]
        return shown(value) + (did_you_mean(value, choices) if isinstance(value, str) else ""), expected
    return f"{shown(value)}: {one['msg'][:1].lower()}{one['msg'][1:]}", ""


def setting_names(model: type[BaseModel], location: Location) -> tuple[str, ...]:
    """The keys that the section at a location of the model's data may have; empty where it is none."""
    current: type[BaseModel] | None = model
    for part in location:
        if current is None:
            break
        fields = {field.alias or name: field for name, field in current.model_fields.items()}
        if part in fields:
            current = _section(fields[str(part)].annotation)
    return tuple(field.alias or name for name, field in current.model_fields.items()) if current else ()


def _section(annotation: Any) -> type[BaseModel] | None:
    """The model within an annotation like ``tuple[Route, ...]`` or ``Tag | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in typing.get_args(annotation) if (found := _section(part))), None)
