"""Turn pydantic's errors into problems with their line, in an administrator's words."""

import re
import typing
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ValidationError

from gatepost.config.document import Document, Location
from gatepost.config.problems import PREFIX, Mark, Problem, did_you_mean, shown
from gatepost.values import value

__all__ = ["Mistake", "in_words", "mistakes_in", "problems_of", "setting_names"]

_EXPECTED = {
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a smaller number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "multiple_of": "a multiple of {multiple_of}",
    "string_type": "text",
    "string_sub_type": "text",
    "string_too_short": "text of {min_length} or more characters",
    "string_too_long": "text of {max_length} or fewer characters",
    "string_pattern_mismatch": "text that matches {pattern}",
    "too_short": "a list of {min_length} or more",
    "too_long": "a list of {max_length} or fewer",
    "none_required": "nothing",
    "path_type": "a path",
    "bytes_type": "text",
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
"""What was expected, for pydantic's error types; other types keep pydantic's message."""
_UNKNOWN_KEY = ("extra_forbidden", "unexpected_keyword_argument", "unknown_key")
_RENAMED = {
    "auth_tries": "auth_failures",
    "bogus_commands": "invalid_commands",
    "mixed": "mixed_recipients",
    "received_fields": "max_hops",
}
"""Old names of settings, with the new ones."""


@value
class Mistake:
    """One thing that is wrong in some data."""

    location: Location
    """Keys and positions from the top of the data to the value."""
    is_key: bool
    """True if the key at the location is wrong, not its value."""
    what: str
    """What was found."""
    expected: str
    """What was expected there; empty if ``what`` is enough."""


def mistakes_in(error: ValidationError, model: type[BaseModel], within: Location = ()) -> Iterator[Mistake]:
    """The mistakes that a validation against the model has found; ``within`` is the location of the data."""
    for one in error.errors(include_url=False):
        location = (*within, *one["loc"])
        known = one.get("ctx", {}).get("known") or setting_names(model, one["loc"][:-1])
        what, expected = _said(one, known, location[:-1])
        is_key = one["type"] in _UNKNOWN_KEY or "[key]" in one["loc"]
        yield Mistake(location=location, is_key=is_key, what=what, expected=expected)


def problems_of(
    error: ValidationError, document: Document, model: type[BaseModel], within: Location = ()
) -> Iterator[Problem]:
    """The problems of a validation.

    Args:
        error: what pydantic raised.
        document: the file that the data came from.
        model: the model that the data was validated against; unknown keys are compared with its keys.
        within: the location of the data in the document.
    """
    merged: dict[tuple[Mark, str], list[str]] = {}
    for mistake in mistakes_in(error, model, within):
        mark, one = _placed(mistake, document, model, within)
        found = merged.setdefault((mark, one.what), [])
        if one.expected and one.expected not in found:
            found.append(one.expected)
    for (mark, what), expectations in merged.items():
        yield Problem.at(mark, what, " or ".join(expectations))


_KEY = re.compile(r"[a-z][a-z_]*")
_IN_QUOTES = " (write it in quotes)"


def _placed(
    mistake: Mistake, document: Document, model: type[BaseModel], within: Location
) -> tuple[Mark, Mistake]:
    """Where a mistake is, and what to say of it, if a variable of the environment has a part in it."""
    location = mistake.location
    mark = document.mark(location, key=mistake.is_key)
    if mistake.is_key and mark.variable:
        name = str(location[-1])
        if len(keys := _split(model, location[len(within) : -1], name)) > 1:
            before, _, after = mark.variable.rpartition(name.upper())
            meant = f"{before}{'__'.join(keys).upper()}{after}"
            return mark, replace(
                mistake, what=f"unknown key {shown(name)} (did you mean {meant}?)", expected=""
            )
    elif mark.variable == PREFIX + "__".join(map(str, location)).upper():
        if mistake.expected.endswith(_IN_QUOTES):
            expected = mistake.expected.removesuffix(_IN_QUOTES)
            expected += f" (with quotes in the value: {mark.variable}=\"'{mistake.what}'\")"
            return mark, replace(mistake, expected=expected)
    elif not mistake.is_key and isinstance(document.at(location), dict):
        return _named_place(mistake, document)
    return mark, mistake


def _named_place(mistake: Mistake, document: Document) -> tuple[Mark, Mistake]:
    """The place of the key that is named first, if one of the keys that are named comes from a variable."""
    location, mark = mistake.location, document.mark(mistake.location)
    named = _KEY.findall(mistake.what)
    variables = {
        there.variable: place[-1]
        for place, there in document.values.items()
        if there.variable and place[: len(location)] == location and place[-1] in named
    }
    if not variables or mark.variable:
        return mark, mistake
    for key in named:
        if isinstance(inside := document.at(location), dict) and key in inside:
            location = (*location, key)
    mark = document.mark(location)
    others = ", ".join(sorted(variables.keys() - {mark.variable}))
    return mark, replace(mistake, what=f"{mistake.what} (with {others})" if others else mistake.what)


def _split(model: type[BaseModel], section: Location, name: str) -> tuple[str, ...]:
    """The keys that a name with one underscore too few between them may mean; empty: none."""
    known = setting_names(model, section)
    if name in known:
        return (name,)
    for key in known:
        if name.startswith(f"{key}_") and (rest := _split(model, (*section, key), name[len(key) + 1 :])):
            return (key, *rest)
    return ()


def in_words(error: ValidationError) -> str:
    """What is wrong with one value: what was found, and what was expected."""
    what, expected = _said(error.errors(include_url=False)[0], (), ())
    return f"{what}, expected {expected}" if expected else what


def _said(one: Any, known: tuple[str, ...], section: Location) -> tuple[str, str]:
    """What was found, and what was expected."""
    kind, value, context = one["type"], one["input"], one.get("ctx", {})
    name = str(one["loc"][-1]) if one["loc"] else ""
    if kind in _UNKNOWN_KEY:
        if new_name := _RENAMED.get(name):
            return f"{shown(name)} is now called {shown(new_name)}", ""
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
    message = str(one["msg"]).removeprefix("Value error, ")
    if message.startswith("Input should be "):
        return shown(value), message.removeprefix("Input should be ")
    return f"{shown(value)}: {message[:1].lower()}{message[1:]}", ""


def setting_names(model: type[BaseModel], location: Location) -> tuple[str, ...]:
    """The keys that the section at a location of the model's data may have; empty if it is not a section."""
    found = _section(model, location)
    return tuple(field.alias or name for name, field in found.model_fields.items()) if found else ()


def _section(annotation: Any, location: Location) -> type[BaseModel] | None:
    """The model at a location within an annotation like ``tuple[Route, ...]`` or ``dict[str, Tag]``.

    A part that is not a key is the number of an entry, or pydantic's name for one type of several.
    """
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if not location:
            return annotation
        fields = {field.alias or name: field for name, field in annotation.model_fields.items()}
        field = fields.get(str(location[0]))
        return _section(field.annotation if field else annotation, location[1:])
    inside = typing.get_args(annotation)
    if inside and typing.get_origin(annotation) in (dict, Mapping):
        return _section(inside[1], location[1:]) if location else None
    return next((found for part in inside if (found := _section(part, location))), None)
